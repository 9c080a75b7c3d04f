"""OTLP over gRPC: TraceService/Export. Requests stay bytes until validated; answers are bytes made once."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import grpc
from grpc import aio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from hopwatch_collector.auth import authorised
from hopwatch_collector.errors import (
    BodyTimeout,
    CollectorError,
    MalformedRequest,
    Overloaded,
    RequestTooLarge,
    RetryableError,
    StartError,
    Unauthorised,
)
from hopwatch_collector.receive.http import retry_status
from hopwatch_collector.receive.ingest import Ingest
from hopwatch_collector.settings import Settings

_PACKAGE = "opentelemetry.proto.collector"
_DETAILS = "grpc-status-details-bin"
_STREAMS_PER_CONNECTION = 64
_CALLS = 256
"""Calls that are read at once; more are asked to come again."""
_CODES: dict[type[CollectorError], grpc.StatusCode] = {
    Unauthorised: grpc.StatusCode.UNAUTHENTICATED,
    RequestTooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    BodyTimeout: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"
_Context: TypeAlias = "aio.ServicerContext[bytes, bytes]"


def create_otlp_server(ingest: Ingest, settings: Settings) -> aio.Server:
    """The gRPC server; still without a port. gRPC's core bounds messages before and after decompression."""
    server = aio.server(
        options=[
            ("grpc.max_receive_message_length", settings.max_request_bytes),
            ("grpc.max_concurrent_streams", _STREAMS_PER_CONNECTION),
            ("grpc.so_reuseport", 0),  # a second collector on this port is a mistake, not a helper
        ]
    )
    service = _TraceService(ingest, settings)
    # On the wire a call with one message is a stream of one: taken as a stream, it is read when we ask for it, not before.
    method: _Handler = grpc.stream_unary_rpc_method_handler(service.export)
    unwanted: _Handler = grpc.unary_unary_rpc_method_handler(_unwanted)
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(f"{_PACKAGE}.trace.v1.TraceService", {"Export": method}),
            grpc.method_handlers_generic_handler(
                f"{_PACKAGE}.metrics.v1.MetricsService", {"Export": unwanted}
            ),
            grpc.method_handlers_generic_handler(f"{_PACKAGE}.logs.v1.LogsService", {"Export": unwanted}),
        )
    )
    return server


def bind(server: aio.Server, host: str, port: int) -> int:
    """Listens on a port, 0 for any; returns which.

    Raises:
        StartError: it cannot be had.
    """
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        return server.add_insecure_port(address)
    except RuntimeError as error:
        raise StartError(f"cannot listen on {address} for OTLP/gRPC: is it in use? ({error})") from None


class _TraceService:
    def __init__(self, ingest: Ingest, settings: Settings) -> None:
        self._ingest = ingest
        self._token = settings.ingest_token
        self._timeout_s = settings.body_timeout
        self._calls = _Calls(_CALLS)

    async def export(self, requests: AsyncIterator[bytes], context: _Context) -> bytes:
        try:
            # Before the message is read: whoever may not send costs no memory.
            if self._token and not authorised(_authorization(context), self._token):
                raise Unauthorised("the ingest token is missing or wrong (authorization: Bearer …)")
            with self._calls.one(), self._ingest.budget.share() as share:
                request = await self._only(requests)
                share.take(len(request))
                accepted = await self._ingest.take(request, "grpc")
        except CollectorError as error:
            self._ingest.refused(error, "grpc")
            await _abort(context, error)
            raise  # never reached: abort raises
        if not accepted.rejected:
            return b""
        answer = ExportTraceServiceResponse()
        answer.partial_success.rejected_spans = accepted.rejected
        answer.partial_success.error_message = accepted.message
        return answer.SerializeToString()

    async def _only(self, requests: AsyncIterator[bytes]) -> bytes:
        """The call's message. Raises BodyTimeout, MalformedRequest."""
        try:
            async with asyncio.timeout(self._timeout_s):
                async for request in requests:
                    return request
        except TimeoutError:
            raise BodyTimeout(f"the request did not arrive within {self._timeout_s:g} s") from None
        raise MalformedRequest("the call has no message")


class _Calls:
    """Calls whose messages may be in memory at once."""

    def __init__(self, most: int) -> None:
        self._left = most

    @contextmanager
    def one(self) -> Iterator[None]:
        """Raises Overloaded."""
        if not self._left:
            raise Overloaded("too many calls in hand; send again later")
        self._left -= 1
        try:
            yield
        finally:
            self._left += 1


async def _unwanted(request: bytes, context: _Context) -> bytes:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "hopwatch takes traces only")
    return b""


async def _abort(context: _Context, error: CollectorError) -> None:
    if isinstance(error, RetryableError):
        details = retry_status(error).SerializeToString()
        await context.abort(grpc.StatusCode.UNAVAILABLE, str(error), ((_DETAILS, details),))
    await context.abort(_CODES.get(type(error), grpc.StatusCode.INVALID_ARGUMENT), str(error))


def _authorization(context: _Context) -> str | bytes | None:
    return next((value for key, value in context.invocation_metadata() or () if key == "authorization"), None)
