"""Spans that wait to be sent, each encoded: bounded in number and bytes; the oldest give way."""

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hopwatch.lean.provider import LeanTracer

REQUEST_BYTES: Final = 4 << 20
"""About how large a request may become."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some spans that ended about the same time: who recorded each, and the field it is in its scope."""

    tracers: list["LeanTracer"]
    fields: list[bytes]
    bytes: int
    born: float


class Backlog:
    """First in, first out; belongs to one thread."""

    def __init__(self, most_spans: int, most_bytes: int) -> None:
        self._most_spans = most_spans
        self._most_bytes = most_bytes
        self._batches: deque[Batch] = deque()
        self.spans = 0
        self.bytes = 0

    def add(self, tracers: list["LeanTracer"], fields: list[bytes], size: int) -> int:
        """Take in spans of so many bytes; returns how many older ones had to give way."""
        self._batches.append(Batch(tracers, fields, size, time.monotonic()))
        self.spans += len(fields)
        self.bytes += size
        lost = 0
        while len(self._batches) > 1 and (self.spans > self._most_spans or self.bytes > self._most_bytes):
            lost += self.pop(1)
        return lost

    def age_s(self) -> float:
        """Return how long the oldest batch has waited."""
        return time.monotonic() - self._batches[0].born if self._batches else 0.0

    def head(self, most_spans: int) -> list[Batch]:
        """Return the oldest batches that go into one request."""
        chosen: list[Batch] = []
        spans = size = 0
        for batch in self._batches:
            spans += len(batch.fields)
            size += batch.bytes
            if chosen and (spans > most_spans or size > REQUEST_BYTES):
                break
            chosen.append(batch)
        return chosen

    def pop(self, batches: int) -> int:
        """Forget the oldest batches; returns how many spans they were."""
        gone = [self._batches.popleft() for _ in range(batches)]
        spans = sum(len(batch.fields) for batch in gone)
        self.spans -= spans
        self.bytes -= sum(batch.bytes for batch in gone)
        return spans

    def pop_older_than(self, age_s: float) -> int:
        """Forget batches that have waited too long; returns how many spans they were."""
        oldest = time.monotonic() - age_s
        return self.pop(sum(1 for batch in self._batches if batch.born < oldest))
