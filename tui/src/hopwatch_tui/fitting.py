"""Tables that fit the terminal they are drawn on: on narrow ones the lesser columns go, and numbers stay whole."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

WIDE: Final = 100
"""Width of a terminal from which what a row says at length has a column of its own."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Something drawn for the width there is."""

    make: Callable[[int], RenderableType]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What rich draws."""
        yield self.make(options.max_width)


@dataclass(frozen=True, slots=True)
class Field:
    """A column. One that is `whole` is never folded: where there is no room at all, an ellipsis says so."""

    title: str
    right: bool = False
    whole: bool = False
    wide_from: int = 0


def number(title: str, wide_from: int = 0) -> Field:
    """A column of numbers or ages."""
    return Field(title, right=True, whole=True, wide_from=wide_from)


def table(fields: Sequence[Field], width: int, rows: Sequence[Sequence[RenderableType]]) -> Table:
    """The fields that a terminal of that width has room for, and their cells."""
    shown = [index for index, field in enumerate(fields) if width >= field.wide_from]
    drawn = bare()
    for index in shown:
        field = fields[index]
        drawn.add_column(
            field.title,
            justify="right" if field.right else "left",
            no_wrap=field.whole,
            overflow="ellipsis" if field.whole else "fold",
        )
    for row in rows:
        drawn.add_row(*(row[index] for index in shown))
    return drawn


def bare() -> Table:
    """A table of columns two apart, without lines."""
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")


def stacked(*parts: Text) -> Text:
    """Parts under one another in a cell, without those that are empty."""
    return Text("\n").join(part for part in parts if part)
