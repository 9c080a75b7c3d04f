"""What services of the tests decide by lot, and what they write down of every message."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random


def draw(seed: str, event: str, what: str, shares: Mapping[str, float], otherwise: str) -> str:
    """Return one of the shares, the same whenever it is asked of the same event."""
    lot = Random(f"{seed} {event} {what}").random()
    for name, share in shares.items():
        lot -= share
        if lot < 0:
            return name
    return otherwise


@dataclass(frozen=True, slots=True)
class Line:
    """One thing a service did. What does not apply keeps its default."""

    act: str
    """`sent`, `received`, `settled`, or `passed`: committed past without reading it."""
    event: str = ""
    receiver: str = ""
    how: str = ""
    """Of what was sent: confirmed, returned, failed; of what was settled: which way."""
    route: str = ""
    partition: int = -1
    offset: int = -1
    at: float = 0.0


class Record:
    """A process's own record; each line is with the system before the process goes on."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(
        self,
        act: str,
        event: str = "",
        receiver: str = "",
        how: str = "",
        *,
        route: str = "",
        partition: int = -1,
        offset: int = -1,
    ) -> None:
        """Append one line."""
        values = (act, event, receiver, how, route, partition, offset, time.time())
        os.write(self._file, json.dumps(values).encode() + b"\n")


def read_lines(path: Path) -> Iterator[Line]:
    """Yield what a process wrote."""
    with path.open("rb") as lines:
        for line in lines:
            yield Line(*json.loads(line))
