"""Processes of the tests: started, listened to line by line, asked by JSON lines, ended by their own id."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support.waiting import NotInTime

from hopwatch_demo.patience import VARIABLE as PATIENCE
from hopwatch_demo.patience import scale_wait

HOPWATCH = str(Path(sys.executable).with_name("hopwatch"))
"""The console command beside the Python that runs the tests."""

SERVICES = Path(__file__).parent.parent / "services"
"""Where the services of the tests are; each a program of its own."""

ANSWER_WITHIN_S = 30.0
END_WITHIN_S = 20.0

_SETTINGS_OF_OTHERS = ("OTEL_", "HOPWATCH_")


def inherited_environment(others: tuple[str, ...] = _SETTINGS_OF_OTHERS) -> dict[str, str]:
    """Return this environment without what begins like one of `others`; the tests' patience stays."""
    return {
        name: value for name, value in os.environ.items() if name == PATIENCE or not name.startswith(others)
    }


def environment(**settings: str) -> dict[str, str]:
    """Return this environment without settings of OpenTelemetry and hopwatch, with `settings` in it."""
    return inherited_environment() | {"PYTHONUNBUFFERED": "1"} | settings


class Process:
    """A running process; what it says on stdout is kept line by line, stderr as a whole."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self._started = time.monotonic()
        self._child = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env) if env is not None else environment(),
            cwd=cwd,
            text=True,
        )
        self._heard = threading.Condition()
        self._lines: list[str] = []
        self._next = 0
        self._stderr: list[str] = []
        self._ears = [
            threading.Thread(target=self._listen, args=(self._child.stdout, self._lines), daemon=True),
            threading.Thread(target=self._listen, args=(self._child.stderr, self._stderr), daemon=True),
        ]
        for ear in self._ears:
            ear.start()

    @classmethod
    def service(cls, name: str, *arguments: str, env: Mapping[str, str] | None = None) -> Self:
        """Start one of the tests' services."""
        return cls([sys.executable, str(SERVICES / f"{name}.py"), *arguments], env=env)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._child.poll() is None

    @property
    def lines(self) -> list[str]:
        """All lines it has written to stdout so far."""
        with self._heard:
            return list(self._lines)

    @property
    def stderr(self) -> str:
        """All it has written to stderr so far."""
        with self._heard:
            return "\n".join(self._stderr)

    def line(self, *, within: float = ANSWER_WITHIN_S) -> str:
        """Return the next line of stdout that has not been returned yet.

        Raises:
            NotInTime: none came in time, or the process ended without one.
        """
        with self._heard:
            self._heard.wait_for(
                lambda: len(self._lines) > self._next or not self._talks(), scale_wait(within)
            )
            if len(self._lines) > self._next:
                self._next += 1
                return self._lines[self._next - 1]
        raise NotInTime(f"no line from {self}")

    def answer(self, *, within: float = ANSWER_WITHIN_S) -> dict[str, Any]:
        """Return the next line of stdout, a JSON object."""
        found: dict[str, Any] = json.loads(self.line(within=within))
        return found

    def tell(self, **order: Any) -> None:
        """Write a JSON line to its stdin."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(order) + "\n")
        self._child.stdin.flush()

    def ask(self, **order: Any) -> dict[str, Any]:
        """Write a JSON line to its stdin and return its answer."""
        self.tell(**order)
        return self.answer()

    def hang_up(self) -> None:
        """Close its stdin: services take it as the request to end."""
        if self._child.stdin is not None and not self._child.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._child.stdin.close()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it."""
        self._child.send_signal(number)

    def wait(self, *, within: float = END_WITHIN_S) -> int:
        """Return its exit status once it has ended and all it said is heard.

        Raises:
            NotInTime: it still runs.
        """
        try:
            status = self._child.wait(scale_wait(within))
        except subprocess.TimeoutExpired:
            raise NotInTime(f"still running after {scale_wait(within):g} s: {self}") from None
        for ear in self._ears:
            ear.join(scale_wait(within))
        return status

    def kill(self) -> None:
        """End it at once, and let go of it."""
        self._child.kill()
        self.wait()
        self._let_go()

    def close(self) -> int:
        """End it in an orderly way, by force if it does not listen, and return its exit status."""
        self.hang_up()
        if self.running:
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
        try:
            return self.wait()
        except NotInTime:
            self._child.kill()
            return self.wait()
        finally:
            self._let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __str__(self) -> str:
        state = "running" if self.running else f"ended with {self._child.returncode}"
        said, complained = "\n".join(self._lines[-20:]), "\n".join(self._stderr[-40:])
        return f"{self._child.args} ({state})\n--- stdout\n{said}\n--- stderr\n{complained}"

    def _let_go(self) -> None:
        for stream in (self._child.stdin, self._child.stdout, self._child.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _talks(self) -> bool:
        return self._ears[0].is_alive() and not (
            self._child.poll() is not None and not self._ears[0].is_alive()
        )

    def _listen(self, stream: Any, heard: list[str]) -> None:
        for line in stream:
            with self._heard:
                heard.append(line.rstrip("\n"))
                self._heard.notify_all()
        with self._heard:
            self._heard.notify_all()
