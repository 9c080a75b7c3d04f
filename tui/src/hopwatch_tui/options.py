"""Options that commands have in common, each with the check that refuses what makes no sense before anybody is asked."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from hopwatch_tui import format as fmt
from hopwatch_tui.text import clean

MAX_TEXT: Final = 512
"""Characters of a name or id that the collector takes."""

ACCEPTED_TIMES: Final = "a time is how long ago it was (30s, 15m, 2h, 7d, 2w, now) or RFC 3339 with an offset (2026-01-31T08:00:00Z)"
_RELATIVE: Final = re.compile(r"\d{1,6}[smhdw]|now", re.ASCII)
_RFC3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
UNDELIVERED: Final = tuple(name for name in fmt.VERDICTS if name not in fmt.DELIVERED)
"""Verdicts that count as undelivered."""


def check_time(text: str) -> str:
    """A time as the collector takes it; empty: not asked for."""
    if text and not (_RELATIVE.fullmatch(text.strip()) or _is_moment(text.strip())):
        raise typer.BadParameter(f"{_quoted(text)} is no time: {ACCEPTED_TIMES}.")
    return text


def _is_moment(text: str) -> bool:
    found = _RFC3339.fullmatch(text)
    if found is None:
        return False
    date, time, fraction, zone = found.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{time}{(fraction or '')[:7]}{zone.upper()}").astimezone(UTC)
    except (ValueError, OverflowError):
        return False
    return _EARLIEST <= moment <= _LATEST


def check_text(text: str) -> str:
    """A name or id as the collector takes it."""
    if len(text) > MAX_TEXT:
        raise typer.BadParameter(f"it has {len(text)} characters; a name or id has at most {MAX_TEXT}.")
    if not text.isprintable() and any("\ud800" <= char <= "\udfff" for char in text):
        raise typer.BadParameter(f"{_quoted(text)} is not text in UTF-8.")
    return text


def check_verdicts(names: list[str] | None) -> list[str] | None:
    """Verdicts that there are, or `undelivered`."""
    return _each_of(names, "verdict", ("undelivered", *fmt.VERDICTS))


def check_undelivered(names: list[str] | None) -> list[str] | None:
    """Verdicts that count as undelivered."""
    return _each_of(names, "verdict that counts as undelivered", ("undelivered", *UNDELIVERED))


def check_state(name: str) -> str:
    """A state of a flow that there is; empty: not asked for."""
    _each_of([name] if name else None, "state", tuple(fmt.STATES))
    return name


def number_in(least: int, most: int) -> Callable[[str | int], int]:
    """A parser of whole numbers between two, both included."""

    def parse(text: str | int) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise typer.BadParameter(f"{_quoted(str(text))} is no whole number from {least} to {most}.")
        return number

    return parse


def _each_of(names: list[str] | None, what: str, known: Sequence[str]) -> list[str] | None:
    for name in names or ():
        if name not in known:
            raise typer.BadParameter(f"{_quoted(name)} is no {what}: it is one of {', '.join(known)}.")
    return names


def _quoted(text: str) -> str:
    return f"'{clean(text, limit=80)}'"


CollectorOption = Annotated[
    str,
    typer.Option(
        "--collector", envvar="HOPWATCH_COLLECTOR", metavar="URL", help="Where the collector's API is."
    ),
]
TokenOption = Annotated[
    str,
    typer.Option(
        "--token",
        envvar="HOPWATCH_READ_TOKEN",
        metavar="TOKEN",
        help="Read token, where one is wanted.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the API's JSON answer unchanged.")]
SinceOption = Annotated[
    str,
    typer.Option(
        "--since", metavar="TIME", callback=check_time, help="From when: 15m, 2h, 7d or an RFC 3339 time."
    ),
]
UntilOption = Annotated[
    str,
    typer.Option(
        "--until", metavar="TIME", callback=check_time, help="Up to when, like --since.", show_default=False
    ),
]
LimitOption = Annotated[
    int,
    typer.Option(
        "--limit",
        metavar="NUMBER",
        parser=number_in(1, 1000),
        help="How many rows at most, from 1 to 1000.",
    ),
]
ServiceOption = Annotated[
    str,
    typer.Option(
        "--service",
        metavar="NAME",
        callback=check_text,
        help="Only what this service sent or received.",
        show_default=False,
    ),
]
DestinationOption = Annotated[
    str,
    typer.Option(
        "--destination",
        metavar="NAME",
        callback=check_text,
        help="Only what was sent there.",
        show_default=False,
    ),
]
ReceiverOption = Annotated[
    str,
    typer.Option(
        "--receiver",
        metavar="NAME",
        callback=check_text,
        help="Only what was owed to this receiver.",
        show_default=False,
    ),
]
VerdictOption = Annotated[
    list[str] | None,
    typer.Option(
        "--verdict",
        metavar="VERDICT",
        callback=check_verdicts,
        help="Only this verdict, e.g. stuck or `undelivered` for all bad ones; repeatable.",
    ),
]
UndeliveredVerdictOption = Annotated[
    list[str] | None,
    typer.Option(
        "--verdict",
        metavar="VERDICT",
        callback=check_undelivered,
        help="Only this one of the verdicts that count as undelivered, e.g. stuck; repeatable.",
    ),
]
StateOption = Annotated[
    str,
    typer.Option(
        "--state",
        metavar="STATE",
        callback=check_state,
        help=f"Only flows in this state: {', '.join(fmt.STATES)}.",
        show_default=False,
    ),
]
