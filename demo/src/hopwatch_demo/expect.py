"""What the ledger should say, worked out from the services' own records and the rules of the faults alone."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from hopwatch_demo.catalogue import DEAD, Broker
from hopwatch_demo.faults import FAULTS, HANG, SLOW, Fault
from hopwatch_demo.truth import Act, Entry

NOBODY: Final = ""
"""The receiver of what nobody was owed."""

FINISHED: Final = {
    "answered": "settled",
    "ack": "settled",
    "commit": "settled",
    "auto": "settled",
    "reject": "dead_lettered",
    "term": "dead_lettered",
}
"""How a receiver ended its last attempt, and what that makes of the delivery; every queue whose messages the shop
rejects has a dead-letter queue behind it."""

UNFINISHED: Final = frozenset({"waiting", "overdue", "in_flight", "stuck", "unknown"})
"""Verdicts of deliveries that may still change."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What should be said of one event and one receiver."""

    event: str
    receiver: str
    verdict: str
    attempts: int
    kind: str
    broker: str

    @property
    def key(self) -> tuple[str, str]:
        """What it is compared by."""
        return self.event, self.receiver

    @property
    def order(self) -> str:
        """The order it belongs to."""
        return self.event.partition(".")[0]


@dataclass(slots=True)
class _Sending:
    """One message or call, as its sender recorded it."""

    event: str
    kind: str
    broker: str
    called: str = ""
    at: float = 0.0
    how: str = ""
    place: tuple[int, int] = (-1, -1)


@dataclass(slots=True)
class _Receiving:
    """What one receiver recorded of one event."""

    at: list[float] = field(default_factory=list)
    ended: str = ""
    """How the latest handing-over was settled, empty while it is not."""


class _Records:
    """The entries, ordered by what is asked of them."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.sent: dict[str, _Sending] = {}
        self.received: dict[str, dict[str, _Receiving]] = defaultdict(lambda: defaultdict(_Receiving))
        self.listening: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
        self.passed: set[tuple[str, str, int, int]] = set()
        for entry in entries:
            self._take(entry)

    def _take(self, entry: Entry) -> None:
        if entry.act is Act.SENDING:
            self.sent[entry.event] = _Sending(
                entry.event, entry.kind, entry.broker, called=entry.receiver, at=entry.at
            )
        elif entry.act is Act.SENT:
            sending = self.sent[entry.event]
            sending.how, sending.place = entry.how, (entry.partition, entry.offset)
        elif entry.act is Act.RECEIVED:
            receiving = self.received[entry.event][entry.receiver]
            receiving.at.append(entry.at)
            receiving.ended = ""
        elif entry.act is Act.SETTLED:
            self.received[entry.event][entry.receiver].ended = entry.how
        elif entry.act is Act.LISTENING:
            self.listening[entry.kind, entry.broker].setdefault(entry.receiver, entry.at)
        elif entry.act is Act.PASSED:
            self.passed.add((entry.kind, entry.receiver, entry.partition, entry.offset))


def expect(entries: Iterable[Entry], now: float, deadline_s: float) -> dict[tuple[str, str], Expected]:
    """Return what should be said of every event and receiver at `now` (Unix time, seconds)."""
    records = _Records(entries)
    expected: dict[tuple[str, str], Expected] = {}
    for sending in records.sent.values():
        for receiver in _owed(records, sending):
            receiving = records.received[sending.event].get(receiver, _Receiving())
            verdict = _verdict(records, sending, receiver, receiving, now, deadline_s)
            one = Expected(sending.event, receiver, verdict, len(receiving.at), sending.kind, sending.broker)
            expected[one.key] = one
    return expected


def _owed(records: _Records, sending: _Sending) -> set[str]:
    """Who should have it: the one called; who listened when it was sent; who got it; who gets the dead-lettered copy."""
    if sending.called:
        return {sending.called}
    if sending.how == "returned":
        return {NOBODY}
    received = records.received[sending.event]
    listening = records.listening[sending.kind, sending.broker]
    owed = set(received) | {receiver for receiver, since in listening.items() if since <= sending.at}
    if sending.broker == Broker.RABBITMQ and any(r.ended == "reject" for r in received.values()):
        owed |= set(records.listening[DEAD.name, sending.broker])
    return owed or {NOBODY}


def _verdict(
    records: _Records,
    sending: _Sending,
    receiver: str,
    receiving: _Receiving,
    now: float,
    deadline_s: float,
) -> str:
    if receiver == NOBODY:
        return "returned" if sending.how == "returned" else "no_receiver"
    if receiving.ended:
        return FINISHED[receiving.ended]
    if receiving.at:
        return "stuck" if now - receiving.at[-1] > deadline_s else "in_flight"
    if (sending.kind, receiver, *sending.place) in records.passed:
        return "skipped"
    if now - sending.at <= deadline_s:
        return "waiting"
    core = sending.broker == Broker.NATS and "/" not in receiver
    return "unknown" if core else "overdue"  # core NATS keeps nothing: nobody can say that it still waits


def unfinished(expected: Mapping[tuple[str, str], Expected], faults: frozenset[str]) -> list[Expected]:
    """Return deliveries that should still come to an end, faults considered."""
    endless = {(fault.kind.name, fault.service) for fault in (HANG, SLOW) if fault.name in faults}
    return [
        one
        for one in expected.values()
        if one.verdict in UNFINISHED and (one.kind, service_of(one.receiver)) not in endless
    ]


def service_of(receiver: str) -> str:
    """Return the service behind a receiver: `EVENTS/shipping`, `shipping.placed` and `audit:shop.x` all begin or end so."""
    return receiver.rpartition("/")[2].partition(":")[0].partition(".")[0]


@dataclass(frozen=True, slots=True)
class Course:
    """What came of one fault on one broker: the deliveries it struck, by verdict."""

    fault: str
    broker: str
    expected: str
    verdicts: Mapping[str, int]
    strayed: Sequence[str]
    """What did not take the course it should have, in words."""


def courses(
    expected: Mapping[tuple[str, str], Expected], faults: frozenset[str], brokers: Iterable[str]
) -> list[Course]:
    """Return what came of every fault that was switched on, on every broker it strikes."""
    return [
        _course(fault, broker, verdict, expected.values())
        for fault in FAULTS.values()
        if fault.name in faults
        for broker, verdict in fault.verdicts.items()
        if broker in brokers
    ]


def _course(fault: Fault, broker: str, verdict: str, expected: Iterable[Expected]) -> Course:
    struck = [one for one in expected if one.broker == broker and _strikes(fault, one, verdict)]
    counts: dict[str, int] = defaultdict(int)
    for one in struck:
        counts[one.verdict] += 1
    strayed = [
        f"{one.event} → {one.receiver or 'nobody'} is {one.verdict} after {one.attempts} attempts"
        for one in struck
        if one.verdict != verdict or (fault.again and one.attempts < 2)
    ]
    return Course(fault.name, broker, verdict, dict(counts), strayed)


def _strikes(fault: Fault, one: Expected, verdict: str) -> bool:
    """Whether a fault struck this delivery. Where it depends on timing (no `first`), its verdict is what tells."""
    if one.kind != fault.kind.name or service_of(one.receiver) != fault.service:
        return False
    return fault.strikes(int(one.order[1:])) if fault.first else one.verdict == verdict
