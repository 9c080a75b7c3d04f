"""One-line bars: tabs, and the state of the connection with its numbers."""

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip

from hopwatch_tui.format import Tone
from hopwatch_tui.tables import Line, cut
from hopwatch_tui.widgets.tones import Toned


class Bar(Toned):
    """A line of toned text; of several ways to say it, the first that fits, else the last with an ellipsis."""

    DEFAULT_CSS = """
    Bar { height: 1; background: $panel; }
    """

    ways: reactive[tuple[Line, ...]] = reactive(((),), init=False)

    def show(self, *ways: Line) -> None:
        """Say this, the longest way first."""
        self.ways = ways

    def render_line(self, y: int) -> Strip:
        """The line."""
        width = self.size.width
        fitting = (line for line in self.ways if sum(cell_len(text) for text, _ in line) <= width)
        return self.strip(next(fitting, cut(self.ways[-1], width)), width, self.base)


class Tabs(Toned):
    """Names of views on one line, each with its key and a number; the one shown stands out."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"tabs--shown"}
    DEFAULT_CSS = """
    Tabs { height: 1; background: $surface; }
    Tabs > .tabs--shown { background: $primary; color: $text; text-style: bold; }
    """

    titles: reactive[tuple[str, ...]] = reactive((), init=False)
    shown: reactive[int] = reactive(0, init=False)

    class Chosen(Message):
        """A tab was clicked."""

        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

    def __init__(self, titles: Sequence[str]) -> None:
        super().__init__()
        self.set_reactive(Tabs.titles, tuple(titles))

    def _labels(self) -> list[str]:
        return [f" {number} {title} " for number, title in enumerate(self.titles, start=1)]

    def render_line(self, y: int) -> Strip:
        """All tabs."""
        base = self.base
        shown = base + self.get_component_rich_style("tabs--shown")
        strips = []
        for index, label in enumerate(self._labels()):
            style = shown if index == self.shown else base
            tone = Tone.PLAIN if index == self.shown else Tone.DIM
            strips.append(self.strip(((label, tone),), len(label), style))
            strips.append(Strip.blank(1, base))
        return Strip.join(strips).adjust_cell_length(self.size.width, base)

    def on_click(self, event: events.Click) -> None:
        """Choose the tab under the mouse."""
        start = 0
        for index, label in enumerate(self._labels()):
            if start <= event.x < start + len(label):
                self.post_message(self.Chosen(index))
            start += len(label) + 1
