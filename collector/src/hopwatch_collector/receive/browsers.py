"""Web pages that send spans: only those that may, and these get the answers that browsers ask for.

A browser says which page a request is from (`Origin`), on every POST. Without a look at it any page could write into a collector on
its visitor's machine, by re-binding a name of its own to 127.0.0.1. Other senders have no such header and are not concerned.
"""

from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from google.protobuf import json_format
from google.rpc import code_pb2, status_pb2  # type: ignore[import-untyped] # ships none
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hopwatch_collector.addresses import names_this_machine

_REMEMBERED_S: Final = 600
_JSON: Final = "application/json"


class Browsers:
    """ASGI layer that answers browsers: pages that may send get CORS headers, others 403."""

    def __init__(self, app: ASGIApp, origins: Collection[str], *, local: bool) -> None:
        """`origins`: pages that may send, as `https://shop.example`; `local`: pages of this machine may too."""
        self._app = app
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)
        self._local = local
        self._cors = CORSMiddleware(
            app,
            allow_origins=[],
            allow_origin_regex=".*",
            allow_methods=["POST"],
            allow_headers=["*"],
            max_age=_REMEMBERED_S,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is of no page; refuse what is of a page that may not."""
        origin = Request(scope).headers.get("origin") if scope["type"] == "http" else None
        if origin is None:
            await self._app(scope, receive, send)
        elif self._may(origin):
            await self._cors(scope, receive, send)
        else:
            await _refused(origin)(scope, receive, send)

    def _may(self, origin: str) -> bool:
        return origin.lower() in self._origins or (self._local and _is_local(origin))


def _is_local(origin: str) -> bool:
    try:
        return names_this_machine(urlsplit(origin).netloc)
    except ValueError:
        return False


def _refused(origin: str) -> Response:
    status = status_pb2.Status(
        code=code_pb2.PERMISSION_DENIED,
        message=f"pages of {origin[:200]!r} may not send here; --otlp-origin names those that may",
    )
    return Response(
        json_format.MessageToJson(status, indent=None), 403, media_type=_JSON, headers={"vary": "Origin"}
    )
