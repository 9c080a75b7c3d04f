"""requests on OpenTelemetry's own instrumentation; beneath it, a span per redirect, and what no answer means."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import requests
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import _SUPPRESS_HTTP_INSTRUMENTATION_KEY
from opentelemetry.instrumentation.requests import RequestsInstrumentor as Contrib
from opentelemetry.trace import SpanKind, Tracer
from requests.adapters import HTTPAdapter
from requests.sessions import SessionRedirectMixin
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import MaxRetryError, NewConnectionError

from hopwatch.calls import unanswered
from hopwatch.conventions import ATTEMPT_HEADER, MESSAGE_ID_HEADER, PublishOutcome
from hopwatch.instrumentor import ContribInstrumentor
from hopwatch.opencalls import answered, watch
from hopwatch.wrapping import Args, Kwargs, Patches, Wrapper, argument, with_argument

T = TypeVar("T")

_NOT_SENT = (requests.exceptions.SSLError, requests.exceptions.ProxyError)


class RequestsInstrumentor(ContribInstrumentor):
    """One client span per request that goes out, redirects included; covers sessions made before and after."""

    library = "requests"
    contrib = Contrib

    def patch(self, patches: Patches, tracer: Tracer) -> None:
        """Watch the adapters for requests that come back late or without an answer; let redirects be requests."""
        patches.wrap(HTTPAdapter, "send", _sending(tracer))
        patches.wrap(SessionRedirectMixin, "resolve_redirects", _follow)
        patches.wrap(HTTPConnectionPool, "urlopen", _again)


def outcome_of(error: BaseException) -> PublishOutcome:
    """Return what a request without an answer says of itself."""
    if isinstance(error, _NOT_SENT):
        return PublishOutcome.REFUSED
    if isinstance(error, requests.ConnectTimeout):
        return PublishOutcome.RETURNED
    cause = error.args[0] if error.args else None
    not_reached = isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError)
    return PublishOutcome.RETURNED if not_reached else PublishOutcome.UNCONFIRMED


def _sending(tracer: Tracer) -> Wrapper:
    """Return the wrapper around the sending of a request, within which its span is the current one."""

    def send(
        wrapped: Callable[..., requests.Response], _: HTTPAdapter, args: Args, kwargs: Kwargs
    ) -> requests.Response:
        span = trace.get_current_span()
        watch(tracer, span)
        try:
            response = wrapped(*args, **kwargs)
        except BaseException as error:
            unanswered(outcome_of(error))
            raise
        finally:
            answered(span)
        if response.is_redirect:
            # Said here, because contrib's span of this request gets to see what comes of the last redirect only.
            unanswered(PublishOutcome.CONFIRMED)
        return response

    return send


def _again(wrapped: Callable[..., T], _: HTTPConnectionPool, args: Args, kwargs: Kwargs) -> T:
    """Say which attempt it is when urllib3 sends a request again by itself (`Retry`): the server sees the same id each time."""
    headers, retries = argument(args, kwargs, 3, "headers"), argument(args, kwargs, 4, "retries")
    history = getattr(retries, "history", ())
    if history and headers and MESSAGE_ID_HEADER in headers:
        again = {**headers, ATTEMPT_HEADER: str(len(history) + 1)}
        args, kwargs = with_argument(args, kwargs, 3, "headers", again)
    return wrapped(*args, **kwargs)


def _follow(
    wrapped: Callable[..., Iterator[T]], _: requests.Session, args: Args, kwargs: Kwargs
) -> Iterator[T]:
    """Follow redirects as requests of their own, where OpenTelemetry's instrumentation sees one for all.

    It would carry one message id to several servers.
    """
    responses = wrapped(*args, **kwargs)
    while True:
        with _recorded():
            response = next(responses, None)
        if response is None:
            return
        yield response


@contextmanager
def _recorded() -> Iterator[None]:
    """Lift the suppression that OpenTelemetry's instrumentation puts on what happens within a request of its own."""
    if getattr(trace.get_current_span(), "kind", None) is not SpanKind.CLIENT:
        yield
        return
    token = otel_context.attach(otel_context.set_value(_SUPPRESS_HTTP_INSTRUMENTATION_KEY, None))
    try:
        yield
    finally:
        otel_context.detach(token)
