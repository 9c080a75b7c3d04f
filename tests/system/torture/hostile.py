"""Strangers at the collector's ports: what they send, and how long everybody else waits for an answer meanwhile."""

import contextlib
import gzip
import http.client
import os
import random
import socket
import threading
import time
from collections.abc import Callable

import grpc

from torture.senders import EXPORT, request

_EMPTY_SPANS = b"\x0a\x84\x80\x80\x02\x12\x80\x80\x80\x02" + b"\x12\x00" * (2 << 20)
_ID = b"\x0a\x10" + b"1" * 16 + b"\x12\x08" + b"2" * 8
_HALF_OPEN = 40

BODIES: tuple[tuple[str, str, bytes], ...] = (
    ("application/x-protobuf", "", b"\xff" * 5000),
    ("application/x-protobuf", "", request()[1][:-7]),
    ("application/x-protobuf", "", request()[1].replace(b"torture", b"tort\xff\xfee")),
    ("application/x-protobuf", "gzip", gzip.compress(_EMPTY_SPANS)),
    ("application/x-protobuf", "gzip", gzip.compress(bytes(64 << 20))),
    ("application/x-protobuf", "gzip", b"\x1f\x8b" + os.urandom(200)),
    ("application/x-protobuf", "zstd", b"x"),
    ("application/json", "", b'{"resourceSpans":[' + b"{}," * 200_000 + b"{}]}"),
    ("application/json", "", b'{"a":' * 50_000),
    (
        "application/json",
        "",
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"\\ud800","flags":1e400}]}]}]}',
    ),
    ("text/plain", "", b"hello"),
)


class Strangers:
    """A thread that does harm in turns, and one that asks for the collector's health all the while."""

    def __init__(self, http_url: str, grpc_address: str, api_url: str, seed: int) -> None:
        self.answers = 0
        """How often something hostile was answered."""
        self.healthz_max_s = 0.0
        """The longest that the collector's health took to be told while the collector was there."""
        self.there = threading.Event()
        """Set while the collector has said that it is ready and has not been killed."""
        self._http = http_url.removeprefix("http://")
        self._grpc = grpc_address
        self._api = api_url.removeprefix("http://")
        self._chance = random.Random(seed)
        self._done = threading.Event()
        self._threads = [threading.Thread(target=run) for run in (self._harm, self._ask)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Leave."""
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _harm(self) -> None:
        harms: tuple[Callable[[], None], ...] = (self._post, self._post, self._call, self._stay)
        while not self._done.wait(0.2):
            with contextlib.suppress(OSError, http.client.HTTPException, grpc.RpcError):
                self._chance.choice(harms)()

    def _post(self) -> None:
        kind, encoding, body = self._chance.choice(BODIES)
        headers = {"Content-Type": kind, **({"Content-Encoding": encoding} if encoding else {})}
        with contextlib.closing(http.client.HTTPConnection(self._http, timeout=10)) as connection:
            connection.request("POST", "/v1/traces", body, headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status < 500 or answer.status == 503, (answer.status, body[:80])
            self.answers += 1

    def _call(self) -> None:
        with grpc.insecure_channel(self._grpc, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            call = channel.unary_unary(EXPORT).future(_EMPTY_SPANS, timeout=10)
            assert call.code() not in (grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)
            self.answers += 1

    def _stay(self) -> None:
        """Half-open connections and heads that do not go on."""
        host, port = self._http.split(":")
        with contextlib.ExitStack() as stack:
            for number in range(_HALF_OPEN):
                held = stack.enter_context(socket.create_connection((host, int(port)), 5))
                if number % 2:
                    held.sendall(b"POST /v1/traces HTTP/1.1\r\nhost: ")
            self._done.wait(1.0)

    def _ask(self) -> None:
        while not self._done.wait(0.1):
            if not self.there.is_set():
                continue
            began = time.monotonic()
            with contextlib.suppress(OSError, http.client.HTTPException):  # it is not there
                with contextlib.closing(http.client.HTTPConnection(self._api, timeout=60)) as connection:
                    connection.request("GET", "/healthz")
                    connection.getresponse().read()
                if self.there.is_set():
                    self.healthz_max_s = max(self.healthz_max_s, time.monotonic() - began)
