"""One producer of snapshots per view, however many watch it, as server-sent events: one whenever there is something new."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry, Gauge

from hopwatch_collector.api.gate import Gate
from hopwatch_collector.api.models import Live
from hopwatch_collector.api.problems import TooManyViewers, of_error

NEWS_SHARE = 0.25
"""News is told after this share of a view's interval already."""
REST = 9.0
"""A view rests for so many times as long as a snapshot took."""
QUIET_S = 5.0
"""While nothing is new, a view looks as often as this: what is old leaves its window."""
HEARTBEAT_S = 15.0
"""Silence after which a comment tells viewer and proxies that the stream lives."""
OPENING = b"retry: 2000\n\n"
HEARTBEAT = b": heartbeat\n\n"

_PROBLEM = b"event: problem"

Mailbox = asyncio.Queue[bytes | None]
"""A viewer's next event; it holds one, so a slow viewer skips snapshots. None: the stream is over."""


@dataclass(frozen=True, slots=True)
class View:
    """What is watched; equal views share one producer. Both in seconds."""

    window_s: float
    interval_s: float


class Asked(Protocol):
    """What producers ask; blocks."""

    def live(self, window_s: float) -> Live: ...


class Producer:
    """Makes one view's events from its first viewer's coming to its last one's going: at news, and once per interval."""

    def __init__(self, view: View, asked: Asked, gate: Gate) -> None:
        self._view = view
        self._asked = asked
        self._gate = gate
        self._news = asyncio.Event()
        self._mailboxes: set[Mailbox] = set()
        self._latest: bytes | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def viewers(self) -> int:
        """How many watch."""
        return len(self._mailboxes)

    def join(self) -> Mailbox:
        """A mailbox for one more viewer, who sees the latest event at once if there is one."""
        mailbox = Mailbox(maxsize=1)
        self._mailboxes.add(mailbox)
        if self._latest is not None:
            mailbox.put_nowait(self._latest)
        if self._task is None:
            self._task = asyncio.create_task(self._produce())
        return mailbox

    def leave(self, mailbox: Mailbox) -> None:
        """Forget that viewer; without any, production stops."""
        self._mailboxes.discard(mailbox)
        if not self._mailboxes and self._task is not None:
            self._task.cancel()
            self._task = None

    def news(self) -> None:
        """There is something new to be seen."""
        self._news.set()

    def close(self) -> None:
        """Tell every viewer that the stream is over."""
        self._deliver(None)

    async def _produce(self) -> None:
        interval_s = self._view.interval_s
        while True:
            started = _clock()
            self._news.clear()
            event = await self._event()
            self._tell(event)
            took = _clock() - started
            patience_s = interval_s if event.startswith(_PROBLEM) else max(interval_s, QUIET_S)
            # What is slow to make rests for longer: it never takes more than a small part of a core.
            await asyncio.sleep(max(interval_s * NEWS_SHARE - took, took * REST))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await self._news.wait()

    async def _event(self) -> bytes:
        window_s = self._view.window_s
        try:
            return await self._gate.run("live", lambda: _event("snapshot", self._asked.live(window_s)))
        except Exception as error:  # noqa: BLE001  a snapshot that failed is told to the viewers; the next may do
            return _problem(error)

    def _tell(self, event: bytes) -> None:
        self._latest = event
        self._deliver(event)

    def _deliver(self, event: bytes | None) -> None:
        for mailbox in self._mailboxes:
            if mailbox.full():
                mailbox.get_nowait()
            mailbox.put_nowait(event)


class Broadcast:
    """All live views of one collector, bounded in number and in viewers."""

    def __init__(
        self,
        asked: Asked,
        gate: Gate,
        registry: CollectorRegistry,
        *,
        most_views: int = 8,
        most_viewers: int = 100,
    ) -> None:
        self._asked = asked
        self._gate = gate
        self._most_views = most_views
        self._most_viewers = most_viewers
        self._producers: dict[View, Producer] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        gauge = Gauge("hopwatch_live_viewers", "Live streams being watched.", registry=registry)
        gauge.set_function(lambda: self.viewers)

    @property
    def viewers(self) -> int:
        """How many watch, over all views."""
        return sum(producer.viewers for producer in tuple(self._producers.values()))

    def watch(self, view: View) -> AsyncGenerator[bytes]:
        """Events of `view` until the viewer goes or the collector stops; raises TooManyViewers."""
        if self._closed:
            raise TooManyViewers("the collector is stopping")
        if self.viewers >= self._most_viewers:
            raise TooManyViewers(f"{self._most_viewers} live streams are open already")
        if view not in self._producers and len(self._producers) >= self._most_views:
            raise TooManyViewers(
                f"{self._most_views} different live views are open already; watch with the default parameters"
            )
        self._loop = asyncio.get_running_loop()
        return self._events(view)

    async def _events(self, view: View) -> AsyncGenerator[bytes]:
        producer = self._producers.setdefault(view, Producer(view, self._asked, self._gate))
        mailbox = producer.join()
        try:
            yield OPENING
            while not self._closed:
                try:
                    async with asyncio.timeout(HEARTBEAT_S):  # wait_for of 3.11 can swallow a cancellation
                        event = await mailbox.get()
                except TimeoutError:
                    event = HEARTBEAT
                if event is None:
                    return
                yield event
        finally:
            producer.leave(mailbox)
            if not producer.viewers:
                self._producers.pop(view, None)

    def news(self) -> None:
        """Tell every view, from any thread, that the engine has something new."""
        self._for_each(Producer.news)

    def close(self) -> None:
        """End every stream, from any thread; call it before the server stops, which waits for open answers."""
        self._closed = True
        self._for_each(Producer.close)

    def _for_each(self, act: Callable[[Producer], None]) -> None:
        def run() -> None:
            for producer in self._producers.values():
                act(producer)

        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # a loop already closed has no streams left
                self._loop.call_soon_threadsafe(run)


def _clock() -> float:
    return asyncio.get_running_loop().time()


def _event(name: str, body: Live) -> bytes:
    # JSON has no raw line breaks, so one data line holds it whole.
    return b"event: " + name.encode() + b"\ndata: " + body.model_dump_json().encode() + b"\n\n"


def _problem(error: Exception) -> bytes:
    body, _headers = of_error(error)
    return _PROBLEM + b"\ndata: " + body.model_dump_json(exclude_none=True).encode() + b"\n\n"
