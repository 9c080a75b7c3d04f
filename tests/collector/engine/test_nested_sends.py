"""A framework's own spans around those of the client it uses are about one message."""

import time
from collections.abc import Sequence
from itertools import permutations

import pytest
from ledger_support import CONSUMER, LOCAL, PRODUCER, REMOTE, S, flat, judged, processed, sent, take

from hopwatch_collector.engine import Store
from hopwatch_demo.patience import scale_wait

_ROUND_S = scale_wait(30.0)
"""Within this time upkeep comes round: it rests for many times as long as a look takes."""

COLUMNS = ("producer", "consumer", "receiver", "verdict")


def send(within: S | None = None, name: str = "create", topic: str = "orders", **more: object) -> S:
    """A producer span of another instrumentation, within another span of its process."""
    around = {"trace": within.trace, "parent": within.id, "flags": LOCAL} if within else {}
    return S(
        name=f"{topic} {name}", service="shop", kind=PRODUCER,
        attributes={
            "messaging.system": "kafka", "messaging.destination.name": topic,
            **({"messaging.operation": name} if name != "create" else {}),
        },
    ).but(**around, **more)  # fmt: skip


def received(of: S) -> S:
    """A consumer span beneath a producer span."""
    return S(
        name="orders process", service="ledger", kind=CONSUMER, start=1.0, end=1.1, trace=of.trace, parent=of.id, flags=REMOTE,
        attributes={
            "messaging.system": "kafka", "messaging.operation": "process", "messaging.destination.name": "orders",
            "messaging.kafka.consumer.group": "ledger",
        },
    )  # fmt: skip


def upkept(store: Store, wanted: Sequence[tuple[str, ...]], *batches: Sequence[S]) -> bool:
    """Whether these are all deliveries once the batches have come in, one by one, and upkeep has come round."""
    for batch in batches:
        take(store, *batch)
        store.maintain()
    rested = time.monotonic() + _ROUND_S
    while time.monotonic() < rested:
        store.maintain()
        if sorted(flat(judged(store), *COLUMNS)) == sorted(wanted):
            return True
    return False


ONE = [("shop", "ledger", "ledger", "settled")]


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_a_create_around_a_publish_is_one_message(store: Store, order: Sequence[int]) -> None:
    """Whichever of the spans comes first."""
    create = send()
    publish = send(create, "publish")
    spans = (create, publish, received(publish))
    assert upkept(store, ONE, *([spans[number]] for number in order))


def test_whatever_travels_with_the_message(store: Store) -> None:
    """The receiver may know of the outer span, or of one of three."""
    create = send()
    publish = send(create, "publish")
    client = send(publish, "send")
    assert upkept(store, ONE, [create, publish, client, received(create)])
    create = send()
    publish = send(create, "publish")
    client = send(publish, "send")
    assert upkept(store, ONE * 2, [client, publish, create, received(client)])


def test_the_id_that_the_message_has_counts(store: Store) -> None:
    """The innermost send is ours, which tells its id on the span around it; what another instrumentation received is the same."""
    create = send()
    ours = sent("orders", "kafka", service="shop", trace=create.trace)
    publish = send(
        create,
        "publish",
        **{name: ours.attributes[name] for name in ("hopwatch.message.id", "hopwatch.destination")},
    )
    ours = ours.but(parent=publish.id, flags=LOCAL)
    attempt = processed(ours, receiver="ledger", service="ledger")
    assert upkept(store, ONE, [create, ours, publish], [attempt, received(ours), received(create)])


def test_a_span_around_several_sends_is_none_of_them(store: Store) -> None:
    """Each of them is a message."""
    outer = send()
    inner = [send(outer, "publish", start=float(number)) for number in range(2)]
    wanted = [*ONE, ("shop", "", "", "unknown"), *ONE]
    assert upkept(store, wanted, [*inner, outer, *(received(one) for one in inner)])


def test_a_send_elsewhere_is_another_message(store: Store) -> None:
    """What is sent on within a send, to another topic, was not what was sent."""
    outer = send()
    inner = send(outer, "publish", topic="mail")
    assert upkept(store, ONE * 2, [outer, inner, received(outer), received(inner)])


def test_a_framework_around_a_handler_is_not_another_receiver(store: Store) -> None:
    """Its span names no group: it is that of the service whose consumer tells of the same message."""
    ours = sent("orders", "kafka", service="shop")
    attempt = processed(ours, receiver="ledger-group", service="ledger", scope="hopwatch.aiokafka")
    framework = received(ours).but(messaging__kafka__consumer__group=None)
    assert upkept(store, [("shop", "ledger", "ledger-group", "settled")], [ours, attempt, framework])
