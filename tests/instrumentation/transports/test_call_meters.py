"""The metrics of calls on the native path, by the conventions of HTTP and RPC."""

import asyncio
from collections.abc import Iterator
from typing import Any

import fastapi
import grpc
import grpc.aio
import httpx
import pytest
from opentelemetry.metrics import _internal
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect

from hopwatch.callmeters import CallMeters
from hopwatch.transports.fastapi import FastAPIInstrumentor
from hopwatch.transports.grpc import GrpcInstrumentor
from hopwatch.transports.starlette import StarletteInstrumentor
from hopwatch_demo.patience import scale_wait


class Read:
    """What a meter provider of the application's has measured."""

    def __init__(self, reader: InMemoryMetricReader) -> None:
        self._reader = reader

    def points(self, metric: str) -> list[tuple[dict[str, Any], Any]]:
        """Return attributes and count or value of every point."""
        return [
            (dict(point.attributes), point.count if hasattr(point, "count") else point.value)
            for _, point in self._all(metric)
        ]

    def scopes(self, metric: str) -> set[str]:
        """Return who measured."""
        return {scope for scope, _ in self._all(metric)}

    def seconds(self, metric: str) -> list[float]:
        """Return the longest duration of every point."""
        return [point.max for _, point in self._all(metric)]

    def _all(self, metric: str) -> Iterator[tuple[str, Any]]:
        data = self._reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for one in scope.metrics:
                    if one.name == metric:
                        yield from ((scope.scope.name, point) for point in one.data.data_points)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Read:
    """An application with a meter provider."""
    reader = InMemoryMetricReader()
    monkeypatch.setattr(_internal, "_METER_PROVIDER", MeterProvider(metric_readers=[reader]))
    return Read(reader)


def test_nothing_is_measured_until_somebody_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a meter provider there is one look at an attribute; one that is set later counts."""
    proxy = _internal._ProxyMeterProvider()
    monkeypatch.setattr(_internal, "_METER_PROVIDER", proxy)
    meters = CallMeters()
    assert not meters.on
    proxy.on_set_meter_provider(MeterProvider(metric_readers=[InMemoryMetricReader()]))
    assert meters.on


async def test_requests_are_measured_by_route(
    hops: Any, serve: Any, instrumented: Any, measured: Read
) -> None:
    """By method, route, status and kind of failure; while one goes on it is counted as active; WebSockets are not."""
    go, begun = asyncio.Event(), asyncio.Event()

    async def read(request: Request) -> Response:
        if request.path_params["order"] == "0":
            raise ValueError("no such order")
        begun.set()
        await go.wait()
        return PlainTextResponse("ok")

    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    instrumented(StarletteInstrumentor())
    host = await serve(Starlette(routes=[Route("/orders/{order}", read), WebSocketRoute("/talk", talk)]))
    async with connect(f"ws://{host}/talk") as socket:
        await socket.wait_closed()
    async with httpx.AsyncClient(timeout=scale_wait(20)) as client:
        asking = asyncio.create_task(client.get(f"http://{host}/orders/7"))
        await begun.wait()
        series = {"http.request.method": "GET", "url.scheme": "http"}
        assert measured.points("http.server.active_requests") == [(series, 1)]
        go.set()
        await asking
        assert (await client.get(f"http://{host}/orders/0")).status_code == 500
    assert measured.points("http.server.active_requests") == [(series, 0)]
    told = {**series, "http.route": "/orders/{order}"}
    assert sorted(measured.points("http.server.request.duration"), key=str) == sorted(
        [
            ({**told, "http.response.status_code": 200}, 1),
            ({**told, "http.response.status_code": 500, "error.type": "ValueError"}, 1),
        ],
        key=str,
    )
    assert all(0 < seconds < 20 for seconds in measured.seconds("http.server.request.duration"))


async def test_a_fastapi_that_measures_itself_is_not_measured_twice(
    hops: Any, serve: Any, instrumented: Any, measured: Read
) -> None:
    """Each request counts once, whoever counts it."""
    app = fastapi.FastAPI()
    app.get("/orders/{order}")(lambda order: order)
    instrumented(FastAPIInstrumentor())
    host = await serve(app)
    async with httpx.AsyncClient(timeout=scale_wait(20)) as client:
        await client.get(f"http://{host}/orders/7")
    await hops.until(lambda: measured.points("http.server.request.duration"))
    assert sum(count for _, count in measured.points("http.server.request.duration")) == 1
    own = tuple(map(int, fastapi.__version__.split(".")[:2])) >= (0, 165)
    assert measured.scopes("http.server.request.duration") == {"fastapi" if own else "hopwatch.calls"}


async def test_grpc_calls_are_measured_on_both_sides(hops: Any, instrumented: Any, measured: Read) -> None:
    """By method and status; the caller knows the server too."""

    async def pay(request: bytes, context: Any) -> bytes:
        if request == b"0":
            await context.abort(grpc.StatusCode.INTERNAL, "broken")
        return request

    instrumented(GrpcInstrumentor())
    handler = grpc.unary_unary_rpc_method_handler(pay)
    server = grpc.aio.server(handlers=(grpc.method_handlers_generic_handler("shop.Till", {"Pay": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert await channel.unary_unary("/shop.Till/Pay")(b"7") == b"7"
        with pytest.raises(grpc.RpcError):
            await channel.unary_unary("/shop.Till/Pay")(b"0")
    await server.stop(None)
    call = {"rpc.system.name": "grpc", "rpc.method": "shop.Till/Pay"}
    answered = {**call, "rpc.response.status_code": "OK"}
    failed = {**call, "rpc.response.status_code": "INTERNAL", "error.type": "INTERNAL"}
    assert sorted(measured.points("rpc.server.call.duration"), key=str) == [(failed, 1), (answered, 1)]
    place = {"server.address": "127.0.0.1", "server.port": port}
    called = [
        ({name: value for name, value in said.items() if name not in place}, count)
        for said, count in measured.points("rpc.client.call.duration")
        if place.items() <= said.items()
    ]
    assert sorted(called, key=str) == [(failed, 1), (answered, 1)]
