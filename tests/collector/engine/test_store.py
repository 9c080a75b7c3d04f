"""The store: batches exactly once, limits on queries, migrations, hostile values."""

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_support import (
    CONSUMER,
    S,
    asked,
    at,
    committed,
    empty,
    judged,
    processed,
    request,
    sent,
    subscribed,
    take,
)

from hopwatch_collector.engine import QueryLimit, QueryLimits, Store, schema
from hopwatch_collector.errors import EngineRefusal, EngineUnavailable
from hopwatch_collector.query import Window
from hopwatch_collector.query.clocks import NOTHING


def rows_of(store: Store) -> dict[str, int]:
    """Rows per table that insert_otlp fills."""
    tables = (
        "spans",
        "links",
        "resources",
        "ledger",
        "commits",
        "durable_subscriptions",
        "aliases",
        "senders_wanted",
        "span_minutes",
        "span_totals",
    )
    return {table: store._writer.query(f"SELECT count() FROM {table}").result_rows[0][0] for table in tables}


def everything() -> bytes:
    """A batch that reaches every table."""
    send = sent("orders", "kafka", hopwatch__alias=["order-7"])
    stranger = S(
        kind=CONSUMER,
        links=[(send.trace, send.id)],
        attributes={"messaging.system": "kafka", "messaging.operation.type": "process"},
    )
    return request(send, processed(send), committed("orders", 8), subscribed(), stranger)


def test_a_token_counts_once(store: Store) -> None:
    """A batch sent again with its token changes no table; with another token it is another batch."""
    batch = everything()
    store.insert_otlp(batch, "journal-1")
    once = rows_of(store)
    assert min(once.values()) > 0, once
    store.insert_otlp(batch, "journal-1")
    assert rows_of(store) == once
    store.insert_otlp(batch, "journal-2")
    assert rows_of(store)["spans"] == 2 * once["spans"]


@pytest.mark.parametrize("missing", ["ledger", "links", "spans"])
def test_a_batch_that_was_half_there_is_completed(store: Store, missing: str) -> None:
    """Sending a batch again fills in the tables its first try did not reach, and doubles no other."""
    batch = everything()
    store.insert_otlp(batch, "journal-1")
    whole = rows_of(store)
    store._writer.command(f"TRUNCATE TABLE {missing}")
    store.insert_otlp(batch, "journal-1")
    assert rows_of(store) == whole


def test_an_empty_batch_is_nothing(store: Store) -> None:
    """No bytes, no rows, no error."""
    store.insert_otlp(b"", "empty")
    assert rows_of(store)["spans"] == 0


def test_malformed_bytes_are_refused(store: Store) -> None:
    """Bytes that are no protobuf are the sender's fault, and the store goes on."""
    with pytest.raises(EngineRefusal):
        store.insert_otlp(b"\xff\xff\xff\xff\xff", "bad")
    take(store, sent())
    assert rows_of(store)["spans"] == 1


def ask_within(store: Store, limits: QueryLimits) -> None:
    """Ask for every flow there is."""
    params = {
        "since": at(-9),
        "until": at(9),
        "service": "",
        "destination": "",
        "top": 10_000,
        **NOTHING.parameters(),
    }
    store.query("recent_flows", params, limits)


def test_a_query_over_its_time_is_aborted(store: Store) -> None:
    """A query that takes too long ends with QueryLimit, and the next one is answered."""
    take(store, *(sent() for _ in range(2000)))
    with pytest.raises(QueryLimit):
        ask_within(store, QueryLimits(seconds=0.001))
    assert len(judged(store)) == 2000


@pytest.mark.parametrize("limits", [QueryLimits(memory_bytes=1), QueryLimits(rows=10)])
def test_a_query_over_its_memory_or_rows_is_aborted(store: Store, limits: QueryLimits) -> None:
    """Memory and rows are bounded in the same way as time."""
    take(store, *(sent() for _ in range(2000)))
    with pytest.raises(QueryLimit):
        ask_within(store, limits)
    assert len(judged(store)) == 2000


def test_what_was_empty_is_asked_once_it_has_rows(store: Store) -> None:
    """Tables without rows are left out only as long as they have none."""
    take(store, sent())
    assert [row["receiver"] for row in judged(store)] == [""]
    assert [row["receiver"] for row in judged(store)] == [""]
    take(store, subscribed())
    assert [row["receiver"] for row in judged(store)] == ["billing"]


HOSTILE = [
    "'; DROP TABLE spans; --", "\\", "\\'", "a\tb\nc\r\0d", "{x:String}", "%s %(a)s {} {{}}", "‮", "é" * 300, "(.*)+$", "[", "*", ">", "#", ":", "::", "🙂" * 600,
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(store: Store, name: str) -> None:
    """Names are data wherever they appear: in spans, patterns, receivers, keys and questions."""
    send = sent(name, **{"hopwatch.key.order": name, "hopwatch.alias": [name]})
    take(
        store, send.but(service=name, name=name), subscribed(name, name), processed(send, name, service=name), subscribed(name, "other"),
        S(name=name, service=name, attributes={name: name, "http.request.method": name}, events=[(0.0, name, {name: name})], words=name, status=2),
    )  # fmt: skip
    rows = judged(store)
    kept = name[:512]
    assert {row["destination"] for row in rows} == {kept}
    assert kept in {row["receiver"] for row in rows}
    window = Window(at(-9), at(9))
    told = asked(store).deliveries(window, destination=kept, receiver=kept, service=name[:256]).deliveries
    assert len(told) == 1
    found = store.query(
        "search_keys", {"since": at(-9), "until": at(9), "key": "order", "value": name[:256], "top": 10}
    )
    assert len(found) == 1
    assert store.query("message_keys", {"alias": name[:256].strip() or name[:256]}) or name != name.strip()


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    text=st.text(max_size=30),
    value=st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats()
        | st.text(max_size=5)
        | st.binary(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
)
def test_any_attribute_is_taken(store: Store, text: str, value: object) -> None:
    """No name and no value, however nested, stops a batch."""
    from ledger_support import any_value
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    empty(store)
    built = ExportTraceServiceRequest.FromString(request(sent()))
    span = built.resource_spans[0].scope_spans[0].spans[0]
    known = [
        "messaging.system",
        "hopwatch.message.id",
        "hopwatch.flow.id",
        "messaging.kafka.offset",
        "hopwatch.alias",
        "hopwatch.publish.outcome",
        text,
    ]
    if value is not None:
        for name in known:
            span.attributes.add(key=name).value.CopyFrom(any_value(_without_none(value)))
    store.insert_otlp(built.SerializeToString(), "any")
    assert rows_of(store)["spans"] == 1


def _without_none(value: object) -> object:
    if isinstance(value, list):
        return [_without_none(inner) for inner in value if inner is not None]
    if isinstance(value, dict):
        return {name: _without_none(inner) for name, inner in value.items() if inner is not None}
    return value


def test_a_megabyte_in_a_value(store: Store) -> None:
    """A very long value neither stops a batch nor reaches a name's column whole."""
    big = "x" * 1_000_000
    take(store, sent(big, **{"hopwatch.key.note": big}).but(name=big, anything=big))
    row = judged(store)[0]
    assert len(row["destination"]) == 512
    assert len(dict(row["keys"])["note"]) == 256


def test_absurd_ids_and_times(store: Store) -> None:
    """Spans dated centuries away are kept, without a partition for each of their days."""
    spans = [S(start=day * 86_400.0, end=day * 86_400.0) for day in range(-3000, 3000, 50)]
    take(store, *spans)
    partitions = store._writer.query(
        "SELECT uniq(partition) FROM system.parts WHERE table = 'spans' AND active AND database = currentDatabase()"
    ).result_rows
    assert rows_of(store)["spans"] == len(spans)
    assert partitions[0][0] <= 5


def test_arrays_and_maps_are_kept_as_json(store: Store) -> None:
    """Attribute values that are no scalars are kept as JSON text, those of events too."""
    span = S(
        attributes={"tags": ["a", 1, True], "more": {"x": "y", "n": 2.5}, "raw": b"\x01"},
        events=[(0.0, "e", {"list": ["b"]})],
    )
    take(store, span)
    row = store.query("flow_spans", {"flow": span.trace.hex(), "top": 5})[0]
    assert row["attrs"] == {"tags": '["a",1,true]', "more": '{"x":"y","n":2.5}', "raw": "AQ=="}
    assert row["event_attrs"] == ['{"list":"[\\"b\\"]"}']


def test_many_threads_may_ask_and_insert(store: Store) -> None:
    """Queries run beside inserts and beside each other."""
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(3):
                judged(store)
        except BaseException as error:  # noqa: BLE001  # carried to the test's thread
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        take(store, sent())
    for thread in threads:
        thread.join()
    assert failures == []
    assert rows_of(store)["spans"] == 5


def test_migrations_may_be_run_again(store: Store) -> None:
    """Every statement of every migration may be run again, as a crash half-way through one demands."""
    take(store, sent())
    for migration in schema.migrations():
        for statement in schema.statements(migration.text):
            store._writer.command(statement, settings={"flatten_nested": 0})
    take(store, sent())
    assert rows_of(store)["spans"] == 2


def test_migrations_are_numbered_without_gaps() -> None:
    """Numbers start at one and none is used twice."""
    assert [migration.number for migration in schema.migrations()] == list(
        range(1, len(schema.migrations()) + 1)
    )


def test_upkeep_runs_when_nothing_is_there(store: Store) -> None:
    """Upkeep of an empty store does nothing, any number of times."""
    for _ in range(3):
        store.maintain()
    assert rows_of(store)["ledger"] == 0


def test_edges_are_summed_up(store: Store) -> None:
    """Upkeep keeps requests and failures per minute, and saying so twice does not count twice."""
    now = (datetime.now(UTC) - at(0)).total_seconds() - 20
    sends = [sent(start=now) for _ in range(3)]
    take(
        store,
        *sends,
        *(
            processed(send, start=now + 0.1, error=error, settle="auto")
            for send, error in zip(sends, ("", "", "boom"), strict=True)
        ),
    )
    for _ in range(2):
        store._upkeep.sum_edges()
    assert [dict(row) for row in store.query("edge_totals", {"top": 10})] == [
        {
            "client": "shop",
            "server": "billing",
            "connection_type": "messaging_system",
            "requests": 3,
            "failed": 1,
        }
    ]


def test_a_closed_store_says_so(tmp_path: Path, engine: Store) -> None:
    """Closing twice is harmless; asking a closed store is told apart from a wrong question."""
    engine.close()
    engine.close()
    with pytest.raises(EngineUnavailable):
        judged(engine)
