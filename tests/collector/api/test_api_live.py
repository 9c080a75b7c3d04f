"""The live stream."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client import CollectorRegistry

from hopwatch_collector.api import live as live_module
from hopwatch_collector.api.app import create_app, end_streams, live_streams
from hopwatch_collector.api.gate import Gate
from hopwatch_collector.api.live import Broadcast, View
from hopwatch_collector.api.models import Health, Live
from hopwatch_collector.errors import EngineUnavailable
from hopwatch_collector.metrics import Metrics
from hopwatch_collector.settings import Settings
from hopwatch_demo.patience import scale_wait

HEALTH = Health(status="ok", reason="", version="0", journal_backlog_bytes=0, engine="none")
FAST = "/api/v1/live?window=60&interval=0.2"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots come as often as the interval says though nothing is new."""
    monkeypatch.setattr(live_module, "QUIET_S", 0.0)


async def events(response: httpx.Response) -> AsyncIterator[tuple[str, str]]:
    """Name and data of each event in `response`."""
    name = ""
    async for line in response.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, line.removeprefix("data: ")


async def gauge(client: httpx.AsyncClient, name: str) -> float:
    """Value of an unlabelled metric."""
    page = (await client.get("/metrics")).text
    return next(float(line.split()[1]) for line in page.splitlines() if line.startswith(f"{name} "))


async def test_a_viewer_gets_snapshots(client):
    """Each is a whole Live."""
    async with client.stream("GET", FAST) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        seen = []
        async for name, data in events(response):
            seen.append((name, Live.model_validate_json(data)))
            if len(seen) == 3:
                break
    assert {name for name, _ in seen} == {"snapshot"}
    assert seen[0][1].at < seen[1][1].at < seen[2][1].at
    assert seen[0][1].window_s == 60


async def test_ten_viewers_cost_one_query_per_interval(client, answers):
    """They all see the same snapshots."""

    async def watch() -> list[str]:
        async with client.stream("GET", FAST) as response:
            return [data async for _, data in _first(response, 4)]

    seen = await asyncio.gather(*(watch() for _ in range(10)))
    distinct = {data for viewer in seen for data in viewer}
    assert len(distinct) <= answers.count("live") <= 8


async def _first(response: httpx.Response, count: int) -> AsyncIterator[tuple[str, str]]:
    async for event in events(response):
        yield event
        count -= 1
        if not count:
            return


async def test_without_viewers_nothing_is_asked(client, answers):
    """The producer ends with its last viewer."""
    async with client.stream("GET", FAST) as response:
        async for _ in _first(response, 1):
            pass
    async with asyncio.timeout(scale_wait(20)):
        while await gauge(client, "hopwatch_live_viewers"):
            await asyncio.sleep(0.01)
    asked = answers.count("live")
    # Another view's own snapshots are the clock: three of them take longer than three intervals of the first.
    async with client.stream("GET", "/api/v1/live?window=61&interval=0.3") as response:
        async for _ in _first(response, 3):
            pass
    assert [window for name, window in answers.asked if name == "live"].count(60) == asked


async def test_a_failed_snapshot_is_told_and_the_next_one_comes(client, answers):
    """The stream outlives the engine's bad moments."""
    answers.error = EngineUnavailable("no engine")
    async with client.stream("GET", FAST) as response:
        stream = events(response)
        name, data = await anext(stream)
        assert name == "problem"
        assert json.loads(data)["status"] == 503
        answers.error = None
        async with asyncio.timeout(scale_wait(20)):
            while name != "snapshot":
                name, _ = await anext(stream)


async def test_views_are_bounded(client):
    """A ninth different view is turned away while eight are watched."""
    async with asyncio.timeout(scale_wait(20)), _Streams(client) as streams:
        for window in range(8):
            await streams.open(f"/api/v1/live?window={window + 1}&interval=30")
        response = await client.get("/api/v1/live?window=99&interval=30")
        assert response.status_code == 503
        assert response.json()["type"] == "urn:hopwatch:problem:too-many-viewers"
        await streams.open("/api/v1/live?window=1&interval=30")


class _Streams:
    """Streams held open, each with its first event read."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._open: list[tuple[httpx.Response, AsyncIterator[str]]] = []

    async def __aenter__(self) -> "_Streams":
        return self

    async def open(self, url: str) -> None:
        request = self._client.build_request("GET", url)
        response = await self._client.send(request, stream=True)
        assert response.status_code == 200
        lines = response.aiter_lines()
        self._open.append((response, lines))  # an iterator let go closes its stream
        await anext(lines)

    async def rest(self) -> list[str]:
        """What the first stream still says, up to its end."""
        return [line async for line in self._open[0][1]]

    async def __aexit__(self, *_: object) -> None:
        for response, _lines in self._open:
            await response.aclose()


async def test_news_is_shown_long_before_the_interval_is_over(answers, serve, monkeypatch):
    """What has come in makes the next snapshot at once, not only when it is due."""
    monkeypatch.setattr(live_module, "NEWS_SHARE", 0.0001)
    app = create_app(answers, Settings(), Metrics(), lambda: HEALTH)
    async with asyncio.timeout(scale_wait(20)), serve(app) as client:
        async with client.stream("GET", "/api/v1/live?interval=60") as response:
            stream = events(response)
            first = Live.model_validate_json((await anext(stream))[1])
            await asyncio.to_thread(live_streams(app).news)  # as from the pump's thread
            assert Live.model_validate_json((await anext(stream))[1]).at > first.at
        assert answers.count("live") == 2


async def test_a_slow_viewer_skips_snapshots(answers):
    """It sees the latest one, however many it missed."""
    count = 0

    def live(window_s: float) -> Live:
        nonlocal count
        count += 1
        return Live.model_construct(window_s=float(count))

    answers.live = live
    gate = Gate(CollectorRegistry())
    broadcast = Broadcast(answers, gate, CollectorRegistry())
    viewer = broadcast.watch(View(60, 0.01))
    assert await anext(viewer) == live_module.OPENING
    await anext(viewer)
    async with asyncio.timeout(scale_wait(20)):
        while count < 10:
            await asyncio.sleep(0.01)
    latest = json.loads((await anext(viewer)).partition(b"data: ")[2])["window_s"]
    assert latest >= 9
    await viewer.aclose()
    assert broadcast.viewers == 0
    gate.close()


class Waiting:
    """A snapshot that takes until the test lets it go."""

    def __init__(self, go: threading.Event) -> None:
        self._go = go

    def live(self, window_s: float) -> Live:
        assert self._go.wait(scale_wait(30))
        raise EngineUnavailable("never mind")


@pytest.mark.parametrize("turns", range(6))
async def test_a_viewer_cancelled_while_an_event_comes_is_cancelled(turns):
    """However many turns of the loop after the event: a cancellation that was taken is not swallowed."""
    asking = threading.Event()
    gate = Gate(CollectorRegistry())
    broadcast = Broadcast(Waiting(asking), gate, CollectorRegistry())
    viewer = broadcast.watch(View(60, 1))
    assert await anext(viewer) == live_module.OPENING
    waiting = asyncio.create_task(anext(viewer))
    await asyncio.sleep(0)
    broadcast.close()  # the end of the stream is an event too
    for _ in range(turns):
        await asyncio.sleep(0)
    taken = waiting.cancel()
    [ended] = await asyncio.gather(waiting, return_exceptions=True)
    assert type(ended) is (asyncio.CancelledError if taken else StopAsyncIteration)
    asking.set()
    gate.close()


async def test_silence_is_broken_by_a_heartbeat(client, answers, monkeypatch):
    """A viewer can tell a quiet stream from a dead one."""
    monkeypatch.setattr(live_module, "HEARTBEAT_S", 0.05)
    answers.hold = threading.Event()
    async with client.stream("GET", FAST) as response:
        async for line in response.aiter_lines():
            if line == ": heartbeat":
                break
    answers.hold.set()


async def test_stopping_ends_the_streams(answers, serve):
    """A server that stops does not wait for its viewers to leave."""
    app = create_app(answers, Settings(), Metrics(), lambda: HEALTH)
    async with asyncio.timeout(scale_wait(20)), serve(app) as client, _Streams(client) as streams:
        await streams.open("/api/v1/live?interval=60")
        end_streams(app)
        await streams.rest()
        assert (await client.get("/api/v1/live")).status_code == 503
