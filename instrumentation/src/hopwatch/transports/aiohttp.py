"""aiohttp's client on OpenTelemetry's own instrumentation; beside it, a span per redirect, and what no answer means."""

import ssl
from types import SimpleNamespace
from typing import Any

import aiohttp
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor as Contrib
from opentelemetry.propagators.textmap import default_setter
from opentelemetry.trace import Span, Tracer
from opentelemetry.util.types import AttributeValue
from yarl import URL

from hopwatch.calls import CallHop, Calls
from hopwatch.conventions import (
    HTTP_METHOD,
    HTTP_STATUS,
    PUBLISH_OUTCOME,
    SERVER_ADDRESS,
    SERVER_PORT,
    PublishOutcome,
)
from hopwatch.faults import swallowed
from hopwatch.instrumentor import ContribInstrumentor
from hopwatch.opencalls import answered, watch
from hopwatch.wrapping import Patches

_TLS = (aiohttp.ClientSSLError, ssl.SSLError, ssl.CertificateError)
_NOT_REACHED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_METHOD_KEPT = frozenset({307, 308})


class AioHttpClientInstrumentor(ContribInstrumentor):
    """One client span per request that goes out, redirects included; covers sessions made after it."""

    library = "aiohttp"
    contrib = Contrib

    def patch(self, patches: Patches, tracer: Tracer) -> None:
        """Make the listener that OpenTelemetry's instrumentation is to put beside its own."""
        self._redirects = Redirects(Calls(tracer)).trace_config()
        self._tracer = tracer

    def hooks(self) -> dict[str, Any]:
        """Return the listener, and what looks at a span after it has begun and before it ends."""
        return {"trace_configs": [self._redirects], "request_hook": self._begun, "response_hook": _note}

    def _begun(self, span: Span, params: Any) -> None:
        watch(self._tracer, span)


def outcome_of(error: BaseException) -> PublishOutcome:
    """Return what a request that ended in an exception says of itself."""
    if isinstance(error, aiohttp.ClientResponseError):
        return PublishOutcome.CONFIRMED  # raised over an answer
    if isinstance(error, (*_TLS, aiohttp.InvalidURL)):
        return PublishOutcome.REFUSED
    return PublishOutcome.RETURNED if isinstance(error, _NOT_REACHED) else PublishOutcome.UNCONFIRMED


class Redirects:
    """Makes redirects requests of their own, where OpenTelemetry's instrumentation sees one request for all.

    It would carry one message id to several servers.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def trace_config(self) -> aiohttp.TraceConfig:
        """Return the listener for a session."""
        config = aiohttp.TraceConfig()
        config.on_request_redirect.append(self._redirected)
        config.on_request_end.append(self._ended)
        config.on_request_exception.append(self._failed)
        return config

    async def _redirected(self, session: Any, request: SimpleNamespace, params: Any) -> None:
        try:
            _end(request, params.response.status)
            location = params.response.headers.get("Location") or params.response.headers.get("URI")
            if location is not None:
                url = params.url.join(URL(location))
                method = params.method if params.response.status in _METHOD_KEPT else _after(params)
                request.hop = self._calls.call(
                    method, _described(method, url), params.headers, default_setter
                )
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("redirect", fault)

    async def _ended(self, session: Any, request: SimpleNamespace, params: Any) -> None:
        _end(request, params.response.status)

    async def _failed(self, session: Any, request: SimpleNamespace, params: Any) -> None:
        hop: CallHop | None = getattr(request, "hop", None)
        if hop is not None:
            hop.end(error=params.exception, outcome=outcome_of(params.exception))


def _note(span: Span, params: Any) -> None:
    answered(span)
    error = getattr(params, "exception", None)
    if error is not None:
        span.set_attribute(PUBLISH_OUTCOME, outcome_of(error))


def _end(request: SimpleNamespace, status: int) -> None:
    hop: CallHop | None = getattr(request, "hop", None)
    if hop is not None:
        hop.end({HTTP_STATUS: status}, error_type=str(status) if status >= 400 else "")


def _after(params: Any) -> str:
    """Return the method of the request after a redirect, as browsers have it."""
    see_other = params.response.status == 303 and params.method != "HEAD"
    return "GET" if see_other or params.method == "POST" else str(params.method)


def _described(method: str, url: URL) -> dict[str, AttributeValue]:
    return {HTTP_METHOD: method, SERVER_ADDRESS: url.host or "", SERVER_PORT: url.port or 0}
