"""Services with hopwatch turned on do their work and end as if it were not there, whatever has become of the collector."""

import signal
import socket
import socketserver
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from support.collector import Collector
from support.process import Process, environment

from hopwatch_collector.api.models import Delivery, Verdict

pytestmark = pytest.mark.timeout(400)  # the first test waits for all runs to have ended

COUNT = 60
"""Messages per wire; all wires at the same time."""

STATUS = 3
"""What the service is told to exit with."""

WORK_WITHIN_S = 60.0
EXIT_WITHIN_S = 15.0
"""A service that has nothing left to do but tell a collector that does not listen; hopwatch itself allows 4 s."""

WIRES = [
    pytest.param("nats", marks=pytest.mark.nats),
    pytest.param("rabbitmq", marks=pytest.mark.rabbitmq),
    pytest.param("kafka", marks=pytest.mark.kafka),
    "http",
]

NO_USE = {
    "refusing": [
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
    ],
    "babbling": [
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 4\r\n\r\n\xff\xfe\xfd\xfc",
        b"\x00\xff\x13\x37 this is no HTTP\r\n\r\n",
    ],
}
"""What something in a collector's place may answer, one after the other, that is of no use to anyone."""

TROUBLES = ["absent", "frozen", *NO_USE]


@dataclass(frozen=True, slots=True)
class Run:
    """What became of one run of the service."""

    done: dict[str, dict[str, list[str]]]
    status: int
    stderr: str


class _Useless(socketserver.ThreadingTCPServer):
    """Accepts what a service sends and answers with the same few byte strings in turn."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, answers: Sequence[bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.answers = answers
        self.requests = 0

    def answer(self) -> bytes:
        """Return what is to be answered now."""
        self.requests += 1
        return self.answers[self.requests % len(self.answers) - 1]


class _Answering(socketserver.StreamRequestHandler):
    server: _Useless

    def handle(self) -> None:
        """Read one request after the other."""
        try:
            while self._read():
                self.wfile.write(self.server.answer())
                self.wfile.flush()
        except OSError:
            return  # the service has gone, as it may

    def _read(self) -> bool:
        length = 0
        line = self.rfile.readline()
        if not line:
            return False
        while line.strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
            line = self.rfile.readline()
        self.rfile.read(length)
        return True


@contextmanager
def useless(answers: Sequence[bytes]) -> Iterator[_Useless]:
    """A collector that is none."""
    with _Useless(answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def url_of(server: _Useless) -> str:
    """Where a server is."""
    return f"http://127.0.0.1:{server.server_address[1]}"


@pytest.fixture(scope="module")
def runs(wires: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """The same work in every trouble, all at once, and without hopwatch (`baseline`)."""
    name = f"steady-{uuid4().hex[:8]}"
    with ExitStack() as stack, socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        collector = stack.enter_context(Collector(tmp_path_factory.mktemp("frozen")))
        collector.freeze()
        stack.callback(collector.thaw)
        servers = {trouble: stack.enter_context(useless(answers)) for trouble, answers in NO_USE.items()}
        settings = {
            "baseline": {"OTEL_SDK_DISABLED": "true"},
            "absent": {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{reserved.getsockname()[1]}"},
            "frozen": {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.otlp_http},
        } | {trouble: {"OTEL_EXPORTER_OTLP_ENDPOINT": url_of(server)} for trouble, server in servers.items()}
        services = {
            trouble: stack.enter_context(Process.service("steady", env=environment(**wires, **said)))
            for trouble, said in settings.items()
        }
        for trouble, service in services.items():
            assert service.answer() == {"ready": True}
            service.tell(do="work", name=f"{name}-{trouble}", count=COUNT)
        done = {trouble: finished(service) for trouble, service in services.items()}
        for service in services.values():
            service.tell(do="exit", status=STATUS)
        ended = {trouble: service.wait(within=EXIT_WITHIN_S) for trouble, service in services.items()}
        for trouble, server in servers.items():
            assert server.requests >= len(NO_USE[trouble]), f"{trouble}: not all answers were given"
        yield {
            trouble: Run(done[trouble], ended[trouble], service.stderr)
            for trouble, service in services.items()
        }


def finished(service: Process) -> dict[str, Any]:
    """Return what a service says it has done."""
    assert "halfway" in service.answer(within=WORK_WITHIN_S)
    done: dict[str, Any] = service.answer(within=WORK_WITHIN_S)["done"]
    return done


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("trouble", TROUBLES)
def test_work_is_the_same_whatever_becomes_of_the_collector(
    runs: dict[str, Run], wire: str, trouble: str
) -> None:
    """Every message is sent, received and answered exactly as it is without hopwatch."""
    done = runs[trouble].done[wire]
    assert len(done["received"]) == COUNT
    assert done == runs["baseline"].done[wire]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_the_exit_status_is_the_services_own(runs: dict[str, Run], trouble: str) -> None:
    """A process ends with its own status and soon, with its last spans still untold."""
    assert runs[trouble].status == runs["baseline"].status == STATUS


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_services_log_is_not_flooded(runs: dict[str, Run], trouble: str) -> None:
    """An exporter in trouble says so in a few lines, without tracebacks; nothing else is said."""
    lines = [line for line in runs[trouble].stderr.splitlines() if line not in runs["baseline"].stderr]
    assert "Traceback" not in runs[trouble].stderr
    assert len(lines) <= 12, runs[trouble].stderr


@pytest.mark.nats
@pytest.mark.rabbitmq
@pytest.mark.kafka
def test_a_killed_collector_misses_nothing_sent_after_its_restart(
    collector: Collector, wires: dict[str, str]
) -> None:
    """The service works on while the collector is dead; what it sends after the restart is in the ledger, once."""
    name = f"steady-{uuid4().hex[:8]}"
    with Process.service("steady", env=collector.environment(**wires)) as service:
        assert service.answer() == {"ready": True}
        service.tell(do="work", name=f"{name}-before", count=COUNT)
        assert "halfway" in service.answer()
        collector.kill()
        interrupted = service.answer(within=WORK_WITHIN_S)["done"]
        service.tell(do="work", name=f"{name}-without", count=COUNT)
        without = finished(service)
        collector.start()
        service.tell(do="work", name=f"{name}-after", count=COUNT)
        after = finished(service)
        service.tell(do="exit", status=STATUS)
        assert service.wait(within=EXIT_WITHIN_S) == STATUS
    assert interrupted.keys() == without.keys() == after.keys() == {"nats", "rabbitmq", "kafka", "http"}
    for wire in after:
        assert interrupted[wire] == without[wire] == after[wire]
        assert len(after[wire]["received"]) == COUNT
    for destination in (
        f"{name}-after-nats.event",
        f"{name}-after-rabbitmq",
        f"{name}-after-kafka",
        f"GET /{name}-after-http/{{number}}",
    ):
        found = collector.api.await_deliveries(all_settled, destination=destination, limit=1000)
        assert len({one.message_id for one in found}) == len(found) == COUNT, destination


def all_settled(deliveries: list[Delivery]) -> bool:
    """Whether as many messages as were sent have been settled."""
    return sum(one.verdict is Verdict.SETTLED for one in deliveries) == COUNT


@pytest.mark.nats
def test_a_frozen_collector_catches_up_when_it_thaws(collector: Collector, wires: dict[str, str]) -> None:
    """What was sent while the collector stood still arrives once it goes on, and nothing counts twice."""
    name = f"steady-{uuid4().hex[:8]}"
    env = collector.environment(NATS=wires["NATS"], OTEL_EXPORTER_OTLP_TIMEOUT="30")
    with Process.service("steady", env=env) as service:
        assert service.answer() == {"ready": True}
        collector.process.send(signal.SIGSTOP)
        service.tell(do="work", name=name, count=COUNT)
        assert len(finished(service)["nats"]["received"]) == COUNT
        collector.thaw()
        found = collector.api.await_deliveries(all_settled, destination=f"{name}-nats.event", limit=1000)
        service.tell(do="exit", status=0)
        assert service.wait(within=EXIT_WITHIN_S) == 0
    assert {one.attempts for one in found} == {1}
    assert len({one.message_id for one in found}) == COUNT
