"""The brokers of one run: started in parallel, asked by name, ended together."""

import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from hopwatch_demo.brokers.kafka import Kafka
from hopwatch_demo.brokers.model import Broker, BrokerMissing, State
from hopwatch_demo.brokers.nats import Nats
from hopwatch_demo.brokers.rabbitmq import RabbitMQ
from hopwatch_demo.brokers.server import Server

SERVERS: Mapping[str, type[Server]] = {"nats": Nats, "rabbitmq": RabbitMQ, "kafka": Kafka}
NAMES: tuple[str, ...] = tuple(SERVERS)


class Brokers:
    """Real brokers, without Docker.

    `with Brokers.start(["nats", "kafka"]) as brokers: brokers.nats.url`. Asking for a broker waits until it is ready.
    One that cannot be had has state `missing` and a reason; one nobody asked for is `unused`. Nothing is left running
    or on disk afterwards, even if this process is killed.
    """

    def __init__(self, names: Iterable[str], environ: Mapping[str, str]) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="hopwatch-brokers-"))
        self._environ = environ
        self._servers = {name: SERVERS[name](self._directory / name) for name in dict.fromkeys(names)}
        self._provided = {name: threading.Event() for name in self._servers}
        self._pool = ThreadPoolExecutor(max_workers=len(SERVERS), thread_name_prefix="broker")
        self._started = {name: self._pool.submit(self._bring_up, name) for name in self._servers}

    @classmethod
    def start(
        cls,
        names: Iterable[str] = NAMES,
        *,
        required: Iterable[str] = (),
        background: bool = False,
        environ: Mapping[str, str] = os.environ,
    ) -> Self:
        """Start the named brokers, all at the same time.

        Returns when each is ready or missing; with `background`, at once. Raises BrokerMissing if one of `required`
        cannot be had (with `background`, only `require` does that).
        """
        brokers = cls(names, environ)
        if not background:
            try:
                brokers.require(*required)
                brokers.all()
            except BaseException:
                brokers.close()
                raise
        return brokers

    @property
    def nats(self) -> Broker:
        """NATS with JetStream."""
        return self["nats"]

    @property
    def rabbitmq(self) -> Broker:
        """RabbitMQ with management, Prometheus, event exchange and tracing plugins."""
        return self["rabbitmq"]

    @property
    def kafka(self) -> Broker:
        """Kafka, one node, topics created on first use with one partition."""
        return self["kafka"]

    def __getitem__(self, name: str) -> Broker:
        if name not in SERVERS:
            raise KeyError(name)
        return self._started[name].result() if name in self._started else Broker(name, State.UNUSED)

    def all(self) -> list[Broker]:
        """Every broker there is, started or not, waiting for those still starting."""
        return [self[name] for name in NAMES]

    def require(self, *names: str) -> None:
        """Raise BrokerMissing unless every one of these is there."""
        if lacking := [str(self[name]) for name in names if not self[name].available]:
            raise BrokerMissing("; ".join(lacking))

    def provided(self) -> None:
        """Wait until the software of all of them was fetched or found missing (minutes on a fresh machine)."""
        for provided in self._provided.values():
            provided.wait()

    def stop(self, name: str, *, hard: bool = False) -> None:
        """Stop one, keeping its data: orderly, or as a crash would with `hard`. Raises BrokerMissing for a given one.

        RabbitMQ takes some 6 s to stop orderly; a queue declared moments before a crash may be gone after it,
        confirmed messages and all (Mnesia writes its log behind).
        """
        self._own(name).stop(hard=hard)

    def restart(self, name: str, *, hard: bool = False) -> Broker:
        """Stop one if it runs and start it again on the same ports and data; returns when it is ready."""
        return self._own(name).restart(hard=hard)

    def environ(self) -> dict[str, str]:
        """The variables that point other processes at these brokers."""
        pointed = {
            "HOPWATCH_NATS_URL": self.nats.url,
            "HOPWATCH_NATS_MONITORING_URL": self.nats.monitoring_url,
            "HOPWATCH_RABBITMQ_URL": self.rabbitmq.url,
            "HOPWATCH_RABBITMQ_MANAGEMENT_URL": self.rabbitmq.management_url,
            "HOPWATCH_RABBITMQ_PROMETHEUS_URL": self.rabbitmq.monitoring_url,
            "HOPWATCH_KAFKA_BOOTSTRAP": self.kafka.url,
        }
        return {name: value for name, value in pointed.items() if value}

    def closing_line(self) -> str:
        """What each broker was, in one line."""
        return "brokers: " + ", ".join(map(str, self.all()))

    def close(self) -> None:
        """End all that were started here, and remove their directories."""
        for server in self._servers.values():
            server.abandon()
        self._pool.shutdown()
        for server in self._servers.values():
            server.stop(hard=True)  # what they hold is thrown away: no reason to wait for an orderly end
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _own(self, name: str) -> Server:
        broker = self[name]
        if broker.state is not State.REAL:
            raise BrokerMissing(f"only a broker started here can be stopped or restarted, not this: {broker}")
        return self._servers[name]

    def _bring_up(self, name: str) -> Broker:
        server = self._servers[name]
        try:
            try:
                given = self._given(server)
                if given is None:
                    server.provide()
            finally:
                self._provided[name].set()
            return given or server.start()
        except (BrokerMissing, OSError, subprocess.SubprocessError) as why:
            return Broker(name, State.MISSING, reason=str(why))

    def _given(self, server: Server) -> Broker | None:
        url = self._environ.get(server.variable, "")
        if not url:
            return None
        try:
            return server.given(url, self._environ)
        except (OSError, ValueError) as why:
            without_login = re.sub(r"//.*@", "//", url)
            return Broker(server.name, State.MISSING, reason=f"{server.variable}={without_login}: {why}")
