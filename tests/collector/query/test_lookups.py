"""What is asked for by a name is found wherever it lies: on any day, told by any clock, under any kind of id."""

import os
import uuid
from datetime import UTC, datetime, time, timedelta

import pytest
from ledger_support import (
    CONSUMER,
    REMOTE,
    T0,
    S,
    asked,
    at,
    new_message,
    processed,
    request,
    sent,
    take,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from hopwatch_collector.engine import Store
from hopwatch_collector.query import Queries, SearchQuery, Window

HOUR = 3_600.0
DAYS = Window(at(-60 * 86_400), at(60 * 86_400))


def found(queries: Queries, text: str) -> set[str]:
    """Ids of what a person finds who pastes a text."""
    return {hit.id for hit in queries.search(SearchQuery(text, None, None, None, None, DAYS, 20)).hits}


def midnight() -> float:
    """The last midnight (UTC), in seconds of the story."""
    last = datetime.combine(datetime.now(UTC).date(), time(), UTC)
    return (last - T0).total_seconds()


def test_a_flow_over_midnight(store: Store) -> None:
    """What was sent before midnight and received after it is one flow with one delivery, whichever of its ids is asked for."""
    send = sent(start=midnight() - 30).but(**{"hopwatch.key.order_id": "4711"})
    process = processed(send, start=midnight() + 30)
    take(store, send, process)
    queries = asked(store)
    flow = queries.flow(send.trace.hex())
    assert flow is not None
    assert [span.span_id for span in flow.spans] == [send.id.hex(), process.id.hex()]
    assert [(hop.receiver, hop.verdict) for hop in flow.hops] == [("billing", "settled")]
    assert (flow.summary.spans, flow.summary.hops, flow.summary.state) == (2, 1, "done")
    message = queries.message(send.message)
    assert message is not None
    assert [one.span_id for one in message.deliveries[0].history] == [process.id.hex()]
    assert found(queries, "order_id=4711") == {send.message, send.trace.hex()}


@pytest.mark.parametrize("hours", [-100.0, -7.0, 7.0])
def test_a_message_id_of_a_clock_that_is_off(store: Store, hours: float) -> None:
    """An id made by a clock that is hours off, and a receiver by one that is right: the message is found, and all of it."""
    send = sent(start=hours * HOUR)
    process = processed(send, start=1.0)
    take(store, send, process)
    queries = asked(store)
    message = queries.message(send.message)
    assert message is not None
    assert (message.span_id, message.deliveries[0].verdict) == (send.id.hex(), "settled")
    assert message.deliveries[0].history[0].trace_id == send.trace.hex()
    assert found(queries, send.message) == {send.message}
    flow = queries.flow(send.trace.hex())
    assert flow is not None
    assert len(flow.spans) == 2


@pytest.mark.parametrize("days", [0, 1, 5])
def test_a_message_id_that_tells_no_time(store: Store, days: int) -> None:
    """A message id that is no UUIDv7 is found, its receiver days later too."""
    send = sent(message=str(uuid.uuid4()), start=-days * 24 * HOUR)
    process = processed(send, start=1.0)
    take(store, send, process)
    message = asked(store).message(send.message)
    assert message is not None
    assert message.span_id == send.id.hex()
    assert [(one.receiver, one.verdict, len(one.history)) for one in message.deliveries] == [
        ("billing", "settled", 1)
    ]


def test_an_id_means_the_message_of_that_id(store: Store) -> None:
    """Where an application gave a later message the earlier one's id for an alias, the id still means the earlier one."""
    first, copy = sent(), sent("copies", start=5.0)
    take(store, first, copy.but(**{"messaging.message.id": first.message}))
    queries = asked(store)
    message, by_alias = queries.message(first.message), queries.message(copy.message)
    assert message is not None
    assert by_alias is not None
    assert (message.destination, by_alias.destination) == ("orders", "copies")
    assert by_alias.aliases == [first.message]
    assert found(queries, first.message) == {first.message, copy.message}


def test_an_alias_means_the_latest_of_its_messages(store: Store) -> None:
    """An alias that several messages share leads to the one sent last."""
    sends = [sent(start=float(second), messaging__message__id="order 17") for second in (3, 9, 6)]
    take(store, *sends)
    message = asked(store).message("order 17")
    assert message is not None
    assert (message.message_id, message.aliases) == (sends[1].message, ["order 17"])


def test_spans_that_knew_only_the_sending_span(store: Store) -> None:
    """Of a receiver of another instrumentation the span is shown beside the message that it turned out to be about."""
    send = sent("orders", "kafka", service="legacy")
    process = S(
        name="orders process", service="ledger", instance="7", kind=CONSUMER, start=1.0, end=1.1, flags=REMOTE, trace=send.trace, parent=send.id,
        attributes={
            "messaging.system": "kafka", "messaging.operation": "process", "messaging.destination": "orders",
            "messaging.kafka.consumer.group": "ledger",
        },
    )  # fmt: skip
    take(store, send, process)
    store.maintain()
    message = asked(store).message(send.message)
    assert message is not None
    (attempt,) = message.deliveries[0].history
    assert (attempt.span_id, attempt.instance, attempt.number) == (process.id.hex(), "7", 1)


def test_links_lead_both_ways_to_flows_of_other_days(store: Store) -> None:
    """A flow's neighbours are named by the flows their traces belong to, though these began days before."""
    far = sent(start=-5 * 24 * HOUR).but(**{"hopwatch.flow.id": os.urandom(16).hex()})
    near = S(name="batch", links=[(far.trace, far.id)])
    take(store, far, near)
    queries = asked(store)
    far_flow = str(far.attributes["hopwatch.flow.id"])
    after, before = queries.flow(near.trace.hex()), queries.flow(far.trace.hex())
    assert after is not None
    assert before is not None
    assert [(one.flow_id, one.direction) for one in after.linked] == [(far_flow, "upstream")]
    assert before.summary.flow_id == far_flow
    assert [(one.flow_id, one.direction) for one in before.linked] == [(near.trace.hex(), "downstream")]


def test_a_key_is_found_by_its_exact_value_in_the_window(store: Store) -> None:
    """Names and values of keys are told apart, and what lies outside the window is left out."""
    sends = [
        sent(start=start).but(**{f"hopwatch.key.{name}": value})
        for start, name, value in ((0.0, "order", "1"), (1.0, "order", "11"), (2.0, "cart", "1"))
    ]
    take(store, *sends)
    queries = asked(store)
    assert found(queries, "order=1") == {sends[0].message, sends[0].trace.hex()}
    assert found(queries, "1") == {
        one for send in (sends[0], sends[2]) for one in (send.message, send.trace.hex())
    }
    later = SearchQuery("1", None, None, None, None, Window(at(1.5), at(9)), 20)
    assert {hit.id for hit in queries.search(later).hits} == {sends[2].message, sends[2].trace.hex()}


def test_a_span_that_is_dated_absurdly_is_found_by_its_trace(store: Store) -> None:
    """A clock that is centuries ahead hides no span from whoever knows its trace."""
    century = (datetime(2150, 1, 1, tzinfo=UTC) - T0) / timedelta(seconds=1)
    for start in (century, -40 * 365 * 86_400.0):
        span = S(name="far away", start=start, end=start + 1)
        take(store, span, S(name="near", trace=span.trace))
        flow = asked(store).flow(span.trace.hex())
        assert flow is not None
        assert {one.name for one in flow.spans} == {"far away", "near"}


LATEST = 2**64 - 1
IN_YEARS = int(datetime(2046, 1, 1, tzinfo=UTC).timestamp()) * 10**9
YEARS_AGO = int(datetime(2016, 1, 1, tzinfo=UTC).timestamp()) * 10**9


def misdated(span: S, start: int | None, end: int | None) -> bytes:
    """A request with the span, dated otherwise; None: as it is."""
    built = ExportTraceServiceRequest.FromString(request(span))
    (told,) = built.resource_spans[0].scope_spans[0].spans
    told.start_time_unix_nano = told.start_time_unix_nano if start is None else start
    told.end_time_unix_nano = told.end_time_unix_nano if end is None else end
    return built.SerializeToString()


@pytest.mark.parametrize("role", ["send", "receive"])
@pytest.mark.parametrize(
    ("start", "end"),
    [
        (0, 0), (0, None), (None, 0), (1, 1), (None, LATEST), (LATEST, LATEST), (LATEST, None), (9 * 10**18, 9 * 10**18),
        (IN_YEARS, IN_YEARS), (YEARS_AGO, None),
    ],
)  # fmt: skip
def test_what_is_accepted_can_be_found_and_opened(
    store: Store, role: str, start: int | None, end: int | None
) -> None:
    """However a span is dated: its message, flow, key and trace lead to it, lists of the last hour have it, and so do live views."""
    began = (datetime.now(UTC) - T0).total_seconds() - 5
    send = sent(start=began).but(**{"hopwatch.key.order_id": "4711"})
    process = processed(send, start=began + 0.1)
    odd, plain = (send, process) if role == "send" else (process, send)
    store.insert_otlp(misdated(odd, start, end), "odd")
    take(store, plain)
    queries = asked(store)
    for text in (send.message, send.trace.hex(), "order_id=4711", "4711"):
        assert found(queries, text) & {send.message, send.trace.hex()}, text
    message = queries.message(send.message)
    assert message is not None
    (delivery,) = message.deliveries
    assert (delivery.verdict, delivery.history[0].span_id) == ("settled", process.id.hex())
    flow = queries.flow(message.flow_id)
    assert flow is not None
    assert {span.span_id for span in flow.spans} == {send.id.hex(), process.id.hex()}
    assert abs(flow.summary.duration_ms) < 60_000
    now = datetime.now(UTC) + timedelta(seconds=1)
    window = Window(now - timedelta(hours=1), now)
    assert [one.message_id for one in queries.deliveries(window).deliveries] == [send.message]
    assert [one.flow_id for one in queries.flows(window).flows] == [message.flow_id]
    assert queries.search(SearchQuery("4711", None, None, None, None, window, 20)).hits


def test_what_nobody_told_of_is_not_found(store: Store) -> None:
    """Ids and keys that are in nothing stored lead nowhere, whatever is stored."""
    take(store, sent().but(**{"hopwatch.key.order": "1"}))
    queries = asked(store)
    assert queries.message(new_message()) is None
    assert queries.flow(os.urandom(16).hex()) is None
    assert found(queries, "order=2") == found(queries, str(uuid.uuid4())) == set()


def test_a_verdict_from_silence_says_so(store: Store) -> None:
    """What rests on nobody having said anything is marked, and for a minute as one that may change; what somebody said is not."""
    now = (datetime.now(UTC) - T0).total_seconds()
    lately, before = sent("alone", start=now - 20), sent("alone", start=now - 300)
    read = sent("orders", start=now - 20)
    take(store, lately, before, read, processed(read, start=now - 19))
    queries = asked(store)
    window = Window(at(-10), datetime.now(UTC) + timedelta(seconds=5))
    found_by = {one.message_id: one for one in queries.deliveries(window).deliveries}
    silent = found_by[lately.message]
    assert (silent.verdict, silent.by_silence) == ("no_receiver", True)
    assert silent.provisional_until == at(now - 20) + timedelta(seconds=60)
    assert (found_by[before.message].by_silence, found_by[before.message].provisional_until) == (True, None)
    assert (found_by[read.message].by_silence, found_by[read.message].provisional_until) == (False, None)
    assert [one.by_silence for one in queries.undelivered(window).causes] == [True]
