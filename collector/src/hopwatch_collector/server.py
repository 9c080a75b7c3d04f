"""The collector put together: what starts in which order, what stops in the opposite one, and the ready line."""

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import structlog

from hopwatch_collector.api.app import create_app, end_streams, live_streams
from hopwatch_collector.api.live import Broadcast
from hopwatch_collector.api.models import Health, WitnessHealth
from hopwatch_collector.auth import require_safe
from hopwatch_collector.connections import require_files
from hopwatch_collector.engine import Store
from hopwatch_collector.errors import StartError
from hopwatch_collector.expects import declare, load, reread
from hopwatch_collector.journal.files import sync_filesystem
from hopwatch_collector.judge.loop import Judge, Tick
from hopwatch_collector.listen import listening, port_of, served
from hopwatch_collector.metrics import Metrics
from hopwatch_collector.pipeline import pipeline
from hopwatch_collector.pump import Pump
from hopwatch_collector.query import Queries
from hopwatch_collector.query.clocks import ClockReader
from hopwatch_collector.settings import Settings
from hopwatch_collector.witness.configured import witnesses
from hopwatch_collector.witness.watch import Watch

_log = structlog.get_logger("hopwatch.server")


@dataclass(frozen=True, slots=True)
class Ready:
    """Where the collector listens, ports resolved."""

    host: str
    otlp_grpc: int
    otlp_http: int
    api: int

    def line(self) -> str:
        """What is printed once everything can be reached."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (
            f"hopwatch collector ready: otlp-grpc={host}:{self.otlp_grpc} "
            f"otlp-http={host}:{self.otlp_http} api={host}:{self.api}"
        )


@asynccontextmanager
async def collector(settings: Settings, again: asyncio.Event) -> AsyncIterator[Ready]:
    """Runs a collector inside the current event loop, from ready to orderly stop; `again` asks for files to be read again.

    Raises:
        SettingsError: the settings are not safe, or what is declared cannot be. StartError: a port or the data directory cannot be had.
    """
    require_safe(settings)
    named = witnesses(settings)
    declared = load(settings)
    metrics = Metrics()
    require_files()
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_data_directory(settings.data))
        # The embedded engine writes its cache of schemas into the working directory: let that be one of ours.
        os.chdir(settings.data)
        stack.enter_context(_temporary_files(settings.data / "temporary"))
        listener = stack.enter_context(listening(settings.listen, settings.api_port, "the API"))
        store = await asyncio.to_thread(Store.open, settings.engine_url or str(settings.engine_dir), settings)
        stack.push_async_callback(asyncio.to_thread, store.close)
        store.share()
        metrics.retention_held.set_function(lambda: len(store.held_days))
        await asyncio.to_thread(declare, store, declared)
        judge = Judge(
            store,
            ClockReader(store).offsets_around,
            settings.deadline,
            ours=partial(store.leases.held, "judge"),
        )
        judge.on_tick = partial(_count, metrics)
        queries = Queries(store, judge.decisions)
        pipe = await stack.enter_async_context(pipeline(settings, store, metrics, _engine_sync(settings)))
        watching: list[Watch] = []
        for watched in named:
            watching.append(
                Watch(watched.witness, store, metrics, store.leases, watched.name, tuple(watching))
            )
        beside = {f"watch-{watch.system}-{watch.broker}": watch.run() for watch in watching}
        beside["reread"] = reread(settings, store, metrics, again)
        await stack.enter_async_context(_running(beside))
        health = HealthCheck(pipe.pump, queries.engine_version(), watching, judge)
        api = create_app(queries, settings, metrics, health)
        await stack.enter_async_context(served(api, listener, lifespan="on"))
        stack.callback(end_streams, api)
        streams = live_streams(api)
        pipe.pump.audience = Audience(streams, judge)
        judge.on_news = streams.news
        judge.start()
        stack.push_async_callback(asyncio.to_thread, judge.stop)
        yield Ready(settings.listen, pipe.grpc_port, pipe.http_port, port_of(listener))


async def serve(settings: Settings) -> None:
    """Runs the collector until SIGTERM or SIGINT; prints one line to stdout when it is ready. SIGHUP: read files again."""
    stop, again = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _on_hangup(stop, again))
    async with collector(settings, again) as ready:
        print(ready.line(), flush=True)  # noqa: T201 - the one line others wait for
        await stop.wait()
        with contextlib.suppress(OSError):  # there may be no terminal any more
            _log.info("stopping")


def _on_hangup(stop: asyncio.Event, again: asyncio.Event) -> Callable[[], None]:
    """What SIGHUP means: read files again; where a terminal we were started on has gone, the end, as without a handler."""
    terminals = [fd for fd in (0, 1, 2) if os.isatty(fd)]
    return lambda: (again if all(map(os.isatty, terminals)) else stop).set()


def _count(metrics: Metrics, tick: Tick) -> None:
    """Add what a look of the judge came to to the metrics."""
    metrics.judged.inc(tick.judged)
    metrics.judge_rows.inc(tick.changed)
    metrics.mismatches.inc(tick.missed)


class Audience:
    """Whoever is told of spans that have come into the engine: live streams, and the judge. Safe from any thread."""

    def __init__(self, streams: Broadcast, judge: Judge) -> None:
        self._streams = streams
        self._judge = judge

    @property
    def viewers(self) -> int:
        """How many watch a live stream."""
        return self._streams.viewers

    def news(self) -> None:
        """There is more to be seen and to be judged."""
        self._judge.wake()
        self._streams.news()


class HealthCheck:
    """How the collector is right now, without blocking."""

    def __init__(
        self, pump: Pump, engine: str, watching: Sequence[Watch] = (), judge: Judge | None = None
    ) -> None:
        self._pump = pump
        self._judge = judge
        self._engine = engine
        self._watching = watching
        self._version = version("hopwatch-collector")

    def __call__(self) -> Health:
        judging = self._judge.trouble if self._judge else ""
        failure = self._pump.failure or (judging and f"deliveries cannot be judged: {judging}")
        status: Literal["ok", "failing"] = "failing" if failure else "ok"
        return Health(
            status=status,
            reason=failure,
            version=self._version,
            journal_backlog_bytes=self._pump.backlog_bytes,
            engine=self._engine,
            witnesses=[
                WitnessHealth(system=watch.system, broker=watch.broker, trouble=watch.trouble or "")
                for watch in self._watching
            ],
        )


@asynccontextmanager
async def _running(beside: Mapping[str, Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Runs these meanwhile, by their names; at the end they are cancelled, and each witness disconnects."""
    tasks = [asyncio.create_task(work, name=name) for name, work in beside.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def _data_directory(directory: Path) -> Iterator[None]:
    """Makes the directory and holds its lock: two collectors on one journal would each lose the other's data."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(f"cannot use the data directory {directory}: {error.strerror or error}") from None
    try:
        _lock(fd, directory)
        yield
    finally:
        os.close(fd)


@contextmanager
def _temporary_files(directory: Path) -> Iterator[None]:
    """Has temporary files made in the data directory, where nobody else looks for spans: the engine's client writes each batch to one.

    What a collector that was killed left behind is removed.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    before, tempfile.tempdir = tempfile.tempdir, str(directory)
    try:
        yield
    finally:
        tempfile.tempdir = before
        shutil.rmtree(directory, ignore_errors=True)


def _lock(fd: int, directory: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StartError(f"another collector uses {directory}; stop it, or give --data another one") from None


def _engine_sync(settings: Settings) -> Callable[[], None]:
    """The embedded engine does not fsync what it writes; a server is told to, table by table (`Store.open`)."""
    if settings.engine_url:
        return lambda: None
    return lambda: sync_filesystem(settings.engine_dir)
