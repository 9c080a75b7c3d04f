"""What is answered where the clocks of producers or consumers are five minutes off, either way."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from clock_support import SCOPE, ago, call
from evidence_support import looked, stood
from ledger_support import (
    S,
    asked,
    committed,
    in_kafka,
    moved,
    new_trace,
    processed,
    samples_of,
    sent,
    subscribed,
    take,
)

from hopwatch_collector.api.models import Verdict
from hopwatch_collector.engine import Store
from hopwatch_collector.query import Queries, Window

OFF = pytest.mark.parametrize("off", [-300.0, 300.0], ids=["behind", "ahead"])


def at_shop(
    seconds_ago: float, off: float, destination: str = "orders", system: str = "nats", **more: Any
) -> S:
    """A message that the shop, whose clock is off, sent so long ago."""
    return sent(destination, system, start=ago(seconds_ago) + off, host="shop-1", scope=SCOPE, **more)


def known(store: Store, off: float, host: str = "shop-1") -> None:
    """The shop is called by somebody whose clock is right, so that its clock is known."""
    take(store, *call("web-1", host, ago(5), 0.005, 0.002, {host: off}))
    store._upkeep.pair_clocks()


def last_hour() -> Window:
    now = datetime.now(UTC)
    return Window(now - timedelta(hours=1), now)


def verdicts(queries: Queries, *sends: S) -> Mapping[str, Verdict]:
    """Verdicts by message id, all of which must be among the deliveries of the last hour."""
    found = {one.message_id: one.verdict for one in queries.deliveries(last_hour()).deliveries}
    return {name: found[send.message] for name, send in zip("abcdef", sends, strict=False)}


@OFF
def test_a_producers_clock_decides_neither_title_nor_age(store: Store, off: float) -> None:
    """Who was subscribed when it was sent, for how long it has waited, what is overdue: by the collector's clock."""
    early, old, new, late = (at_shop(seconds, off) for seconds in (100, 50, 12, 3))
    take(store, early, old, new, late)
    take(
        store, subscribed(start=ago(60), receiver="queue", durable=True),
        subscribed(start=ago(8), receiver="queue", durable=True, report="unsubscribe"),
    )  # fmt: skip
    known(store, off)
    queries = asked(store)
    assert verdicts(queries, early, old, new, late) == {
        "a": Verdict.NO_RECEIVER,
        "b": Verdict.OVERDUE,
        "c": Verdict.WAITING,
        "d": Verdict.NO_RECEIVER,
    }
    (row,) = queries.lag().rows
    assert (row.receiver, row.waiting) == ("queue", 2)
    assert 49 < row.oldest_s < 70
    (told,) = [one for one in queries.deliveries(last_hour()).deliveries if one.message_id == new.message]
    assert told.sent_at is not None
    assert abs((told.sent_at - told.since).total_seconds() - off) < 0.1
    assert abs(told.sender_clock_offset_s - off) < 0.1
    assert told.since < datetime.now(UTC)


@OFF
def test_a_consumers_clock_decides_nothing_either(store: Store, off: float) -> None:
    """When it subscribed, began and committed; and nothing takes less than no time."""
    send = sent("orders", "kafka", start=ago(20), host="web-1", scope=SCOPE, **in_kafka(7))
    unread = sent("orders", "kafka", start=ago(19), host="web-1", scope=SCOPE, **in_kafka(8))
    theirs = {"host": "shop-1", "scope": SCOPE}
    commit = committed("orders", 9, start=ago(10) + off).but(**theirs)
    take(
        store, send, unread, subscribed(start=ago(25) + off, system="kafka").but(**theirs),
        processed(send, start=ago(18) + off, settle="none", **theirs), commit.but(host="shop-1"),
    )  # fmt: skip
    known(store, off)
    queries = asked(store)
    assert verdicts(queries, send, unread) == {"a": Verdict.SETTLED, "b": Verdict.SKIPPED}
    message = queries.message(send.message)
    assert message is not None
    (told,) = message.deliveries
    assert told.latency_ms == pytest.approx(2000, abs=50)
    assert told.sent_at is not None
    assert told.received_at is not None
    assert told.settled_at is not None
    assert (told.received_at - told.sent_at).total_seconds() == pytest.approx(2 + off, abs=0.1)
    assert told.receiver_clock_offset_s == pytest.approx(off, abs=0.1)
    assert told.history[0].clock_offset_s == pytest.approx(off, abs=0.1)
    assert 8 < (datetime.now(UTC) - told.settled_at).total_seconds() < 20
    why = queries.why(send.message)
    assert why is not None
    times = [one.at for one in why.explanations[0].evidence if one.at is not None]
    assert times == sorted(times)
    words = " ".join(one.says for one in why.explanations[0].evidence)
    assert re.search(r"\(its clock is (299\.9|300\.0)\d+ s (ahead|behind): corrected\)", words)
    (claim,) = [one.at for one in why.explanations[0].evidence if "is owed" in one.says]
    assert claim is not None
    assert 20 < (datetime.now(UTC) - claim).total_seconds() < 40
    (edge,) = [
        one for one in queries.topology(last_hour()).edges if one.destination == "orders" and one.p50_ms
    ]
    assert (edge.p50_ms, edge.backwards) == (pytest.approx(2000, abs=50), 0)


@OFF
def test_a_seek_is_after_what_it_jumped_over(store: Store, off: float) -> None:
    """Whichever of both clocks is off: the seek counts from when it was, and is told of at that moment."""
    send = at_shop(20, off, "orders", "kafka", **in_kafka(7))
    theirs = sent("orders", "kafka", start=ago(19), host="web-1", scope=SCOPE, **in_kafka(8))
    claim = subscribed("orders", "billing", system="kafka", start=ago(60))
    take(store, send, theirs, claim, moved(5, 9, start=ago(15) + off).but(host="shop-1", scope=SCOPE))
    known(store, off)
    rows = asked(store).deliveries(last_hour()).deliveries
    assert {
        (row.cause, round((datetime.now(UTC) - row.since).total_seconds(), -1))
        for row in rows
        if row.destination == "orders"
    } == {("skipped.seek", 20)}


@OFF
def test_counters_of_a_queue_are_compared_at_the_right_moment(store: Store, off: float) -> None:
    """What a queue held before a message came, and what has moved since: the producer's clock does not say when that was."""
    stood(store, "rabbitmq", "mail", ago(40), waiting=0, in_hand=0, published=0, handed=0, acked=0)
    take(store, subscribed("mail", "mail", system="rabbitmq", start=ago(60)))
    send = at_shop(30, off, "mail", "rabbitmq")
    take(store, send)
    stood(store, "rabbitmq", "mail", ago(28), waiting=0, in_hand=0, published=1, handed=1, acked=1)
    looked(store, "rabbitmq", ago(2))
    known(store, off)
    assert verdicts(asked(store), send) == {"a": Verdict.SETTLED}


@OFF
def test_a_log_that_was_read_past_is_settled(store: Store, off: float) -> None:
    """What a broker says of an offset does not depend on when a clock says it was written."""
    take(store, subscribed("orders", "billing", system="kafka", start=ago(60)))
    done, held = (at_shop(40, off, "orders", "kafka", **in_kafka(offset)) for offset in (7, 8))
    take(store, done, held)
    stood(
        store, "kafka", "billing", ago(4), destination="orders", partition="0", first=0, end=9, next=8, done=8, waiting=1,
    )  # fmt: skip
    looked(store, "kafka", ago(2))
    known(store, off)
    assert verdicts(asked(store), done, held) == {"a": Verdict.SETTLED, "b": Verdict.OVERDUE}


@OFF
def test_a_flow_takes_as_long_as_it_took(store: Store, off: float) -> None:
    """Its spans come in the order in which they happened, it is among the recent ones, and its duration is no clock's error."""
    trace = new_trace()
    asks, serves = call("web-1", "shop-1", ago(4), 0.01, 0.5, {"shop-1": off})
    publish = at_shop(3.8, off, trace=trace)
    handle = processed(publish, start=ago(3.6), host="web-1", scope=SCOPE)
    take(store, asks.but(trace=trace), serves.but(trace=trace), publish.but(parent=serves.id), handle)
    known(store, off)
    queries = asked(store)
    flow = queries.flow(trace.hex())
    assert flow is not None
    assert [span.span_id for span in flow.spans] == [one.id.hex() for one in (asks, serves, publish, handle)]
    assert flow.summary.duration_ms < 2000
    assert {round(span.clock_offset_s) for span in flow.spans} == {0, round(off)}
    for hop in flow.hops:
        assert hop.latency_ms is not None
        assert 0 <= hop.latency_ms < 1000
    now = datetime.now(UTC)
    (summary,) = [
        one
        for one in queries.flows(Window(now - timedelta(minutes=1), now)).flows
        if one.flow_id == trace.hex()
    ]
    assert summary.duration_ms < 2000
    live = queries.live(60.0)
    assert trace.hex() in [one.flow_id for one in live.flows]
    assert [clock.host for clock in live.clocks] == ["shop-1"]


@OFF
def test_edges_do_not_depend_on_clocks(store: Store, off: float) -> None:
    """Who reached whom is counted by when it came in."""
    send = at_shop(10, off)
    take(store, send, processed(send, start=ago(9), host="web-1"))
    store._upkeep.sum_edges()
    (edge,) = store.query("edge_totals", {"top": 10})
    assert (edge["client"], edge["server"], edge["requests"]) == ("shop", "billing", 1)


def test_what_cannot_be_measured_is_no_latency(store: Store) -> None:
    """A receipt before its sending, by clocks nobody could compare yet: counted, in no latency, and never less than nothing."""
    send = at_shop(10, 300.0)
    take(store, send, processed(send, start=ago(9), host="web-1"))
    now = datetime.now(UTC)
    (edge,) = asked(store).topology(Window(now - timedelta(minutes=10), now + timedelta(minutes=10))).edges
    assert (edge.p50_ms, edge.backwards) == (None, 1)
    (told,) = asked(store).deliveries(last_hour()).deliveries
    assert told.latency_ms == 0.0


def test_metrics_tell_of_clocks(store: Store) -> None:
    """Each host's offset, and what is taken off."""
    known(store, 300.0)
    told = {
        (name, labels["host"]): value for name, labels, value in samples_of(asked(store)) if "clock" in name
    }
    assert told["hopwatch_clock_corrected_seconds", "shop-1"] == pytest.approx(300, abs=0.1)
    assert told["hopwatch_clock_corrected_seconds", "web-1"] == 0
    assert told["hopwatch_clock_offset_seconds", "shop-1"] == pytest.approx(300, abs=0.1)
