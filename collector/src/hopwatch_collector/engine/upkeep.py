"""What the store does from time to time besides taking spans."""

import time
from collections.abc import Callable
from typing import Any, Final

_RETENTION_EVERY_S: Final = 600.0


class Upkeep:
    """Runs what is due. One at a time; the caller sees to that."""

    def __init__(self, command: Callable[..., Any], retention_days: int) -> None:
        self._command = command
        self._retention_days = retention_days
        self._retention_due = 0.0

    def run(self) -> None:
        """Do what is due now."""
        now = time.monotonic()
        if now >= self._retention_due:
            self._retention_due = now + _RETENTION_EVERY_S
