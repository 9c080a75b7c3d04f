"""What the clients of a round wrote down, ordered by what is asked of it."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from services.record import Line, read_lines

Key = tuple[str, str]
"""An event and a receiver."""


@dataclass
class Attempt:
    """One handing-over of an event to a client."""

    client: str
    at: float
    how: str = ""
    """How it was settled; empty while it is held."""


@dataclass
class Book:
    """All that was written down in a round."""

    sent: dict[str, Line] = field(default_factory=dict)
    """What came of every send; of a Kafka sender `receiver` is the number of the topic's incarnation."""
    attempts: dict[Key, list[Attempt]] = field(default_factory=lambda: defaultdict(list))
    passed: list[Line] = field(default_factory=list)
    began: list[Line] = field(default_factory=list)
    last_at: float = 0.0

    @classmethod
    def read(cls, paths: Mapping[str, Path]) -> "Book":
        """Read the records of clients, each by its name, in the order of time."""
        found = cls()
        lines = [(line, name) for name, path in paths.items() if path.exists() for line in read_lines(path)]
        for line, name in sorted(lines, key=lambda one: one[0].at):
            found._take(line, name)
        return found

    def _take(self, line: Line, client: str) -> None:
        self.last_at = max(self.last_at, line.at)
        if line.act == "sent":
            self.sent[line.event] = line
        elif line.act == "passed":
            self.passed.append(line)
        elif line.act == "began":
            self.began.append(line)
        elif line.act == "received":
            self.attempts[line.event, line.receiver].append(Attempt(client, line.at))
        else:
            own = [one for one in self.attempts[line.event, line.receiver] if one.client == client]
            own[-1].how = line.how
