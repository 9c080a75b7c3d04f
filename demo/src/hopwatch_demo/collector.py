"""The demo's own collector: `hopwatch collect` on free ports, with its own data directory."""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from hopwatch_demo.patience import scale_wait
from hopwatch_demo.supervisor import Child, hopwatch_command

READY: Final = re.compile(r"^hopwatch collector ready: (.*)$", re.MULTILINE)
DECLARED: Final = Path(__file__).parent / "declared.yaml"
"""Who the shop's team says is owed what."""

START_S: Final = 60.0
LOOK_S: Final = 0.05


class CollectorFailed(Exception):
    """The collector ended or did not become ready; the message holds what it said."""


class Collector:
    """A running collector. `deadline_s` is when what is not settled counts as stuck or overdue."""

    def __init__(self, folder: Path, env: Mapping[str, str], deadline_s: float) -> None:
        command = [hopwatch_command(), "collect", "--data", str(folder / "collector")]
        for port in ("--otlp-grpc-port", "--otlp-http-port", "--api-port"):
            command += [port, "0"]
        command += ["--deadline", f"{deadline_s:g}", "--config", str(DECLARED)]
        self._child = Child("collector", command, folder, env)
        self._at: dict[str, str] = {}

    @property
    def otlp_url(self) -> str:
        """Where services send OTLP/HTTP."""
        return f"http://{self._at['otlp-http']}"

    @property
    def api_url(self) -> str:
        """Where the query API is."""
        return f"http://{self._at['api']}"

    def wait_until_ready(self) -> None:
        """Return when it said that it is ready, and where.

        Raises:
            CollectorFailed: it ended, or said nothing in time.
        """
        patience = scale_wait(START_S)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            said = self._child.log.read_text(errors="replace")
            if ready := READY.search(said):
                self._at = dict(pair.split("=", 1) for pair in ready[1].split())
                return
            if self._child.status is not None:
                raise CollectorFailed(f"the collector ended with status {self._child.status}:\n{said}")
            time.sleep(LOOK_S)
        raise CollectorFailed(f"the collector is not ready after {patience:g} s:\n{said}")

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._child.running

    def close(self) -> None:
        """End it in an orderly way."""
        self._child.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
