"""Tables that fit the terminal they are drawn on: on narrow ones the lesser columns go, and numbers stay whole."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

WIDE: Final = 100
"""Width of a terminal from which what a row says at length has a column of its own."""

Cell = str | Text


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


def table(fields: Sequence[Field], width: int, rows: Sequence[Sequence[Cell]]) -> Table:
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


def noted(
    fields: Sequence[Field], width: int, rows: Sequence[Sequence[Cell]], notes: Sequence[Text]
) -> RenderableType:
    """A table that has below each row, over its whole width, what no column has room for."""
    shown = [index for index, field in enumerate(fields) if width >= field.wide_from]
    widths = _widths(
        [fields[index] for index in shown], width, [[row[index] for index in shown] for row in rows]
    )
    parts: list[RenderableType] = []
    for row, note in zip(rows, notes, strict=True):
        line = table(fields, width, [row])
        line.show_header = not parts
        for column, cells in zip(line.columns, widths, strict=True):
            column.width = cells
        parts += [line, Padding(note, (0, 0, 0, 2))]
    return Group(*parts)


def _widths(fields: Sequence[Field], width: int, rows: Sequence[Sequence[Cell]]) -> list[int]:
    """How wide each column is in every row: those that are whole as they need, the others what is left in equal parts."""
    needed = [
        max([cell_len(field.title), *(cell_len(str(row[index])) for row in rows)]) if field.whole else 0
        for index, field in enumerate(fields)
    ]
    left = max(0, width - sum(needed) - 2 * (len(fields) - 1))
    parts = max(1, needed.count(0))
    return [cells or max(1, left // parts) for cells in needed]


def stacked(*parts: Text) -> Text:
    """Parts under one another, without those that are empty."""
    return Text("\n").join(part for part in parts if part)
