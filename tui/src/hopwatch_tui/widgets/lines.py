"""A list with a cursor, drawn with Textual's Line API: only the lines in sight are ever formatted or compared."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar

from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from hopwatch_tui.actions import MOTIONS
from hopwatch_tui.format import Tone
from hopwatch_tui.model import Cursor, Filter
from hopwatch_tui.tables import Line, Painter
from hopwatch_tui.text import fit
from hopwatch_tui.widgets.keys import bindings
from hopwatch_tui.widgets.tones import COMPONENTS, TONE_CSS, Toned

T = TypeVar("T")

_MARK = "▌ "
_NO_MARK = "  "


class Heading(Toned):
    """The lines above a list; they stay while the list scrolls."""

    DEFAULT_CSS = """
    Heading { height: auto; background: $surface; }
    """

    def __init__(self, painter: Painter[Any]) -> None:
        super().__init__()
        self.painter = painter

    def show(self, painter: Painter[Any]) -> None:
        """The heading of another painter."""
        self.painter = painter
        self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as the painter has."""
        return len(self._lines(width))

    def _lines(self, width: int) -> Sequence[Line]:
        return self.painter.heading(
            max(1, width - 3)
        )  # a mark of two in front of each item, a scrollbar behind

    def render_line(self, y: int) -> Strip:
        """Column titles, over the columns below."""
        width = self.size.width
        lines = self._lines(width)
        line = ((_NO_MARK, Tone.DIM), *lines[y]) if y < len(lines) else ()
        return self.strip(line, width, self.base)


class Lines(ScrollView, Toned, Generic[T], can_focus=True):
    """Items one under another. The cursor keeps to its item while others come, go and change places."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"lines--cursor", *COMPONENTS}
    BINDINGS = bindings(MOTIONS)
    ALLOW_SELECT = False
    # Textual takes styles from the first base only, so those of the tones are said again
    DEFAULT_CSS = (
        TONE_CSS.format(name="Lines")
        + """
    Lines {
        height: 1fr;
        background: $background;
        scrollbar-size-vertical: 1;
        scrollbar-gutter: stable;
        overflow-x: hidden;
        overflow-y: auto;
    }
    Lines > .lines--cursor { background: $boost; }
    Lines:focus > .lines--cursor { background: $primary 35%; }
    """
    )

    empty: reactive[tuple[str, ...]] = reactive((), init=False)
    """What stands there while the list is empty: what that means, and what to do next."""

    class Opened(Message):
        """Enter was pressed on an item, or it was clicked while under the cursor."""

        def __init__(self, lines: "Lines[Any]", item: Any) -> None:
            super().__init__()
            self.lines = lines
            self.item = item

        @property
        def control(self) -> "Lines[Any]":
            """The list."""
            return self.lines

    class Moved(Message):
        """Another item is under the cursor."""

        def __init__(self, lines: "Lines[Any]", item: Any) -> None:
            super().__init__()
            self.lines = lines
            self.item = item

        @property
        def control(self) -> "Lines[Any]":
            """The list."""
            return self.lines

    class Left(Message):
        """The person wants to go back from here."""

    def __init__(self, painter: Painter[T], id: str | None = None) -> None:
        super().__init__(id=id)
        self.painter = painter
        self.cursor: Cursor[T] = Cursor(painter.key)
        self.filter = Filter()
        self.all: Sequence[T] = ()
        self.now: datetime | None = None
        self._drawn: dict[int, tuple[Line, bool]] = {}
        self._painted: dict[tuple[int, int], Line] = {}
        self._measured = (Size(), 0)
        self._announced = ""

    @property
    def items(self) -> Sequence[T]:
        """The items that pass the filter."""
        return self.cursor.items

    @property
    def current(self) -> T | None:
        """What is under the cursor."""
        return self.cursor.current

    def show(self, items: Sequence[T], now: datetime | None) -> None:
        """Show these items, as of `now`; only lines that look different are drawn again."""
        self.all, self.now = items, now
        self._replace(self.filter.of(items, self.painter.haystack))

    def narrow(self, filter: Filter) -> None:
        """Show only the items that pass `filter`."""
        self.filter = filter
        self._replace(filter.of(self.all, self.painter.haystack))

    def repaint(self, painter: Painter[T]) -> None:
        """Draw the same kind of items another way."""
        self.painter = painter
        self.cursor.key_of = painter.key
        self._drawn.clear()
        self._painted.clear()
        self.refresh()

    def _replace(self, items: Sequence[T]) -> None:
        was_empty, before = not self.items, self.cursor.index
        in_sight = self._row_in_sight(before)
        self.cursor.replace(items)
        self._painted.clear()
        size = Size(0, len(items))
        if size != self.virtual_size:
            self.virtual_size = size
        if was_empty or not items:
            self.refresh()
        if not self.cursor.following and in_sight:
            self._keep_in_sight()
        self._refresh_changed()
        self._announce()

    def _row_in_sight(self, index: int) -> bool:
        top = round(self.scroll_y)
        return top <= index < top + max(1, self.size.height)

    def _refresh_changed(self) -> None:
        top = self.scroll_offset.y
        for y in range(self.size.height):
            if self._drawn.get(y) != self._look(top + y):
                self.refresh(Region(0, y, self.size.width, 1))

    @property
    def _width(self) -> int:
        """Cells of a line, beside the scrollbar; asked for each line, reckoned once per size."""
        if self._measured[0] != self.outer_size:
            self._measured = self.outer_size, self.scrollable_content_region.width
        return self._measured[1]

    def _look(self, index: int) -> tuple[Line, bool]:
        """How a row looks: its pieces, and whether the cursor is on it. Painted once, however often it is asked for."""
        if index >= len(self.items):
            return (), False
        width = max(1, self._width - 2)
        line = self._painted.get((index, width))
        if line is None:
            line = self._painted[index, width] = self.painter.line(self.items[index], width, self.now)
        return line, index == self.cursor.index

    def render_line(self, y: int) -> Strip:
        """One line of the list, or of what stands there while it is empty."""
        if not self.items:
            return self._empty_line(y)
        line, under_cursor = look = self._look(self.scroll_offset.y + y)
        self._drawn[y] = look
        base = self.base
        if under_cursor:
            base += self.get_component_rich_style("lines--cursor")
        mark = (_MARK if under_cursor else _NO_MARK, Tone.KEY)
        return self.strip((mark, *line) if line else (), self._width, base)

    def _empty_line(self, y: int) -> Strip:
        self._drawn.pop(y, None)
        texts = self.empty
        if self.all and self.filter:
            texts = (f"No line holds “{self.filter.text}”.", "Esc clears the filter.")
        place = y - max(0, self.size.height // 2 - len(texts))
        if not 0 <= place < len(texts):
            return Strip.blank(self.size.width, self.base)
        text = fit(texts[place], self.size.width, pad=False).center(self.size.width)
        return self.strip(((text, Tone.STRONG if place == 0 else Tone.DIM),), self.size.width, self.base)

    def watch_empty(self) -> None:
        """Draw the new words."""
        if not self.items:
            self.refresh()

    def on_resize(self) -> None:
        """Every line has another width now."""
        self._drawn.clear()
        self._keep_in_sight()

    def notify_style_update(self) -> None:
        """Every line has other colours now."""
        self._drawn.clear()
        super().notify_style_update()

    def _keep_in_sight(self) -> None:
        height = max(1, self.size.height)
        top, index = round(self.scroll_y), self.cursor.index
        if index < top:
            self.scroll_to(y=index, animate=False, immediate=True, force=True)
        elif index >= top + height:
            self.scroll_to(y=index - height + 1, animate=False, immediate=True, force=True)

    def _moved(self) -> None:
        self._keep_in_sight()
        self._refresh_changed()
        self._announce()

    def _announce(self) -> None:
        current = self.current
        key = "" if current is None else self.painter.key(current)
        if key != self._announced:
            self._announced = key
            self.post_message(self.Moved(self, current))

    def move_to(self, index: int) -> None:
        """Put the cursor on a row."""
        self.cursor.move_to(index)
        self._moved()

    def action_move(self, by: int) -> None:
        """Up or down by one."""
        self.move_to(self.cursor.index + by)

    def action_page(self, by: int) -> None:
        """Up or down by a screenful."""
        self.move_to(self.cursor.index + by * max(1, self.size.height - 1))

    def action_top(self) -> None:
        """To the top, and stay there."""
        self.cursor.follow()
        self._moved()

    def action_bottom(self) -> None:
        """To the last item."""
        self.move_to(len(self.items) - 1)

    def action_open(self) -> None:
        """Open what is under the cursor."""
        if self.current is not None:
            self.post_message(self.Opened(self, self.current))

    def action_leave(self) -> None:
        """Go back."""
        self.post_message(self.Left())

    def on_click(self, event: events.Click) -> None:
        """Put the cursor where the mouse is; open what it was on already."""
        index = self.scroll_offset.y + event.y
        if not 0 <= index < len(self.items):
            return
        if index == self.cursor.index:
            self.cursor.move_to(index)
            self.action_open()
        else:
            self.move_to(index)
