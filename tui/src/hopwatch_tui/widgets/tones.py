"""Tones as styles of the current theme, for widgets that draw line by line."""

from collections.abc import Iterable
from typing import ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from hopwatch_tui.format import Tone
from hopwatch_tui.tables import Line

TONE_CSS: Final = """
    {name} > .tone--strong {{ text-style: bold; }}
    {name} > .tone--dim {{ text-style: dim; }}
    {name} > .tone--good {{ color: $text-success; }}
    {name} > .tone--busy {{ color: $text-primary; }}
    {name} > .tone--warn {{ color: $text-warning; }}
    {name} > .tone--bad {{ color: $text-error; text-style: bold; }}
    {name} > .tone--odd {{ color: $text-accent; }}
    {name} > .tone--key {{ color: $text-secondary; text-style: bold; }}
"""
COMPONENTS: Final = frozenset(f"tone--{tone}" for tone in Tone)


class Toned(Widget):
    """A widget that turns toned pieces into strips; styles are looked up once per theme."""

    COMPONENT_CLASSES: ClassVar[set[str]] = set(COMPONENTS)
    DEFAULT_CSS = TONE_CSS.format(name="Toned")

    _base: Style | None = None
    _over: dict[Style, dict[Tone, Style]] | None = None

    def notify_style_update(self) -> None:
        """Forget the styles of the theme before."""
        self._base = self._over = None
        super().notify_style_update()

    @property
    def base(self) -> Style:
        """This widget's own colours: `rich_style`, which asks all ancestors, kept until a style changes."""
        if self._base is None:
            self._base = self.rich_style
        return self._base

    def _tones(self, base: Style) -> dict[Tone, Style]:
        """The style of each tone over `base`."""
        if self._over is None:
            self._over = {}
        if base not in self._over:
            self._over[base] = {
                tone: base + self.get_component_rich_style(f"tone--{tone}", partial=True) for tone in Tone
            }
        return self._over[base]

    def strip(self, line: Line, width: int, base: Style) -> Strip:
        """A line as a strip of exactly `width` cells on the style `base`."""
        styles = self._tones(base)
        segments: Iterable[Segment] = (Segment(text, styles[tone]) for text, tone in line if text)
        return Strip(segments).adjust_cell_length(width, base)
