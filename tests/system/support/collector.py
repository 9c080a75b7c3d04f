"""A real `hopwatch collect`, and a client of its API that answers in the API's own models."""

import re
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from support.process import HOPWATCH, Process, environment
from support.waiting import eventually

from hopwatch_collector.api.models import (
    Delivery,
    DeliveryList,
    Flow,
    LagList,
    LagRow,
    Message,
    Model,
    SearchHit,
    SearchResult,
    Topology,
)
from hopwatch_demo.patience import scale_wait

READY = re.compile(r"hopwatch collector ready: otlp-grpc=(\S+) otlp-http=(\S+) api=(\S+)")
READY_WITHIN_S = 60.0
AWAIT_WITHIN_S = 60.0
"""A bound for machines with much else to do; it usually takes a second or two."""

M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a collector listens; 0 means any free port."""

    otlp_grpc: int = 0
    otlp_http: int = 0
    api: int = 0

    @classmethod
    def free(cls) -> Self:
        """Return ports that are free now: for collectors that are started again where they were."""
        sockets = [socket.socket() for _ in range(3)]
        try:
            for one in sockets:
                one.bind(("127.0.0.1", 0))
            return cls(*(one.getsockname()[1] for one in sockets))
        finally:
            for one in sockets:
                one.close()


class Api:
    """The query API as a person uses it: with patience, up to a deadline."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=f"{url}/api/v1/", timeout=scale_wait(30.0), trust_env=False)

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def get(self, path: str, **params: str | int | Sequence[str]) -> httpx.Response:
        """Return the answer to one request, whatever it is."""
        return self._http.get(path, params=params)

    def read(self, model: type[M], path: str, **params: str | int | Sequence[str]) -> M:
        """Return a successful answer as its model; a collector at its limits is asked again."""
        answer = eventually(
            lambda: self.get(path, **params), lambda one: not _at_its_limits(one), within=AWAIT_WITHIN_S
        )
        return _parsed(model, answer)

    def find(self, model: type[M], path: str) -> M | None:
        """Return what is at a path, None where nothing is."""
        answer = eventually(
            lambda: self.get(path), lambda one: not _at_its_limits(one), within=AWAIT_WITHIN_S
        )
        return None if answer.status_code == 404 else _parsed(model, answer)

    def deliveries(self, **params: str | int | Sequence[str]) -> list[Delivery]:
        """Return the deliveries that match."""
        return self.read(DeliveryList, "deliveries", **params).deliveries

    def search(self, q: str = "", **params: str | int | Sequence[str]) -> list[SearchHit]:
        """Return what a search finds."""
        return self.read(SearchResult, "search", q=q, **params).hits

    def message(self, name: str) -> Message | None:
        """Return the message known by an id or alias."""
        return self.find(Message, f"messages/{name}")

    def flow(self, flow_id: str) -> Flow | None:
        """Return a flow, whole."""
        return self.find(Flow, f"flows/{flow_id}")

    def lag(self) -> list[LagRow]:
        """Return how far receivers are behind."""
        return self.read(LagList, "lag").rows

    def topology(self, since: str = "1h") -> Topology:
        """Return who sends to whom."""
        return self.read(Topology, "topology", since=since)

    def await_deliveries(
        self, accept: Callable[[list[Delivery]], object], *, within: float = AWAIT_WITHIN_S, **params: Any
    ) -> list[Delivery]:
        """Return the deliveries that match once they are as they should be."""
        return eventually(
            lambda: self.deliveries(**params), accept, within=within, what=f"deliveries {params}"
        )


def _at_its_limits(answer: httpx.Response) -> bool:
    """Whether a query took too long: these tests are about what is answered, on machines of any speed."""
    return answer.status_code == 503 or (answer.status_code == 422 and "query-limit" in answer.text)


def _parsed(model: type[M], answer: httpx.Response) -> M:
    assert answer.status_code == 200, f"GET {answer.url}: {answer.status_code} {answer.text}"
    return model.model_validate_json(answer.content)


class Collector:
    """A running `hopwatch collect`; `restart` and `kill` keep its data directory and its ports."""

    def __init__(
        self, data: Path, *arguments: str, ports: Ports | None = None, env: dict[str, str] | None = None
    ) -> None:
        self.data = data
        self._arguments = arguments
        self._env = environment(**(env or {}))
        self._asked = ports or Ports()
        self.start()

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        self.process = Process([HOPWATCH, "collect", *self._options(), *self._arguments], env=self._env)
        try:
            found = READY.fullmatch(self.process.line(within=READY_WITHIN_S))
            assert found is not None, f"no ready line from {self.process}"
        except BaseException:
            self.process.close()
            raise
        grpc, http, api = found.groups()
        self.otlp_grpc, self.otlp_http, self.api_url = grpc, f"http://{http}", f"http://{api}"
        self._asked = Ports(*(int(address.rpartition(":")[2]) for address in (grpc, http, api)))
        self.api = Api(self.api_url)

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.send(signal.SIGKILL)
        self.process.wait()
        self.process.close()
        self.api.close()

    def stop(self) -> int:
        """End it in an orderly way and return its exit status."""
        self.api.close()
        return self.process.close()

    def freeze(self) -> None:
        """Stop it from answering; connections are still accepted, by the system."""
        self.process.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send(signal.SIGCONT)

    def environment(self, **settings: str) -> dict[str, str]:
        """Return the environment of a service that exports to this collector."""
        return environment(OTEL_EXPORTER_OTLP_ENDPOINT=self.otlp_http, **settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = self.stop()
        if error is None:
            assert status == 0, f"the collector did not stop in an orderly way: {self.process}"

    def _options(self) -> list[str]:
        asked = self._asked
        ports = zip(
            ("--otlp-grpc-port", "--otlp-http-port", "--api-port"),
            (asked.otlp_grpc, asked.otlp_http, asked.api),
            strict=True,
        )
        return ["--data", str(self.data), *(text for option, port in ports for text in (option, str(port)))]
