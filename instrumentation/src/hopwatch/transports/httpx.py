"""httpx on OpenTelemetry's own instrumentation; beneath it, what an unanswered request means for the request."""

import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor as Contrib
from opentelemetry.trace import Tracer

from hopwatch.calls import unanswered
from hopwatch.conventions import PublishOutcome
from hopwatch.instrumentor import ContribInstrumentor
from hopwatch.opencalls import answered, watch
from hopwatch.wrapping import Args, Kwargs, Patches

T = TypeVar("T")

_NOT_REACHED = (httpx.ConnectError, httpx.ConnectTimeout)
_NOT_SENT = (httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol, httpx.LocalProtocolError)


class HTTPXClientInstrumentor(ContribInstrumentor):
    """One client span per request that goes out, redirects included; covers clients made before and after."""

    library = "httpx"
    contrib = Contrib

    def patch(self, patches: Patches, tracer: Tracer) -> None:
        """Watch the transports for requests that come back late or without an answer."""
        requests = _Requests(tracer)
        patches.wrap(httpx.HTTPTransport, "handle_request", requests.send)
        patches.wrap(httpx.AsyncHTTPTransport, "handle_async_request", requests.send_async)


def outcome_of(error: BaseException) -> PublishOutcome:
    """Return what a request without an answer says of itself."""
    if isinstance(error, _NOT_SENT) or _is_tls(error):
        return PublishOutcome.REFUSED
    return PublishOutcome.RETURNED if isinstance(error, _NOT_REACHED) else PublishOutcome.UNCONFIRMED


def _is_tls(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None


class _Requests:
    """The wrappers around transports: within them the span of the request is the current one."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def send(self, wrapped: Callable[..., T], transport: Any, args: Args, kwargs: Kwargs) -> T:
        """Record what it means that no answer came."""
        span = trace.get_current_span()
        watch(self._tracer, span)
        try:
            return wrapped(*args, **kwargs)
        except BaseException as error:
            unanswered(outcome_of(error))
            raise
        finally:
            answered(span)

    async def send_async(
        self, wrapped: Callable[..., Awaitable[T]], transport: Any, args: Args, kwargs: Kwargs
    ) -> T:
        """Record what it means that no answer came."""
        span = trace.get_current_span()
        watch(self._tracer, span)
        try:
            return await wrapped(*args, **kwargs)
        except BaseException as error:
            unanswered(outcome_of(error))
            raise
        finally:
            answered(span)
