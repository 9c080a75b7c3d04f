"""Who may read: the bearer token, and the Host header where a loopback listener has no token."""

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from hopwatch_collector.addresses import names_this_machine
from hopwatch_collector.api.models import Problem
from hopwatch_collector.api.ports import ApiSettings
from hopwatch_collector.api.problems import problem, problem_response
from hopwatch_collector.auth import authorised
from hopwatch_collector.auth import is_loopback as listens_locally

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""Answered without a token, so that supervisors need none."""


class Guard:
    """ASGI layer that answers 401 without the read token, and 421 to a foreign Host on loopback.

    The Host check keeps a web page that re-binds its own name to 127.0.0.1 from reading an open collector
    through its visitor's browser. With a token that page has nothing to read, and other listeners have
    names the collector cannot know; both skip the check.
    """

    def __init__(self, app: ASGIApp, settings: ApiSettings) -> None:
        self._app = app
        self._token = settings.read_token
        self._local_only = not self._token and listens_locally(settings.listen)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an admissible request on; answer any other here."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http":
            refusal = self._refusal(scope["path"], Headers(scope=scope))
            if refusal is not None:
                headers = {"WWW-Authenticate": 'Bearer realm="hopwatch"'} if refusal.status == 401 else None
                await problem_response(refusal, headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, path: str, headers: Headers) -> Problem | None:
        if self._local_only and not names_this_machine(headers.get("host", "")):
            return problem(
                "misdirected",
                HTTPStatus.MISDIRECTED_REQUEST,
                "This collector listens on loopback only; reach it as 127.0.0.1 or localhost",
            )
        if path not in OPEN_PATHS and not authorised(headers.get("authorization"), self._token):
            return problem(
                "unauthorized",
                HTTPStatus.UNAUTHORIZED,
                "Reading needs the collector's read token: Authorization: Bearer …",
            )
        return None
