"""The other side in the benchmark of overhead, in a process whose CPU is not counted: OTLP sink, servers, callers."""

import asyncio
import gzip
import json
import socket
import sys
from collections import Counter, defaultdict
from typing import Any

import grpc
import grpc.aio
import nats
import uvicorn
from nats.aio.msg import Msg
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

METHOD = "/bench.Echo/Say"
_CALLERS = 8


class Replay:
    """Keeps what is published on NATS subjects `bench.<run>.out`, and plays it back on `bench.<run>.in` when asked."""

    def __init__(self) -> None:
        self._kept: defaultdict[str, asyncio.Queue[Msg]] = defaultdict(asyncio.Queue)

    async def start(self, url: str) -> None:
        """Connect and begin to keep."""
        self._client = await nats.connect(url)
        await self._client.subscribe("bench.*.out", cb=self._keep)
        await self._client.flush()

    async def _keep(self, message: Msg) -> None:
        self._kept[message.subject.split(".")[1]].put_nowait(message)

    async def play(self, run: str, count: int) -> None:
        """Play back the next `count` messages of a run, as they came."""
        for _ in range(count):
            message = await self._kept[run].get()
            await self._client.publish(f"bench.{run}.in", message.data, headers=message.headers)
        await self._client.flush()


class Site:
    """An HTTP server that keeps OTLP bodies as they come, and counts the spans in them only when asked."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._bodies: dict[str, list[bytes]] = {}

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer `/<run>/v1/traces`, `/<run>/spans` with spans by kind, `/<run>/play/<count>`; the rest with a word."""
        run, _, what = scope["path"].strip("/").partition("/")
        answer, kind = b"hello", b"text/plain"
        if what == "v1/traces":
            packed = (b"content-encoding", b"gzip") in scope["headers"]
            body = await _body(receive)
            self._bodies.setdefault(run, []).append(gzip.decompress(body) if packed else body)
            answer, kind = b"", b"application/x-protobuf"
        elif what == "spans":
            answer, kind = json.dumps(_kinds(self._bodies.pop(run, []))).encode(), b"application/json"
        elif what.startswith("play/"):
            await self._replay.play(run, int(what.removeprefix("play/")))
        headers = [(b"content-type", kind), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


async def _body(receive: Any) -> bytes:
    body = b""
    while True:
        part = await receive()
        body += part.get("body", b"")
        if not part.get("more_body"):
            return body


def _kinds(bodies: list[bytes]) -> dict[str, int]:
    """Spans by kind, without hopwatch's reports, which are news and not work."""
    found: Counter[str] = Counter()
    for body in bodies:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    if not any(attribute.key == "hopwatch.report" for attribute in span.attributes):
                        found[Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower()] += 1
    return dict(found)


async def echo(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    """The gRPC method under measurement."""
    return request


def echo_server() -> tuple[grpc.aio.Server, int]:
    """A gRPC server with that method, not yet started, and its port."""
    server = grpc.aio.server()
    service, method = METHOD.strip("/").split("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    return server, server.add_insecure_port("127.0.0.1:0")


async def call(port: int, count: int) -> None:
    """Call the method `count` times from several callers at once."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        say = channel.unary_unary(METHOD)

        async def caller(first: int) -> None:
            for _ in range(first, count, _CALLERS):
                await say(b"x" * 200)

        await asyncio.gather(*(caller(first) for first in range(_CALLERS)))


async def serve(nats_url: str) -> None:
    """Serve until standard input ends; the first line printed says where."""
    replay = Replay()
    if nats_url:
        await replay.start(nats_url)
    grpc_server, grpc_port = echo_server()
    await grpc_server.start()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(
        socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
    )  # else an answer waits 40 ms for an acknowledgement
    server = uvicorn.Server(uvicorn.Config(Site(replay), log_level="warning", lifespan="off"))
    serving = asyncio.create_task(server.serve([listener]))
    port = listener.getsockname()[1]
    print(json.dumps({"http": f"http://127.0.0.1:{port}", "grpc": grpc_port}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await serving
    await grpc_server.stop(0)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(sys.argv[2]))
    else:
        asyncio.run(call(int(sys.argv[2]), int(sys.argv[3])))
