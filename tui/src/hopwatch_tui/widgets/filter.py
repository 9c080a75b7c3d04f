"""The filter line: appears with `/`, narrows the list as one types, stays as long as it holds something."""

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Label

from hopwatch_tui.model import Filter


class FilterLine(Horizontal):
    """A `/` and an input. Enter keeps the filter, Esc drops it."""

    DEFAULT_CSS = """
    FilterLine { height: 1; display: none; background: $surface; }
    FilterLine.open { display: block; }
    FilterLine Label { width: 3; padding: 0 1; text-style: bold; color: $text-accent; }
    FilterLine Input { border: none; height: 1; padding: 0; background: $surface; width: 1fr; }
    FilterLine Input:focus { border: none; background: $boost; }
    """

    class Changed(Message):
        """Another filter is to be applied."""

        def __init__(self, filter: Filter) -> None:
            super().__init__()
            self.filter = filter

    class Done(Message):
        """The list wants the keyboard back."""

    def compose(self) -> ComposeResult:
        """The slash and the input."""
        yield Label("/", markup=False)
        yield Input(
            placeholder="words the lines must hold, -word: must not", compact=True, select_on_focus=False
        )

    @property
    def filter(self) -> Filter:
        """What is typed now."""
        return Filter(self.query_one(Input).value)

    def open(self) -> None:
        """Show the line and type into it."""
        self.add_class("open")
        self.query_one(Input).focus()

    def clear(self) -> bool:
        """Drop the filter; says whether there was anything to drop."""
        was_open = self.has_class("open")
        self.query_one(Input).value = ""
        self.remove_class("open")
        if was_open:
            self.post_message(self.Done())
        return was_open

    def set(self, text: str) -> None:
        """Show another view's filter."""
        self.query_one(Input).value = text
        self.set_class(bool(text), "open")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Narrow while typing."""
        event.stop()
        self.post_message(self.Changed(Filter(event.value)))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep what is typed; nothing typed, nothing shown."""
        event.stop()
        self.set_class(bool(event.value.strip()), "open")
        self.post_message(self.Done())
