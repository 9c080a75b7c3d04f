"""Sends that nobody answered, by what was sent where: who sends the same there again, under another id, tries again."""

import time
from collections import OrderedDict
from hashlib import blake2b
from typing import Any, Final

WITHIN_S: Final = 300.0
"""What is sent again later than this is another message that says the same."""


class Retries:
    """The sends of one transport without an answer; the last 1,000."""

    LIMIT: Final = 1_000

    def __init__(self) -> None:
        self._unanswered: OrderedDict[tuple[str, bytes], tuple[str, float]] = OrderedDict()

    def __bool__(self) -> bool:
        """Whether there are any: most often not, and then nothing is looked at."""
        return bool(self._unanswered)

    def unanswered(self, address: str, payload: Any, message_id: str) -> None:
        """Note a send that was not answered."""
        self._unanswered[address, _digest(payload)] = message_id, time.monotonic()
        if len(self._unanswered) > self.LIMIT:
            self._unanswered.popitem(last=False)

    def first(self, address: str, payload: Any) -> str | None:
        """Return the id under which the same was sent to the same address before, without an answer; only once."""
        message_id, at = self._unanswered.pop((address, _digest(payload)), (None, 0.0))
        return message_id if time.monotonic() - at <= WITHIN_S else None


def _digest(payload: Any) -> bytes:
    content = payload if isinstance(payload, bytes | bytearray | memoryview) else repr(payload).encode()
    return blake2b(content, digest_size=16).digest()
