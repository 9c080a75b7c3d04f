"""What became of every sampled span that ended: delivered, lost for a reason, or still waiting."""

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_log = logging.getLogger("hopwatch")

_QUIET_S: Final = 60.0


class Loss(StrEnum):
    """Why a span never reached the collector."""

    FULL = "queue full"
    """More was waiting than the bound allows."""
    REFUSED = "refused"
    """The collector would not have it, ever."""
    TOO_OLD = "too old"
    """It had waited too long for a collector that takes nothing."""
    UNENCODABLE = "unencodable"
    """It has no place in OTLP: a time before 1970, say."""
    CLOSED = "closed"
    """It ended after the provider was shut down, or was not delivered in time at the end."""


@dataclass(frozen=True, slots=True)
class ExportStats:
    """Counts since the start of the process, or since it was forked; they add up to all sampled spans that ended."""

    delivered: int
    waiting: int
    dropped: dict[str, int]


class Losses:
    """Exact counts of what is lost, and one log line a minute about it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a finalizer may end a span while it is held
        self._counts: Counter[Loss] = Counter()
        self._reasons: dict[Loss, str] = {}
        self._untold: Counter[Loss] = Counter()
        self._told_at = -_QUIET_S
        self._since = float("inf")

    def add(self, loss: Loss, spans: int = 1, reason: str = "", *, age_s: float = 0.0) -> None:
        """Count lost spans, the oldest of which ended so long ago; the log hears of them by `tell`, in another thread."""
        with self._lock:
            self._since = min(self._since, time.time() - age_s)
            self._counts[loss] += spans
            self._untold[loss] += spans
            if reason:
                self._reasons[loss] = reason

    def counts(self) -> dict[str, int]:
        """Return how many spans were lost, by reason."""
        with self._lock:
            return {loss.value: count for loss, count in self._counts.items()}

    def take_since(self) -> float:
        """Return since when, in seconds since 1970, spans were lost that nobody took note of yet; infinity: none were."""
        with self._lock:
            since, self._since = self._since, float("inf")
            return since

    def give_back(self, since: float) -> None:
        """Take back what `take_since` returned: nobody took note after all."""
        with self._lock:
            self._since = min(self._since, since)

    def tell(self, *, last: bool = False) -> None:
        """Log what was lost since the last time, at most once a minute unless it is the last word."""
        if not self._untold or (not last and time.monotonic() - self._told_at < _QUIET_S):
            return
        self._told_at = time.monotonic()
        with self._lock:
            untold, self._untold = self._untold, Counter()
            said = ", ".join(
                f"{count} {loss}" + (f" ({self._reasons[loss]})" if loss in self._reasons else "")
                for loss, count in untold.items()
            )
        _log.warning("spans lost: %s; the application is not affected", said)


class Trouble:
    """One log line a minute about a collector that takes nothing."""

    def __init__(self) -> None:
        self._told_at = -_QUIET_S

    def tell(self, url: str, reason: str, pause_s: float) -> None:
        """Log that delivery is held up, if that has not been said in the last minute."""
        if time.monotonic() - self._told_at >= _QUIET_S:
            self._told_at = time.monotonic()
            _log.warning("spans wait: %s takes none (%s); trying again in %.1f s", url, reason, pause_s)
