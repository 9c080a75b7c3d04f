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
from urllib3.exceptions import MaxRetryError, NewConnectionError

from hopwatch.calls import unanswered
from hopwatch.conventions import PublishOutcome
from hopwatch.instrumentor import ContribInstrumentor
from hopwatch.opencalls import answered, watch
from hopwatch.wrapping import Args, Kwargs, Patches, Wrapper

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
