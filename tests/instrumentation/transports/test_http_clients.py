"""HTTP clients: httpx, aiohttp and requests against a real server, and against none."""

import asyncio
import itertools
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import httpx
import pytest
import requests
from opentelemetry.instrumentation.utils import suppress_http_instrumentation
from opentelemetry.trace import SpanKind, StatusCode
from requests.adapters import HTTPAdapter
from requests.sessions import SessionRedirectMixin
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from urllib3.util import Retry

from hopwatch import reports
from hopwatch.asgi import Middleware
from hopwatch.conventions import ATTEMPT, CALL_HALF, MESSAGE_ID, PUBLISH_OUTCOME
from hopwatch.transports.aiohttp import AioHttpClientInstrumentor
from hopwatch.transports.httpx import HTTPXClientInstrumentor
from hopwatch.transports.requests import RequestsInstrumentor
from hopwatch_demo.patience import scale_wait

TIMEOUT_S = scale_wait(20.0)
PATIENCE_S = 0.2

Get = Callable[..., Awaitable[int]]
"""Fetches a URL, follows redirects, gives up after `patience` seconds without an answer, returns the status."""


async def by_httpx(url: str, patience: float = TIMEOUT_S) -> int:
    timeout = httpx.Timeout(TIMEOUT_S, read=patience)
    async with httpx.AsyncClient(follow_redirects=True, timeout=timeout) as client:
        return (await client.get(url)).status_code


def by_httpx_blocking(url: str, patience: float = TIMEOUT_S) -> int:
    timeout = httpx.Timeout(TIMEOUT_S, read=patience)
    with httpx.Client(follow_redirects=True, timeout=timeout) as client:
        return client.get(url).status_code


async def by_aiohttp(url: str, patience: float = TIMEOUT_S) -> int:
    timeout = aiohttp.ClientTimeout(sock_connect=TIMEOUT_S, sock_read=patience)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
        return answer.status


def by_requests(url: str, patience: float = TIMEOUT_S) -> int:
    with requests.Session() as session:
        return session.get(url, timeout=(TIMEOUT_S, patience)).status_code


def in_thread(get: Callable[..., int]) -> Get:
    async def run(*args: Any, **kwargs: Any) -> int:
        return await asyncio.to_thread(get, *args, **kwargs)

    return run


CLIENTS: dict[str, tuple[Get, type]] = {
    "httpx": (by_httpx, HTTPXClientInstrumentor),
    "httpx blocking": (in_thread(by_httpx_blocking), HTTPXClientInstrumentor),
    "aiohttp": (by_aiohttp, AioHttpClientInstrumentor),
    "requests": (in_thread(by_requests), RequestsInstrumentor),
}


@pytest.fixture(params=list(CLIENTS))
def get(request: pytest.FixtureRequest, hops: Any, instrumented: Any) -> Get:
    """An instrumented client."""
    client, instrumentor = CLIENTS[request.param]
    instrumented(instrumentor())
    return client


@contextmanager
def listening(backlog: int = 8) -> Iterator[socket.socket]:
    """A socket that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as server:
        yield server


@pytest.fixture
async def url(serve: Any, hops: Any) -> str:
    """A server that counts, fails and redirects."""

    async def count(request: Request) -> Response:
        return JSONResponse({"id": request.headers.getlist("hopwatch-id")})

    async def away(request: Request) -> Response:
        return RedirectResponse("/count")

    async def unavailable(request: Request) -> Response:
        return Response(status_code=503)

    routes = [Route("/count", count), Route("/away", away), Route("/unavailable", unavailable)]
    return f"http://{await serve(Middleware(Starlette(routes=routes)))}"


async def test_a_call_is_one_message(get: Get, url: str, hops: Any) -> None:
    """One client span, one server span, one message id."""
    assert await get(f"{url}/count") == 200
    await hops.until(lambda: len(hops.all()) == 2)
    [asked], [served] = hops.of_kind(SpanKind.CLIENT), hops.of_kind(SpanKind.SERVER)
    assert asked.attributes[MESSAGE_ID] == served.attributes[MESSAGE_ID]
    assert PUBLISH_OUTCOME not in asked.attributes


async def test_a_call_without_an_answer_is_reported_while_it_lasts(
    get: Get, serve: Any, hops: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller's half says so under the id of its message, once; what is answered is watched no longer."""
    monkeypatch.setattr(reports, "OPEN_AFTER_S", 0.1)
    go = asyncio.Event()

    async def slow(request: Request) -> Response:
        await go.wait()
        return Response()

    host = await serve(Starlette(routes=[Route("/slow", slow)]))
    asking = asyncio.create_task(get(f"http://{host}/slow"))
    await hops.until(lambda: hops.reports("open"))
    go.set()
    assert await asking == 200
    assert not reports.reporter.in_progress
    [asked], [told] = hops.of_kind(SpanKind.CLIENT), hops.reports("open")
    assert told[MESSAGE_ID] == asked.attributes[MESSAGE_ID]
    assert told[CALL_HALF] == "call"


async def test_a_redirect_is_a_message_of_its_own(get: Get, url: str, hops: Any) -> None:
    """Each request that goes out has its own id, which the server it reaches sees; all belong to one flow."""
    assert await get(f"{url}/away") == 200
    await hops.until(lambda: len(hops.all()) == 4)
    asked, served = hops.of_kind(SpanKind.CLIENT), hops.of_kind(SpanKind.SERVER)
    ids = {span.attributes[MESSAGE_ID] for span in asked}
    assert len(ids) == 2
    assert ids == {span.attributes[MESSAGE_ID] for span in served}
    parents = {span.attributes[MESSAGE_ID]: span.context.span_id for span in asked}
    assert all(span.parent.span_id == parents[span.attributes[MESSAGE_ID]] for span in served)
    assert len({span.context.trace_id for span in served}) in (1, 2)


async def test_an_error_that_was_answered_is_no_outcome_of_the_send(get: Get, url: str, hops: Any) -> None:
    """The server took it: its status says the rest."""
    assert await get(f"{url}/unavailable") == 503
    await hops.until(lambda: len(hops.all()) == 2)
    [asked] = hops.of_kind(SpanKind.CLIENT)
    assert PUBLISH_OUTCOME not in asked.attributes
    assert asked.status.status_code is StatusCode.ERROR


async def test_a_refused_connection_is_returned(get: Get, hops: Any) -> None:
    """Nobody listens: there was nowhere to route it."""
    with listening() as server:
        port = server.getsockname()[1]
    with pytest.raises((httpx.ConnectError, aiohttp.ClientConnectorError, requests.ConnectionError)):
        await get(f"http://127.0.0.1:{port}/")
    [asked] = hops.of_kind(SpanKind.CLIENT)
    assert asked.attributes[PUBLISH_OUTCOME] == "returned"
    assert asked.status.status_code is StatusCode.ERROR


async def test_a_name_nobody_knows_is_returned(get: Get, hops: Any) -> None:
    """DNS has no such host."""
    with pytest.raises((httpx.ConnectError, aiohttp.ClientConnectorError, requests.ConnectionError)):
        await get("http://no-such-host.invalid/")
    assert [span.attributes[PUBLISH_OUTCOME] for span in hops.of_kind(SpanKind.CLIENT)] == ["returned"]


async def test_no_answer_in_time_is_unconfirmed(get: Get, hops: Any) -> None:
    """It may have arrived."""
    with listening() as server, pytest.raises((httpx.ReadTimeout, TimeoutError, requests.ReadTimeout)):
        await get(f"http://127.0.0.1:{server.getsockname()[1]}/", patience=PATIENCE_S)
    assert [span.attributes[PUBLISH_OUTCOME] for span in hops.of_kind(SpanKind.CLIENT)] == ["unconfirmed"]


async def test_a_connection_cut_is_unconfirmed(get: Get, hops: Any) -> None:
    """The server hung up without an answer, as often as it was asked."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        with pytest.raises((httpx.RemoteProtocolError, aiohttp.ClientError, requests.ConnectionError)):
            await get(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    assert [span.attributes[PUBLISH_OUTCOME] for span in hops.of_kind(SpanKind.CLIENT)] == ["unconfirmed"]


async def test_a_server_without_tls_refuses(get: Get, url: str, hops: Any) -> None:
    """The connection stood, but nothing was sent over it."""
    with pytest.raises((httpx.ConnectError, aiohttp.ClientConnectorError, requests.exceptions.SSLError)):
        await get(url.replace("http:", "https:"))
    assert [span.attributes[PUBLISH_OUTCOME] for span in hops.of_kind(SpanKind.CLIENT)] == ["refused"]


@pytest.mark.parametrize("name", ["httpx", "aiohttp"])
async def test_a_cancelled_request_is_unconfirmed(name: str, hops: Any, instrumented: Any) -> None:
    """Cancellation reaches the caller unchanged."""
    client, instrumentor = CLIENTS[name]
    instrumented(instrumentor())
    with listening() as server:
        asking = asyncio.create_task(client(f"http://127.0.0.1:{server.getsockname()[1]}/"))
        peer, _ = await asyncio.wait_for(asyncio.to_thread(server.accept), TIMEOUT_S)
        with peer:
            await asyncio.wait_for(asyncio.to_thread(peer.recv, 1), TIMEOUT_S)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
    assert [span.attributes.get(PUBLISH_OUTCOME) for span in hops.of_kind(SpanKind.CLIENT)] == ["unconfirmed"]


async def test_an_answer_raised_over_was_answered(url: str, hops: Any, instrumented: Any) -> None:
    """aiohttp's `raise_for_status` makes an exception of an answer; the request was taken all the same."""
    instrumented(AioHttpClientInstrumentor())
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        with pytest.raises(aiohttp.ClientResponseError):
            await session.get(f"{url}/unavailable")
    assert [span.attributes[PUBLISH_OUTCOME] for span in hops.of_kind(SpanKind.CLIENT)] == ["confirmed"]


async def test_a_suppressed_request_stays_suppressed(url: str, hops: Any, instrumented: Any) -> None:
    """What the application keeps out of the record stays out, redirects included."""
    instrumented(RequestsInstrumentor())
    with suppress_http_instrumentation():
        assert await CLIENTS["requests"][0](f"{url}/away") == 200
    assert hops.of_kind(SpanKind.CLIENT) == []


def test_uninstrument_puts_everything_back(hops: Any) -> None:
    """The libraries' own functions are back."""
    places = [
        (httpx.HTTPTransport, "handle_request"),
        (httpx.AsyncHTTPTransport, "handle_async_request"),
        (aiohttp.ClientSession, "__init__"),
        (requests.Session, "send"),
        (SessionRedirectMixin, "resolve_redirects"),
        (requests.adapters.HTTPAdapter, "send"),
    ]
    before = [getattr(owner, name) for owner, name in places]
    instrumentors = [HTTPXClientInstrumentor(), AioHttpClientInstrumentor(), RequestsInstrumentor()]
    for instrumentor in instrumentors:
        instrumentor.instrument()
    assert all(getattr(owner, name) is not was for (owner, name), was in zip(places, before, strict=True))
    for instrumentor in instrumentors:
        instrumentor.uninstrument()
    assert [getattr(owner, name) for owner, name in places] == before


@pytest.mark.parametrize("processes", [1, 3])
async def test_what_a_client_sends_again_by_itself_is_numbered(
    serve: Any, instrumented: Any, hops: Any, processes: int
) -> None:
    """Under one id: the server tells the attempts apart, whichever of its processes they come to."""
    instrumented(RequestsInstrumentor())
    answers = iter([503, 503, 200])

    async def count(request: Request) -> Response:
        return Response(status_code=next(answers))

    def server() -> Any:
        return Middleware(Starlette(routes=[Route("/count", count)]))

    each = [server() for _ in range(processes)]
    turns = itertools.cycle(each)

    async def balancer(scope: Any, receive: Any, send: Any) -> None:
        await next(turns)(scope, receive, send)

    def fetch(url: str) -> int:
        with requests.Session() as session:
            retries = Retry(total=5, status_forcelist=[503], backoff_factor=0)
            session.mount("http://", HTTPAdapter(max_retries=retries))
            return session.get(url, timeout=TIMEOUT_S).status_code

    assert await asyncio.to_thread(fetch, f"http://{await serve(balancer)}/count") == 200
    await hops.until(lambda: len(hops.all()) == 4)
    [asked] = hops.of_kind(SpanKind.CLIENT)
    served = hops.of_kind(SpanKind.SERVER)
    assert {span.attributes[MESSAGE_ID] for span in served} == {asked.attributes[MESSAGE_ID]}
    assert [span.attributes.get(ATTEMPT, 1) for span in served] == [1, 2, 3]
