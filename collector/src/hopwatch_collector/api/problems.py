"""Every error as RFC 9457 problem details, and nothing of our insides in any of them."""

from collections.abc import Mapping
from http import HTTPStatus
from math import ceil
from traceback import format_exception
from uuid import uuid4

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hopwatch_collector.api.models import InvalidParameter, Problem
from hopwatch_collector.errors import CollectorError, InvalidCursor, QueryLimit, RetryableError

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:hopwatch:problem:"
RETRY_AFTER_S = 1
"""Seconds a client is asked to wait where the collector is merely busy."""
SHOWN_CHARS = 300
"""How much of a client's own text an error repeats."""

log = structlog.get_logger(__name__)


class ProblemRaised(Exception):
    """An error the client is told about in full.

    ProblemRaised
    ├── NotFound       404
    ├── Saturated      503, Retry-After
    └── TooManyViewers 503, Retry-After
    """

    kind = "problem"
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    headers: Mapping[str, str] = {}


class NotFound(ProblemRaised):
    """Nothing is known under the id asked for."""

    kind = "not-found"
    status = HTTPStatus.NOT_FOUND


class Saturated(ProblemRaised):
    """As many queries run and wait as are allowed."""

    kind = "saturated"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    headers: Mapping[str, str] = {"Retry-After": str(RETRY_AFTER_S)}


class TooManyViewers(Saturated):
    """As many live viewers, or different live views, are open as are allowed."""

    kind = "too-many-viewers"


def shown(text: str) -> str:
    """A client's own text, short enough to repeat in an error."""
    return text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "…"


def problem(
    kind: str,
    status: HTTPStatus,
    detail: str,
    *,
    instance: str | None = None,
    errors: list[InvalidParameter] | None = None,
) -> Problem:
    """Problem details with the standard phrase of `status` as their title."""
    return Problem(
        type=TYPE_PREFIX + kind,
        title=status.phrase,
        status=status.value,
        detail=detail,
        instance=instance,
        errors=errors,
    )


def problem_response(body: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """`body` as an HTTP answer."""
    return Response(
        body.model_dump_json(exclude_none=True),
        status_code=body.status,
        media_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def of_error(error: Exception) -> tuple[Problem, Mapping[str, str]]:
    """The problem and headers that tell a client about `error`; what is unforeseen is logged under an id."""
    match error:
        case ProblemRaised():
            return problem(error.kind, error.status, str(error)), error.headers
        case QueryLimit():
            # The engine's own words may hold its SQL.
            detail = (
                "The answer would take more time, memory or rows than one query may; ask for a shorter time"
            )
            return problem("query-limit", HTTPStatus.UNPROCESSABLE_ENTITY, detail), {}
        case InvalidCursor():
            told = InvalidParameter(parameter="cursor", detail=str(error))
            return problem(
                "invalid-parameter", HTTPStatus.UNPROCESSABLE_ENTITY, str(error), errors=[told]
            ), {}
        case RetryableError():
            body = _logged("unavailable", HTTPStatus.SERVICE_UNAVAILABLE, "The store did not answer", error)
            return body, {"Retry-After": str(ceil(error.retry_after_s))}
        case _:
            return _logged("internal", HTTPStatus.INTERNAL_SERVER_ERROR, "The collector failed", error), {}


def _logged(kind: str, status: HTTPStatus, what: str, error: Exception) -> Problem:
    instance = f"urn:uuid:{uuid4()}"
    # Formatted here: a renderer given the exception itself may print local variables, headers with tokens among them.
    log.error("request failed", instance=instance, exception="".join(format_exception(error)))
    return problem(kind, status, f"{what}; its log says more under {instance}", instance=instance)


def install(app: FastAPI) -> None:
    """Make `app` answer every foreseen error as a problem."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ProblemRaised, _foreseen)
    app.add_exception_handler(CollectorError, _foreseen)


async def _foreseen(_request: Request, error: Exception) -> Response:
    return problem_response(*of_error(error))


async def _http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    kind = status.phrase.lower().replace(" ", "-")
    return problem_response(problem(kind, status, _http_detail(status)), error.headers)


def _http_detail(status: HTTPStatus) -> str:
    if status is HTTPStatus.NOT_FOUND:
        return "There is nothing at this path; /openapi.json lists what there is"
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        return "This path is read with GET"
    return status.description or status.phrase


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [
        InvalidParameter(
            parameter=shown(".".join(str(part) for part in one["loc"][1:2]) or str(one["loc"][0])),
            detail=shown(str(one["msg"]).removeprefix("Value error, ")),
        )
        for one in error.errors()
    ]
    detail = "; ".join(f"{one.parameter}: {one.detail}" for one in found[:3])
    body = problem("invalid-parameter", HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=found[:20])
    return problem_response(body)


class ErrorBoundary:
    """Outermost ASGI layer: an unforeseen exception becomes a problem with an id, its traceback a log entry."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything through; answer in the application's stead where it fails before it answered."""
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:  # noqa: BLE001  the boundary: nothing may pass it but an answer
            body, headers = of_error(error)
            if scope["type"] == "http" and not started:
                await problem_response(body, headers)(scope, receive, send)
