"""WebSockets: the library `websockets` at either end, asyncio and blocking, and ASGI applications, message by message."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from threading import Thread
from typing import Any

import fastapi
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, broadcast
from websockets.asyncio.server import serve as websockets_serve
from websockets.exceptions import ConnectionClosedOK, InvalidStatus
from websockets.sync.client import connect as connect_blocking
from websockets.sync.server import ServerConnection as BlockingConnection
from websockets.sync.server import serve as serve_blocking

from hopwatch.asgi import Middleware
from hopwatch.conventions import (
    DESTINATION,
    ENVELOPE_HEADER,
    ERROR_TYPE,
    HTTP_STATUS,
    MESSAGE_ID,
    MESSAGES_RECEIVED,
    MESSAGES_SENT,
    MESSAGING_SYSTEM,
    PUBLISH_OUTCOME,
    RECEIVER,
    SETTLE_OUTCOME,
    WEBSOCKET_CLOSE_CODE,
)
from hopwatch.ids import is_message_id
from hopwatch.transports.fastapi import FastAPIInstrumentor
from hopwatch.transports.websockets import WebSocketsInstrumentor
from hopwatch_demo.patience import scale_wait

TIMEOUT_S = scale_wait(20.0)

Echo = Callable[[Any], Awaitable[str]]
"""Starts a server that says `hello`, then answers each message with itself, and returns its URL."""


async def talk(connection: ServerConnection) -> None:
    await connection.send("hello")
    async for message in connection:
        await connection.send(message)


async def by_websockets(stack: Any) -> str:
    """A server of the library."""
    server = await stack.enter_async_context(websockets_serve(talk, "127.0.0.1", 0))
    return f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/rooms/42"


def talk_blocking(connection: BlockingConnection) -> None:
    connection.send("hello")
    for message in connection:
        connection.send(message)


@asynccontextmanager
async def _in_thread() -> AsyncIterator[int]:
    with serve_blocking(talk_blocking, "127.0.0.1", 0) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        await asyncio.to_thread(thread.join, TIMEOUT_S)


async def by_websockets_blocking(stack: Any) -> str:
    """A blocking server of the library, in a thread."""
    return f"ws://127.0.0.1:{await stack.enter_async_context(_in_thread())}/rooms/42"


def fastapi_app() -> fastapi.FastAPI:
    app = fastapi.FastAPI()

    @app.websocket("/rooms/{room}")
    async def room(socket: fastapi.WebSocket, room: int) -> None:
        await socket.accept()
        await socket.send_text("hello")
        try:
            while True:
                event = await socket.receive()
                if event["type"] == "websocket.disconnect":
                    return
                if event.get("text") is not None:
                    await socket.send_text(event["text"])
                else:
                    await socket.send_bytes(event["bytes"])
        except fastapi.WebSocketDisconnect:
            pass

    @app.websocket("/refused")
    async def refuse(socket: fastapi.WebSocket) -> None:
        await socket.close()

    return app


async def bare_asgi(scope: Any, receive: Any, send: Any) -> None:
    """An application without a framework."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "hello"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})


SERVERS = ["websockets", "websockets blocking", "fastapi", "asgi"]


@pytest.fixture(params=SERVERS)
async def url(request: pytest.FixtureRequest, serve: Any, instrumented: Any, hops: Any) -> AsyncIterator[str]:
    """An instrumented server of each kind, and an instrumented client library."""
    instrumented(WebSocketsInstrumentor(), FastAPIInstrumentor())
    async with AsyncExitStack() as stack:
        match request.param:
            case "websockets":
                yield await by_websockets(stack)
            case "websockets blocking":
                yield await by_websockets_blocking(stack)
            case "fastapi":
                yield f"ws://{await serve(fastapi_app())}/rooms/42"
            case _:
                yield f"ws://{await serve(Middleware(bare_asgi))}/rooms/42"


async def exchange(url: str, *messages: str | bytes) -> list[str | bytes]:
    """Say these messages one by one, and return all that was heard."""
    async with asyncio.timeout(TIMEOUT_S), connect(url) as connection:
        heard = [await connection.recv()]
        for message in messages:
            await connection.send(message)
            heard.append(await connection.recv())
        return heard


def pairs(hops: Any) -> dict[str, tuple[ReadableSpan, ReadableSpan]]:
    """Return send and attempt of every message by its id."""
    sends = {span.attributes[MESSAGE_ID]: span for span in hops.sends()}
    attempts = {span.attributes[MESSAGE_ID]: span for span in hops.processes()}
    assert sends.keys() == attempts.keys()
    assert (len(sends), len(attempts)) == (len(hops.sends()), len(hops.processes()))
    return {key: (sends[key], attempts[key]) for key in sends}


async def test_every_message_is_a_hop_of_its_own(url: str, hops: Any) -> None:
    """Both ends name each message alike, though nothing but the handshake carries an id."""
    assert await exchange(url, "one", b"two", "") == ["hello", "one", b"two", ""]
    await hops.until(lambda: len(hops.sends()) == len(hops.processes()) == 7)
    for send, attempt in pairs(hops).values():
        assert (send.attributes[MESSAGING_SYSTEM], send.attributes[PUBLISH_OUTCOME]) == ("websocket", "sent")
        assert send.attributes[DESTINATION] == attempt.attributes[DESTINATION] == "/rooms/*"
        assert (attempt.attributes[RECEIVER], attempt.attributes[SETTLE_OUTCOME]) == ("under-test", "auto")
        assert send.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("path", ["//[", "//rooms/42", "/rooms/42?x=[#", "/:99999"])
async def test_no_path_hides_what_is_said_on_it(instrumented: Any, hops: Any, path: str) -> None:
    """A stranger chooses the path: one that is half an address is a path like any other."""
    instrumented(WebSocketsInstrumentor())
    async with AsyncExitStack() as stack:
        url = (await by_websockets(stack)).replace("/rooms/42", path)
        assert await exchange(url, "one") == ["hello", "one"]
        await hops.until(lambda: len(hops.sends()) == len(hops.processes()) == 3)
    found = {span.attributes[DESTINATION] for span in (*hops.sends(), *hops.processes())}
    assert found == {path.partition("?")[0].replace("42", "*")}


async def test_the_handshake_is_a_call(url: str, hops: Any) -> None:
    """One client and one server span, which end with the answer 101 and not with the connection."""
    async with asyncio.timeout(TIMEOUT_S), connect(url):
        await hops.until(lambda: hops.of_kind(SpanKind.SERVER) and hops.of_kind(SpanKind.CLIENT))
    [asked], [answered] = hops.of_kind(SpanKind.CLIENT), hops.of_kind(SpanKind.SERVER)
    assert asked.attributes[MESSAGE_ID] == answered.attributes[MESSAGE_ID]
    assert asked.attributes[HTTP_STATUS] == answered.attributes[HTTP_STATUS] == 101
    assert answered.parent.span_id == asked.context.span_id


async def test_an_answer_belongs_to_the_message_it_answers(url: str, hops: Any) -> None:
    """What is sent while a message is in hand is a child of its attempt."""
    await exchange(url, "one")
    await hops.until(lambda: len(hops.processes()) == 3)
    answers = {span.parent.span_id for span in hops.sends() if span.parent}
    assert len(answers & {span.context.span_id for span in hops.processes()}) >= 1


async def test_a_close_leaves_its_code(url: str, hops: Any) -> None:
    """The end of a connection is told once by each side, with how many messages went each way."""
    async with asyncio.timeout(TIMEOUT_S), connect(url) as connection:
        await connection.recv()
        await connection.send("one")
        await connection.recv()
        await connection.close(4001, "enough")
    await hops.until(lambda: len([s for s in hops.all() if s.name.startswith("close")]) == 2)
    told = [span.attributes for span in hops.all() if span.name.startswith("close")]
    assert [attributes[WEBSOCKET_CLOSE_CODE] for attributes in told] == [4001, 4001]
    assert sorted((a[MESSAGES_SENT], a[MESSAGES_RECEIVED]) for a in told) == [(1, 2), (2, 1)]


@pytest.fixture
def enveloping(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process asks for envelopes."""
    monkeypatch.setenv("HOPWATCH_WEBSOCKET_ENVELOPE", "true")


async def test_a_plain_client_sees_nothing(
    enveloping: None, serve: Any, instrumented: Any, hops: Any
) -> None:
    """A client without instrumentation gets what it always got, from a server that would envelope."""
    instrumented(FastAPIInstrumentor())
    async with asyncio.timeout(TIMEOUT_S), connect(f"ws://{await serve(fastapi_app())}/rooms/42") as plain:
        assert [await plain.recv(), await say(plain, "one")] == ["hello", "one"]
        assert ENVELOPE_HEADER not in plain.response.headers
    await hops.until(lambda: hops.processes())
    assert (len(hops.sends()), len(hops.processes())) == (2, 1)
    assert all(span.attributes[MESSAGE_ID] for span in (*hops.sends(), *hops.processes()))


async def test_a_plain_server_sees_nothing(
    enveloping: None, serve: Any, instrumented: Any, hops: Any
) -> None:
    """A server without instrumentation hears what was said, from a client that would envelope."""
    instrumented(WebSocketsInstrumentor())
    async with asyncio.timeout(TIMEOUT_S), connect(f"ws://{await serve(bare_asgi)}/rooms/42") as connection:
        assert [await connection.recv(), await say(connection, "one")] == ["hello", "one"]
    assert (len(hops.sends()), len(hops.processes())) == (1, 2)


async def say(connection: ClientConnection, message: str) -> Any:
    await connection.send(message)
    return await connection.recv()


async def chunks() -> AsyncIterator[str]:
    """A message in fragments."""
    yield "on"
    yield "e"


async def test_an_envelope_carries_each_messages_context(enveloping: None, url: str, hops: Any) -> None:
    """Where both ends agreed, an attempt is the child of its very send; applications see their payloads only."""
    async with asyncio.timeout(TIMEOUT_S), connect(url) as connection:
        assert connection.response.headers[ENVELOPE_HEADER] == "1"
        assert await connection.recv() == "hello"
        with trace.get_tracer("app").start_as_current_span("order") as order:
            await connection.send("one")
        assert await connection.recv() == "one"
        await connection.send(b"two")
        assert await connection.recv(decode=False) == b"two"
        await connection.send(["th", "ree"])
        assert await connection.recv() == "three"
        await connection.send(chunks())
        assert "".join([frame async for frame in connection.recv_streaming()]) == "one"
    await hops.until(lambda: len(hops.sends()) == len(hops.processes()) == 9)
    for send, attempt in pairs(hops).values():
        assert attempt.parent.span_id == send.context.span_id
    assert any(span.parent and span.parent.span_id == order.context.span_id for span in hops.sends())


async def test_an_id_made_up_by_a_stranger_is_not_believed(serve: Any, instrumented: Any, hops: Any) -> None:
    """A handshake with something else where the id should be is one without an id."""
    instrumented(FastAPIInstrumentor())
    url = f"ws://{await serve(fastapi_app())}/rooms/42"
    async with asyncio.timeout(TIMEOUT_S), connect(url, additional_headers={"hopwatch-id": "mine"}) as plain:
        assert [await plain.recv(), await say(plain, "one")] == ["hello", "one"]
    await hops.until(lambda: hops.processes())
    assert all(is_message_id(span.attributes[MESSAGE_ID]) for span in (*hops.sends(), *hops.processes()))


async def test_what_is_no_message_has_no_number(url: str, hops: Any) -> None:
    """A payload the library refuses, or an empty iterable, leaves the count of both ends the same."""
    async with asyncio.timeout(TIMEOUT_S), connect(url) as connection:
        await connection.recv()
        with pytest.raises(TypeError):
            await connection.send({"a": "dict"})  # type: ignore[arg-type]
        await connection.send([])
        assert await say(connection, "one") == "one"
    await hops.until(lambda: len(hops.processes()) == 3)
    refused = [span for span in hops.sends() if span.attributes[PUBLISH_OUTCOME] == "refused"]
    assert len(refused) == 2
    sent = {s.attributes[MESSAGE_ID] for s in hops.sends() if s not in refused}
    assert sent == {span.attributes[MESSAGE_ID] for span in hops.processes()}


async def test_a_send_on_a_closed_connection_is_returned(url: str, hops: Any) -> None:
    """The exception is the library's own."""
    async with asyncio.timeout(TIMEOUT_S), connect(url) as connection:
        await connection.recv()
        await connection.close()
        with pytest.raises(ConnectionClosedOK):
            await connection.send("late")
    returned = [span for span in hops.sends() if span.attributes[PUBLISH_OUTCOME] == "returned"]
    assert [span.attributes[ERROR_TYPE] for span in returned] == ["ConnectionClosedOK"]


async def test_a_blocking_client_is_covered_too(url: str, hops: Any) -> None:
    """The same hops from `websockets.sync`."""

    def run() -> list[Any]:
        with connect_blocking(url) as connection:
            heard = [connection.recv(TIMEOUT_S)]
            connection.send("one")
            heard.append("".join(str(frame) for frame in connection.recv_streaming()))
            return heard

    assert await asyncio.to_thread(run) == ["hello", "one"]
    await hops.until(lambda: len(hops.sends()) == len(hops.processes()) == 3)
    assert len(pairs(hops)) == 3


async def test_a_connection_nobody_takes_is_returned(instrumented: Any, hops: Any) -> None:
    """The handshake never began: there was nowhere to send it."""
    instrumented(WebSocketsInstrumentor())
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        await connect(f"ws://127.0.0.1:{port}/")
    [asked] = hops.of_kind(SpanKind.CLIENT)
    assert asked.attributes[PUBLISH_OUTCOME] == "returned"


async def test_a_refused_handshake_is_an_answer(serve: Any, instrumented: Any, hops: Any) -> None:
    """A close before the accept is HTTP's 403 to both ends."""
    instrumented(WebSocketsInstrumentor(), FastAPIInstrumentor())
    with pytest.raises(InvalidStatus):
        await connect(f"ws://{await serve(fastapi_app())}/refused")
    [asked], [answered] = hops.of_kind(SpanKind.CLIENT), hops.of_kind(SpanKind.SERVER)
    assert asked.attributes[HTTP_STATUS] == answered.attributes[HTTP_STATUS] == 403
    assert asked.attributes[ERROR_TYPE] == "403"
    assert PUBLISH_OUTCOME not in asked.attributes


def test_uninstrument_puts_everything_back(hops: Any) -> None:
    """The library's own functions are back."""
    touched = [(ClientConnection, "handshake"), (ServerConnection, "handshake"), (Connection, "send")]
    before = [vars(owner)[name] for owner, name in touched]
    WebSocketsInstrumentor().instrument()
    assert all(vars(owner)[name] is not was for (owner, name), was in zip(touched, before, strict=True))
    WebSocketsInstrumentor().uninstrument()
    assert all(vars(owner)[name] is was for (owner, name), was in zip(touched, before, strict=True))


class Unfit(Exception):
    """What a handler raises."""


async def websockets_app(
    stack: Any, serve: Any, handler: Callable[[Callable[[], Awaitable[Any]]], Any]
) -> str:
    """A server of the library whose handler is given a function that receives."""

    async def handle(connection: ServerConnection) -> None:
        await handler(connection.recv)

    server = await stack.enter_async_context(websockets_serve(handle, "127.0.0.1", 0))
    return f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def starlette_app(
    stack: Any, serve: Any, handler: Callable[[Callable[[], Awaitable[Any]]], Any]
) -> str:
    """An application of FastAPI's."""
    app = fastapi.FastAPI()

    @app.websocket("/")
    async def endpoint(socket: fastapi.WebSocket) -> None:
        await socket.accept()
        await handler(socket.receive_text)

    return f"ws://{await serve(app)}/"


async def asgi_app(stack: Any, serve: Any, handler: Callable[[Callable[[], Awaitable[Any]]], Any]) -> str:
    """An application without a framework."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})

        async def take() -> Any:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                raise EOFError
            return event["text"]

        await handler(take)

    return f"ws://{await serve(Middleware(app))}/"


@pytest.fixture(params=[websockets_app, starlette_app, asgi_app])
async def served(
    request: pytest.FixtureRequest, serve: Any, instrumented: Any, hops: Any
) -> AsyncIterator[Callable[[Any], Awaitable[str]]]:
    """A function that serves a handler, by each kind of server, and returns its URL."""
    instrumented(WebSocketsInstrumentor(), FastAPIInstrumentor())
    async with AsyncExitStack() as stack:
        yield lambda handler: request.param(stack, serve, handler)


async def said_by(url: str, *messages: str) -> None:
    """Say these messages, and wait until the server has hung up."""
    async with asyncio.timeout(TIMEOUT_S), connect(url) as connection:
        for message in messages:
            await connection.send(message)
        await connection.wait_closed()


async def test_what_a_handler_received_and_failed_with_failed(served: Any, hops: Any) -> None:
    """The server says no more than that it closes the connection."""

    async def handler(take: Callable[[], Awaitable[str]]) -> None:
        await take()
        if await take() == "second":
            raise Unfit

    await said_by(await served(handler), "first", "second")
    await hops.until(lambda: len(hops.processes()) == 2)
    errors = [span.attributes.get(ERROR_TYPE) for span in hops.processes()]
    assert errors == [None, "Unfit"]


async def test_what_lies_in_a_queue_was_handed_on(served: Any, hops: Any) -> None:
    """Workers take it from there, and may fail."""
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def handler(take: Callable[[], Awaitable[str]]) -> None:
        for _ in range(2):
            text = await take()
            queue.put_nowait(text)
        assert len(await take()) == 5

    await said_by(await served(handler), "first", "second", "third")
    await hops.until(lambda: len(hops.processes()) == 3)
    assert [span.attributes[SETTLE_OUTCOME] for span in hops.processes()] == ["none", "none", "auto"]


async def test_what_is_broadcast_is_counted(instrumented: Any, hops: Any) -> None:
    """It goes past `send`, but the other end counts it: what comes after keeps its name."""
    instrumented(WebSocketsInstrumentor())

    async def handler(connection: ServerConnection) -> None:
        broadcast([connection], "to all")
        broadcast([connection], b"to all")
        await connection.send("to one")

    async with asyncio.timeout(TIMEOUT_S), websockets_serve(handler, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with connect(url) as connection:
            assert [message async for message in connection] == ["to all", b"to all", "to one"]
    await hops.until(lambda: len(hops.sends()) == len(hops.processes()) == 3)
    assert len(pairs(hops)) == 3


async def test_what_is_broadcast_carries_its_context(enveloping: None, instrumented: Any, hops: Any) -> None:
    """Between ends that both asked for it."""
    instrumented(WebSocketsInstrumentor())

    async def handler(connection: ServerConnection) -> None:
        broadcast([connection], "to all")

    async with asyncio.timeout(TIMEOUT_S), websockets_serve(handler, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with connect(url) as connection:
            assert await connection.recv() == "to all"
    await hops.until(lambda: len(hops.sends()) == len(hops.processes()) == 1)
    [(send, attempt)] = pairs(hops).values()
    assert attempt.parent is not None
    assert attempt.parent.span_id == send.context.span_id
