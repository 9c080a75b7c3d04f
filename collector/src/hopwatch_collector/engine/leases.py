"""Who of several collectors over one store does what only one may do: judge, maintain, migrate, watch a broker.

Whoever wants a job writes that down, waits until what others wrote meanwhile can be seen, and has it if nobody who has not let
theirs lapse asked before. It has to ask again before its time is over; a collector that died is replaced when it is.
"""

import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from hopwatch_collector.engine.sqlfiles import sql_text
from hopwatch_collector.errors import EngineUnavailable

_log = structlog.get_logger("hopwatch.leases")

LASTS_S: Final = 15.0
"""A job is had for so long after it was last asked for."""
_EVERY_S: Final = 4.0
_SETTLES_S: Final = 1.5
"""What somebody else wrote before can be seen after so long."""
_MARGIN_S: Final = 3.0
"""So long before its time is over a collector stops on its own: nobody else begins before."""


class Leases(Protocol):
    """Whether a job is ours to do."""

    def held(self, job: str) -> bool:
        """Whether it is, right now. Asking for the first time says that it is wanted. Safe from any thread; does not block."""
        ...


class Alone:
    """Nobody else can be there: the embedded engine has one collector."""

    def held(self, job: str) -> bool:
        """It is."""
        return True


@dataclass(slots=True)
class _Held:
    """A job that is ours."""

    since: int
    """When it was first asked for, by the engine's clock (ms)."""
    until: float
    """By our own clock that nobody sets."""


class SharedLeases:
    """Leases kept in the store. `keep` is called by one thread at a time; `start` has one of its own do so."""

    def __init__(self, client: Client, lasts_s: float = LASTS_S) -> None:
        self._client = client
        self._lasts_s = lasts_s
        self._every_s = _EVERY_S * lasts_s / LASTS_S
        self._settles_s = _SETTLES_S * lasts_s / LASTS_S
        self._margin_s = _MARGIN_S * lasts_s / LASTS_S
        self.holder = uuid.uuid4().hex
        self._wanted: dict[str, None] = {}
        self._held: dict[str, _Held] = {}
        self._number = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def held(self, job: str) -> bool:
        """Whether a job is ours to do right now; asking says that it is wanted."""
        with self._lock:
            if job not in self._wanted:
                self._wanted[job] = None
                self._wake.set()
            found = self._held.get(job)
            return found is not None and time.monotonic() < found.until - self._margin_s

    def start(self) -> None:
        """Keep what is wanted, in a thread of its own, until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Let go of everything, so that others need not wait for it to lapse; safe without `start` and to call twice."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()
        with self._lock:
            left, self._held = dict(self._held), {}
        self._let_go(left)

    @contextmanager
    def alone(self, job: str) -> Iterator[None]:
        """Have a job for a while, waiting until it is ours. Raises EngineUnavailable."""
        try:
            while not self.held(job):
                self.keep()
                time.sleep(self._settles_s / 5)
            yield
        finally:
            with self._lock:
                self._wanted.pop(job, None)
                mine = self._held.pop(job, None)
            if mine is not None:
                self._let_go({job: mine})

    def _let_go(self, left: Mapping[str, _Held]) -> None:
        if not left:
            return
        try:
            self._ask(list(left), [job.since for job in left.values()], 0)
        except (ClickHouseError, OSError) as error:
            _log.warning("jobs not let go, others wait until they lapse", error=str(error)[:200])

    def keep(self) -> None:
        """Ask for what is wanted and free, ask again for what is ours, and see what is. Raises EngineUnavailable."""
        try:
            began = time.monotonic()
            first = self._first()
            with self._lock:
                wanted = list(self._wanted)
                self._held = {
                    job: held
                    for job, held in self._held.items()
                    if job in first and first[job][0] == self.holder
                }
                ours = {job: held.since for job, held in self._held.items()}
            asking = [job for job in wanted if job in ours or job not in first]
            if asking:
                self._ask(asking, [ours.get(job, 0) for job in asking], int(self._lasts_s * 1000))
            took = time.monotonic() - began
            self._note(asking, began, took)
        except (ClickHouseError, OSError) as error:
            raise EngineUnavailable(f"jobs cannot be shared out: {error}") from error

    def _note(self, asking: Sequence[str], began: float, took: float) -> None:
        """Note what was asked for; what is new is ours if after a while nobody turns out to have asked before."""
        with self._lock:
            new = [job for job in asking if job not in self._held]
            for job in asking:
                if job in self._held:
                    self._held[job].until = began + self._lasts_s
        # What took this long to write, somebody may have looked for before it could be seen.
        if not new or took > self._settles_s / 2:
            return
        self._stopping.wait(self._settles_s)
        first = self._first()
        with self._lock:
            for job in new:
                holder, since = first.get(job, ("", 0))
                if holder == self.holder and job in self._wanted:
                    self._held[job] = _Held(since, began + self._lasts_s)
                    _log.info("job taken", job=job)

    def _first(self) -> dict[str, tuple[str, int]]:
        """By job: whoever asked first of those who have not let it lapse, and when."""
        found: dict[str, tuple[str, int]] = {}
        for job, holder, since in self._client.query(_statement("holders")).result_rows:
            found.setdefault(job, (holder, since))
        return found

    def _ask(self, jobs: Sequence[str], since: Sequence[int], ttl_ms: int) -> None:
        self._number += 1
        asked: dict[str, Any] = {
            "jobs": list(jobs), "since": list(since), "holder": self.holder, "ttl": ttl_ms, "number": self._number,
        }  # fmt: skip
        self._client.command(_statement("ask"), parameters=asked)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                self.keep()
            except EngineUnavailable as error:
                _log.warning("jobs cannot be shared out, trying again", error=str(error)[:200])
            self._wake.wait(self._every_s)


def _statement(name: str) -> str:
    return sql_text(name, "hopwatch_collector.engine", "lease_sql")
