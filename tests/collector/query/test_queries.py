"""The questions, asked of small stories: what comes back, what is left out, what is cut off."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from ledger_support import (
    CLIENT,
    ERROR,
    REMOTE,
    SERVER,
    S,
    asked,
    at,
    committed,
    in_kafka,
    new_span,
    new_trace,
    opened,
    processed,
    samples_of,
    sent,
    subscribed,
    take,
)

from hopwatch_collector.api.models import Verdict
from hopwatch_collector.engine import Store
from hopwatch_collector.errors import InvalidCursor
from hopwatch_collector.query import Queries, SearchQuery, Window

HOUR = Window(at(-600), at(3000))


@pytest.fixture
def queries(store: Store) -> Queries:
    return asked(store)


def seconds_ago(seconds: float) -> float:
    """A moment so long ago, in seconds of the story."""
    return (datetime.now(UTC) - at(0)).total_seconds() - seconds


def shop(store: Store, start: float = 0.0) -> tuple[S, S, S]:
    """A flow of three services: a request that sends a message that is processed."""
    root = S(
        name="POST /orders",
        service="gateway",
        kind=SERVER,
        start=start,
        end=start + 0.2,
        attributes={"http.request.method": "POST", "http.route": "/orders"},
    )
    send = sent("orders", service="gateway", start=start + 0.1).but(
        trace=root.trace, parent=root.id, **{"hopwatch.key.order_id": "4711"}
    )
    process = processed(send, start=start + 0.5).but(**{"hopwatch.key.order_id": "4711"})
    take(store, subscribed(start=start - 1), root, send, opened(process), process)
    return root, send, process


def look(q: str, **filters: object) -> SearchQuery:
    given = {
        "service": None,
        "destination": None,
        "receiver": None,
        "verdicts": None,
        "window": HOUR,
        "limit": 20,
        **filters,
    }
    return SearchQuery(q=q, **given)  # type: ignore[arg-type]


def test_a_flow_in_brief(store: Store, queries: Queries) -> None:
    """A flow is named after its root, counts each span once, and leaves reports out."""
    root, send, process = shop(store)
    take(store, send)
    (flow,) = queries.flows(HOUR).flows
    assert (flow.flow_id, flow.name, flow.service, flow.state) == (
        root.trace.hex(),
        "POST /orders",
        "gateway",
        "done",
    )
    assert (flow.spans, flow.hops, flow.undelivered, flow.errors) == (3, 2, 0, 0)
    assert flow.services == ["billing", "gateway"]
    assert flow.keys == {"order_id": "4711"}
    assert flow.last_at == at(process.end)


@pytest.mark.parametrize(
    ("ending", "state"),
    [
        ({"settle": "ack"}, "done"),
        ({"settle": "ack", "error": "boom"}, "undelivered"),
        ({"settle": "nack"}, "active"),
    ],
)
def test_the_state_of_a_flow(store: Store, ending: dict[str, str], state: str) -> None:
    """Undelivered comes before active, active before done."""
    start = seconds_ago(5)
    send = sent(start=start)
    take(store, send, processed(send, start=start + 1, **ending))
    window = Window(at(start - 60), at(start + 60))
    assert [flow.state for flow in asked(store).flows(window).flows] == [state]
    assert len(asked(store).flows(window, state="failed").flows) == 0


def test_a_flow_with_an_erring_span_failed(store: Store, queries: Queries) -> None:
    """Where all was delivered, an error in some span makes the flow failed."""
    take(store, S(name="root", status=ERROR, words="boom"))
    (flow,) = queries.flows(HOUR).flows
    assert (flow.state, flow.errors) == ("failed", 1)


def test_flows_are_filtered_and_cut_off(store: Store, queries: Queries) -> None:
    """Filters hold for any span of a flow; what is cut off is said."""
    shop(store)
    shop(store, 10.0)
    take(store, S(name="other", service="cron", start=20.0))
    assert len(queries.flows(HOUR).flows) == 3
    assert [flow.service for flow in queries.flows(HOUR, limit=1).flows] == ["cron"]
    assert queries.flows(HOUR, limit=1).truncated
    assert len(queries.flows(HOUR, service="billing").flows) == 2
    assert len(queries.flows(HOUR, destination="orders").flows) == 2
    assert queries.flows(HOUR, service="nobody").flows == []
    assert len(queries.flows(Window(at(9), at(11))).flows) == 1


def test_one_flow(store: Store, queries: Queries) -> None:
    """A flow shows its spans and hops oldest first, each span once, reports left out."""
    root, send, process = shop(store)
    take(store, process)
    flow = queries.flow(root.trace.hex())
    assert flow is not None
    assert [span.span_id for span in flow.spans] == [one.id.hex() for one in (root, send, process)]
    assert [(hop.destination, hop.receiver, hop.verdict) for hop in flow.hops] == [
        ("POST /orders", "gateway", "settled"),
        ("orders", "billing", "settled"),
    ]
    span = flow.spans[2]
    assert (span.kind, span.service, span.instance, span.operation, span.receiver, span.message_id) == (
        "consumer",
        "billing",
        "1",
        "process",
        "billing",
        send.message,
    )
    assert span.parent_span_id == send.id.hex()
    assert span.attributes["hopwatch.key.order_id"] == "4711"
    assert flow.summary.hops == len(flow.hops)
    assert not flow.truncated


def test_flows_over_several_traces(store: Store, queries: Queries) -> None:
    """Spans of other traces that carry the flow id belong to the flow, and any of its trace ids leads to it."""
    root, send, _ = shop(store)
    later = S(name="retry", start=5.0, attributes={"hopwatch.flow.id": root.trace.hex()})
    take(store, later)
    flow = queries.flow(later.trace.hex())
    assert flow is not None
    assert flow.summary.flow_id == root.trace.hex()
    assert [span.name for span in flow.spans][-1] == "retry"
    assert len(queries.flows(HOUR).flows) == 1
    assert send.trace == root.trace


def test_linked_flows(store: Store, queries: Queries) -> None:
    """A link makes the linked flow upstream of the linking one, and that one downstream of it."""
    first = S(name="first")
    second = S(name="second", links=[(first.trace, first.id)])
    take(store, first, second)
    upstream, downstream = queries.flow(second.trace.hex()), queries.flow(first.trace.hex())
    assert upstream is not None
    assert downstream is not None
    assert [(one.flow_id, one.direction) for one in upstream.linked] == [(first.trace.hex(), "upstream")]
    assert [(one.flow_id, one.direction) for one in downstream.linked] == [(second.trace.hex(), "downstream")]
    assert [link.span_id for link in upstream.spans[0].links] == [first.id.hex()]


def test_events_and_values(store: Store, queries: Queries) -> None:
    """Events keep their time and attributes."""
    span = S(events=[(0.005, "exception", {"exception.type": "ValueError"})], attributes={"tries": 3})
    take(store, span)
    flow = queries.flow(span.trace.hex())
    assert flow is not None
    (event,) = flow.spans[0].events
    assert (event.at, event.name, event.attributes) == (
        at(0.005),
        "exception",
        {"exception.type": "ValueError"},
    )
    assert flow.spans[0].attributes["tries"] == "3"


@pytest.mark.parametrize("asked", ["", "x", "0" * 32, "é" * 32, "'; DROP TABLE spans; --", "f" * 33])
def test_what_is_no_flow(queries: Queries, asked: str) -> None:
    """What is no id of a flow leads to none."""
    assert queries.flow(asked) is None
    assert queries.message(asked) is None


def test_one_message(store: Store, queries: Queries) -> None:
    """A message is found by its id in any case and by its alias, with every attempt of every receiver."""
    send = sent("orders", "kafka", **in_kafka(7, "2")).but(**{"hopwatch.alias": ["order-4711"]})
    first = processed(send, settle="nack", error="no", start=1.0)
    second = processed(send, attempt=2, start=3.0)
    take(store, send, first, second, processed(send, "mail", service="mail"))
    message = queries.message(send.message.upper())
    assert message is not None
    assert message == queries.message("order-4711") == queries.message(send.message.replace("-", ""))
    assert (message.message_id, message.aliases, message.partition, message.offset) == (
        send.message,
        ["order-4711"],
        "2",
        7,
    )
    assert (message.span_id, message.publish_outcome, message.producer) == (
        send.id.hex(),
        "confirmed",
        "shop",
    )
    billing = next(one for one in message.deliveries if one.receiver == "billing")
    assert [(one.number, one.settle_outcome, one.error, one.span_id) for one in billing.history] == [
        (1, "nack", "no", first.id.hex()), (2, "ack", "", second.id.hex()),
    ]  # fmt: skip
    assert billing.latency_ms == pytest.approx(1000.0)
    assert {one.receiver for one in message.deliveries} == {"billing", "mail"}


def test_deliveries_are_filtered_and_cut_off(store: Store, queries: Queries) -> None:
    """Deliveries are chosen by verdict, destination, receiver and service, newest first."""
    for number in range(4):
        send = sent(f"topic.{number % 2}", start=float(number))
        take(store, send, *([processed(send, start=number + 0.5)] if number else []))
    found = queries.deliveries(HOUR)
    assert [one.sent_at for one in found.deliveries] == [at(3.0), at(2.0), at(1.0), at(0.0)]
    assert [
        one.verdict for one in queries.deliveries(HOUR, verdicts=frozenset({Verdict.NO_RECEIVER})).deliveries
    ] == ["no_receiver"]
    assert len(queries.deliveries(HOUR, destination="topic.1").deliveries) == 2
    assert len(queries.deliveries(HOUR, receiver="billing").deliveries) == 3
    assert len(queries.deliveries(HOUR, service="billing").deliveries) == 3
    assert queries.deliveries(HOUR, limit=2).truncated
    assert len(queries.deliveries(Window(at(0.5), at(2.5))).deliveries) == 2


def test_lag(store: Store, queries: Queries) -> None:
    """Lag is what waits and what is in flight for a receiver, and for how long the oldest has waited."""
    start = seconds_ago(20)
    take(store, subscribed(start=start - 5), subscribed("other", "idle", start=start - 5))
    sends = [sent(start=start + n) for n in range(4)]
    take(
        store,
        *sends,
        processed(sends[0], start=start + 1, hopwatch__pending=3),
        opened(processed(sends[1], start=start + 5)),
    )
    (row,) = queries.lag().rows
    assert (row.destination, row.receiver, row.waiting, row.in_flight, row.pending_reported) == (
        "orders",
        "billing",
        2,
        1,
        3,
    )
    assert 17 < row.oldest_s < 60
    # The report of an open hop is a second younger than the hop.
    assert row.last_received_at == at(start + 6)
    assert row.sample_flow_ids[0] == sends[1].trace.hex() or row.sample_flow_ids[0] == sends[2].trace.hex()


def test_topology(store: Store, queries: Queries) -> None:
    """Edges join producers and consumers through destinations, with counts and latencies."""
    for number in range(4):
        send = sent(start=float(number))
        take(
            store,
            send,
            processed(send, start=number + 0.1, error="boom" if number == 3 else "", settle="auto"),
        )
    (edge,) = queries.topology(HOUR).edges
    assert (edge.producer, edge.destination, edge.receiver, edge.consumer) == (
        "shop",
        "orders",
        "billing",
        "billing",
    )
    assert (edge.deliveries, edge.undelivered, edge.errors) == (4, 1, 1)
    assert edge.p50_ms == pytest.approx(100.0, abs=1.0)


def test_search(store: Store, queries: Queries) -> None:
    """Ids, aliases and business keys lead to messages and flows; `why` names what matched."""
    root, send, _ = shop(store)
    take(store, send.but(**{"hopwatch.alias": ["shop-order-9"]}))

    def found(q: str, **filters: object) -> list[tuple[str, str, str]]:
        return sorted((hit.kind, hit.id, hit.why) for hit in queries.search(look(q, **filters)).hits)

    message, flow = send.message, root.trace.hex()
    assert found(message) == [("message", message, "message id")]
    assert found("shop-order-9") == [("message", message, "alias")]
    assert found(flow) == [("flow", flow, "flow id")]
    by_key = [("flow", flow, "key order_id"), ("message", message, "key order_id")]
    assert found("4711") == by_key
    assert found("order_id=4711") == by_key
    assert found("customer=4711") == []
    assert found("nothing like it") == []
    assert found("4711", receiver="billing") == by_key[1:]
    assert found("4711", receiver="nobody") == []
    assert [kind for kind, _, _ in found("", destination="orders")] == ["message"]
    assert found("", verdicts=frozenset({Verdict.LOST})) == []


def test_a_key_leads_to_whole_flows(store: Store, queries: Queries) -> None:
    """The state of a flow found by a key counts all its messages, also those without the key; the messages are only those with it."""
    _, send, _ = shop(store)
    take(store, sent("stock", start=0.2, outcome="returned").but(trace=send.trace))
    message, flow = sorted(queries.search(look("order_id=4711")).hits, key=lambda hit: hit.kind, reverse=True)
    assert (message.kind, message.id, message.state) == ("message", send.message, "settled")
    assert (flow.kind, flow.id, flow.state) == ("flow", send.trace.hex(), "undelivered")


def test_a_search_shows_the_worst_verdict(store: Store, queries: Queries) -> None:
    """Of a message with several deliveries the one a person should see decides."""
    send = sent()
    take(store, send, processed(send), processed(send, "mail", settle="auto", error="boom"))
    (hit,) = queries.search(look(send.message)).hits
    assert hit.state == "failed"


def test_live(store: Store, queries: Queries) -> None:
    """One snapshot: newest flows with their states, counts of verdicts, lag, what is undelivered."""
    start = seconds_ago(10)
    take(store, subscribed(start=start - 1))
    root, _, _ = shop(store, start)
    lost = sent("nowhere", start=start + 1)
    waiting = sent(start=start + 2)
    take(store, lost, waiting)
    live = queries.live(300.0)
    assert [(flow.flow_id, flow.state) for flow in live.flows] == [
        (waiting.trace.hex(), "active"), (lost.trace.hex(), "undelivered"), (root.trace.hex(), "done"),
    ]  # fmt: skip
    assert {one.verdict: one.deliveries for one in live.verdicts} == {
        "settled": 2,
        "no_receiver": 1,
        "waiting": 1,
    }
    assert [(row.receiver, row.waiting) for row in live.lag] == [("billing", 1)]
    assert [one.message_id for one in live.undelivered] == [lost.message]
    assert live.undelivered[0].trace_id == lost.trace.hex()
    assert not live.truncated


def test_what_is_yet_to_be_judged_is_shown_as_such(store: Store, queries: Queries) -> None:
    """A new flow is there at once, active, with a hop per message; one without messages is as it is; the old ones stay."""
    start = seconds_ago(10)
    take(store, subscribed(start=start - 1))
    root, _, _ = shop(store, start)
    assert [(one.verdict, one.deliveries) for one in queries.live(300.0).verdicts] == [("settled", 2)]
    lost = sent("nowhere", start=start + 2)
    job = S(name="nightly job", start=start + 1, end=start + 1.5, attributes={})
    take(store, lost, job)
    live = Queries(store).live(300.0)
    assert [(flow.flow_id, flow.state, flow.hops) for flow in live.flows] == [
        (lost.trace.hex(), "active", 1), (job.trace.hex(), "done", 0), (root.trace.hex(), "done", 2),
    ]  # fmt: skip
    assert [(one.verdict, one.deliveries) for one in live.verdicts] == [("settled", 2)]
    now_judged = queries.live(300.0).flows[0]
    assert (now_judged.state, now_judged.hops) == ("undelivered", 1)


def test_live_of_nothing(queries: Queries) -> None:
    """An empty store has an empty snapshot."""
    live = queries.live(300.0)
    assert (live.flows, live.verdicts, live.lag, live.undelivered, live.truncated) == ([], [], [], [], False)


def test_metrics(store: Store, queries: Queries) -> None:
    """Calls, latencies, service graph, lag and deliveries, under the names that dashboards expect."""
    start = seconds_ago(10)
    shop(store, start)
    take(store, sent("nowhere", start=start))
    store._upkeep.sum_edges()
    samples = {(name, tuple(sorted(labels.items()))): value for name, labels, value in samples_of(queries)}
    calls = {
        labels: value for (name, labels), value in samples.items() if name == "traces_spanmetrics_calls_total"
    }
    assert (
        calls[
            (
                ("service", "billing"),
                ("span_kind", "SPAN_KIND_CONSUMER"),
                ("span_name", "process"),
                ("status_code", "STATUS_CODE_UNSET"),
            )
        ]
        == 1
    )
    infinite = [
        value
        for (name, labels), value in samples.items()
        if name == "traces_spanmetrics_latency_bucket" and ("le", "+Inf") in labels
    ]
    counts = [value for (name, _), value in samples.items() if name == "traces_spanmetrics_latency_count"]
    assert sorted(infinite) == sorted(counts)
    graph = (("client", "gateway"), ("connection_type", "messaging_system"), ("server", "billing"))
    assert samples[("traces_service_graph_request_total", graph)] == 1
    assert (
        samples[
            (
                "hopwatch_deliveries",
                (("destination", "nowhere"), ("receiver", ""), ("verdict", "no_receiver")),
            )
        ]
        == 1
    )
    assert (
        samples[
            (
                "hopwatch_lag_messages",
                (("destination", "orders"), ("receiver", "billing"), ("system", "nats")),
            )
        ]
        == 0
    )


def test_kafka_commits_are_no_flows(store: Store, queries: Queries) -> None:
    """Commits and reports begin traces of their own and yet are no flows."""
    take(store, committed("orders", 3), subscribed())
    assert queries.flows(HOUR).flows == []


def test_a_call_is_one_hop(store: Store, queries: Queries) -> None:
    """Client and server spans of one call are one delivery of the flow."""
    message, trace = str(uuid4()), new_trace()
    client = S(
        service="web",
        kind=CLIENT,
        trace=trace,
        id=new_span(),
        attributes={
            "http.request.method": "GET",
            "server.address": "api",
            "http.response.status_code": 200,
            "hopwatch.message.id": message,
        },
    )
    server = S(
        service="api",
        kind=SERVER,
        trace=trace,
        parent=client.id,
        flags=REMOTE,
        start=0.002,
        attributes={"http.request.method": "GET", "http.route": "/x", "hopwatch.message.id": message},
    )
    take(store, client, server)
    flow = queries.flow(trace.hex())
    assert flow is not None
    assert [(hop.producer, hop.consumer, hop.destination, hop.latency_ms) for hop in flow.hops] == [
        ("web", "api", "GET /x", 2.0)
    ]


def test_lists_come_page_by_page(store: Store, queries: Queries) -> None:
    """Each page goes on behind the one before, over minutes with and without matches, until all were told once."""
    sends = [sent(start=seconds_ago(700 - 30 * number)) for number in range(20)]
    for number, send in enumerate(sends):
        start = seconds_ago(700 - 30 * number - 0.5)
        take(store, send, processed(send, "billing", start=start), processed(send, "mail", start=start))
    window = Window(at(seconds_ago(800)), at(seconds_ago(0)))
    whole = queries.deliveries(window)
    assert [one.receiver for one in whole.deliveries[:2]] == ["billing", "mail"]
    assert (len(whole.deliveries), whole.next_cursor, whole.truncated) == (40, None, False)
    pages, cursor = [], None
    while page := queries.deliveries(window, limit=7, cursor=cursor):
        pages.append(page)
        cursor = page.next_cursor
        assert page.truncated == (cursor is not None)
        if cursor is None:
            break
    assert [len(page.deliveries) for page in pages] == [7, 7, 7, 7, 7, 5]
    assert [one for page in pages for one in page.deliveries] == whole.deliveries
    mail = queries.deliveries(window, receiver="mail", limit=3)
    assert [one.message_id for one in mail.deliveries] == [send.message for send in sends[:-4:-1]]
    assert sum(edge.deliveries for edge in queries.topology(window).edges) == 40


@pytest.mark.parametrize("cursor", ["nonsense", "", "🙂", "MSAw", "LTEgMDAgeA==", "0" * 5_000])
def test_a_cursor_of_nobody(queries: Queries, cursor: str) -> None:
    """A cursor that no answer gave is refused in words; an empty one is none."""
    if not cursor:
        assert queries.deliveries(HOUR, cursor=cursor).deliveries == []
        return
    with pytest.raises(InvalidCursor, match="next_cursor"):
        queries.deliveries(HOUR, cursor=cursor)
