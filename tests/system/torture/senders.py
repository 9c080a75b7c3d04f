"""Senders of distinct spans over OTLP/HTTP and gRPC, which note what was acknowledged."""

import contextlib
import http.client
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from hopwatch_demo.patience import scale_wait

SPANS_PER_REQUEST = 20
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_PAUSE_S = 0.05
Send = Callable[[bytes], bool]


@dataclass
class Book:
    """Spans by the hex of their ids: what was sent, and what the collector said it has."""

    sent: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    refused: int = 0
    """Requests that were answered with anything but an acknowledgement."""


def request(old: bool = False) -> tuple[set[str], bytes]:
    """A request with random ids, each span a message with a link, and the span ids in hex; `old`: dated before any retention."""
    message = ExportTraceServiceRequest()
    resource = message.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "old" if old else "torture"
    scope = resource.scope_spans.add()
    start = time.time_ns() - (9 * 86_400 * 1_000_000_000 if old else 0)
    ids = [os.urandom(8) for _ in range(SPANS_PER_REQUEST)]
    for span_id in ids:
        span = scope.spans.add(trace_id=os.urandom(16), span_id=span_id, name="torture", kind=4)
        span.start_time_unix_nano, span.end_time_unix_nano = start, start + 1_000_000
        span.attributes.add(key="messaging.system").value.string_value = "nats"
        span.attributes.add(key="messaging.operation.type").value.string_value = "send"
        span.attributes.add(key="messaging.destination.name").value.string_value = "torture"
        span.links.add(trace_id=os.urandom(16), span_id=span_id)
    return {span_id.hex() for span_id in ids}, message.SerializeToString()


class Senders:
    """Threads that send while they may, each request once."""

    def __init__(self, http_url: str, grpc_address: str, count: int = 3) -> None:
        self.book = Book()
        self._http = http_url.removeprefix("http://")
        self._grpc = grpc_address
        self._changed = threading.Condition()
        self._sending = self._done = False
        ways = [self._over_grpc if number % 3 == 2 else self._over_http for number in range(count)]
        self._threads = [threading.Thread(target=self._run, args=(way,)) for way in ways]
        for thread in self._threads:
            thread.start()

    def resume(self) -> None:
        """The collector is there: send."""
        with self._changed:
            self._sending = True
            self._changed.notify_all()

    def pause(self) -> None:
        """The collector is gone: wait."""
        self._sending = False

    def wait_acknowledged(self, more: int, within_s: float) -> bool:
        """Wait until so many more spans have been acknowledged; whether they were."""
        with self._changed:
            target = len(self.book.acknowledged) + more
            return self._changed.wait_for(lambda: len(self.book.acknowledged) >= target, within_s)

    def stop(self) -> None:
        """Send no more."""
        with self._changed:
            self._done = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(scale_wait(60))

    def _run(self, way: Callable[[], None]) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._done or self._sending)
            if self._done:
                return
            with contextlib.suppress(
                OSError, http.client.HTTPException, grpc.RpcError
            ):  # killed under our hands
                way()
            with self._changed:
                self._changed.wait_for(lambda: self._done, _PAUSE_S)

    def _over_http(self) -> None:
        connection = http.client.HTTPConnection(self._http, timeout=scale_wait(30))

        def send(body: bytes) -> bool:
            connection.request("POST", "/v1/traces", body, {"Content-Type": "application/x-protobuf"})
            answer = connection.getresponse()
            answer.read()
            return answer.status == 200

        with contextlib.closing(connection):
            self._send(send)

    def _over_grpc(self) -> None:
        with grpc.insecure_channel(self._grpc, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            export = channel.unary_unary(EXPORT)

            def send(body: bytes) -> bool:
                export(body, timeout=scale_wait(30))
                return True

            self._send(send)

    def _send(self, send: Send) -> None:
        while self._sending and not self._done:
            ids, body = request()
            self.book.sent |= ids
            taken = send(body)
            with self._changed:
                if taken:
                    self.book.acknowledged |= ids
                else:
                    self.book.refused += 1
                self._changed.notify_all()
            if not taken:
                return
