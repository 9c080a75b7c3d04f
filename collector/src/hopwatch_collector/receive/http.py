"""OTLP over HTTP: POST /v1/traces, protobuf or JSON, plain, gzip or deflate.

Answers as https://opentelemetry.io/docs/specs/otlp/#otlphttp-response says: every error is a google.rpc.Status
in the request's own encoding. Metrics and logs are not taken: their paths answer 404, which tells an exporter not to
send the same again.
"""

import asyncio
from contextlib import suppress

from google.protobuf import any_pb2, duration_pb2, json_format
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2  # type: ignore[import-untyped] # ships none
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from hopwatch_collector.auth import authorised, is_loopback
from hopwatch_collector.errors import (
    BodyTimeout,
    CollectorError,
    MalformedRequest,
    RequestTooLarge,
    RetryableError,
    Unauthorised,
    UnsupportedRequest,
)
from hopwatch_collector.receive.browsers import Browsers
from hopwatch_collector.receive.inflate import decoder
from hopwatch_collector.receive.ingest import Ingest, Share
from hopwatch_collector.receive.otlp_json import to_protobuf
from hopwatch_collector.receive.validate import Accepted
from hopwatch_collector.settings import Settings

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
_PROTOCOLS = {PROTOBUF: "http/protobuf", JSON: "http/json"}
_DRAIN_S = 2.0
_STATUS: dict[type[CollectorError], tuple[int, int]] = {
    MalformedRequest: (400, code_pb2.INVALID_ARGUMENT),
    Unauthorised: (401, code_pb2.UNAUTHENTICATED),
    BodyTimeout: (408, code_pb2.DEADLINE_EXCEEDED),
    RequestTooLarge: (413, code_pb2.RESOURCE_EXHAUSTED),
    UnsupportedRequest: (415, code_pb2.INVALID_ARGUMENT),
}


def create_otlp_app(ingest: Ingest, settings: Settings) -> Starlette:
    """The application behind the OTLP/HTTP port."""
    receiver = _Receiver(ingest, settings)
    return Starlette(
        routes=[
            Route("/v1/traces", receiver.traces, methods=["POST"]),
            Route("/v1/metrics", _unwanted, methods=["POST"]),
            Route("/v1/logs", _unwanted, methods=["POST"]),
        ],
        exception_handlers={HTTPException: _http_error},
        middleware=[
            Middleware(Browsers, origins=settings.otlp_origins, local=is_loopback(settings.listen)),
        ],
    )


class _Receiver:
    def __init__(self, ingest: Ingest, settings: Settings) -> None:
        self._ingest = ingest
        self._limit = settings.max_request_bytes
        self._timeout_s = settings.body_timeout
        self._token = settings.ingest_token

    async def traces(self, request: Request) -> Response:
        content_type = _content_type(request)
        protocol = _PROTOCOLS.get(content_type, "http/other")
        upload = _Upload(request)
        try:
            with self._ingest.budget.share() as share:
                accepted = await self._take(upload, content_type, protocol, share)
        except CollectorError as error:
            self._ingest.refused(error, protocol)
            if not isinstance(error, BodyTimeout):
                await upload.drain(2 * self._limit)
            return _refusal(error, content_type)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody hears it
        return _encoded(_answer(accepted), content_type, 200)

    async def _take(self, upload: "_Upload", content_type: str, protocol: str, share: Share) -> Accepted:
        if not authorised(upload.header("authorization"), self._token):
            raise Unauthorised("the ingest token is missing or wrong (Authorization: Bearer …)")
        if content_type not in _PROTOCOLS:
            raise UnsupportedRequest(
                f"content type {content_type!r} is not spoken here; {PROTOBUF} and {JSON} are"
            )
        body = await self._body(upload, share)
        if content_type == JSON:
            body = await asyncio.to_thread(to_protobuf, body)
        return await self._ingest.take(body, protocol)

    async def _body(self, upload: "_Upload", share: Share) -> bytes:
        """The body, decompressed, bounded before and after decompression."""
        decode = decoder(upload.header("content-encoding"))
        declared = upload.header("content-length")
        if declared.isdecimal() and int(declared) > self._limit:
            raise RequestTooLarge(f"the request body is over the limit of {self._limit} bytes")
        pieces: list[bytes] = []
        sent = meant = 0
        try:
            async with asyncio.timeout(self._timeout_s):
                while upload.more:
                    piece = await upload.piece()
                    sent += len(piece)
                    if sent > self._limit:
                        raise RequestTooLarge(f"the request body is over the limit of {self._limit} bytes")
                    decoded = decode.feed(piece, self._limit - meant)
                    share.take(len(decoded))
                    meant += len(decoded)
                    pieces.append(decoded)
        except TimeoutError:
            raise BodyTimeout(f"the request body did not arrive within {self._timeout_s:g} s") from None
        decode.finish()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class _Upload:
    """The request's body, piece by piece."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.more = True
        """Whether there may be more of it."""

    def header(self, name: str) -> str:
        """A header's value, or nothing."""
        return self._request.headers.get(name, "")

    async def piece(self) -> bytes:
        """The next piece. Raises ClientDisconnect where the sender has gone."""
        message = await self._request.receive()
        if message["type"] != "http.request":
            self.more = False
            raise ClientDisconnect
        self.more = message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        return piece

    async def drain(self, limit: int) -> None:
        """Reads on for a moment after a refusal: a sender still writing would see a reset, not our answer."""
        left = limit
        with suppress(TimeoutError, ClientDisconnect):
            async with asyncio.timeout(_DRAIN_S):
                while self.more and left > 0:
                    left -= len(await self.piece()) + 1


async def _unwanted(request: Request) -> Response:
    status = status_pb2.Status(
        code=code_pb2.UNIMPLEMENTED, message="hopwatch takes traces only, at /v1/traces"
    )
    return _encoded(status, _content_type(request), 404)


async def _http_error(request: Request, error: Exception) -> Response:
    """Starlette's own refusals (no such path, wrong method), in OTLP's form."""
    assert isinstance(error, HTTPException)
    code = code_pb2.NOT_FOUND if error.status_code == 404 else code_pb2.UNIMPLEMENTED
    status = status_pb2.Status(code=code, message=f"{error.detail}: send traces with POST to /v1/traces")
    response = _encoded(status, _content_type(request), error.status_code)
    response.headers.update(error.headers or {})
    return response


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _answer(accepted: Accepted) -> ExportTraceServiceResponse:
    answer = ExportTraceServiceResponse()
    if accepted.rejected:
        answer.partial_success.rejected_spans = accepted.rejected
        answer.partial_success.error_message = accepted.message
    return answer


def _refusal(error: CollectorError, content_type: str) -> Response:
    if isinstance(error, RetryableError):
        response = _encoded(retry_status(error), content_type, 503)
        response.headers["retry-after"] = str(max(1, round(error.retry_after_s)))
        return response
    http, code = _STATUS.get(type(error), (400, code_pb2.INVALID_ARGUMENT))
    response = _encoded(status_pb2.Status(code=code, message=str(error)), content_type, http)
    if http == 401:
        response.headers["www-authenticate"] = "Bearer"
    if http == 415:
        response.headers["accept-encoding"] = "gzip, deflate"
    return response


def retry_status(error: RetryableError) -> status_pb2.Status:
    """UNAVAILABLE with RetryInfo: keep the data, come again after that long."""
    delay = duration_pb2.Duration()
    delay.FromMilliseconds(round(error.retry_after_s * 1000))
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(code=code_pb2.UNAVAILABLE, message=str(error), details=[detail])


def _encoded(message: Message, content_type: str, status: int) -> Response:
    """A message in the request's encoding; JSON where that is not one of ours."""
    if content_type == PROTOBUF:
        return Response(message.SerializeToString(), status, media_type=PROTOBUF)
    return Response(json_format.MessageToJson(message, indent=None), status, media_type=JSON)
