"""How answers leave: drawn on a terminal, as lines into a pipe, as the API's JSON; and how a command ends."""

import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, NoReturn

import typer
from rich.console import Console, RenderableType

from hopwatch_tui.client import ApiError, Raw
from hopwatch_tui.text import clean


class Exit(IntEnum):
    """What a command's exit code says."""

    FOUND = 0
    NOTHING = 1
    USAGE = 2
    COLLECTOR = 3


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
) -> None:
    """Show an answer: `raw` as it is, or its `rows` drawn or in lines. Exit code 1, after `nothing` and `hint`, without any."""
    if json:
        print_raw(raw)
    elif rows and sys.stdout.isatty():
        print_drawing(draw())
    elif rows:
        print_rows(header, (row(one) for one in rows))
    if not rows:
        nothing_found(nothing, hint)
    if truncated:
        sys.stderr.write(
            f"hopwatch: only the first {len(rows)} are shown; --limit or a shorter time changes that\n"
        )


def print_rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write one line per row, columns apart by tabs, under a header."""
    # cleaned once more without lines: a tab or newline in a value would make another column or row
    lines = ["\t".join(header), *("\t".join(clean(value) for value in row) for row in rows)]
    sys.stdout.write("\n".join(lines) + "\n")


def print_raw(raw: Raw) -> None:
    """Write the API's answer as it came."""
    sys.stdout.flush()
    sys.stdout.buffer.write(raw.body.rstrip(b"\n") + b"\n")
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


def now() -> datetime:
    """The moment, in UTC."""
    return datetime.now(UTC)


def utc(moment: datetime | None) -> str:
    """RFC 3339 in UTC, to the millisecond; nothing for no moment."""
    return "" if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class reported:  # noqa: N801  a context manager used like a function
    """Turns an API error into a few lines on stderr and exit code 3."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: object, _traceback: object) -> None:
        if isinstance(error, ApiError):
            fail(error.title, error.message, Exit.COLLECTOR, error.hint)


def nothing_found(message: str, hint: str) -> NoReturn:
    """Say so, with what to do next, and end with exit code 1."""
    sys.stderr.write(f"hopwatch: {message}\n" + (f"  {hint}\n" if hint else ""))
    raise typer.Exit(Exit.NOTHING)


def fail(title: str, message: str, code: Exit, hint: str = "") -> NoReturn:
    """Say what went wrong, with what to do next, and end."""
    lines = [f"hopwatch: {title}", *(f"  {part}" for part in (message, hint) if part)]
    sys.stderr.write("\n".join(lines) + "\n")
    raise typer.Exit(code)
