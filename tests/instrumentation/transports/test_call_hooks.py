"""A team's hooks for calls on our own path: what is recorded, what it is called, what stays private."""

from collections.abc import Callable, Iterator
from typing import Any

import graphql
import grpc
import grpc.aio
import httpx
import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websockets

from hopwatch import hooks as installed_hooks
from hopwatch.asgi import Middleware
from hopwatch.conventions import CLIENT_ADDRESS, HTTP_ROUTE, MESSAGE_ID, RPC_METHOD, RPC_STATUS, URL_PATH
from hopwatch.hooks import Hook
from hopwatch.transports.fastapi import FastAPIInstrumentor
from hopwatch.transports.graphql import GraphQLInstrumentor
from hopwatch.transports.grpc import GrpcInstrumentor
from hopwatch.transports.httpx import HTTPXClientInstrumentor
from hopwatch.transports.starlette import StarletteInstrumentor
from hopwatch.transports.websockets import WebSocketsInstrumentor
from hopwatch_demo.patience import scale_wait


@pytest.fixture
def hook() -> Iterator[Callable[..., None]]:
    """A function that gives a library a hook until the test ends."""
    yield lambda library, **asked: installed_hooks.install({library: Hook(**asked)})
    installed_hooks.forget()


async def read(request: Request) -> Response:
    with trace.get_tracer("app").start_as_current_span("look up"):
        return PlainTextResponse(request.path_params["order"])


async def fail(request: Request) -> Response:
    raise ValueError(f"secret {request.path_params['order']}")


ROUTES = [Route("/orders/{order}", read), Route("/failures/{order}", fail), Route("/health", read)]


def is_no_health_check(draft: Any) -> bool:
    return draft.destination != "/health"


async def asked(host: str, *paths: str) -> None:
    async with httpx.AsyncClient(timeout=scale_wait(20)) as client:
        for path in paths:
            await client.get(f"http://{host}{path}")


async def test_a_request_that_is_not_kept_leaves_nothing_but_its_trace(
    hops: Any, serve: Any, instrumented: Any, hook: Callable[..., None]
) -> None:
    """No span and no message id of it; what the handler does is in the caller's trace."""
    hook("starlette", keep=lambda draft: not draft.destination.startswith("/orders/"))
    instrumented(StarletteInstrumentor(), HTTPXClientInstrumentor())
    await asked(await serve(Starlette(routes=ROUTES)), "/orders/7")
    await hops.until(lambda: len(hops.all()) == 2)
    [caller] = hops.of_kind(SpanKind.CLIENT)
    [inner] = hops.of_kind(SpanKind.INTERNAL)
    assert inner.parent.span_id == caller.context.span_id


async def test_a_name_is_asked_for_again_with_the_route(
    hops: Any, serve: Any, instrumented: Any, hook: Callable[..., None]
) -> None:
    """First the path is all that is known, then the template."""
    hook("starlette", name=lambda draft: f"{draft.operation} {draft.destination} ({draft.name})")
    instrumented(StarletteInstrumentor())
    await asked(await serve(Starlette(routes=ROUTES)), "/orders/7", "/nowhere")
    await hops.until(lambda: len(hops.of_kind(SpanKind.SERVER)) == 2)
    assert [span.name for span in hops.of_kind(SpanKind.SERVER)] == [
        "serve /orders/{order} (GET /orders/{order})",
        "serve /nowhere (GET)",
    ]


async def test_what_is_redacted_of_a_request_is_nowhere(
    hops: Any, serve: Any, instrumented: Any, hook: Callable[..., None]
) -> None:
    """Path, address and texts of exceptions; what the ledger is made of stays."""
    hook("starlette", redact=lambda name, value: "…" if name == URL_PATH else None)
    instrumented(StarletteInstrumentor())
    await asked(await serve(Starlette(routes=ROUTES)), "/failures/secret")
    await hops.until(lambda: hops.of_kind(SpanKind.SERVER))
    [span] = hops.of_kind(SpanKind.SERVER)
    assert "secret" not in span.to_json()
    assert (span.attributes[URL_PATH], span.attributes[HTTP_ROUTE]) == ("…", "/failures/{order}")
    assert CLIENT_ADDRESS not in span.attributes


async def test_an_application_wrapped_by_hand_takes_a_hook(hops: Any, serve: Any) -> None:
    """The middleware is given it."""
    app = Middleware(Router(routes=ROUTES), hook=Hook(keep=is_no_health_check))
    await asked(await serve(app), "/health", "/orders/7")
    await hops.until(lambda: hops.of_kind(SpanKind.SERVER))
    assert [span.attributes[URL_PATH] for span in hops.of_kind(SpanKind.SERVER)] == ["/orders/7"]


async def test_grpc_calls_take_hooks_on_both_sides(
    hops: Any, instrumented: Any, hook: Callable[..., None]
) -> None:
    """A method is kept out, another renamed, and the words of its failure are not recorded."""

    async def pay(request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.INTERNAL, "secret")
        return b""

    async def watch(request: bytes, context: Any) -> bytes:
        metadata.extend(context.invocation_metadata())
        return request

    metadata: list[tuple[str, Any]] = []
    hook(
        "grpc",
        keep=lambda draft: draft.destination != "shop.Till/Watch",
        name=lambda draft: f"{draft.operation} {draft.destination}",
        redact=lambda name, value: None,
    )
    instrumented(GrpcInstrumentor())
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(handle) for name, handle in (("Pay", pay), ("Watch", watch))
    }
    server = grpc.aio.server(handlers=(grpc.method_handlers_generic_handler("shop.Till", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with trace.get_tracer("app").start_as_current_span("work") as work:
            assert await channel.unary_unary("/shop.Till/Watch")(b"7") == b"7"
        with pytest.raises(grpc.RpcError):
            await channel.unary_unary("/shop.Till/Pay")(b"7")
    await server.stop(None)
    said = dict(metadata)
    assert f"{work.get_span_context().trace_id:032x}" in said["traceparent"]
    assert "hopwatch-id" not in said
    spans = [span for span in hops.all() if span.kind in (SpanKind.CLIENT, SpanKind.SERVER)]
    assert sorted(span.name for span in spans) == ["call shop.Till/Pay", "serve shop.Till/Pay"]
    for span in spans:
        assert "secret" not in span.to_json()
        assert {RPC_METHOD, RPC_STATUS, MESSAGE_ID} <= span.attributes.keys()


async def test_graphql_operations_take_hooks(hops: Any, instrumented: Any, hook: Callable[..., None]) -> None:
    """By type and name; the messages of failed fields are asked about."""
    schema = graphql.build_schema("type Query { order: Int, total: Int }")

    def broken(*_: Any) -> int:
        raise ValueError("secret")

    hook(
        "graphql",
        keep=lambda draft: draft.destination != "Health",
        name=lambda draft: f"{draft.operation} of {draft.destination}",
        redact=lambda name, value: None if name == "exception.message" else value,
    )
    instrumented(GraphQLInstrumentor())
    assert graphql.graphql_sync(schema, "query Health { total }").errors is None
    graphql.graphql_sync(schema, "query Orders { order }", {"order": broken})
    [span] = hops.all()
    assert span.name == "query of Orders"
    assert [dict(event.attributes or {})["exception.type"] for event in span.events] == ["ValueError"]
    assert "exception.message" not in dict(span.events[0].attributes or {})


async def test_websockets_take_hooks_for_handshakes_and_messages(
    hops: Any, instrumented: Any, hook: Callable[..., None]
) -> None:
    """What is kept out has no span, and the conversation goes on."""
    asked_about: list[tuple[str, str]] = []

    def keep(draft: Any) -> bool:
        asked_about.append((draft.operation, draft.destination))
        return False

    async def talk(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    hook("websockets", keep=keep)
    instrumented(WebSocketsInstrumentor())
    async with serve_websockets(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/room") as connection:
            await connection.send("one")
            assert await connection.recv() == "one"
    assert {span.kind for span in hops.all()} <= {SpanKind.INTERNAL}
    assert {operation for operation, _ in asked_about} == {"call", "serve", "send", "process"}


@pytest.mark.parametrize("path", ["native", "contrib"])
def test_who_takes_a_hook_depends_on_the_path(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's own packages ask nobody of ours."""
    monkeypatch.setenv("HOPWATCH_CALLS", path)
    for instrumentor in (FastAPIInstrumentor(), StarletteInstrumentor(), GrpcInstrumentor()):
        assert instrumentor.takes_hooks is (path == "native")
    assert WebSocketsInstrumentor().takes_hooks
    assert not HTTPXClientInstrumentor().takes_hooks
