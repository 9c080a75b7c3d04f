"""Message ids: UUIDv7 (RFC 9562), minted at each send, time-ordered so that the store can find them by time."""

import time
from random import getrandbits

_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62


def new_message_id() -> str:
    """Return a UUIDv7 in its 36-character form: 48 bits of Unix milliseconds, 74 bits of randomness."""
    random = getrandbits(74)
    value = (
        (time.time_ns() // 1_000_000) << 80
        | _VERSION
        | (random >> 62) << 64
        | _VARIANT
        | random & (1 << 62) - 1
    )
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def is_message_id(text: str) -> bool:
    """Whether untrusted text has the form of a message id (any UUID version, lower-case hex, 36 characters)."""
    if len(text) != 36 or text[8] != "-" or text[13] != "-" or text[18] != "-" or text[23] != "-":
        return False
    digits = text.replace("-", "")
    return len(digits) == 32 and all(digit in "0123456789abcdef" for digit in digits)
