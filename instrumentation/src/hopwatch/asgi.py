"""ASGI: one server span per request, from its first byte to the end of its answer; WebSockets message by message.

`hopwatch.instrument()` puts this around FastAPI and Starlette by itself; any other ASGI application is wrapped by hand:
`app = hopwatch.asgi.Middleware(app)`.
"""

import os
import re
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import partial
from importlib.metadata import version
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Tracer
from opentelemetry.util.types import AttributeValue

from hopwatch.callmeters import CallMeters
from hopwatch.calls import CallHop, Calls
from hopwatch.conventions import (
    CLIENT_ADDRESS,
    HTTP_METHOD,
    HTTP_ROUTE,
    HTTP_STATUS,
    SERVER_ADDRESS,
    SERVER_PORT,
    URL_PATH,
    URL_SCHEME,
)
from hopwatch.faults import swallowed
from hopwatch.hooks import Hook
from hopwatch.optin import CallsPath, calls_path
from hopwatch.sockets import Sockets
from hopwatch.sockets_asgi import Connection, Opening
from hopwatch.w3c import TRAVELLING
from hopwatch.wrapping import Args, Kwargs, guarded

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_SEEN = "hopwatch"
"""Key of a scope that is already recorded: applications mounted in one another make one span."""

_METHODS = frozenset(
    {"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "QUERY"}
)

_TRAVELLING = {name.encode(): name for name in TRAVELLING}


class HeadersGetter(Getter[Iterable[tuple[bytes, bytes]]]):
    """Reads the headers of an ASGI scope; a header sent in several lines is one list."""

    def get(self, carrier: Iterable[tuple[bytes, bytes]], key: str) -> list[str] | None:
        """Return the values of a header, None if there is none."""
        name = key.lower().encode("latin-1")
        found = [value.decode("latin-1") for header, value in carrier if header.lower() == name]
        return [",".join(found)] if found else None

    def fields(self, carrier: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
        """Return what `get` would for every header that travels with a message, in one pass."""
        found: dict[str, str] = {}
        for header, value in carrier:
            name = _TRAVELLING.get(header) or _TRAVELLING.get(header.lower())
            if name is not None:
                text = value.decode("latin-1")
                found[name] = f"{found[name]},{text}" if name in found else text
        return found

    def keys(self, carrier: Iterable[tuple[bytes, bytes]]) -> list[str]:
        """Return the names of all headers."""
        return [header.decode("latin-1") for header, _ in carrier]


headers_getter = HeadersGetter()


class Middleware:
    """Records the requests an ASGI application answers.

    `framework` names the environment variable beside `OTEL_PYTHON_EXCLUDED_URLS` that keeps addresses out of
    the record, as OpenTelemetry's own instrumentations do: `OTEL_PYTHON_<framework>_EXCLUDED_URLS`.
    `hook` is the team's say in what is recorded (see `hopwatch.Hook`), on our own path.
    """

    def __init__(
        self, app: App, *, tracer: Tracer | None = None, framework: str = "ASGI", hook: Hook | None = None
    ) -> None:
        if calls_path() is CallsPath.CONTRIB:
            self._app = _by_contrib(app)
        else:
            tracer = tracer or trace.get_tracer("hopwatch.asgi", version("hopwatch"))
            self._app = partial(Requests(tracer, framework, hook=hook).run, app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application and record what it answers."""
        await self._app(scope, receive, send)


class Requests:
    """What is recorded of the requests of one framework: a wrapper around the call of its applications.

    They are measured too, unless the framework does so itself.
    """

    def __init__(
        self, tracer: Tracer, framework: str, *, measured: bool = True, hook: Hook | None = None
    ) -> None:
        self._calls = Calls(tracer, CallMeters() if measured else None, hook)
        self._handshakes = Calls(tracer, hook=hook)
        self._sockets = Sockets.of(tracer, hook)
        self._excluded = excluded_urls(framework)

    def answer(self, wrapped: App, app: Any, args: Args, kwargs: Kwargs) -> Awaitable[None]:
        """Record a request, unless OpenTelemetry's own instrumentation took the application before.

        A wrong number of arguments fails at the call as ever: that is how servers tell applications from factories.
        """
        scope, receive, send = _arguments(*args, **kwargs)
        if getattr(app, "_is_instrumented_by_opentelemetry", False):
            return wrapped(scope, receive, send)
        return self.run(wrapped, scope, receive, send)

    async def run(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Run an application for one request, connection or lifespan."""
        if scope["type"] not in ("http", "websocket") or _SEEN in scope or not self._wanted(scope):
            await app(scope, receive, send)
            return
        # No copy: what routers write into the scope is read by us, and by the server's middleware.
        scope[_SEEN] = True
        calls = self._calls if scope["type"] == "http" else self._handshakes
        hop = calls.serve(*_described(scope), scope["headers"], headers_getter)
        hop.late = partial(_routed, scope)
        exchange: Answer | Connection
        if scope["type"] == "websocket":
            opening = Opening(scope.get("path", ""), scope["headers"], hop, partial(route_of, scope))
            exchange = Connection(self._sockets, opening, receive, send)
            receive = exchange.receive
        else:
            exchange = Answer(hop, scope, send)
        token = otel_context.attach(hop.context)
        try:
            await app(scope, receive, exchange.send)
        except BaseException as error:
            exchange.end(error)
            raise
        else:
            exchange.end()
        finally:
            otel_context.detach(token)
            scope.pop(_SEEN, None)

    def _wanted(self, scope: Scope) -> bool:
        if not is_http_instrumentation_enabled():
            return False
        return self._excluded is None or not self._excluded.search(_url(scope))


class Answer:
    """The answer to one request: passes on what the application sends, and knows when that was all."""

    def __init__(self, hop: CallHop, scope: Scope, send: Send) -> None:
        self.hop = hop
        self._scope = scope
        self._send = send
        self._status = 0
        self._trailers = False
        self._complete_at = 0

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        await self._send(message)
        self._sent(message)

    def end(self, error: BaseException | None = None) -> None:
        """End the request where its last byte did not: it failed, or was never answered in full."""
        if self.hop.ended:
            return
        cut = self._status and not self._complete_at
        self._end(error, "incomplete_response" if cut and error is None else "")

    @guarded
    def _sent(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self._status = message["status"]
            self._trailers = bool(message.get("trailers"))
            self.hop.streaming()
        elif _is_last(message, self._trailers) and not self._complete_at:
            self._complete_at = time.time_ns()
            # An error page goes out before the exception behind it comes back to us: that one waits.
            if self._status < 500:
                self._end(None, "")

    @guarded
    def _end(self, error: BaseException | None, error_type: str) -> None:
        attributes = _routed(self._scope)
        route = attributes.get(HTTP_ROUTE)
        if route:
            self.hop.rename(f"{_method(self._scope)} {route}", str(route))
        if self._status:
            attributes[HTTP_STATUS] = self._status
        if not error_type and error is None and self._status >= 500:
            error_type = str(self._status)
        self.hop.end(attributes, error=error, error_type=error_type, at=self._complete_at or None)


def route_of(scope: Scope) -> str | None:
    """Return the template of the route that took a request, with the path its application is mounted at."""
    route = scope.get("route")
    included = scope.get("fastapi", {}).get("effective_route_context")
    template = getattr(included, "path_format", None) or getattr(route, "path_format", None)
    if template is None and route is None:
        prefix, template = _by_endpoint(getattr(scope.get("app"), "routes", ()), scope.get("endpoint"))
        if prefix:
            return f"{prefix}{template}"
    if template is None:
        return None
    root = scope.get("root_path", "")
    return f"{root.removeprefix(scope.get('app_root_path', root))}{template}"


def _routed(scope: Scope) -> dict[str, AttributeValue]:
    route = route_of(scope)
    return {HTTP_ROUTE: route} if route else {}


def _by_endpoint(routes: Iterable[Any], endpoint: Any, prefix: str = "") -> tuple[str, str | None]:
    """Return mount and template of the route with this endpoint: older versions of Starlette tell no more."""
    for route in routes if endpoint is not None else ():
        if getattr(route, "endpoint", None) is endpoint:
            return prefix, route.path_format
        found = _by_endpoint(
            getattr(route, "routes", None) or (), endpoint, prefix + getattr(route, "path", "")
        )
        if found[1] is not None:
            return found
    return "", None


def excluded_urls(framework: str) -> re.Pattern[str] | None:
    """Return what keeps addresses out of the record: comma-separated regular expressions in the environment."""
    text = os.environ.get(f"OTEL_PYTHON_{framework}_EXCLUDED_URLS") or os.environ.get(
        "OTEL_PYTHON_EXCLUDED_URLS", ""
    )
    parts = [part.strip() for part in text.split(",") if part.strip()]
    try:
        return re.compile("|".join(parts)) if parts else None
    except re.error as fault:
        swallowed("excluded urls", fault)
        return None


def _by_contrib(app: App) -> App:
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    wrapped: App = OpenTelemetryMiddleware(app, exclude_spans=["receive", "send"])
    return wrapped


def _arguments(scope: Scope, receive: Receive, send: Send) -> tuple[Scope, Receive, Send]:
    return scope, receive, send


def _is_last(message: Message, trailers: bool) -> bool:
    kind = message["type"]
    if kind == "http.response.body":
        return not trailers and not message.get("more_body")
    if kind == "http.response.trailers":
        return not message.get("more_trailers")
    return bool(kind == "http.response.pathsend")


def _method(scope: Scope) -> str:
    method = str(scope.get("method", ""))
    return method if method in _METHODS else "HTTP"


def _url(scope: Scope) -> str:
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    return f"{scope.get('scheme', 'http')}://{host}{scope.get('path', '')}"


def _described(scope: Scope) -> tuple[str, dict[str, AttributeValue]]:
    """Return the span's name until the route is known, and what the request says; queries may hold secrets."""
    method = "GET" if scope["type"] == "websocket" else _method(scope)
    attributes: dict[str, AttributeValue] = {
        HTTP_METHOD: method if method != "HTTP" else "_OTHER",
        URL_SCHEME: scope.get("scheme", "http"),
        URL_PATH: scope.get("path", ""),
    }
    server, client = scope.get("server"), scope.get("client")
    if server:
        attributes[SERVER_ADDRESS] = server[0]
        if server[1] is not None:
            attributes[SERVER_PORT] = server[1]
    if client:
        attributes[CLIENT_ADDRESS] = client[0]
    return method, attributes
