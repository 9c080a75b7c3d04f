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

    _tones: dict[Tone, Style] | None = None

    def notify_style_update(self) -> None:
        """Forget the styles of the theme before."""
        self._tones = None
        super().notify_style_update()

    def tone(self, tone: Tone) -> Style:
        """The style of a tone, over this widget's own colours."""
        if self._tones is None:
            self._tones = {
                tone: self.get_component_rich_style(f"tone--{tone}", partial=True) for tone in Tone
            }
        return self._tones[tone]

    def strip(self, line: Line, width: int, base: Style) -> Strip:
        """A line as a strip of exactly `width` cells on the style `base`."""
        segments: Iterable[Segment] = (Segment(text, base + self.tone(tone)) for text, tone in line if text)
        return Strip(segments).adjust_cell_length(width, base)
