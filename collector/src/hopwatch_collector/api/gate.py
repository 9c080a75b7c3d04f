"""Where blocking queries run: few at a time, few waiting, each timed."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram

from hopwatch_collector.api.problems import Saturated

T = TypeVar("T")
BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Gate:
    """A bounded place to run queries in: `running` threads, `waiting` more callers, then 503."""

    def __init__(self, registry: CollectorRegistry, *, running: int = 4, waiting: int = 32) -> None:
        self._threads = ThreadPoolExecutor(max_workers=running, thread_name_prefix="hopwatch-query")
        self._most = running + waiting
        self._inside = 0
        self._seconds = Histogram(
            "hopwatch_query_seconds",
            "Seconds a query took, waiting for its turn included.",
            ["route"],
            registry=registry,
            buckets=BUCKETS_S,
        )
        self._errors = Counter(
            "hopwatch_query_errors",
            "Queries that failed, hit a limit or were turned away.",
            ["route"],
            registry=registry,
        )

    async def run(self, route: str, query: Callable[[], T]) -> T:
        """What `query` returns, computed in a thread; `route` names it in the metrics.

        Raises Saturated at once where too many are inside already, and whatever `query` raises.
        """
        started = time.perf_counter()
        with self._errors.labels(route).count_exceptions(Exception):
            if self._inside >= self._most:
                raise Saturated(
                    f"{self._most} queries are running and waiting already; try again in a moment"
                )
            self._inside += 1
            # The place is given back when the thread is done, not when the asker is gone.
            future = self._threads.submit(query)
            future.add_done_callback(self._leaver(asyncio.get_running_loop()))
            try:
                return await asyncio.wrap_future(future)
            finally:
                self._seconds.labels(route).observe(time.perf_counter() - started)

    def close(self) -> None:
        """Take no more queries; those running end by their own time limit."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _leaver(self, loop: asyncio.AbstractEventLoop) -> Callable[[object], None]:
        def leave() -> None:
            self._inside -= 1

        def left(_future: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(leave)

        return left
