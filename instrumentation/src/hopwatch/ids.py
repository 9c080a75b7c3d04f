"""Message ids: UUIDv7 (RFC 9562), minted at each send, time-ordered so that the store can find them by time."""

import re
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from random import getrandbits
from typing import Final

from hopwatch.forks import after_fork
from hopwatch.native import native

_uuid: Final = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch

_VARIANT: Final = 0b10 << 14

_beginning: tuple[int, str, "count[int]"] = (0, "", count())
"""The last millisecond an id was minted in, how its ids begin, and their counter; replaced as one, so that threads
do not mix."""


def _new_message_id() -> str:
    global _beginning
    now = time.time_ns() // 1_000_000
    then, beginning, counter = _beginning
    if then != now:
        digits = f"{now:012x}"
        beginning = f"{digits[:8]}-{digits[8:]}-7{getrandbits(12):03x}-{_VARIANT | getrandbits(14):04x}-"
        counter = count(getrandbits(47))
        _beginning = (now, beginning, counter)
    return f"{beginning}{next(counter):012x}"


new_message_id: Final[Callable[[], str]] = (
    _new_message_id if native is None else partial(native.mint, getrandbits)
)
"""`new_message_id()`: a UUIDv7 in its 36-character form, for a third of what 74 random bits for each would cost.

Every millisecond draws 26 random bits anew, and 47 more from which its last field counts up (RFC 9562, 6.2, method 1: a counter
with a random beginning).
"""


def _is_message_id(text: str) -> bool:
    return _uuid(text) is not None


is_message_id: Final[Callable[[str], bool]] = _is_message_id if native is None else native.is_uuid
"""Whether untrusted text has the form of a message id (any UUID version, lower-case hex, 36 characters)."""


def _after_fork() -> None:
    """In a forked child the parent's counter is the parent's."""
    global _beginning
    _beginning = (0, "", count())
    if native is not None:
        native.forget()


after_fork(_after_fork)
