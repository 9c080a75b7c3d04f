"""What every broker we start has in common: provide, start, await readiness, stop, start again."""

import http.client
import re
import shutil
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from hopwatch_demo.brokers.model import Broker, BrokerMissing
from hopwatch_demo.brokers.process import Process
from hopwatch_demo.patience import scale_wait


class EndedEarly(BrokerMissing):
    """The broker's process ended before it was ready, as it does when its port is taken."""


class Server(ABC):
    """One broker of ours. The subclasses say what to run and how to tell that it is ready."""

    name: ClassVar[str]
    variable: ClassVar[str]
    """The environment variable that points at a running one instead."""
    patience: ClassVar[float] = 90.0
    """Seconds a start may take; `HOPWATCH_TEST_PATIENCE` makes it longer."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "output.log"
        self._process: Process | None = None
        self._lock = threading.Lock()
        self._abandoned = threading.Event()

    @staticmethod
    @abstractmethod
    def given(url: str, environ: Mapping[str, str]) -> Broker:
        """A broker that runs already, probed. Raises OSError or ValueError if it does not answer."""

    @staticmethod
    @abstractmethod
    def provide() -> None:
        """Get the software, or raise BrokerMissing."""

    @abstractmethod
    def prepare(self) -> None:
        """Choose ports and write configuration into an empty directory."""

    @abstractmethod
    def command(self) -> Sequence[str]:
        """What to run."""

    def environment(self) -> Mapping[str, str]:
        """What to add to the environment."""
        return {}

    @abstractmethod
    def ready(self) -> bool:
        """Whether clients can work with it; OSError and HTTPException mean no."""

    @abstractmethod
    def broker(self) -> Broker:
        """How to reach it, its version asked from the running broker."""

    def start(self) -> Broker:
        """Start it for the first time. A port lost to a stranger meanwhile gets one second try."""
        try:
            return self._run_afresh()
        except EndedEarly:
            return self._run_afresh()

    def stop(self, *, hard: bool = False) -> None:
        """Stop it, keeping its data: orderly, or as a crash would with `hard`."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.end(hard=hard)

    def restart(self, *, hard: bool = False) -> Broker:
        """Stop it if it runs and start it again on its data and ports."""
        self.stop(hard=hard)
        return self._run()

    def abandon(self) -> None:
        """Give up a start in progress: nobody wants it any more."""
        self._abandoned.set()

    def _run_afresh(self) -> Broker:
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self.prepare()
        return self._run()

    def _run(self) -> Broker:
        self.log.unlink(missing_ok=True)
        self._process = process = Process(self.command(), self.directory, self.log, self.environment())
        patience = scale_wait(self.patience)
        deadline = time.monotonic() + patience
        while not self._is_ready():
            if not process.running:
                raise EndedEarly(self._failure(f"{self.name} ended while starting"))
            if self._abandoned.wait(0.05):
                raise BrokerMissing(self._failure(f"{self.name} was given up while starting"))
            if time.monotonic() > deadline:
                raise BrokerMissing(self._failure(f"{self.name} was not ready after {patience:.0f} s"))
        return self.broker()

    def _is_ready(self) -> bool:
        try:
            return self.ready()
        except (OSError, http.client.HTTPException):
            return False

    def _failure(self, what: str) -> str:
        self.stop(hard=True)
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
        said = " | ".join(line.strip() for line in lines if line.strip())[-400:]
        return f"{what}: …{said}" if said else what


def http_status(port: int, path: str, headers: Mapping[str, str] | None = None) -> int:
    """The status of a GET on loopback (never through a proxy)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=scale_wait(5))
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        return connection.getresponse().status
    finally:
        connection.close()
