"""The collector is killed again and again while it takes spans: what it acknowledged is there, exactly once."""

import contextlib
import http.client
import json
import os
import random
import subprocess
import sys
import threading
from collections import Counter

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from support.collector import Collector
from support.waiting import eventually

from hopwatch_demo.patience import scale_wait

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

KILLS = 10
SPANS_PER_REQUEST = 20
# So that a kill finds the pipeline in every possible state; and warnings of the development mode end in its log.
SMALL_BATCHES = {"HOPWATCH_BATCH_SPANS": "200", "HOPWATCH_LINGER": "0.02", "PYTHONDEVMODE": "1"}
# In a process of its own: an embedded engine keeps to one directory per process, and other tests have theirs.
COUNT = """
import json, sys, clickhouse_connect
with clickhouse_connect.get_client(dsn=f"chdb:///{sys.argv[1]}", database="hopwatch") as client:
    rows = client.query("SELECT lower(hex(span_id)), count() FROM spans GROUP BY span_id").result_rows
    print(json.dumps(dict(rows)))
"""


class Senders:
    """Threads that send distinct requests, each once, and note which were acknowledged."""

    def __init__(self, url: str, count: int = 3) -> None:
        self.acknowledged: set[str] = set()
        self.sent: set[str] = set()
        self._address = url.removeprefix("http://")
        self._changed = threading.Condition()
        self._sending = self._done = False
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]
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

    def wait_acknowledged(self, more: int) -> None:
        """Returns when so many more spans have been acknowledged."""
        with self._changed:
            target = len(self.acknowledged) + more
            assert self._changed.wait_for(lambda: len(self.acknowledged) >= target, scale_wait(60))

    def stop(self) -> None:
        with self._changed:
            self._done = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(scale_wait(60))

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._done or self._sending)
            if self._done:
                return
            with contextlib.suppress(OSError, http.client.HTTPException):  # killed under our hands
                self._send_until_cut_off()

    def _send_until_cut_off(self) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=scale_wait(30))
        try:
            while self._sending and not self._done:
                ids, body = request()
                self.sent |= ids
                connection.request("POST", "/v1/traces", body, {"Content-Type": "application/x-protobuf"})
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    with self._changed:
                        self.acknowledged |= ids
                        self._changed.notify_all()
        finally:
            connection.close()


def request() -> tuple[set[str], bytes]:
    """A request with random span ids, and those ids in hex."""
    message = ExportTraceServiceRequest()
    scope = message.resource_spans.add().scope_spans.add()
    ids = [os.urandom(8) for _ in range(SPANS_PER_REQUEST)]
    for span_id in ids:
        span = scope.spans.add(trace_id=os.urandom(16), span_id=span_id, name="crash", kind=4)
        span.start_time_unix_nano, span.end_time_unix_nano = (
            1_790_000_000_000_000_000,
            1_790_000_000_001_000_000,
        )
        span.attributes.add(key="messaging.system").value.string_value = "nats"
        span.attributes.add(key="messaging.destination.name").value.string_value = "crash.test"
    return {span_id.hex() for span_id in ids}, message.SerializeToString()


def backlog(collector: Collector) -> int:
    """Bytes acknowledged and not yet in the engine."""
    return httpx.get(f"{collector.api_url}/healthz", timeout=scale_wait(20)).json()["journal_backlog_bytes"]


def test_ten_kills_lose_nothing_and_double_nothing(start_collector) -> None:
    """Ten SIGKILLs in mid-ingest: every acknowledged span is stored once, no span twice."""
    chance = random.Random(4711)
    collector = start_collector(env=SMALL_BATCHES)
    senders = Senders(collector.otlp_http)
    try:
        for _ in range(KILLS):
            senders.resume()
            senders.wait_acknowledged(chance.randrange(20, 1500))
            collector.kill()
            senders.pause()
            collector.start()
    finally:
        senders.stop()
    eventually(lambda: backlog(collector), lambda left: left == 0, within=120, what="the backlog")
    assert collector.stop() == 0

    command = [sys.executable, "-c", COUNT, str(collector.data / "engine")]
    counted = subprocess.run(command, capture_output=True, text=True, check=True, timeout=scale_wait(120))
    stored: Counter[str] = Counter(json.loads(counted.stdout))
    assert len(senders.acknowledged) >= KILLS * SPANS_PER_REQUEST
    assert senders.acknowledged - stored.keys() == set(), "acknowledged and not stored"
    assert {span: count for span, count in stored.items() if count != 1} == {}, "stored twice"
    assert stored.keys() - senders.sent == set(), "stored and never sent"
