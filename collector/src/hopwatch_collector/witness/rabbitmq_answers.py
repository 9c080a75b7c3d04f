"""RabbitMQ: what the management API answers, taken for no more than it is: bounded, and without what makes no sense."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from hopwatch_collector.witness.model import NEVER, UNTOLD

_LONGEST_NAME: Final = 512
"""Characters. AMQP's own limit is 255 bytes."""
_MOST: Final = 1 << 62
"""Counters beyond it make no sense."""
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC).timestamp()


class Nonsense(Exception):
    """An answer as a whole makes no sense; says why, in words for people."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A list of things that have names."""

    rows: list[Mapping[str, Any]]
    left_out: int = 0
    """How many others there were, whose names or kinds make no sense."""


def listed(text: bytes, words: Iterable[str]) -> Listed:
    """Return the list in an answer; of each thing in it, `words` must be there and be text.

    Raises:
        Nonsense: it is no list.
    """
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Nonsense("an answer that is no JSON; is this the management API?") from error
    if not isinstance(told, list):
        raise Nonsense("an answer that is no list; is this the management API?")
    wanted = tuple(words)
    rows: list[Mapping[str, Any]] = [
        one for one in told if isinstance(one, dict) and all(is_name(one.get(word)) for word in wanted)
    ]
    return Listed(rows, len(told) - len(rows))


def is_name(value: object) -> bool:
    """Whether it is text that can be stored, and told from our own marks in patterns."""
    if not isinstance(value, str) or len(value) > _LONGEST_NAME or "\x1f" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def table(value: object) -> Mapping[str, Any]:
    """An object's fields; some versions write an empty list for an empty one."""
    return value if isinstance(value, dict) else {}


def number(value: object, otherwise: int = UNTOLD) -> int:
    """A count; `otherwise` where it is none."""
    sound = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST
    return int(value) if sound else otherwise  # type: ignore[call-overload]  # checked in the line above


def moment(value: object) -> datetime:
    """A time in seconds since 1970; 1970 where it is none."""
    seconds = number(value, 0)
    return datetime.fromtimestamp(seconds, UTC) if seconds < _LATEST else NEVER
