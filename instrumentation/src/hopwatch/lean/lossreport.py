"""Losses told to the collector with what is sent next: counts since the process began, so that none counts twice."""

import time
from dataclasses import dataclass
from importlib.metadata import version
from random import getrandbits
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind, TraceFlags

from hopwatch.conventions import LOSSES_ID, LOST_PREFIX, REPORT, Report
from hopwatch.lean.encode import Encoder, encoded
from hopwatch.lean.ledger import Losses
from hopwatch.lean.span import LeanSpan

_EVERY_S: Final = 5.0
"""How often at most losses are told while they go on."""

_REFUSED_PAUSE_S: Final = 60.0
"""How long a report is held back that a collector would not have: it must not become what is lost next."""


@dataclass(frozen=True, slots=True)
class _Scope:
    """What an encoder needs to know of a tracer."""

    scope: InstrumentationScope


class LossReport:
    """What one process has told of its losses; belongs to the export thread."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses
        self._id = f"{getrandbits(64):016x}"
        self._tracer: Any = _Scope(InstrumentationScope("hopwatch.losses", version("hopwatch")))
        self._told: dict[str, int] = {}
        self._telling: dict[str, int] = {}
        self._since = float("inf")
        self._rests_until = self._refused_until = 0.0

    def due(self, resource: Resource, *, last: bool = False) -> bytes:
        """Return a report as an OTLP request, empty where there is nothing new to tell, or not yet; `answered` follows."""
        counts, now = self._losses.counts(), time.monotonic()
        if counts == self._told or now < self._refused_until or (now < self._rests_until and not last):
            return b""
        self._telling, self._since = counts, self._losses.take_since()
        return Encoder(resource).encode([self._tracer], [encoded(self._span(counts))])

    def answered(self, *, taken: bool) -> None:
        """Note whether the collector took the request that carried the report, if one was due."""
        if not self._telling:
            return
        if not taken:
            self._refused_until = time.monotonic() + _REFUSED_PAUSE_S
            self.postponed()
            return
        self._told, self._telling = self._telling, {}
        self._rests_until = time.monotonic() + _EVERY_S

    def postponed(self) -> None:
        """Note that the request did not get through."""
        if self._telling:
            self._telling = {}
            self._losses.give_back(self._since)

    def _span(self, counts: dict[str, int]) -> LeanSpan:
        now = time.time_ns()
        span = LeanSpan(
            self._tracer,
            Report.LOSSES.value,
            SpanKind.INTERNAL,
            None,
            (getrandbits(128) or 1, getrandbits(64) or 1),
            TraceFlags(TraceFlags.SAMPLED),
            None,
            {
                REPORT: Report.LOSSES.value,
                LOSSES_ID: self._id,
                **{f"{LOST_PREFIX}{reason.replace(' ', '_')}": count for reason, count in counts.items()},
            },
            min(now, int(self._since * 1e9)) if self._since < float("inf") else now,
        )
        span._end_time = now
        return span
