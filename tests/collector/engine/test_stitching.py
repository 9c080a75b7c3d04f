"""Messages of which one side, or both, were told by other instrumentations and in other spellings."""

import time

import pytest
from ledger_support import (
    CLIENT,
    CONSUMER,
    LOCAL,
    PRODUCER,
    REMOTE,
    S,
    at,
    committed,
    flat,
    judged,
    new_span,
    new_trace,
    processed,
    sent,
    take,
)

from hopwatch_collector.engine import Store, StoreSettings
from hopwatch_collector.engine.upkeep import Upkeep
from hopwatch_collector.query.clocks import NOTHING


def foreign_send(**more: object) -> S:
    """A producer span without a message id."""
    return S(
        name="orders publish", service="legacy", kind=PRODUCER,
        attributes={"messaging.system": "kafka", "messaging.operation": "publish", "messaging.destination": "orders"},
    ).but(**more)  # fmt: skip


def foreign_process(send: S, *, linked: bool = False, **more: object) -> S:
    """A consumer span without a message id, child of the sender or linked to it."""
    return S(
        name="orders process", service="ledger", kind=CONSUMER, start=1.0, end=1.1, flags=REMOTE,
        trace=new_trace() if linked else send.trace, parent=b"" if linked else send.id,
        links=[(send.trace, send.id)] if linked else [],
        attributes={
            "messaging.system": "kafka", "messaging.operation": "process", "messaging.destination": "orders",
            "messaging.kafka.consumer.group": "ledger",
        },
    ).but(**more)  # fmt: skip


def found(store: Store) -> int:
    """Of how many keys upkeep finds the message now."""
    before = store.written
    store.maintain()
    return store.written - before


def in_order(store: Store, first: S, second: S) -> None:
    """One comes some seconds after the other."""
    now = time.time()
    upkeep = Upkeep(store._keeper, StoreSettings(), clock=lambda: now)
    for span in (first, second):
        take(store, span)
        upkeep.run(None, now)
        now += 5
    upkeep.run(None, now)


SEEN = [("legacy", "ledger", "ledger", "settled", ["producer", "consumer"])]
COLUMNS = ("producer", "consumer", "receiver", "verdict", "witnesses")


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("consumer_first", [False, True])
def test_foreign_on_both_sides(store: Store, linked: bool, consumer_first: bool) -> None:
    """A foreign send and a foreign consumer meet under the context that sent the message, by parent or link."""
    send = foreign_send()
    pair = [send, foreign_process(send, linked=linked)]
    in_order(store, *(reversed(pair) if consumer_first else pair))
    assert flat(judged(store), *COLUMNS) == SEEN


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("consumer_first", [False, True])
def test_a_foreign_consumer_of_our_message(store: Store, linked: bool, consumer_first: bool) -> None:
    """Facts of a consumer that knows only the sending context come to the message id, in either order of arrival."""
    send = sent("orders", "kafka", service="legacy")
    pair = [send, foreign_process(send, linked=linked)]
    in_order(store, *(reversed(pair) if consumer_first else pair))
    assert flat(judged(store), *COLUMNS) == SEEN
    assert judged(store)[0]["message"].hex() == send.message.replace("-", "")


def test_our_consumer_of_a_foreign_message(store: Store) -> None:
    """A message that carried no id is known by its sender's context on our side too."""
    send = foreign_send()
    process = processed(sent("orders", "kafka"), "ledger", service="ledger").but(
        trace=send.trace, parent=send.id, hopwatch__message__id=None
    )
    take(store, send, process)
    assert flat(judged(store), *COLUMNS) == SEEN


def test_moving_facts_again_changes_nothing(store: Store) -> None:
    """Strangers that tell more after they are known are given to the message again, nothing doubled."""
    send = sent("orders", "kafka", service="legacy")
    process = foreign_process(send)
    in_order(store, send, process)
    take(store, process)
    assert found(store) == 1
    assert found(store) == 0
    take(store, foreign_process(send, messaging__kafka__consumer__group="audit"))
    assert found(store) == 1
    assert sorted(flat(judged(store), "receiver", "verdict", "attempts")) == [
        ("audit", "settled", 1),
        ("ledger", "settled", 1),
    ]


DAY = 86_400.0


@pytest.mark.parametrize("days", [-1, 1])
def test_clocks_may_be_days_apart(store: Store, days: int) -> None:
    """A sender is found whose span lies a day before its receiver's, or a day after it."""
    send = sent("orders", "kafka", service="legacy", start=days * DAY)
    in_order(store, foreign_process(send, start=1.0, end=1.1), send)
    assert flat(judged(store, since=-2 * DAY), *COLUMNS) == SEEN


def test_a_sender_that_comes_a_day_later(store: Store) -> None:
    """What a receiver told waits for its sender for days; what was asked for in vain is asked for again, not all the time."""
    now = time.time()
    upkeep = Upkeep(store._keeper, StoreSettings(), clock=lambda: now)
    send = sent("orders", "kafka", service="legacy")
    take(store, foreign_process(send))
    upkeep.run(None, now)
    take(store, send)
    assert sorted(flat(judged(store), "producer")) == [("",), ("legacy",)]
    now += DAY + 900
    assert upkeep.run(None, now) == 1
    now += DAY + 900
    assert upkeep.run(None, now) == 0
    assert flat(judged(store), *COLUMNS) == SEEN


def test_receivers_without_a_sender_hold_nobody_up(store: Store) -> None:
    """However many facts there are whose sender stays away, the others' are found at once, and so after a restart."""
    take(store, *(foreign_process(foreign_send(), name=f"orders {number}") for number in range(2_500)))
    send = sent("orders", "kafka", service="legacy")
    take(store, send, foreign_process(send))
    upkeep = Upkeep(store._keeper, StoreSettings())
    assert upkeep.run(None, time.time()) == 1
    again = Upkeep(store._keeper, StoreSettings())
    assert again.run(None, time.time()) == 0
    assert [row["producer"] for row in judged(store) if row["producer"] and row["receiver"]] == ["legacy"]


def test_a_batch_of_links_is_a_message_each(store: Store) -> None:
    """A consumer span that links to several senders received a message from each."""
    sends = [foreign_send(service=f"legacy-{n}") for n in range(3)]
    take(
        store,
        *sends,
        foreign_process(sends[0]).but(trace=new_trace(), parent=b"", links=[(s.trace, s.id) for s in sends]),
    )
    assert sorted(flat(judged(store), "producer", "verdict")) == [
        (f"legacy-{n}", "settled") for n in range(3)
    ]


def test_a_local_parent_sent_nothing(store: Store) -> None:
    """A consumer span below another span of its own process is not taken for that span's receiver."""
    outer = foreign_send()
    take(store, outer, foreign_process(outer).but(flags=LOCAL))
    assert sorted(flat(judged(store), "producer", "receiver")) == [("", "ledger"), ("legacy", "")]


def test_an_empty_poll_is_no_message(store: Store) -> None:
    """A receive span of a client that got nothing makes no delivery."""
    poll = S(
        kind=CLIENT,
        parent=new_span(),
        attributes={"messaging.system": "kafka", "messaging.operation.type": "receive"},
    )
    take(store, poll)
    assert judged(store) == []


def test_old_names_become_hops(store: Store) -> None:
    """Deprecated attribute names fill the same columns as those in force."""
    send = foreign_send(
        **{
            "messaging.kafka.partition": 3,
            "messaging.kafka.message.offset": 17,
            "messaging.message_id": "order-17",
            "messaging.conversation_id": "c-1",
        }
    )
    take(store, send, foreign_process(send))
    row = judged(store)[0]
    assert (row["system"], row["destination"], row["partition"], row["offset"], row["conversation"]) == (
        "kafka",
        "orders",
        "3",
        17,
        "c-1",
    )
    spans = store.query("flow_spans", {"flow": send.trace.hex(), "top": 10})
    assert flat(spans, "operation", "destination") == [("send", "orders"), ("process", "orders")]


def test_old_http_names_become_calls(store: Store) -> None:
    """http.method, net.peer.* and http.status_code tell of a call as the names in force do."""
    client = S(
        kind=CLIENT,
        service="web",
        attributes={
            "http.method": "GET",
            "net.peer.name": "api",
            "net.peer.port": 8080,
            "http.status_code": 200,
        },
    )
    take(store, client)
    assert flat(judged(store), "producer", "system", "destination", "receiver", "verdict") == [
        ("web", "http", "GET api:8080", "api:8080", "settled")
    ]


def test_amqp_as_others_spell_it(store: Store) -> None:
    """`exchange:key:queue` of the conventions is destination `exchange:key` and receiver `queue`."""
    send = S(
        kind=PRODUCER,
        service="legacy",
        attributes={
            "messaging.system": "rabbitmq",
            "messaging.destination": "events",
            "messaging.rabbitmq.routing_key": "order.new",
            "messaging.operation": "publish",
        },
    )
    read = S(
        kind=CONSUMER,
        service="mail",
        start=1,
        end=2,
        trace=send.trace,
        parent=send.id,
        flags=REMOTE,
        attributes={
            "messaging.system": "rabbitmq",
            "messaging.destination.name": "events:order.new:mail-queue",
            "messaging.operation.type": "process",
        },
    )
    take(store, send, read)
    assert flat(judged(store), "destination", "receiver", "verdict") == [
        ("events:order.new", "mail-queue", "settled")
    ]


def test_commits_and_reports_are_no_messages(store: Store) -> None:
    """A commit is a position, not a delivery, and no flow of its own."""
    commit = committed("orders", 5)
    take(store, commit)
    assert judged(store) == []
    window = {
        "since": at(-10), "until": at(10), "service": "", "destination": "", "top": 10, **NOTHING.parameters(),
    }  # fmt: skip
    assert store.query("recent_flows", window) == []
