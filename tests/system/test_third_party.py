"""Hops with OpenTelemetry's own instrumentations on one side, or both: real processes, real brokers, one ledger.

The parties export when told to, so that either side's spans may be the first to arrive. All messages travel before the
first test looks: the tests are about what the ledger made of them.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from support.collector import Collector
from support.process import Process
from support.waiting import eventually

from hopwatch_collector.api.models import Delivery, Verdict

pytestmark = pytest.mark.timeout(400)  # the first test waits for all messages to have travelled

HOPWATCH, CONTRIB = "hopwatch", "contrib"
SIDES = [(CONTRIB, HOPWATCH), (HOPWATCH, CONTRIB), (CONTRIB, CONTRIB)]
FIRST = ["sender", "receiver"]
KINDS = {
    "kafka": "kafka",
    "kafka-batch": "kafka",
    "rabbitmq": "rabbitmq",
    "rabbitmq-exchange": "rabbitmq",
    "nats": "nats",
    "http": "http",
}
"""What is sent, and the wire it goes over."""


def marked(kind: str) -> Any:
    """Return a parameter that asks for the broker of its wire."""
    wire = KINDS[kind]
    return kind if wire == "http" else pytest.param(kind, marks=getattr(pytest.mark, wire))


@dataclass(frozen=True, slots=True)
class Hop:
    """A message from one party to another (a few, in a batch), as the test knows it."""

    kind: str
    sender: str
    receiver: str
    texts: Sequence[str]
    name: str = field(default_factory=lambda: f"hop-{uuid4().hex[:12]}")

    @property
    def over(self) -> str:
        """The wire it goes over."""
        return KINDS[self.kind]

    @property
    def consumer(self) -> str:
        """The service that receives it."""
        return f"{self.receiver}-receiver"

    @property
    def producer(self) -> str:
        """The service that sends it."""
        return f"{self.sender}-sender"

    @property
    def owed(self) -> str:
        """Who is owed it, as the ledger should say; contrib's AMQP spans name no queue, a call's receiver is a service."""
        if self.over == "http" or (self.over == "rabbitmq" and self.receiver == CONTRIB):
            return self.consumer
        return self.name if self.over == "rabbitmq" else f"{self.name}-group"

    @property
    def destination(self) -> str:
        """Where it goes, as the ledger should spell it."""
        match self.kind:
            case "rabbitmq-exchange":
                return f"{self.name}-exchange:{self.name}.placed"
            case "http":
                return f"POST /{self.name}/{{order}}"
            case _:
                return self.name

    @property
    def sends(self) -> dict[str, str]:
        """How the sender is told to send; of a call, where to is not known yet."""
        if self.kind == "rabbitmq-exchange":
            return {"to": f"{self.name}.placed", "exchange": f"{self.name}-exchange"}
        return {"to": self.name}

    @property
    def receives(self) -> dict[str, Any]:
        """How the receiver is told to receive."""
        how: dict[str, Any] = {"source": self.name}
        if self.over in ("kafka", "nats"):
            how["group"] = self.owed
        if self.kind == "kafka-batch":
            how["many"] = True
        if self.kind == "rabbitmq-exchange":
            how["exchange"] = f"{self.name}-exchange"
        return how


class Parties:
    """The processes: one sender and one receiver by either instrumentation."""

    def __init__(self, env: dict[str, str], stack: ExitStack) -> None:
        self._running = {
            f"{by}-{role}": stack.enter_context(Process.service("party", by, f"{by}-{role}", env=env))
            for by in (HOPWATCH, CONTRIB)
            for role in FIRST
        }
        for name, process in self._running.items():
            assert process.answer() == {"party": name}

    def travel(self, hop: Hop) -> str:
        """Send a hop's messages and see them processed; nothing is exported. Returns how a half-seen call is spelled."""
        sender, receiver = self._running[hop.producer], self._running[hop.consumer]

        def receive() -> str:
            return str(receiver.ask(do="receive", over=hop.over, **hop.receives)["ready"])

        # A topic is made by its first message; other wires keep nothing for whoever comes later.
        ready = "" if hop.over == "kafka" else receive()
        for text in hop.texts:
            sends = {"to": ready} if hop.over == "http" else hop.sends
            assert "sent" in sender.ask(do="send", over=hop.over, text=text, **sends)
        if hop.over == "kafka":
            receive()
        took = [receiver.ask(do="take")["took"]["text"] for _ in hop.texts]
        assert sorted(took) == sorted(hop.texts)
        return f"POST {urlsplit(ready).hostname}"

    def export(self, role: str) -> None:
        """Have both senders, or both receivers, export all their spans."""
        for by in (HOPWATCH, CONTRIB):
            answer = self._running[f"{by}-{role}"].ask(do="export")
            assert answer == {"exported": True, "hopwatch": by == HOPWATCH}, (
                "a third party imports nothing of ours"
            )


@dataclass(frozen=True, slots=True)
class Seen:
    """What the ledger had of the hops of one round: when one side had exported, and in the end."""

    hops: list[Hop]
    half: list[Delivery]
    whole: list[Delivery]

    def hop(self, kind: str, sender: str, receiver: str) -> Hop:
        """Return the hop of a kind between two sides."""
        (found,) = (
            hop for hop in self.hops if (hop.kind, hop.sender, hop.receiver) == (kind, sender, receiver)
        )
        return found


Ledger = dict[str, Seen]


@pytest.fixture(scope="module")
def ledger(collector: Collector, wires: dict[str, str]) -> Iterator[Ledger]:
    """The same hops twice: once with the senders' spans arriving first, once with the receivers'."""
    available = [kind for kind, wire in KINDS.items() if wire == "http" or wires[wire.upper()]]
    with ExitStack() as stack:
        parties = Parties(collector.environment(**wires), stack)
        yield {first: one_round(collector, parties, available, first) for first in FIRST}


def one_round(collector: Collector, parties: Parties, kinds: Sequence[str], first: str) -> Seen:
    """Let every kind of hop travel between all sides, export one side, then the other."""
    hops = [
        Hop(kind, *sides, texts=["one", "two", "three"] if kind == "kafka-batch" else ["hello"])
        for kind in kinds
        for sides in SIDES
    ]
    calls = {parties.travel(hop) for hop in hops}
    messages = sum(len(hop.texts) for hop in hops)
    names = [hop.name for hop in hops]

    def seen() -> list[Delivery]:
        found = collector.api.deliveries(limit=1000)
        return [
            one
            for one in found
            if any(name in one.destination for name in names) or one.destination.startswith(tuple(calls))
        ]

    def whole(deliveries: list[Delivery]) -> bool:
        both = [one for one in deliveries if set(one.witnesses) == {"producer", "consumer"}]
        # A committed offset is told by a span of its own, which may be in a later batch.
        return len(both) >= messages and all(one.verdict is Verdict.SETTLED for one in both)

    parties.export(first)
    half = eventually(seen, lambda them: len(them) >= messages, what="every hop, half seen")
    parties.export("receiver" if first == "sender" else "sender")
    return Seen(hops, half, eventually(seen, whole, what="every hop, seen from both sides"))


def of(hop: Hop, deliveries: list[Delivery]) -> list[Delivery]:
    """Return the deliveries of one hop."""
    return [one for one in deliveries if hop.name in one.destination]


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize(("sender", "receiver"), SIDES)
@pytest.mark.parametrize("kind", [marked(kind) for kind in KINDS])
def test_a_hop_with_a_third_party_is_one_delivery(
    ledger: Ledger, kind: str, sender: str, receiver: str, first: str
) -> None:
    """Whoever instruments either side, and whosever spans come first, each message is one settled delivery."""
    hop = ledger[first].hop(kind, sender, receiver)
    deliveries = of(hop, ledger[first].whole)
    assert len(deliveries) == len({one.message_id for one in deliveries}) == len(hop.texts)
    for one in deliveries:
        assert one.verdict is Verdict.SETTLED
        assert set(one.witnesses) == {"producer", "consumer"}
        assert (one.system, one.destination, one.receiver) == (hop.over, hop.destination, hop.owed)
        assert (one.producer, one.consumer, one.attempts) == (hop.producer, hop.consumer, 1)
        assert one.sent_at is not None
        assert one.settled_at is not None
        assert one.sent_at <= one.settled_at


@pytest.mark.parametrize("first", FIRST)
def test_what_one_side_told_claims_no_more_than_it_saw(ledger: Ledger, first: str) -> None:
    """Until the other side's spans come, a delivery has one witness and one service."""
    half = ledger[first].half
    witness = "producer" if first == "sender" else "consumer"
    assert {tuple(one.witnesses) for one in half} == {(witness,)}
    assert not any(one.consumer if first == "sender" else one.producer for one in half)


@pytest.mark.parametrize("first", FIRST)
def test_nothing_but_the_messages_becomes_a_delivery(
    collector: Collector, ledger: Ledger, first: str
) -> None:
    """Spans about a poll or a topic as a whole are no messages, and none of the half-seen facts stays behind."""
    seen = ledger[first]
    expected = sorted((hop.destination, hop.owed) for hop in seen.hops for _ in hop.texts)
    assert sorted((one.destination, one.receiver) for one in seen.whole) == expected
    owed = {hop.owed for hop in seen.hops}
    nameless = [
        one for one in collector.api.deliveries(limit=1000) if not one.destination and one.receiver in owed
    ]
    assert nameless == []


@pytest.mark.parametrize(("sender", "receiver"), SIDES)
@pytest.mark.parametrize("kind", [marked("nats"), "http"])
def test_a_hop_with_a_third_party_is_one_flow_with_one_hop(
    collector: Collector, ledger: Ledger, kind: str, sender: str, receiver: str
) -> None:
    """Its flow has the spans of both services and this hop alone; its message has one attempt; its trace finds it."""
    hop = ledger["receiver"].hop(kind, sender, receiver)
    (delivery,) = of(hop, ledger["receiver"].whole)
    flow = collector.api.flow(delivery.flow_id)
    assert flow is not None
    assert [(one.message_id, one.receiver) for one in flow.hops] == [(delivery.message_id, hop.owed)]
    assert set(flow.summary.services) == {hop.producer, hop.consumer}
    message = collector.api.message(delivery.message_id)
    assert message is not None
    assert [(one.receiver, one.verdict, len(one.history)) for one in message.deliveries] == [
        (hop.owed, Verdict.SETTLED, 1)
    ]
    assert {hit.flow_id for hit in collector.api.search(delivery.trace_id)} == {delivery.flow_id}
