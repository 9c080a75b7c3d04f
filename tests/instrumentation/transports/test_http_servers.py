"""HTTP servers: FastAPI, Starlette and bare ASGI applications, behind uvicorn, asked by httpx."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import fastapi
import httpx
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor as ContribFastAPI
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from hopwatch.asgi import Middleware
from hopwatch.conventions import ERROR_TYPE, HTTP_METHOD, HTTP_ROUTE, HTTP_STATUS, MESSAGE_ID
from hopwatch.transports.fastapi import FastAPIInstrumentor
from hopwatch.transports.httpx import HTTPXClientInstrumentor
from hopwatch.transports.starlette import StarletteInstrumentor
from hopwatch_demo.patience import scale_wait

TIMEOUT_S = scale_wait(20.0)

Serve = Callable[[Any], Awaitable[str]]


class Gate:
    """Lets a streaming answer go on when the test says so."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.background: list[trace.SpanContext] = []

    async def parts(self) -> AsyncIterator[bytes]:
        yield b"first "
        await self.open.wait()
        yield b"last"

    async def later(self) -> None:
        """What a background task does: it begins a hop of its own."""
        with trace.get_tracer("app").start_as_current_span("publish") as span:
            self.background.append(span.parent)


async def read(request: Request) -> Response:
    return PlainTextResponse(request.path_params["order"])


async def fail(request: Request) -> Response:
    raise ValueError("broken")


def starlette_app(gate: Gate) -> Starlette:
    """The shop on Starlette."""

    async def stream(request: Request) -> Response:
        return StreamingResponse(gate.parts())

    async def confirm(request: Request) -> Response:
        return PlainTextResponse("ok", background=BackgroundTask(gate.later))

    return Starlette(
        routes=[
            Route("/orders/{order}", read),
            Route("/fail", fail),
            Route("/stream", stream),
            Route("/confirm", confirm),
            Mount("/admin", routes=[Route("/orders/{order}", read)]),
        ]
    )


def fastapi_app(gate: Gate) -> fastapi.FastAPI:
    """The shop on FastAPI, with an included router where Starlette's has a mount."""
    app, admin = fastapi.FastAPI(), fastapi.APIRouter(prefix="/admin")

    @app.get("/orders/{order}")
    @admin.get("/orders/{order}")
    async def read(order: int) -> int:
        return order

    @app.get("/fail")
    async def fail() -> None:
        raise ValueError("broken")

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(gate.parts())

    @app.get("/confirm")
    async def confirm(tasks: fastapi.BackgroundTasks) -> str:
        tasks.add_task(gate.later)
        return "ok"

    app.include_router(admin)
    return app


@pytest.fixture
def gate() -> Gate:
    """The test's hold on streaming answers."""
    return Gate()


@pytest.fixture(params=["fastapi", "starlette", "asgi"])
async def shop(
    request: pytest.FixtureRequest, gate: Gate, serve: Serve, instrumented: Any, hops: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the shop, which was made before it was instrumented; nothing reuses connections."""
    apps = {
        "fastapi": fastapi_app(gate),
        "starlette": starlette_app(gate),
        "asgi": Middleware(starlette_app(gate)),
    }
    if request.param != "asgi":
        instrumented(FastAPIInstrumentor(), StarletteInstrumentor())
    instrumented(HTTPXClientInstrumentor())
    host = await serve(apps[request.param])
    async with httpx.AsyncClient(base_url=f"http://{host}", timeout=TIMEOUT_S) as client:
        yield client


async def served(hops: Any, count: int = 1) -> list[ReadableSpan]:
    """Return the server spans once there are this many."""
    await hops.until(lambda: len(hops.of_kind(SpanKind.SERVER)) >= count)
    return hops.of_kind(SpanKind.SERVER)  # type: ignore[no-any-return]


async def test_a_request_is_one_span_on_either_side(shop: httpx.AsyncClient, hops: Any) -> None:
    """Two spans in all, of one message, named by the route's template."""
    assert (await shop.get("/orders/7")).status_code == 200
    [span] = await served(hops)
    [asked] = hops.of_kind(SpanKind.CLIENT)
    assert len(hops.all()) == 2
    assert span.name == "GET /orders/{order}"
    assert (span.attributes[HTTP_ROUTE], span.attributes[HTTP_STATUS]) == ("/orders/{order}", 200)
    assert span.attributes[HTTP_METHOD] == "GET"
    assert span.attributes[MESSAGE_ID] == asked.attributes[MESSAGE_ID]
    assert span.parent.span_id == asked.context.span_id
    assert span.status.status_code is StatusCode.UNSET


async def test_a_nested_route_is_named_in_full(shop: httpx.AsyncClient, hops: Any) -> None:
    """A mount or an included router puts its prefix before the template, and makes no span of its own."""
    await shop.get("/admin/orders/7")
    assert [span.attributes[HTTP_ROUTE] for span in await served(hops)] == ["/admin/orders/{order}"]


async def test_where_a_proxy_puts_an_application_is_no_part_of_its_routes(
    serve: Serve, instrumented: Any, hops: Any
) -> None:
    """A root path, unlike a mount, is not the application's."""
    instrumented(FastAPIInstrumentor())
    app = fastapi_app(Gate())
    app.root_path = "/api/v7"
    host = await serve(app)
    async with httpx.AsyncClient(timeout=scale_wait(20)) as client:
        assert (await client.get(f"http://{host}/orders/7")).json() == 7
    assert [span.attributes[HTTP_ROUTE] for span in await served(hops)] == ["/orders/{order}"]


async def test_what_matches_no_route_has_no_template(shop: httpx.AsyncClient, hops: Any) -> None:
    """An address anybody may make up does not become a name."""
    assert (await shop.get("/made/up")).status_code == 404
    [span] = await served(hops)
    assert (span.name, span.attributes.get(HTTP_ROUTE), span.attributes[HTTP_STATUS]) == ("GET", None, 404)
    assert span.status.status_code is StatusCode.UNSET


async def test_an_exception_is_on_the_span(shop: httpx.AsyncClient, hops: Any) -> None:
    """The application's 500 goes out as ever; the span has the exception behind it."""
    assert (await shop.get("/fail")).status_code == 500
    [span] = await served(hops)
    assert (span.attributes[ERROR_TYPE], span.attributes[HTTP_STATUS]) == ("ValueError", 500)
    assert span.status.status_code is StatusCode.ERROR
    assert [event.attributes["exception.message"] for event in span.events] == ["broken"]


async def test_a_streamed_answer_lasts_until_its_end(shop: httpx.AsyncClient, gate: Gate, hops: Any) -> None:
    """The span is open while parts are still to come."""
    async with shop.stream("GET", "/stream") as answer:
        parts = answer.aiter_bytes()
        assert await anext(parts) == b"first "
        assert hops.of_kind(SpanKind.SERVER) == []
        gate.open.set()
        assert b"".join([part async for part in parts]) == b"last"
    assert [span.attributes[HTTP_STATUS] for span in await served(hops)] == [200]


async def test_a_caller_that_goes_away_ends_the_span(shop: httpx.AsyncClient, gate: Gate, hops: Any) -> None:
    """An answer cut short is an error, and nothing stays open."""
    async with shop.stream("GET", "/stream") as answer:
        await anext(answer.aiter_bytes())
    [span] = await served(hops)
    assert span.status.status_code is StatusCode.ERROR


async def test_a_background_task_belongs_to_the_flow(shop: httpx.AsyncClient, gate: Gate, hops: Any) -> None:
    """What is begun after the answer is still a child of the request, whose span ended with the answer."""
    await shop.get("/confirm")
    [span] = await served(hops)
    await hops.until(lambda: gate.background)
    assert [parent.span_id for parent in gate.background] == [span.context.span_id]
    assert [s.name for s in hops.of_kind(SpanKind.INTERNAL)] == ["publish"]


async def test_fastapi_inside_starlette_is_one_span(serve: Serve, instrumented: Any, hops: Any) -> None:
    """Frameworks built on or mounted in one another, middleware by hand included, make one span."""
    instrumented(FastAPIInstrumentor(), StarletteInstrumentor())
    app = Starlette(routes=[Mount("/shop", app=Middleware(fastapi_app(Gate())))])
    host = await serve(Middleware(app))
    async with httpx.AsyncClient(timeout=scale_wait(20)) as client:
        assert (await client.get(f"http://{host}/shop/orders/7")).json() == 7
    [span] = await served(hops)
    assert (span.attributes[HTTP_ROUTE], len(hops.all())) == ("/shop/orders/{order}", 1)


async def test_a_request_is_not_a_child_of_what_started_the_server(
    serve: Serve, instrumented: Any, hops: Any
) -> None:
    """A server run inside a span does not draw its requests into that trace."""
    instrumented(FastAPIInstrumentor())
    with trace.get_tracer("app").start_as_current_span("start-up") as outer:
        host = await serve(fastapi_app(Gate()))
    async with httpx.AsyncClient(timeout=scale_wait(20)) as client:
        await client.get(f"http://{host}/orders/7")
    [span] = await served(hops)
    assert span.context.trace_id != outer.get_span_context().trace_id


async def test_what_contrib_instruments_is_left_to_it(serve: Serve, instrumented: Any, hops: Any) -> None:
    """An application OpenTelemetry's instrumentation has taken makes no second server span."""
    app = fastapi_app(Gate())
    ContribFastAPI.instrument_app(app, exclude_spans=["send", "receive"])
    instrumented(FastAPIInstrumentor())
    host = await serve(app)
    async with httpx.AsyncClient(timeout=scale_wait(20)) as client:
        await client.get(f"http://{host}/orders/7")
    [span] = await served(hops)
    assert span.instrumentation_scope.name == "opentelemetry.instrumentation.fastapi"
    ContribFastAPI.uninstrument_app(app)


async def test_excluded_addresses_leave_no_trace(
    serve: Serve, instrumented: Any, hops: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`OTEL_PYTHON_FASTAPI_EXCLUDED_URLS` keeps health checks out, and FastAPI's own spans too."""
    monkeypatch.setenv("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", "health,orders/8")
    instrumented(FastAPIInstrumentor())
    host = await serve(fastapi_app(Gate()))
    async with httpx.AsyncClient(timeout=scale_wait(20)) as client:
        await client.get(f"http://{host}/orders/8")
        await client.get(f"http://{host}/orders/7")
    assert [span.name for span in await served(hops)] == ["GET /orders/{order}"]
    assert len(hops.all()) == 1


async def test_uninstrumented_frameworks_are_as_before(serve: Serve, hops: Any) -> None:
    """The call of an application is the framework's own again, and nothing is recorded by us."""
    before = vars(fastapi.FastAPI)["__call__"], vars(Starlette)["__call__"]
    for instrumentor in (FastAPIInstrumentor(), StarletteInstrumentor()):
        instrumentor.instrument()
        instrumentor.uninstrument()
    assert (vars(fastapi.FastAPI)["__call__"], vars(Starlette)["__call__"]) == before
    host = await serve(starlette_app(Gate()))
    async with httpx.AsyncClient(timeout=scale_wait(20)) as client:
        await client.get(f"http://{host}/orders/7")
    assert hops.all() == ()
