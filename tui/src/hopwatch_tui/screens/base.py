"""What the screens share: a filter line, going back, copying the id under the cursor, words for errors."""

from typing import TYPE_CHECKING, ClassVar, cast

from textual.binding import BindingType
from textual.screen import Screen

from hopwatch_tui.actions import GENERAL
from hopwatch_tui.client import ApiError
from hopwatch_tui.format import Tone
from hopwatch_tui.model import Filter
from hopwatch_tui.tables import Line
from hopwatch_tui.text import clean
from hopwatch_tui.widgets.filter import FilterLine
from hopwatch_tui.widgets.keys import bindings
from hopwatch_tui.widgets.lines import Lines

if TYPE_CHECKING:
    from hopwatch_tui.app import HopwatchApp


class BaseScreen(Screen[None]):
    """A screen of hopwatch. Subclasses say what the filter narrows, what has the keyboard and what `y` copies."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(GENERAL)
    AUTO_FOCUS = ""
    _ready = False

    @property
    def hopwatch(self) -> "HopwatchApp":
        """The app, by its own type."""
        return cast("HopwatchApp", self.app)

    def focus_content(self) -> None:
        """Give the keyboard to what the person reads."""

    def narrow(self, filter: Filter) -> None:
        """Apply a filter to what is shown."""

    def copied(self) -> str:
        """The id that `y` copies; empty: there is none here."""
        return ""

    def on_mount(self) -> None:
        """Textual calls this after the subclass's own."""
        self._ready = True

    @property
    def usable(self) -> bool:
        """Whether everything on the screen is there: composed, and not taken down meanwhile by leaving or quitting.

        To be asked wherever something comes late: answers, snapshots, timers.
        """
        return self._ready and self.app.is_running and self in self.app.screen_stack

    def live_changed(self) -> None:
        """A new snapshot is there, or the connection changed."""

    def action_filter(self) -> None:
        """Type a filter."""
        self.query_one(FilterLine).open()

    def on_filter_line_changed(self, event: FilterLine.Changed) -> None:
        """Narrow while typing."""
        self.narrow(event.filter)

    def on_filter_line_done(self, _: FilterLine.Done) -> None:
        """Back to what is filtered."""
        self.focus_content()

    def action_back(self) -> None:
        """Drop the filter if there is one, else leave the screen, except the last one."""
        if not self.query_one(FilterLine).clear():
            self.leave()

    def leave(self) -> None:
        """Back to the screen before."""
        if len(self.app.screen_stack) > 2:  # the bottom one is Textual's own, the next the live screen
            self.dismiss()

    def on_lines_left(self, _: Lines.Left) -> None:
        """`h` in a list."""
        self.leave()

    def action_search(self) -> None:
        """Open the search."""
        self.hopwatch.open_search()

    def action_help(self) -> None:
        """Open the help."""
        self.hopwatch.open_help()

    def action_quit(self) -> None:
        """Leave the program."""
        self.app.exit()

    def action_copy(self) -> None:
        """Copy the id under the cursor, by the terminal's own clipboard sequence."""
        if value := self.copied():
            self.app.copy_to_clipboard(value)
            self.notify(f"Copied {clean(value, limit=80)}", markup=False, timeout=3)
        else:
            self.notify("There is nothing to copy here", markup=False, timeout=3)


def trouble_line(error: ApiError) -> Line:
    """An error on one line: what happened and what to do next."""
    text = f" ▲ {error.title}. {error.hint or error.message}".replace("\n", " ")
    return ((text, Tone.WARN),)


def trouble_words(error: ApiError) -> tuple[str, ...]:
    """An error as the words of an empty list."""
    return tuple(part for part in (error.title, error.message, error.hint) if part)
