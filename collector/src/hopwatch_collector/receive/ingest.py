"""What every way in has in common: count, bound, validate, journal; the answer is true once `take` returns."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hopwatch_collector.errors import CollectorError, Overloaded, RetryableError
from hopwatch_collector.journal import Journal
from hopwatch_collector.metrics import Metrics
from hopwatch_collector.receive.validate import Accepted, validate

_LARGE = 1 << 19
"""Bytes from which on a request is looked at beside the event loop."""


class Budget:
    """Bytes that may be held in memory at once, over all requests. Belongs to one event loop."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """One request's share, given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            self._left += share.held

    def take(self, count: int) -> None:
        """Raises Overloaded where there are not `count` bytes left."""
        if count > self._left:
            raise Overloaded("too many bytes in hand; send again later")
        self._left -= count


@dataclass(slots=True)
class Share:
    """What one request holds of the budget."""

    budget: Budget
    held: int = 0

    def take(self, count: int) -> None:
        """Raises Overloaded where there are not `count` bytes left."""
        self.budget.take(count)
        self.held += count


class Ingest:
    """Validates and journals requests; the same for OTLP over HTTP and gRPC."""

    def __init__(self, journal: Journal, budget: Budget, metrics: Metrics) -> None:
        self.budget = budget
        self._journal = journal
        self._metrics = metrics

    async def take(self, body: bytes, protocol: str) -> Accepted:
        """Returns when every span accepted is on disk.

        Raises:
            MalformedRequest, RequestTooLarge: nothing is kept, nor would be next time.
            RetryableError: nothing is kept, but may be next time.
        """
        # What is large may take a while, above all where texts have to be mended: others go on meanwhile.
        accepted = await asyncio.to_thread(validate, body) if len(body) > _LARGE else validate(body)
        if accepted.spans:
            await self._journal.append(accepted.payload, accepted.spans)
        self._count(accepted, protocol)
        return accepted

    def refused(self, error: CollectorError, protocol: str) -> None:
        """Counts a request that was answered with `error`."""
        reason = _REASONS.get(type(error).__name__, "other")
        self._metrics.refuse(protocol, reason, retry=isinstance(error, RetryableError))

    def _count(self, accepted: Accepted, protocol: str) -> None:
        metrics = self._metrics
        metrics.requests.labels(protocol, "partial" if accepted.rejected else "accepted").inc()
        metrics.spans.inc(accepted.spans)
        metrics.bytes.inc(len(accepted.payload))
        if accepted.rejected:
            metrics.refused.labels("invalid_ids").inc(accepted.rejected)


_REASONS = {
    "MalformedRequest": "malformed",
    "RequestTooLarge": "too_large",
    "UnsupportedRequest": "unsupported",
    "Unauthorised": "unauthorised",
    "BodyTimeout": "timeout",
    "Overloaded": "overloaded",
    "JournalFull": "journal_full",
    "JournalFailed": "journal_failed",
}
