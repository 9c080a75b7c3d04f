"""The clocks of hosts around a moment, as the API shows them, and what to take off the times their processes told."""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog

from hopwatch_collector.api.models import Clock, ClockList
from hopwatch_collector.engine import OUR_HOST, Store
from hopwatch_collector.errors import QueryLimit
from hopwatch_collector.query.skew import Offset, Pair, consistent, fold

_log = structlog.get_logger("hopwatch.clocks")

BACK_S: Final = (900, 180)
"""Seconds to both sides of a moment that are looked at: fewer where a clock was set meanwhile."""
MAX_PAIRS: Final = 5_000
MAX_CLOCKS: Final = 500
MAX_RESOURCES: Final = 10_000
_FRESH_S: Final = 10.0
_KEPT: Final = 64


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an offset rests on: so many hops, the first of them in that minute."""

    hops: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Clocks:
    """What is known of clocks around one moment."""

    reference: str
    offsets: Mapping[str, Offset]
    evidence: Mapping[str, "Evidence"]
    left_out: Sequence[str]
    """Hosts whose hops contradict each other."""
    truncated: bool
    processes: Mapping[int, str]
    """The processes of hosts whose times are corrected, by key into `resources`, with their host."""

    def correction_us(self, host: str) -> int:
        """Return what to take off the times a host told to have them by the collector's clock; 0 where it may be right."""
        offset = self.offsets.get(host)
        return offset.us if offset is not None and offset.proven else 0

    def of_process(self, resource: int) -> int:
        """Return the same in µs for a process."""
        host = self.processes.get(resource)
        return 0 if host is None else self.correction_us(host)

    @property
    def skewed(self) -> list[str]:
        """The hosts whose times are corrected."""
        return [host for host in self.offsets if self.correction_us(host)]

    def parameters(self) -> dict[str, Any]:
        """Return what corrects times in SQL: processes, µs to take off each one's times, and the most seconds of any."""
        # The engine takes no empty list here.
        corrections = {0: 0} | {resource: self.of_process(resource) for resource in self.processes}
        return {
            "clock_processes": list(corrections),
            "clock_us": list(corrections.values()),
            "clock_slack": -(-max(map(abs, corrections.values())) // 1_000_000),
        }

    def offsets_by_process(self) -> dict[int, int]:
        """Return µs to take off the times of every process whose host's clock is known to be off."""
        return {resource: self.of_process(resource) for resource in self.processes}

    def shown(self) -> ClockList:
        """Return the clocks as the API shows them, those furthest off first."""
        shown = sorted(
            self.offsets, key=lambda host: (-abs(self.correction_us(host)), -abs(self.offsets[host].us), host)
        )
        return ClockList(
            reference=self.reference,
            collector=OUR_HOST,
            left_out=sorted(self.left_out)[:MAX_CLOCKS],
            clocks=[self._clock(host) for host in shown[:MAX_CLOCKS]],
            truncated=len(shown) > MAX_CLOCKS or self.truncated,
        )

    def off(self, limit: int) -> list[Clock]:
        """Return the clocks that are off, the furthest first."""
        furthest = sorted(self.skewed, key=lambda host: (-abs(self.correction_us(host)), host))
        return [self._clock(host) for host in furthest[:limit]]

    def _clock(self, host: str) -> Clock:
        offset, evidence = self.offsets[host], self.evidence.get(host)
        return Clock(
            host=host,
            offset_s=offset.us / 1e6,
            uncertainty_s=_seconds(offset.uncertainty_us),
            at_least_s=_seconds(offset.lower_us),
            at_most_s=_seconds(offset.upper_us),
            corrected_s=self.correction_us(host) / 1e6,
            hops=evidence.hops if evidence else 0,
            since=evidence.since if evidence else None,
        )


def _seconds(us: int | None) -> float | None:
    return None if us is None else us / 1e6


def _evidence(pairs: Iterable[Pair]) -> Mapping[str, Evidence]:
    found: dict[str, Evidence] = {}
    for pair in pairs:
        for host in (pair.from_host, pair.to_host):
            known = found.get(host, Evidence(0, pair.since))
            found[host] = Evidence(known.hops + pair.hops, min(known.since, pair.since))
    return found


NOTHING: Final = Clocks(OUR_HOST, {OUR_HOST: Offset(0, 0)}, {}, (), False, {})
"""No clock is known but the collector's own."""


class ClockReader:
    """Reads clocks from the store; what it remembers for a few seconds is only what it read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[int, tuple[float, Clocks]] = OrderedDict()
        self._lock = threading.Lock()

    def around(self, moment: datetime | None = None) -> Clocks:
        """Return the clocks around a moment; None: now. Where that would take too much, none: no answer fails for it."""
        try:
            return self.measured(moment)
        except QueryLimit as limit:
            _log.warning("clocks not read: times stay as they were told", reason=str(limit))
            return NOTHING

    def offsets_around(self, moment_us: int) -> dict[int, int]:
        """Return µs to take off the times of processes, as known around a moment (µs since 1970)."""
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment_us)
        return self.around(moment).offsets_by_process()

    def measured(self, moment: datetime | None = None) -> Clocks:
        """Return the same. Raises QueryLimit."""
        at = min(moment, datetime.now(UTC)) if moment is not None else datetime.now(UTC)
        minute = int(at.timestamp()) // 60
        with self._lock:
            read_at, kept = self._kept.get(minute, (-_FRESH_S, NOTHING))
        if time.monotonic() - read_at < _FRESH_S:
            return kept
        found = self._read(at)
        with self._lock:
            self._kept[minute] = time.monotonic(), found
            self._kept.move_to_end(minute)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found

    def _read(self, at: datetime) -> Clocks:
        found: Sequence[Pair] = ()
        left_out: Sequence[str] = ()
        for back in BACK_S:
            found = self._pairs(at, back)
            cut = len(found) > MAX_PAIRS
            found, left_out = consistent(found, OUR_HOST)
            if not left_out:
                break
        reference, offsets = fold(found, OUR_HOST)
        return self._with_processes(Clocks(reference, offsets, _evidence(found), left_out, cut, {}))

    def _pairs(self, at: datetime, back: int) -> list[Pair]:
        rows = self._store.query("clock_pairs", {"at": at, "back": back, "top": MAX_PAIRS + 1})
        return [
            Pair(row["from_host"], row["to_host"], row["seemed_us"], row["hops"], row["since"])
            for row in rows
        ]

    def _with_processes(self, clocks: Clocks) -> Clocks:
        if not clocks.skewed:
            return clocks
        rows = self._store.query("clock_resources", {"hosts": clocks.skewed, "top": MAX_RESOURCES})
        return replace(clocks, processes={row["resource"]: row["host"] for row in rows})
