"""Hops with OpenTelemetry's own instrumentations on one side, or both: real processes, real brokers, one ledger.

The parties export when told to, so that either side's spans may be the first to arrive.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from support.collector import Collector
from support.process import Process
from support.waiting import eventually

from hopwatch_collector.api.models import Delivery, Verdict

HOPWATCH, CONTRIB = "hopwatch", "contrib"


@dataclass(frozen=True, slots=True)
class Hop:
    """One message from a sender to a receiver, as the test knows it."""

    over: str
    sender: Process
    receiver: Process
    name: str
    producer: str
    consumer: str
    destination: str
    owed: str
    receives: dict[str, Any]
    sends: dict[str, Any]
    spellings: list[str]
    """What its destination may look like while it is only half seen."""


Parties = Callable[[str, str], Process]


@pytest.fixture(scope="module")
def parties(collector: Collector, wires: dict[str, str]) -> Iterator[Parties]:
    """Parties by what instruments them and what they do, started when first asked for."""
    with ExitStack() as stack:
        running: dict[str, Process] = {}

        def party(by: str, role: str) -> Process:
            name = f"{by}-{role}"
            if name not in running:
                env = collector.environment(**wires)
                running[name] = stack.enter_context(Process.service("party", by, name, env=env))
            return running[name]

        for by in (HOPWATCH, CONTRIB):
            for role in ("sender", "receiver"):
                party(by, role)  # all at once: starting takes longer than what they do
        for process in running.values():
            process.answer()
        yield party


@pytest.fixture
def hop(parties: Parties) -> Callable[..., Hop]:
    """Prepares a hop with names of its own."""

    def prepare(over: str, sender: str, receiver: str, **receives: Any) -> Hop:
        name = f"{over}-{uuid4().hex[:12]}"
        producer, consumer = f"{sender}-sender", f"{receiver}-receiver"
        sends: dict[str, Any] = {"to": name}
        destination, owed = name, f"{name}-group"
        match over:
            case "kafka" | "nats":
                receives = {"source": name, "group": owed} | receives
            case "rabbitmq":
                receives = {"source": name} | receives
                # contrib's spans do not name the queue: all they tell of the receiver is its service
                owed = name if receiver == HOPWATCH else consumer
                if exchange := receives.get("exchange"):
                    sends |= {"to": f"{name}.placed", "exchange": exchange}
                    destination = f"{exchange}:{name}.placed"
            case "http":
                receives = {"source": name} | receives
                destination, owed = f"POST /{name}/{{order}}", consumer
        return Hop(
            over,
            parties(sender, "sender"),
            parties(receiver, "receiver"),
            name,
            producer,
            consumer,
            destination,
            owed,
            receives,
            sends,
            [name],
        )

    return prepare


def travel(hop: Hop, *texts: str) -> None:
    """Send messages and see them processed; nothing of it has been exported yet."""

    def receive() -> str:
        return str(hop.receiver.ask(do="receive", over=hop.over, **hop.receives)["ready"])

    # A topic is made by the first message; other wires keep nothing for whoever comes later.
    ready = receive() if hop.over != "kafka" else ""
    sends = hop.sends
    if hop.over == "http":
        sends = {"to": ready}
        hop.spellings.append(f"POST {urlsplit(ready).hostname}")  # all a caller knows of the route
    for text in texts:
        assert "sent" in hop.sender.ask(do="send", over=hop.over, text=text, **sends)
    if hop.over == "kafka":
        receive()
    took = [hop.receiver.ask(do="take")["took"]["text"] for _ in texts]
    assert sorted(took) == sorted(texts)


def export(party: Process) -> None:
    """Have a party export all its spans."""
    assert party.ask(do="export")["exported"]


def seen(collector: Collector, hop: Hop, **more: Any) -> list[Delivery]:
    """Return what the ledger has of a hop, under whatever spelling of its destination."""
    found = [
        one
        for one in collector.api.deliveries(limit=1000, **more)
        if any(name in one.destination for name in hop.spellings)
    ]
    return sorted(found, key=lambda one: (one.message_id, one.receiver))


def complete(deliveries: list[Delivery]) -> bool:
    """Whether both sides have been seen of each."""
    return bool(deliveries) and all(set(one.witnesses) == {"producer", "consumer"} for one in deliveries)


WIRES = [
    pytest.param("kafka", marks=pytest.mark.kafka),
    pytest.param("rabbitmq", marks=pytest.mark.rabbitmq),
    pytest.param("nats", marks=pytest.mark.nats),
    "http",
]
SIDES = [(CONTRIB, HOPWATCH), (HOPWATCH, CONTRIB), (CONTRIB, CONTRIB)]


@pytest.mark.parametrize("first", ["sender", "receiver"])
@pytest.mark.parametrize(("sender", "receiver"), SIDES)
@pytest.mark.parametrize("over", WIRES)
def test_a_hop_with_a_third_party_is_one_delivery(
    collector: Collector, hop: Callable[..., Hop], over: str, sender: str, receiver: str, first: str
) -> None:
    """Whoever instruments either side, and whosever spans come first, the delivery exists once and is settled."""
    crossing = hop(over, sender, receiver)
    travel(crossing, "hello")
    earlier, later = crossing.sender, crossing.receiver
    if first == "receiver":
        earlier, later = later, earlier
    export(earlier)
    witness = "producer" if first == "sender" else "consumer"
    early = eventually(lambda: seen(collector, crossing), what="a half-seen delivery")
    assert [one.witnesses for one in early] == [[witness]]
    export(later)
    (delivery,) = eventually(
        lambda: seen(collector, crossing), complete, what="a delivery seen from both sides"
    )

    assert delivery.verdict is Verdict.SETTLED, delivery
    assert (delivery.system, delivery.destination) == (over, crossing.destination)
    assert (delivery.producer, delivery.consumer) == (crossing.producer, crossing.consumer)
    assert delivery.receiver == crossing.owed
    assert delivery.attempts == 1
    assert delivery.latency_ms is not None
    assert delivery.sent_at is not None
    assert delivery.settled_at is not None
    assert delivery.sent_at <= delivery.settled_at


@pytest.mark.parametrize(("sender", "receiver"), SIDES)
@pytest.mark.parametrize("over", WIRES)
def test_a_hop_with_a_third_party_is_one_flow_with_one_hop(
    collector: Collector, hop: Callable[..., Hop], over: str, sender: str, receiver: str
) -> None:
    """The flow of such a hop holds the spans of both services and this hop alone; the message is found by its id."""
    crossing = hop(over, sender, receiver)
    travel(crossing, "hello")
    export(crossing.sender)
    export(crossing.receiver)
    (delivery,) = eventually(
        lambda: seen(collector, crossing), complete, what="a delivery seen from both sides"
    )
    flow = collector.api.flow(delivery.flow_id)
    assert flow is not None
    assert [(one.message_id, one.receiver) for one in flow.hops] == [(delivery.message_id, delivery.receiver)]
    assert set(flow.summary.services) == {crossing.producer, crossing.consumer}
    message = collector.api.message(delivery.message_id)
    assert message is not None
    assert [(one.receiver, one.verdict, len(one.history)) for one in message.deliveries] == [
        (crossing.owed, Verdict.SETTLED, 1)
    ]


@pytest.mark.rabbitmq
@pytest.mark.parametrize(("sender", "receiver"), SIDES)
def test_an_amqp_exchange_is_spelled_one_way_whoever_tells(
    collector: Collector, hop: Callable[..., Hop], sender: str, receiver: str
) -> None:
    """Contrib's `exchange,key` and `exchange` alone become the `exchange:key` that everyone else says."""
    crossing = hop("rabbitmq", sender, receiver, exchange=f"shop-{uuid4().hex[:8]}")
    travel(crossing, "hello")
    export(crossing.receiver)
    export(crossing.sender)
    (delivery,) = eventually(
        lambda: seen(collector, crossing), complete, what="a delivery seen from both sides"
    )
    assert delivery.destination == crossing.destination
    assert delivery.verdict is Verdict.SETTLED


@pytest.mark.kafka
@pytest.mark.parametrize("sender", [HOPWATCH, CONTRIB])
def test_a_batch_read_by_contrib_is_one_delivery_per_record(
    collector: Collector, hop: Callable[..., Hop], sender: str
) -> None:
    """Spans about a whole poll or a whole topic are no messages: three records, three deliveries."""
    crossing = hop("kafka", sender, CONTRIB, many=True)
    travel(crossing, "one", "two", "three")
    export(crossing.receiver)
    export(crossing.sender)
    found = eventually(
        lambda: seen(collector, crossing),
        lambda them: len([one for one in them if len(one.witnesses) == 2]) == 3,
        what="three deliveries seen from both sides",
    )
    assert [(one.receiver, one.verdict, one.attempts) for one in found] == [
        (crossing.owed, Verdict.SETTLED, 1)
    ] * 3
    nameless = [
        one for one in collector.api.deliveries(limit=1000, receiver=crossing.owed) if not one.destination
    ]
    assert nameless == []


@pytest.mark.nats
def test_a_third_party_is_searchable_by_its_trace(collector: Collector, hop: Callable[..., Hop]) -> None:
    """A message without an id of ours is found by its trace id, under the id the ledger made for it."""
    crossing = hop("nats", CONTRIB, HOPWATCH)
    travel(crossing, "hello")
    export(crossing.sender)
    export(crossing.receiver)
    (delivery,) = eventually(
        lambda: seen(collector, crossing), complete, what="a delivery seen from both sides"
    )
    hits = collector.api.search(delivery.trace_id)
    assert {hit.flow_id for hit in hits} == {delivery.flow_id}
    assert delivery.message_id in {hit.id for hit in hits}


def test_third_parties_run_without_hopwatch(parties: Parties) -> None:
    """The third parties of these tests have not imported a line of ours."""
    assert not parties(CONTRIB, "sender").ask(do="export")["hopwatch"]
    assert not parties(CONTRIB, "receiver").ask(do="export")["hopwatch"]
    assert parties(HOPWATCH, "sender").ask(do="export")["hopwatch"]
