"""Messages of which one side, or both, were told by other instrumentations and in other spellings."""

import time
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_support import (
    CLIENT,
    CONSUMER,
    INTERNAL,
    LOCAL,
    PRODUCER,
    REMOTE,
    SERVER,
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
from hopwatch_collector.engine.senders import AGES_S
from hopwatch_collector.engine.upkeep import Upkeep
from hopwatch_collector.errors import EngineUnavailable
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


@dataclass(frozen=True, slots=True)
class Told:
    """A message, as services tell of it: by whom it is sent, and by how many consumers of other instrumentations it is read."""

    ours: bool
    readers: int
    linked: bool

    def spans(self, number: int) -> list[S]:
        """The send first, then what each reader did, which tells of it twice."""
        send = (
            sent("orders", "kafka", service="legacy", start=number / 10)
            if self.ours
            else foreign_send(start=number / 10)
        )
        reads = [
            foreign_process(send, linked=self.linked, **{"messaging.kafka.consumer.group": f"group-{reader}"})
            for reader in range(self.readers)
        ]
        again = [read.but(id=new_span(), start=1.2, end=1.3) for read in reads]
        return [send, *reads, *again]


@dataclass(frozen=True, slots=True)
class Arrival:
    """How spans come in: in which order, how many at a time, how long after the batch before, and whether to a new process."""

    order: list[float]
    sizes: list[int]
    pauses: list[float]
    restarts: list[bool]

    def batches(self, spans: list[S]) -> list[list[S]]:
        """The spans in this order, cut."""
        left = [span for _, span in sorted(zip(self.order, spans, strict=False), key=lambda one: one[0])]
        found = []
        for size in self.sizes:
            found.append(left[:size])
            left = left[size:]
        return [batch for batch in [*found, left] if batch]


def arrivals(pauses: st.SearchStrategy[float]) -> st.SearchStrategy[Arrival]:
    """Any arrival of up to 20 spans with such pauses between the batches."""
    return st.builds(
        Arrival,
        order=st.lists(st.floats(0, 1), min_size=20, max_size=20),
        sizes=st.lists(st.integers(1, 5), min_size=19, max_size=19),
        pauses=st.lists(pauses, min_size=20, max_size=20),
        restarts=st.lists(st.booleans(), min_size=20, max_size=20),
    )


def forget(store: Store) -> None:
    """Forget all that bears on who sent what to whom."""
    for table in ("ledger", "spans", "span_minutes", "senders_wanted", "strangers"):
        store._writer.command(f"TRUNCATE TABLE {table}")


class Clock:
    """Seconds since 1970: at least those that really passed."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


def come(store: Store, spans: list[S], arrival: Arrival) -> Clock:
    """Let them come in, upkeep after each batch."""
    clock = Clock()
    upkeep = Upkeep(store._keeper, StoreSettings(), clock=clock)
    for batch, pause, restart in zip(arrival.batches(spans), arrival.pauses, arrival.restarts, strict=False):
        take(store, *batch)
        if restart:
            upkeep = Upkeep(store._keeper, StoreSettings(), clock=clock)
        upkeep.run(None, clock())
        clock.ahead += pause
    return clock


MESSAGES = st.lists(st.builds(Told, st.booleans(), st.integers(1, 2), st.booleans()), min_size=1, max_size=3)
FACTS = ("destination", "producer", "consumer", "receiver", "verdict", "attempts")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(told=MESSAGES, arrival=arrivals(st.floats(0.1, 40.0)))
def test_as_soon_as_both_are_there(store: Store, told: list[Told], arrival: Arrival) -> None:
    """Whatever comes in which order, in which batches and to which process, each reader has its message with the last batch."""
    forget(store)
    spans = [span for number, one in enumerate(told) for span in one.spans(number)]
    take(store, *spans)
    Upkeep(store._keeper, StoreSettings()).run(None, time.time())
    at_once = sorted(flat(judged(store), "message", *FACTS))
    assert {row[-2] for row in at_once} == {"settled"}
    forget(store)
    come(store, spans, arrival)
    assert sorted(flat(judged(store), "message", *FACTS)) == at_once


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(told=MESSAGES, arrival=arrivals(st.sampled_from([1.0, 100.0, 2_000.0, 3_000.0])))
def test_in_the_end_whenever_they_come(store: Store, told: list[Told], arrival: Arrival) -> None:
    """However long sender and receivers keep each other waiting, and whoever restarts meanwhile, they meet."""
    forget(store)
    spans = [span for number, one in enumerate(told) for span in one.spans(number)]
    clock = come(store, spans, arrival)
    upkeep = Upkeep(store._keeper, StoreSettings(), clock=clock)
    for age in AGES_S:
        clock.ahead += age + 1
        upkeep.run(None, clock())
    rows = judged(store)
    assert {row["verdict"] for row in rows} == {"settled"}
    assert sorted(flat(rows, "producer", "receiver")) == sorted(
        ("legacy", f"group-{reader}") for one in told for reader in range(one.readers)
    )


def test_what_failed_once_is_done_the_next_time(store: Store) -> None:
    """Upkeep that the engine did not answer looks for senders again, though nothing came in since."""
    send = sent("orders", "kafka", service="legacy")
    take(store, foreign_process(send))
    store.maintain()
    take(store, send)
    store._writer.command("RENAME TABLE strangers TO strangers_away")
    with pytest.raises(EngineUnavailable):
        store.maintain()
    store._writer.command("RENAME TABLE strangers_away TO strangers")
    store.maintain()
    assert flat(judged(store), *COLUMNS) == SEEN


def test_the_last_before_a_start_are_looked_for_with_the_first_after_it(store: Store) -> None:
    """A sender that comes to a collector that was away for hours finds what its receivers told before."""
    now = time.time()
    send = sent("orders", "kafka", service="legacy")
    take(store, foreign_process(send))
    Upkeep(store._keeper, StoreSettings(), clock=lambda: now).run(None, now)
    now += 10 * 3_600
    again = Upkeep(store._keeper, StoreSettings(), clock=lambda: now)
    again.run(None, now)
    take(store, send)
    now += 5
    assert again.run(None, now) == 1
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


def test_a_parent_in_another_process_is_the_sender(store: Store) -> None:
    """A consumer below the sender's span received from it, though it links to something else."""
    send, other = foreign_send(), foreign_send(service="other")
    take(store, send, other, foreign_process(send).but(links=[(other.trace, other.id)]))
    assert sorted(flat(judged(store), "producer", "receiver")) == [("legacy", "ledger"), ("other", "")]


def test_a_send_may_link_to_something(store: Store) -> None:
    """What caused a message to be sent does not keep it from being one."""
    send = foreign_send(links=[(new_trace(), new_span())])
    take(store, send, foreign_process(send))
    assert flat(judged(store), *COLUMNS) == SEEN


@pytest.mark.parametrize("flags", [0, REMOTE])
def test_a_batch_of_one_below_its_sender_is_a_message(store: Store, flags: int) -> None:
    """A consumer that tells how many messages it got, one, received the one it is below of."""
    send = foreign_send()
    take(store, send, foreign_process(send).but(flags=flags, messaging__batch__message_count=1))
    assert flat(judged(store), *COLUMNS) == SEEN


@pytest.mark.parametrize("kind", [INTERNAL, SERVER, CLIENT])
def test_whoever_processes_below_a_sender_received(store: Store, kind: int) -> None:
    """A span that processes a message below one of another process is a receiver, of whatever kind it says it is."""
    send = foreign_send()
    take(store, send, foreign_process(send).but(kind=kind))
    assert flat(judged(store), *COLUMNS) == SEEN


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
