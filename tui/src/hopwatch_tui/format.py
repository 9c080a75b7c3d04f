"""Words, glyphs and numbers as people read them: verdicts, states, ages, durations.

A colour never stands alone: each verdict and state has a glyph and a word too, and the tones are blue, yellow, orange
and purple rather than green and red.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final


class Tone(StrEnum):
    """What a piece of text wants to say by its colour."""

    PLAIN = "plain"
    STRONG = "strong"
    DIM = "dim"
    GOOD = "good"
    BUSY = "busy"
    WARN = "warn"
    BAD = "bad"
    ODD = "odd"
    KEY = "key"


ANSI: Final[dict[Tone, str]] = {
    Tone.PLAIN: "",
    Tone.STRONG: "bold",
    Tone.DIM: "dim",
    Tone.GOOD: "cyan",
    Tone.BUSY: "blue",
    Tone.WARN: "yellow",
    Tone.BAD: "bold red",
    Tone.ODD: "magenta",
    Tone.KEY: "bold cyan",
}
"""Rich styles for printed reports, in the sixteen colours every terminal theme defines for itself."""


@dataclass(frozen=True, slots=True)
class Sign:
    """How a verdict or state is shown."""

    glyph: str
    word: str
    tone: Tone
    meaning: str

    def __str__(self) -> str:
        return f"{self.glyph} {self.word}"


VERDICTS: Final[dict[str, Sign]] = {
    "settled": Sign("✓", "settled", Tone.GOOD, "the receiver got it and acknowledged it"),
    "in_flight": Sign("▸", "in flight", Tone.BUSY, "received, being worked on"),
    "waiting": Sign("◌", "waiting", Tone.BUSY, "owed to this receiver, not there yet"),
    "stuck": Sign("■", "stuck", Tone.WARN, "received, and being worked on for longer than the deadline"),
    "overdue": Sign("!", "overdue", Tone.WARN, "owed to this receiver for longer than the deadline"),
    "dead_lettered": Sign("†", "dead-lettered", Tone.BAD, "given up and put aside into a dead-letter queue"),
    "expired": Sign("×", "expired", Tone.BAD, "its time to live ended before anyone read it"),
    "evicted": Sign("−", "evicted", Tone.BAD, "the broker removed it before the receiver read it"),
    "returned": Sign("↩", "returned", Tone.BAD, "there was nowhere to route it"),
    "refused": Sign("⊘", "refused", Tone.BAD, "the broker did not take it"),
    "unconfirmed": Sign("~", "unconfirmed", Tone.WARN, "nobody knows whether the broker took it"),
    "skipped": Sign("»", "skipped", Tone.BAD, "the receiver's position passed it, unprocessed"),
    "failed": Sign("✗", "failed", Tone.BAD, "the last attempt failed and nothing more is due"),
    "no_receiver": Sign("∅", "no receiver", Tone.BAD, "nobody was there to be owed it"),
    "lost": Sign("◊", "lost", Tone.BAD, "confirmed, not held by the broker, never received"),
    "unknown": Sign("?", "unknown", Tone.ODD, "the evidence does not decide"),
}

STATES: Final[dict[str, Sign]] = {
    "active": Sign("▸", "active", Tone.BUSY, "something is in flight or waiting"),
    "done": Sign("✓", "done", Tone.GOOD, "everything was delivered"),
    "failed": Sign("✗", "failed", Tone.BAD, "some span ended with an error"),
    "undelivered": Sign("!", "undelivered", Tone.WARN, "some receiver did not get its copy"),
}

DELIVERED: Final = frozenset({"settled", "in_flight", "waiting"})
"""Verdicts nobody needs to look at; all others count as undelivered."""


def verdict(name: str) -> Sign:
    """The sign of a verdict; one a newer collector invented is shown by its own name."""
    return VERDICTS.get(name) or Sign("?", name.replace("_", " ") or "unknown", Tone.ODD, "")


def state(name: str) -> Sign:
    """The sign of a flow's state, or of a message's verdict: search answers hold either."""
    return STATES.get(name) or verdict(name)


def duration(milliseconds: float | None) -> str:
    """A span of time in at most six characters: `340µs`, `12ms`, `1.4s`, `2m05s`, `3h20m`; `–` for None."""
    if milliseconds is None or milliseconds != milliseconds:
        return "–"
    if milliseconds < 0:
        return "-" + duration(-milliseconds)
    if milliseconds < 0.9995:
        return f"{milliseconds * 1000:.0f}µs" if milliseconds else "0ms"
    if milliseconds < 9.95:
        return f"{milliseconds:.1f}ms"
    if milliseconds < 999.5:
        return f"{milliseconds:.0f}ms"
    return _seconds(milliseconds / 1000)


def _seconds(seconds: float) -> str:
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    if seconds < 59.5:
        return f"{seconds:.0f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s" if whole % 60 else f"{whole // 60}m"
    minutes = whole // 60
    if minutes < 24 * 60:
        return f"{minutes // 60}h{minutes % 60:02d}m" if minutes % 60 else f"{minutes // 60}h"
    hours = minutes // 60
    return f"{hours // 24}d{hours % 24:02d}h" if hours < 24 * 100 else f"{hours // 24}d"


def age(moment: datetime | None, now: datetime | None) -> str:
    """How long before `now` something was, in whole units: `now`, `12s`, `4m10s`, `3h20m`; `–` if unknown."""
    if moment is None or now is None:
        return "–"
    seconds = (now - moment).total_seconds()
    if seconds < 1:
        return "now"
    return f"{int(seconds)}s" if seconds < 60 else _seconds(int(seconds))


def count(number: int) -> str:
    """A whole number with thousands set apart: `12,345`."""
    return f"{number:,}"


def rate(per_second: float) -> str:
    """A rate in few characters: `0.4/s`, `35/s`, `1,204/s`."""
    return f"{per_second:.1f}/s" if 0 < per_second < 9.95 else f"{per_second:,.0f}/s"


def clock(moment: datetime | None) -> str:
    """Local time of day to the millisecond, `–` if unknown."""
    return "–" if moment is None else moment.astimezone().strftime("%H:%M:%S.%f")[:-3]


def stamp(moment: datetime | None) -> str:
    """Local date and time to the millisecond with its offset, `–` if unknown."""
    return "–" if moment is None else moment.astimezone().isoformat(sep=" ", timespec="milliseconds")


def plural(number: int, one: str, many: str = "") -> str:
    """`1 flow`, `3 flows`."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def short_id(value: str) -> str:
    """The end of an id: ids of one second share their beginnings (UUIDv7), so the end tells them apart."""
    return value if len(value) <= 12 else "…" + value[-8:]
