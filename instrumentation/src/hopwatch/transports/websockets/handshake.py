"""The opening handshake, asked and answered: a call over HTTP, which names the connection for both ends."""

import ssl
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, TypeVar

from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled
from opentelemetry.propagators.textmap import default_setter
from opentelemetry.util.types import AttributeValue
from websockets import exceptions
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.uri import parse_uri

from hopwatch.calls import CallHop, Calls
from hopwatch.conventions import (
    CLIENT_ADDRESS,
    ENVELOPE_HEADER,
    HTTP_METHOD,
    HTTP_STATUS,
    SERVER_ADDRESS,
    SERVER_PORT,
    URL_FULL,
    URL_PATH,
    PublishOutcome,
)
from hopwatch.sockets import Conversation, Sockets, general
from hopwatch.transports.websockets.messages import Messages
from hopwatch.w3c import TRAVELLING
from hopwatch.wrapping import Args, Kwargs, argument, guarded, header_getter, with_argument

T = TypeVar("T")

_NOT_SENT = (ssl.SSLError, getattr(exceptions, "ProxyError", ssl.SSLError))  # no proxies before websockets 15
_SWITCHED = 101
_REDIRECTS = range(300, 400)

_asked: ContextVar[bool] = ContextVar("hopwatch-websockets-asked", default=False)
"""Whether the connection being opened got as far as a handshake."""


class Handshakes:
    """The wrappers around opening handshakes; each that succeeds begins a conversation."""

    def __init__(self, calls: Calls, sockets: Sockets, messages: Messages) -> None:
        self._calls = calls
        self._sockets = sockets
        self._messages = messages

    async def connect(
        self, wrapped: Callable[..., Awaitable[T]], connect: Any, args: Args, kwargs: Kwargs
    ) -> T:
        """Record an attempt to connect that did not get as far as a handshake."""
        token = _asked.set(False)
        try:
            return await wrapped(*args, **kwargs)
        except Exception as error:
            if not _asked.get():
                self._unreached(str(connect.uri), error)
            raise
        finally:
            _asked.reset(token)

    async def ask(
        self, wrapped: Callable[..., Awaitable[T]], connection: Any, args: Args, kwargs: Kwargs
    ) -> T:
        """Record a handshake from the client's side."""
        asking = self._asking(connection, args, kwargs)
        if asking is None:
            return await wrapped(*args, **kwargs)
        try:
            result = await wrapped(*asking.args, **asking.kwargs)
        except BaseException as error:
            _refused(asking.hop, error)
            raise
        self._accepted(asking, connection)
        return result

    def ask_blocking(self, wrapped: Callable[..., T], connection: Any, args: Args, kwargs: Kwargs) -> T:
        """Record a handshake from the client's side."""
        asking = self._asking(connection, args, kwargs)
        if asking is None:
            return wrapped(*args, **kwargs)
        try:
            result = wrapped(*asking.args, **asking.kwargs)
        except BaseException as error:
            _refused(asking.hop, error)
            raise
        self._accepted(asking, connection)
        return result

    async def answer(
        self, wrapped: Callable[..., Awaitable[T]], connection: Any, args: Args, kwargs: Kwargs
    ) -> T:
        """Record a handshake from the server's side."""
        answering = Answering(self._calls, self._sockets, args, kwargs)
        try:
            result = await wrapped(*answering.args, **answering.kwargs)
        except BaseException as error:
            answering.failed(error)
            raise
        self._answered(answering, connection)
        return result

    def answer_blocking(self, wrapped: Callable[..., T], connection: Any, args: Args, kwargs: Kwargs) -> T:
        """Record a handshake from the server's side."""
        answering = Answering(self._calls, self._sockets, args, kwargs)
        try:
            result = wrapped(*answering.args, **answering.kwargs)
        except BaseException as error:
            answering.failed(error)
            raise
        self._answered(answering, connection)
        return result

    @guarded
    def _unreached(self, uri: str, error: Exception) -> None:
        not_sent = isinstance(error, _NOT_SENT)
        not_reached = isinstance(error, OSError) and not not_sent  # TimeoutError is one too
        if not_sent or not_reached:
            hop = self._calls.call(*_described(parse_uri(uri)), {}, default_setter)
            hop.end(error=error, outcome=PublishOutcome.REFUSED if not_sent else PublishOutcome.RETURNED)

    @guarded
    def _asking(self, connection: Any, args: Args, kwargs: Kwargs) -> "Asking | None":
        _asked.set(True)
        if not is_http_instrumentation_enabled():
            return None
        fields: dict[str, str] = {}
        hop = self._calls.call(*_described(_uri(connection.protocol)), fields, default_setter)
        given = argument(args, kwargs, 0, "additional_headers")
        headers = Headers(given if given is not None else ())
        for name, value in {**fields, **self._sockets.offer()}.items():
            if name in headers:
                del headers[name]
            headers[name] = value
        args, kwargs = with_argument(args, kwargs, 0, "additional_headers", headers)
        return Asking(hop, fields, args, kwargs)

    @guarded
    def _accepted(self, asking: "Asking", connection: Any) -> None:
        asking.hop.end({HTTP_STATUS: _SWITCHED})
        self._converse(connection, asking.hop, asking.fields, connection.response.headers, asked=True)

    @guarded
    def _answered(self, answering: "Answering", connection: Any) -> None:
        if answering.hop is None or connection.response is None:
            return
        status = connection.response.status_code
        answering.hop.end({HTTP_STATUS: status}, error_type=str(status) if status >= 500 else "")
        if status == _SWITCHED:
            headers = connection.request.headers
            fields = {
                name.lower(): value for name, value in headers.raw_items() if name.lower() in TRAVELLING
            }
            self._converse(connection, answering.hop, fields, headers, asked=False)

    def _converse(
        self, connection: Any, hop: CallHop, fields: dict[str, str], theirs: Headers, *, asked: bool
    ) -> None:
        conversation = Conversation(
            self._sockets,
            connection.request.path,
            fields,
            hop.context,
            asked=asked,
            envelope=self._sockets.agreed(theirs.get(ENVELOPE_HEADER)),
        )
        self._messages.begin(connection, conversation)


@dataclass(frozen=True, slots=True)
class Asking:
    """A handshake that was begun, and the arguments that carry its ids."""

    hop: CallHop
    fields: dict[str, str]
    args: Args
    kwargs: Kwargs


class Answering:
    """A handshake being answered: looks at the request when it is there, and adds to the answer what was agreed."""

    def __init__(self, calls: Calls, sockets: Sockets, args: Args, kwargs: Kwargs) -> None:
        self._calls = calls
        self._sockets = sockets
        self._on_request = argument(args, kwargs, 0, "process_request")
        self._on_response = argument(args, kwargs, 1, "process_response")
        self.hop: CallHop | None = None
        args, kwargs = with_argument(args, kwargs, 0, "process_request", self._requested)
        if sockets.wants_envelope:
            args, kwargs = with_argument(args, kwargs, 1, "process_response", self._responding)
        self.args, self.kwargs = args, kwargs

    @guarded
    def failed(self, error: BaseException) -> None:
        """Note that there was no answer."""
        if self.hop is not None:
            self.hop.end(error=error)

    def _requested(self, connection: Any, request: Any) -> Any:
        self._begin(connection, request)
        return None if self._on_request is None else self._on_request(connection, request)

    @guarded
    def _begin(self, connection: Any, request: Any) -> None:
        if not is_http_instrumentation_enabled():
            return
        path = request.path.partition("?")[0]
        attributes: dict[str, AttributeValue] = {HTTP_METHOD: "GET", URL_PATH: path}
        remote = connection.remote_address
        if isinstance(remote, tuple):
            attributes[CLIENT_ADDRESS] = remote[0]
        headers = dict(request.headers.raw_items())
        self.hop = self._calls.serve(f"GET {general(path)}", attributes, headers, header_getter)

    def _responding(self, connection: Any, request: Any, response: Any) -> Any:
        theirs = None if self._on_response is None else self._on_response(connection, request, response)
        if isawaitable(theirs):
            return self._later(theirs, request, response)
        self._agree(request, response if theirs is None else theirs)
        return theirs

    async def _later(self, theirs: Awaitable[Any], request: Any, response: Any) -> Any:
        answer = await theirs
        self._agree(request, response if answer is None else answer)
        return answer

    @guarded
    def _agree(self, request: Any, response: Any) -> None:
        if self._sockets.agreed(request.headers.get(ENVELOPE_HEADER)):
            response.headers.update(self._sockets.offer())


@guarded
def _refused(hop: CallHop, error: BaseException) -> None:
    if not isinstance(error, InvalidStatus):
        hop.end(error=error, outcome=PublishOutcome.UNCONFIRMED)
        return
    status = error.response.status_code
    redirected = status in _REDIRECTS
    _asked.set(not redirected)
    hop.end({HTTP_STATUS: status}, error_type="" if redirected else str(status))


def _uri(protocol: Any) -> Any:
    """Return where a client connects to; it had another name before websockets 15."""
    return protocol.uri if hasattr(protocol, "uri") else protocol.wsuri


def _described(uri: Any) -> tuple[str, dict[str, AttributeValue]]:
    """Return name and attributes of a handshake; queries may hold secrets."""
    scheme = "wss" if uri.secure else "ws"
    attributes: dict[str, AttributeValue] = {
        HTTP_METHOD: "GET",
        URL_FULL: f"{scheme}://{uri.host}:{uri.port}{uri.path}",
        SERVER_ADDRESS: uri.host,
        SERVER_PORT: uri.port,
    }
    return "GET", attributes
