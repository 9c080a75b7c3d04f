"""Starts the processes of a run, restarts services that crash, ends everything; nothing outlives its parent."""

import os
import shutil
import sys
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from hopwatch_demo.brokers.process import Process
from hopwatch_demo.catalogue import Broker
from hopwatch_demo.patience import VARIABLE as PATIENCE
from hopwatch_demo.shop.settings import PREFIX

LOOK_S: Final = 0.1
"""Seconds between looks at whether a service still runs."""

PACKAGE: Final = "hopwatch_demo.shop"


@dataclass(frozen=True, slots=True)
class Job:
    """One process of the shop: a service, or a service's worker for one broker.

    `wrapped`: started under `hopwatch run`, with no word of hopwatch's set-up in its code; the others call
    `hopwatch.instrument` themselves.
    """

    service: str
    wrapped: bool = False
    broker: Broker | None = None

    @property
    def name(self) -> str:
        """Name of the process, for logs."""
        return self.service if self.broker is None else f"{self.service}-{self.broker}"

    def command(self) -> list[str]:
        """What is executed."""
        plain = [sys.executable, "-m", f"{PACKAGE}.{self.service}"]
        return [hopwatch_command(), "run", "--service", self.service, "--", *plain] if self.wrapped else plain

    def environment(self) -> dict[str, str]:
        """What its environment says beyond that of all services."""
        return {f"{PREFIX}ONLY": self.broker} if self.broker is not None else {}


def jobs(brokers: Iterable[Broker]) -> list[Job]:
    """Return the shop's processes, those that need longest to start first."""
    brokers = list(brokers)
    workers = [Job("shipping", broker=broker) for broker in brokers]
    loyalty = [Job("loyalty")] if Broker.KAFKA in brokers else []
    return [
        Job("orders", wrapped=True),
        Job("audit", wrapped=True),
        Job("notifications", wrapped=True),
        Job("analytics"),
        Job("billing"),
        Job("pricing"),
        Job("inspection"),
        *loyalty,
        *workers,
        Job("payments"),
        Job("gateway", wrapped=True),
        Job("customers", wrapped=True),
    ]


def hopwatch_command() -> str:
    """Return the path of the `hopwatch` command that belongs to this interpreter.

    Raises:
        FileNotFoundError: it is not installed.
    """
    beside = Path(sys.executable).with_name("hopwatch")
    found = str(beside) if beside.exists() else shutil.which("hopwatch")
    if found is None:
        raise FileNotFoundError("the `hopwatch` command is not installed")
    return found


class Child(Process):
    """A process with a name, whose exit status can be asked for."""

    def __init__(self, name: str, command: list[str], folder: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.log = folder / "logs" / f"{name}.log"
        scratch = folder / "scratch" / name  # removed if this process is killed
        self.log.parent.mkdir(parents=True, exist_ok=True)
        scratch.mkdir(parents=True, exist_ok=True)
        super().__init__(command, scratch, self.log, env)

    @property
    def status(self) -> int | None:
        """Exit status, None while it runs."""
        return self._keeper.poll()


@dataclass
class Shop:
    """The running services; those that die are started again."""

    folder: Path
    env: Mapping[str, str]
    deaths: list[tuple[str, int]] = field(default_factory=list)
    """Name and exit status of every service that died."""
    _running: dict[Job, Child] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)
    _watch: threading.Thread | None = None

    def start(self, these: Iterable[Job]) -> None:
        """Start services; the first call also starts watching over them."""
        for job in these:
            self._running[job] = self._child(job)
        if self._watch is None:
            self._watch = threading.Thread(target=self._keep_alive, name="supervisor", daemon=True)
            self._watch.start()

    @property
    def names(self) -> list[str]:
        """Names of the processes started."""
        return [job.name for job in self._running]

    def close(self) -> None:
        """End all services at the same time, orderly if they can."""
        self._ended.set()
        if self._watch is not None:
            self._watch.join()
        if self._running:
            with ThreadPoolExecutor(len(self._running)) as pool:
                list(pool.map(Child.end, self._running.values()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _child(self, job: Job) -> Child:
        return Child(job.name, job.command(), self.folder, {**self.env, **job.environment()})

    def _keep_alive(self) -> None:
        while not self._ended.wait(LOOK_S):
            for job, child in list(self._running.items()):
                if child.status is not None:
                    self.deaths.append((job.name, child.status))
                    self._running[job] = self._child(job)


def environment_without_hopwatch() -> dict[str, str]:
    """Return variables that blank what this process was told about tracing, so that services hear only us."""
    ours = (name for name in os.environ if name.startswith(("OTEL_", "HOPWATCH_")) and name != PATIENCE)
    return dict.fromkeys(ours, "")
