"""The ledger beside what is right: right, unknown, unknown though known, wrong."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from hopwatch_collector.api.models import Delivery, Verdict
from truth.book import Key
from truth.expected import Expected

FINAL = frozenset(
    {"settled", "failed", "dead_lettered", "lost", "evicted", "expired", "skipped", "returned", "no_receiver"}
)
"""Verdicts that nothing undoes: what was right once has to stay."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One delivery of which the ledger says what is not so, or nothing, or `unknown` where it could know."""

    event: str
    receiver: str
    truth: str
    ledger: str
    message_id: str = ""

    @property
    def kind(self) -> str:
        """What it has in common with others of a round."""
        truth = self.truth.partition(" (")[0]
        return f"{self.receiver or 'nobody'}: truth {truth}; ledger {self.ledger}"


@dataclass
class Tally:
    """How many deliveries of a round, or of many, are told rightly."""

    right: int = 0
    unknown: int = 0
    """The evidence had been taken away."""
    known: list[Finding] = field(default_factory=list)
    """`unknown` although the evidence is there."""
    wrong: list[Finding] = field(default_factory=list)

    @property
    def deliveries(self) -> int:
        """All of them."""
        return self.right + self.unknown + len(self.known) + len(self.wrong)

    @property
    def done(self) -> bool:
        """Whether nothing more is to be waited for."""
        return self.deliveries > 0 and not self.wrong and not self.known

    def add(self, other: "Tally") -> None:
        """Count another one in."""
        self.right += other.right
        self.unknown += other.unknown
        self.known += other.known
        self.wrong += other.wrong

    def __str__(self) -> str:
        return (
            f"deliveries={self.deliveries} right={self.right} unknown={self.unknown} "
            f"unknown_though_known={len(self.known)} wrong={len(self.wrong)}"
        )


def compare(expected: Iterable[Expected], rows: Iterable[Delivery], run: str, unsent: set[str]) -> Tally:
    """Compare every delivery of a run, in both directions; of `unsent` events nothing is claimed."""
    told: dict[Key, list[Delivery]] = defaultdict(list)
    for row in rows:
        event = row.keys.get("event", "")
        if event.startswith(f"{run}.") and event not in unsent:
            told[event, row.receiver].append(row)
    tally = Tally()
    for one in expected:
        _weigh(tally, one, told.pop(one.key, []))
    for (event, receiver), found in told.items():
        tally.wrong.append(Finding(event, receiver, "nothing", _said(found), found[0].message_id))
    return tally


def _weigh(tally: Tally, one: Expected, rows: list[Delivery]) -> None:
    verdicts = {row.verdict.value for row in rows}
    if not rows and one.optional:
        return
    if len(rows) == 1 and verdicts <= one.verdicts:
        tally.right += 1
        return
    finding = Finding(
        one.event,
        one.receiver,
        f"{'|'.join(sorted(one.verdicts))}: {one.truth}",
        _said(rows) if rows else "nothing",
        rows[0].message_id if rows else "",
    )
    if len(rows) == 1 and verdicts == {Verdict.UNKNOWN.value}:
        if one.doubt:
            tally.unknown += 1
        else:
            tally.known.append(finding)
    else:
        tally.wrong.append(finding)


def _said(rows: list[Delivery]) -> str:
    return " and ".join(sorted({row.cause or row.verdict.value for row in rows})) + (
        f", {len(rows)} messages" if len(rows) > 1 else ""
    )
