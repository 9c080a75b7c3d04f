"""The ground truth: what every service itself wrote down of what it sent, received and settled."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Self


class Act(StrEnum):
    """What a line of the record says was done."""

    READY = "ready"
    """The service takes work from now on."""
    LISTENING = "listening"
    """`receiver` gets every `kind` on `broker` from now on."""
    SENDING = "sending"
    """About to send; written before the send."""
    SENT = "sent"
    """The send came back; `how` says how: sent, confirmed, returned, failed."""
    RECEIVED = "received"
    """Handed over to `receiver`; written before anything is done with it."""
    SETTLED = "settled"
    """About to be settled; `how` says how: answered, ack, reject, term, commit, auto."""
    PASSED = "passed"
    """`receiver` is about to commit past `offset` in `partition` without having read it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a record. `at` is Unix time in seconds; fields that do not apply keep their defaults."""

    at: float
    service: str
    act: Act
    event: str = ""
    kind: str = ""
    broker: str = ""
    receiver: str = ""
    how: str = ""
    partition: int = -1
    offset: int = -1

    def line(self) -> bytes:
        """Return the entry as a line of JSON without its empty fields."""
        said = {name: value for name, value in asdict(self).items() if value not in ("", -1)}
        return json.dumps(said, separators=(",", ":")).encode() + b"\n"


_FIELDS = frozenset(field.name for field in fields(Entry))


class Record:
    """One process's own record: append-only JSON lines, on disk before the process goes on."""

    def __init__(self, path: Path, service: str) -> None:
        self._service = service
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    @classmethod
    def of_process(cls, folder: Path, service: str) -> Self:
        """Open a new record in `folder` for this process."""
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder / f"{service}-{os.getpid()}.jsonl", service)

    def write(
        self,
        act: Act,
        *,
        event: str = "",
        kind: str = "",
        broker: str = "",
        receiver: str = "",
        how: str = "",
        partition: int = -1,
        offset: int = -1,
    ) -> None:
        """Append one entry and return when it is on disk."""
        entry = Entry(time.time(), self._service, act, event, kind, broker, receiver, how, partition, offset)
        os.write(self._file, entry.line())
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file; what was written stays."""
        os.close(self._file)


class Reader:
    """Reads the records of all processes in a folder, each line once however often it is asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}
        self._entries: list[Entry] = []

    def entries(self) -> list[Entry]:
        """Return everything recorded so far, oldest first; a last line without its end is not an entry yet.

        Raises:
            ValueError: a complete line is not an entry.
        """
        for path in sorted(self._folder.glob("*.jsonl")):
            self._entries.extend(self._further(path))
        self._entries.sort(key=lambda entry: entry.at)
        return list(self._entries)

    def _further(self, path: Path) -> Iterator[Entry]:
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            whole, end, _ = file.read().rpartition(b"\n")
        self._read[path] = self._read.get(path, 0) + len(whole) + len(end)
        for line in whole.splitlines():
            yield _entry(path, line)


def read(folder: Path) -> list[Entry]:
    """Return all entries of all processes in `folder`, oldest first.

    Raises:
        ValueError: a complete line is not an entry.
    """
    return Reader(folder).entries()


def _entry(path: Path, line: bytes) -> Entry:
    said = json.loads(line)
    if not isinstance(said, dict) or not said.keys() <= _FIELDS or "act" not in said:
        raise ValueError(f"{path.name}: not an entry: {line[:200]!r}")
    return Entry(**{**said, "act": Act(said["act"])})
