"""/metrics: the collector's own numbers, and those that queries derive from spans and ledger."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from hopwatch_collector.api.ports import Family, Sample
from hopwatch_collector.errors import CollectorError

CACHED_S = 5.0
"""How long query-derived numbers are shown before they are asked for again."""
SHOWN_S = 60.0
"""How long they are shown at most while newer ones cannot be had."""
MOST_SERIES = 500
"""Series shown of one family; a histogram with all its buckets counts as one."""

FAMILIES: Mapping[str, tuple[str, str]] = {
    "traces_spanmetrics_calls": ("counter", "Spans seen, by service, name, kind and status."),
    "traces_spanmetrics_latency": ("histogram", "Duration of spans in seconds."),
    "traces_service_graph_request": ("counter", "Calls and messages from one service to another."),
    "traces_service_graph_request_failed": ("counter", "Those of them that failed or were not delivered."),
    "hopwatch_lag_messages": ("gauge", "Messages a receiver is owed and has not received."),
    "hopwatch_lag_seconds": ("gauge", "Seconds the oldest message a receiver is owed has waited."),
    "hopwatch_service_spans_lost": (
        "counter",
        "Spans that services told they lost on their way to the collector.",
    ),
    "hopwatch_deliveries": (
        "gauge",
        "Deliveries by verdict: those waiting, overdue, in flight or stuck whenever they were sent, the others of the last hour.",
    ),
    "hopwatch_clock_offset_seconds": (
        "gauge",
        "How far a host's clock is ahead of the collector's, as hops show.",
    ),
    "hopwatch_clock_corrected_seconds": (
        "gauge",
        "What is taken off a host's times; 0 where its clock may be right.",
    ),
}
"""Type and help of every query-derived family; samples of any other name are not shown."""

_SUFFIXES = ("_total", "_bucket", "_sum", "_count")


Series = tuple[str, frozenset[tuple[str, str]]]
"""A sample's name and labels."""


class Growing:
    """Counters that only grow, made of totals that shrink when the store drops what is too old.

    Prometheus would take a smaller total for a restart and count all of it once more.
    """

    def __init__(self) -> None:
        self._known: dict[Series, tuple[float, float]] = {}

    def follow(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """The same samples with counters grown by what their totals grew; call it for each whole page in turn."""
        before, self._known = self._known, {}
        for name, labels, total in samples:
            family = _family_of(name)
            if family is None or FAMILIES[family][0] == "gauge":
                yield name, labels, total
                continue
            series = (name, frozenset(labels.items()))
            last_total, shown = before.get(series, (0.0, 0.0))
            shown += max(total - last_total, 0.0)
            self._known[series] = (total, shown)
            yield name, labels, shown


class Collects(Protocol):
    """Whatever has metric families."""

    def collect(self) -> Iterable[Metric]:
        """The families as they are now."""


class QueryDerived:
    """Query-derived families, cached and bounded; each scrape in the meantime shows the same numbers."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        cached_s: float = CACHED_S,
        shown_s: float = SHOWN_S,
        most_series: int = MOST_SERIES,
    ) -> None:
        self._shown_s = shown_s
        self._cached_s = cached_s
        self._most = most_series
        self._lock = threading.Lock()
        self._growing = Growing()
        self._families: list[Metric] = []
        self._samples: dict[str, list[Sample]] = {}
        self._asked_at: float | None = None
        self._dropped = Gauge(
            "hopwatch_metrics_series_dropped",
            "Series left out of /metrics because a family has too many.",
            ["family"],
            registry=registry,
        )

        self._failed = Gauge(
            "hopwatch_metrics_group_failed",
            "1 if the store could not be asked for this group of metrics: its last numbers are shown.",
            ["group"],
            registry=registry,
        )

    def fresh(self, now: float | None = None) -> bool:
        """Whether what is cached may still be shown."""
        now = time.monotonic() if now is None else now
        return self._asked_at is not None and now - self._asked_at < self._cached_s

    def replace(self, groups: Iterable[Family]) -> list[str]:
        """Show what these groups say from now on; return those that could not be asked, of which the last numbers stay.

        Too many series of one family are left out and counted.
        """
        failed = []
        for name, ask in groups:
            try:
                self._samples[name] = list(ask())
            except CollectorError:
                failed.append(name)
            self._failed.labels(name).set(name in failed)
        samples = [sample for group in self._samples.values() for sample in group]
        with self._lock:
            families, dropped = _bounded(self._growing.follow(samples), self._most)
            self._families = families
            self._asked_at = time.monotonic()
        for name in FAMILIES:
            self._dropped.labels(name).set(dropped.get(name, 0))
        return failed

    def collect(self) -> Iterator[Metric]:
        """The families shown: none rather than old ones."""
        with self._lock:
            old = self._asked_at is None or time.monotonic() - self._asked_at > self._shown_s
            return iter([] if old else self._families)


def _family_of(sample: str) -> str | None:
    if sample in FAMILIES:
        return sample
    for suffix in _SUFFIXES:
        if sample.endswith(suffix) and sample.removesuffix(suffix) in FAMILIES:
            return sample.removesuffix(suffix)
    return None


def _bounded(samples: Iterable[Sample], most: int) -> tuple[list[Metric], dict[str, int]]:
    # All of them, so that who asks for one that has no series yet is told that it exists.
    families = {name: Metric(name, text, kind) for name, (kind, text) in FAMILIES.items()}
    series: dict[str, set[frozenset[tuple[str, str]]]] = {}
    dropped: dict[str, set[frozenset[tuple[str, str]]]] = {}
    for sample, labels, value in samples:
        name = _family_of(sample)
        if name is None:
            continue
        identity = frozenset((key, text) for key, text in labels.items() if key != "le")
        known = series.setdefault(name, set())
        if identity not in known and len(known) >= most:
            dropped.setdefault(name, set()).add(identity)
            continue
        known.add(identity)
        families[name].add_sample(sample, dict(labels), value)
    return list(families.values()), {name: len(left_out) for name, left_out in dropped.items()}


class _Together(Collector):
    """Several collectors rendered as one page."""

    def __init__(self, parts: tuple[Collects, ...]) -> None:
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        for part in self._parts:
            yield from part.collect()


def render(accept: str, *parts: Collects) -> tuple[bytes, str]:
    """One metrics page over `parts` and its content type, in the format `accept` prefers."""
    encoder, content_type = choose_encoder(accept)
    return encoder(_Together(parts)), content_type
