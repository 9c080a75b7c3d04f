"""What may be said of a delivery, as far as it does not depend on the broker, and when `unknown` is a right answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from services.record import Line
from services.truth_spec import CLEAR

from truth.book import Attempt, Key
from truth.scenario import KILLED, Member, Scenario

OPEN = frozenset({"in_flight", "stuck"})
HELD = frozenset({"waiting", "overdue"})
UNTOLD_BEFORE_END_S = 3.0
"""How long before a process was killed it may have done things that it did not live to tell."""
LOOK_S = 8.0
"""Around the collector's absence: how long until brokers have been asked again."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What is right to say of one event and one receiver."""

    event: str
    receiver: str
    verdicts: frozenset[str]
    truth: str
    """What happened, in words."""
    doubt: str = ""
    """Which evidence was taken away, so that `unknown` is right too."""
    optional: bool = False
    """Whether saying nothing of it is right too."""

    @property
    def key(self) -> Key:
        """What it is compared by."""
        return self.event, self.receiver


@dataclass
class Log:
    """What the maker of a round did, and when (Unix time, seconds)."""

    killed: dict[str, float] = field(default_factory=dict)
    """When clients were killed."""
    hung: dict[str, float] = field(default_factory=dict)
    """When clients were told to begin on nothing more."""
    done: dict[str, float] = field(default_factory=dict)
    """When faults were done, as `what target`."""
    away: list[tuple[float, float]] = field(default_factory=list)
    """When the collector was not there."""

    def absent(self, since: float, until: float) -> bool:
        """Whether the collector was away at some time between these."""
        return any(begin - LOOK_S < until and end + LOOK_S > since for begin, end in self.away)


@dataclass(frozen=True)
class Doubts:
    """Which evidence a round took away."""

    scenario: Scenario
    log: Log

    def of_sender(self) -> str:
        """Return why messages of the sender may be missing, empty where they may not."""
        telling = self.scenario.sender.telling
        return "" if telling in CLEAR else f"the sender is {telling}"

    def of_attempt(self, attempt: Attempt) -> str:
        """Return why an attempt may not be told of, empty where it must be."""
        member = self._member(attempt.client)
        if member.client.telling not in CLEAR:
            return f"{attempt.client} is {member.client.telling}"
        killed = self.log.killed.get(attempt.client)
        if killed is not None and attempt.at > killed - UNTOLD_BEFORE_END_S:
            return f"{attempt.client} was killed before it could tell"
        return ""

    def of_silence(self, receiver: str, sent: Line, until: float) -> str:
        """Return why it may not be known that nobody received it, empty where it must be."""
        for member in self.scenario.of(receiver):
            if member.client.telling not in CLEAR:
                return f"{member.client.name} is {member.client.telling}"
            if member.ends == KILLED:
                return f"{member.client.name} was killed"
        return "the collector was away" if self.log.absent(sent.at, until) else ""

    def silent(self, attempt: Attempt) -> bool:
        """Whether an attempt was by a client that is not instrumented."""
        return not self._member(attempt.client).client.told

    def torn(self, attempt: Attempt) -> bool:
        """Whether a client was killed so soon that what it did last may not have reached the broker."""
        killed = self.log.killed.get(attempt.client)
        return killed is not None and attempt.at > killed - 1.0

    def in_hand(self, attempt: Attempt) -> bool:
        """Whether nobody outside can see that its client has done with it: one that reads without a word hung right after."""
        member = self._member(attempt.client)
        hung = self.log.hung.get(attempt.client)
        return member.client.settings.get("read") == "bare" and hung is not None and attempt.at > hung - 1.0

    def _member(self, name: str) -> Member:
        return next(member for member in self.scenario.members if member.client.name == name)


def joined(doubts: Iterable[str]) -> str:
    """Return the doubts that there are in one text."""
    return "; ".join(dict.fromkeys(doubt for doubt in doubts if doubt))


def last(attempts: Mapping[Key, Sequence[Attempt]], key: Key) -> Attempt | None:
    """Return the last attempt of a delivery."""
    found = attempts.get(key)
    return found[-1] if found else None
