"""GraphQL operations: one span for each that is run or asked for, and for each event of a subscription; none per field."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from hopwatch.context import with_span
from hopwatch.conventions import (
    ERROR_TYPE,
    GRAPHQL_DOCUMENT,
    GRAPHQL_ERROR_PATH,
    GRAPHQL_ERRORS,
    GRAPHQL_NAME,
    GRAPHQL_TYPE,
)
from hopwatch.hooks import Draft, Hook
from hopwatch.hops import MAX_REASON_LENGTH
from hopwatch.optin import OptIn
from hopwatch.shapes import ShapedSpan
from hopwatch.wrapping import guarded

T = TypeVar("T")

MAX_ERRORS: Final = 8
"""Failed fields of an answer that are told one by one; the others are counted."""

_MAX_NAME = 128
_MAX_DOCUMENT = 4_096
_MAX_PATH = 16


class Operation:
    """An operation in progress."""

    def __init__(self, span: Span | ShapedSpan, context: Context) -> None:
        self._span = span
        self._context = context
        self._before: Context | None = None

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the operation current: what its resolvers send belongs to it."""
        token = otel_context.attach(self._context)
        try:
            yield
        finally:
            otel_context.detach(token)

    def run(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call what carries the operation out; an exception ends it."""
        try:
            with self.current():
                return call(*args, **kwargs)
        except BaseException as error:
            self.end(error=error)
            raise

    async def finish(self, result: Awaitable[T]) -> T:
        """Await the operation's result; that ends it, or an exception does."""
        try:
            with self.current():
                finished = await result
        except BaseException as error:
            self.end(error=error)
            raise
        self.end(finished)
        return finished

    def attach(self) -> None:
        """Make the operation current for what the task does next, beyond the function that says so."""
        self._before = otel_context.get_current()
        otel_context.attach(self._context)

    def detach(self) -> None:
        """Make current what was before `attach`, if this still is; no token, as the task may be another."""
        if self._before is not None and otel_context.get_current() is self._context:
            otel_context.attach(self._before)

    @guarded
    def end(self, result: Any = None, error: BaseException | None = None) -> None:
        """End the operation with its result, whose errors say which fields failed, or with an exception."""
        errors: Sequence[Any] = getattr(getattr(result, "initial_result", result), "errors", None) or ()
        if error is not None:
            self._span.record_exception(error)
            self._fail(type(error).__qualname__, str(error))
        elif errors:
            for one in errors[:MAX_ERRORS]:
                self._span.add_event("exception", _told(one))
            self._span.set_attribute(GRAPHQL_ERRORS, len(errors))
            self._fail(_type(errors[0]), _message(errors[0]))
        self._span.end()

    def _fail(self, error_type: str, message: str) -> None:
        self._span.set_attribute(ERROR_TYPE, error_type)
        self._span.set_status(Status(StatusCode.ERROR, message[:MAX_REASON_LENGTH]))


class Operations:
    """Begins the operations of one library."""

    def __init__(self, tracer: Tracer, hook: Hook | None = None) -> None:
        self._tracer = tracer
        self._hook = hook
        self._opted = OptIn.from_environment()

    @guarded
    def begin(self, definition: Any, context: Context | None = None) -> Operation | None:
        """Begin the operation a syntax tree defines (`OperationDefinitionNode`), None if nothing is to be recorded."""
        if definition is None or not is_instrumentation_enabled():
            return None
        kind = str(getattr(definition.operation, "value", definition.operation))
        name = definition.name.value[:_MAX_NAME] if definition.name is not None else ""
        attributes: dict[str, AttributeValue] = {GRAPHQL_TYPE: kind}
        if name:
            attributes[GRAPHQL_NAME] = name
        if self._opted.graphql_document and definition.loc is not None:
            attributes[GRAPHQL_DOCUMENT] = definition.loc.source.body[:_MAX_DOCUMENT]
        context = otel_context.get_current() if context is None else context
        span_name, hook = f"{kind} {name}".rstrip(), self._hook
        if hook is not None:
            named = hook.named(Draft(kind, name, span_name, attributes))
            if named is None:
                return None
            span_name, attributes = named, hook.redacted(attributes)
        span = self._tracer.start_span(span_name, context, SpanKind.INTERNAL, attributes)
        shown = span if hook is None else ShapedSpan(span, hook.redacted)
        return Operation(shown, with_span(span, context))


def _told(error: Any) -> dict[str, AttributeValue]:
    path = getattr(error, "path", None)
    if isinstance(error, dict):
        path = error.get("path")
    told: dict[str, AttributeValue] = {"exception.type": _type(error), "exception.message": _message(error)}
    if path:
        told[GRAPHQL_ERROR_PATH] = ".".join(str(step) for step in list(path)[:_MAX_PATH])
    return told


def _type(error: Any) -> str:
    original = getattr(error, "original_error", None)
    return type(original).__qualname__ if original is not None else "GraphQLError"


def _message(error: Any) -> str:
    message = error.get("message", "") if isinstance(error, dict) else getattr(error, "message", error)
    return str(message)[:MAX_REASON_LENGTH]
