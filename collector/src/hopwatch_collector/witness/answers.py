"""Reading what brokers answer: anybody who may publish or connect may have had a hand in it."""

from datetime import UTC, datetime
from typing import Any, Final

MALFORMED: Final = (
    AttributeError, IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError,
)  # fmt: skip
"""What taking an answer apart raises where it is not what it ought to be."""

MAX_NAME: Final = 512
"""Characters of a name that the ledger keeps."""
_MAX_WORDS: Final = 200
_MAX_COUNT: Final = 2**63 - 1
_MARK: Final = "\x1f"


def name(value: Any) -> str:
    """Return a name as the ledger spells it: whatever characters it has, but no longer than `MAX_NAME`.

    Raises:
        ValueError: it is no text, empty, or has the character that marks patterns.
    """
    if not isinstance(value, str) or not value or _MARK in value:
        raise ValueError(f"{words(repr(value))} is no name")
    short = value[:MAX_NAME]
    return short if short.isascii() else short.encode("utf-8", "replace").decode("utf-8")


def number(value: Any) -> int:
    """Return a count or an offset.

    Raises:
        ValueError: it is no whole number from 0 to 2^63-1.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_COUNT:
        raise ValueError(f"{words(repr(value))} is no count")
    return value


def moment(text: Any) -> datetime:
    """Return an RFC 3339 time with any number of digits, as Go writes it.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(text, str):
        raise ValueError(f"{words(repr(text))} is no time")
    stamp, _, rest = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{stamp}.{(rest + '000000')[:6]}").replace(tzinfo=UTC)


def words(text: Any) -> str:
    """Return what somebody else wrote, fit to be shown: short and without control characters."""
    short = str(text)[:_MAX_WORDS]
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in short
    )
