"""Message ids: UUIDv7 (RFC 9562), minted at each send, time-ordered so that the store can find them by time."""

import re
import time
from random import getrandbits
from typing import Final

id_in: Final = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
"""Whether untrusted text has the form of a message id (any UUID version, lower-case hex): a match, or None."""

_VARIANT: Final = 0b10 << 74
_beginning = (0, "")
"""The last millisecond an id was minted in, and how ids of it begin; replaced as one, so that threads do not mix."""


def new_message_id() -> str:
    """Return a UUIDv7 in its 36-character form: 48 bits of Unix milliseconds, 74 bits of randomness."""
    global _beginning
    now = time.time_ns() // 1_000_000
    then, beginning = _beginning
    if then != now:
        digits = f"{now:012x}"
        beginning = f"{digits[:8]}-{digits[8:]}-7"
        _beginning = (now, beginning)
    digits = f"{_VARIANT | getrandbits(74):019x}"
    return f"{beginning}{digits[1:4]}-{digits[0]}{digits[4:7]}-{digits[7:]}"


def is_message_id(text: str) -> bool:
    """Whether untrusted text has the form of a message id (any UUID version, lower-case hex, 36 characters)."""
    return id_in(text) is not None
