"""How answers leave: drawn on a terminal, as lines into a pipe, as the API's JSON."""

import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, RenderableType

from hopwatch_tui.client import Raw
from hopwatch_tui.endings import nothing_found
from hopwatch_tui.text import clean, escaped


def finish(
    raw: Raw,
    json: bool,
    rows: Sequence[Any],
    *,
    draw: Callable[[], RenderableType],
    header: Sequence[str],
    row: Callable[[Any], Sequence[str]],
    nothing: str,
    hint: str,
    truncated: bool,
    narrower: str = "--limit or a shorter time",
) -> None:
    """Show an answer: `raw` as it is, or its `rows` drawn or in lines. Exit code 1, after `nothing` and `hint`, without any."""
    if json:
        print_raw(raw)
    elif rows:
        show((row(one) for one in rows), draw=draw, header=header)
    if not rows:
        nothing_found(nothing, hint)
    if truncated:
        sys.stderr.write(f"hopwatch: only the first {len(rows)} are shown; {narrower} changes that\n")


def show(rows: Iterable[Sequence[str]], *, draw: Callable[[], RenderableType], header: Sequence[str]) -> None:
    """Draw on a terminal; into a pipe write rows."""
    if sys.stdout.isatty():
        print_drawing(draw())
    else:
        print_rows(header, rows)


def print_rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write one line per row, columns apart by tabs, under a header."""
    # cleaned once more without lines: a tab or newline in a value would make another column or row
    lines = ["\t".join(header), *("\t".join(clean(value) for value in row) for row in rows)]
    sys.stdout.write("\n".join(lines) + "\n")


def print_raw(raw: Raw) -> None:
    """Write the API's answer: the same JSON, with characters that a terminal would obey or not show escaped."""
    sys.stdout.flush()
    sys.stdout.buffer.write(escaped(raw.body.rstrip(b"\n")) + b"\n")
    sys.stdout.flush()


def print_drawing(what: RenderableType) -> None:
    """Draw something; into a pipe, unfolded and without colour."""
    # into a pipe nothing is folded or coloured; rich itself honours NO_COLOR
    width = None if sys.stdout.isatty() else 10_000
    console = Console(
        width=width,
        no_color=None if sys.stdout.isatty() else True,
        highlight=False,
        markup=False,
        emoji=False,
    )
    if width is None:
        console.print(what)
        return
    with console.capture() as drawn:
        console.print(what)
    sys.stdout.write("\n".join(line.rstrip() for line in drawn.get().split("\n")))


def in_words(since: str, until: str) -> str:
    """A stretch of time as it was asked for."""
    if until:
        return f"from {since} to {until}"
    ago = since[:1].isdigit() and since[-1] in "smhdw"
    return f"in the last {since}" if ago else f"since {since or 'an hour ago'}"


def now() -> datetime:
    """The moment, in UTC."""
    return datetime.now(UTC)


def utc(moment: datetime | None) -> str:
    """RFC 3339 in UTC, to the millisecond; nothing for no moment."""
    return "" if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
