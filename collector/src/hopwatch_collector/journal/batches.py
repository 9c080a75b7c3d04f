"""Which stretches of the journal go into the engine as one insert, written down before they do.

After a crash the same stretches give the same deduplication tokens, so an insert whose outcome is unknown
is simply sent again. A checkpoint says up to where the engine's files are known to be on disk; batches after
it are sent again on every start, and the engine recognises those it has by their tokens.
"""

import os
import re
import secrets
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hopwatch_collector.errors import StartError
from hopwatch_collector.journal.files import fsync_dir, write_all
from hopwatch_collector.journal.records import Salt

_LINE = re.compile(r"(?P<text>(?P<what>journal|checkpoint|batch) (?P<rest>[0-9a-f ]+)) (?P<sum>[0-9a-f]{8})")


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of the journal, in absolute positions; `end` is exclusive."""

    start: int
    end: int


class BatchLog:
    """The log of batch boundaries: `batches.log`, a small text file, rewritten at each checkpoint.

    Used by one thread at a time. Raises OSError where the disk fails, StartError where the log is not to be trusted.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.journal_id = ""
        self.checkpointed = 0
        self.unconfirmed: list[Stretch] = []
        """Batches begun since the checkpoint, oldest first."""
        self.missing: list[Stretch] = []
        """Of these, the ones that no line told of: between two batches, or after the checkpoint. Their lines did not reach the disk."""
        if path.exists():
            self._load(path.read_text("ascii", "replace"))
        self._fill_gaps()
        if not self.journal_id:
            if any(path.parent.glob("*.segment")):
                raise StartError(
                    f"{path} is damaged or missing beside journal segments; move {path.parent} away"
                )
            self.journal_id = secrets.token_hex(16)
        self._fd = self._rewrite()
        self._good = os.fstat(self._fd).st_size

    @property
    def salt(self) -> Salt:
        return Salt(int(self.journal_id[:16], 16))

    @property
    def end(self) -> int:
        """Up to here, everything has been given to a batch."""
        return self.unconfirmed[-1].end if self.unconfirmed else self.checkpointed

    def token(self, stretch: Stretch) -> str:
        """The deduplication token of a stretch: the same for the same bytes, in this journal and no other."""
        return f"{self.journal_id}-{stretch.start}-{stretch.end}"

    def begin(self, stretch: Stretch) -> None:
        """Makes the boundaries durable; only then may the batch be inserted."""
        line = _line("batch", stretch.start, stretch.end)
        # A try before this one may have left half a line, on which the next would be written.
        os.ftruncate(self._fd, self._good)
        os.lseek(self._fd, self._good, os.SEEK_SET)
        write_all(self._fd, line)
        os.fdatasync(self._fd)
        self._good += len(line)
        self.unconfirmed.append(stretch)

    def checkpoint(self, position: int) -> None:
        """Forgets the batches that end at or before `position`: they are in the engine, and on its disk."""
        self.checkpointed = max(self.checkpointed, position)
        self.unconfirmed = [stretch for stretch in self.unconfirmed if stretch.end > position]
        stale, self._fd = self._fd, self._rewrite()
        self._good = os.fstat(self._fd).st_size
        os.close(stale)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _load(self, text: str) -> None:
        for line in text.splitlines():
            match = _LINE.fullmatch(line)
            if match is None or _sum(match["text"]) != match["sum"]:
                continue  # torn by a crash before its fsync: nothing was inserted under it
            values = match["rest"].split()
            if match["what"] == "journal":
                self.journal_id = values[0]
            elif match["what"] == "checkpoint":
                self.checkpointed = int(values[0])
            else:
                self.unconfirmed.append(Stretch(int(values[0]), int(values[1])))

    def _fill_gaps(self) -> None:
        """Batches follow one another: what lies between two is one whose line was lost, and is given to the engine like any other."""
        filled: list[Stretch] = []
        position = self.checkpointed
        for stretch in self.unconfirmed:
            if stretch.start > position:
                lost = Stretch(position, stretch.start)
                self.missing.append(lost)
                filled.append(lost)
            filled.append(stretch)
            position = max(position, stretch.end)
        self.unconfirmed = filled

    def _rewrite(self) -> int:
        """Writes the log anew beside the old one and swaps; returns it open for appending."""
        fresh = self._path.with_suffix(".new")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            lines = [_line("journal", self.journal_id), _line("checkpoint", self.checkpointed)]
            lines += [_line("batch", stretch.start, stretch.end) for stretch in self.unconfirmed]
            write_all(fd, b"".join(lines))
            os.fsync(fd)
            fresh.replace(self._path)
            fsync_dir(self._path.parent)
        except BaseException:
            os.close(fd)
            raise
        return fd


def _line(what: str, *values: int | str) -> bytes:
    text = " ".join([what, *map(str, values)])
    return f"{text} {_sum(text)}\n".encode("ascii")


def _sum(text: str) -> str:
    return f"{zlib.crc32(text.encode('ascii', 'replace')):08x}"
