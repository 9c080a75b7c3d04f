"""A page of text that stands still: any rich renderable, scrolled, narrowed by a filter."""

from rich.console import RenderableType
from rich.segment import Segment
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from hopwatch_tui.actions import PAGE
from hopwatch_tui.model import Filter
from hopwatch_tui.widgets.keys import bindings


class Page(ScrollView, can_focus=True):
    """Draws a renderable at its own width and keeps the lines."""

    BINDINGS = bindings(PAGE)
    DEFAULT_CSS = """
    Page { height: 1fr; background: $background; padding: 0 1; scrollbar-size-vertical: 1; overflow-x: hidden; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._content: RenderableType = ""
        self._lines: list[list[Segment]] = []
        self.filter = Filter()

    def show(self, content: RenderableType) -> None:
        """Show another content."""
        self._content = content
        self._redraw()

    def narrow(self, filter: Filter) -> None:
        """Show only lines that pass."""
        self.filter = filter
        self._redraw()

    def on_resize(self) -> None:
        """Draw for the new width."""
        self._redraw()

    def _redraw(self) -> None:
        width = self.scrollable_content_region.width
        if width <= 0:
            return
        console = self.app.console
        options = console.options.update(width=width, height=None, highlight=False)
        lines = console.render_lines(self._content, options, style=self.rich_style, pad=False)
        self._lines = [line for line in lines if not self.filter or self.filter.matches(_text(line))]
        self.virtual_size = Size(width, len(self._lines))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line."""
        index = self.scroll_offset.y + y
        width = self.scrollable_content_region.width
        if index >= len(self._lines):
            return Strip.blank(width, self.rich_style)
        return Strip(self._lines[index]).adjust_cell_length(width, self.rich_style)


def _text(line: list[Segment]) -> str:
    return "".join(segment.text for segment in line)
