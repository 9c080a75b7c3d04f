"""What `start_as_current_span` returns: a context manager, and a decorator."""

import inspect
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span


class Current:
    """Makes a span current for a block, or for every call of a function, coroutine functions included."""

    __slots__ = ("_end_on_exit", "_record_exception", "_set_status", "_span", "_start", "_token")

    def __init__(
        self, start: Callable[[], Span], record_exception: bool, set_status: bool, end_on_exit: bool
    ) -> None:
        self._start = start
        self._record_exception = record_exception
        self._set_status = set_status
        self._end_on_exit = end_on_exit

    def __enter__(self) -> Span:
        self._span = span = self._start()
        self._token = otel_context.attach(trace.set_span_in_context(span))
        return span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        otel_context.detach(self._token)
        span = self._span
        if isinstance(error, Exception) and span.is_recording():
            if self._record_exception:
                span.record_exception(error)
            if self._set_status:
                span.set_status(trace.Status(trace.StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        if self._end_on_exit:
            span.end()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate a function: every call has a span of its own."""
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                with self._again():
                    return await function(*args, **kwargs)

            return awaited

        @wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return function(*args, **kwargs)

        return called

    def _again(self) -> "Current":
        return Current(self._start, self._record_exception, self._set_status, self._end_on_exit)
