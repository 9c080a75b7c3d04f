"""Spans as services would send them, in a few words each, and the verdicts the store comes to."""

import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count
from typing import Any

import pytest
from clickhouse_lookalike import clickhouse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from hopwatch_collector.engine import Row, Store, StoreSettings
from hopwatch_collector.judge.evaluation import evaluate
from hopwatch_collector.judge.loop import Judge
from hopwatch_collector.judge.rules import sentence
from hopwatch_collector.query import Queries
from hopwatch_collector.query.clocks import NOTHING, ClockReader, Clocks

T0 = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
"""Second 0 of every test's story."""

INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = 1, 2, 3, 4, 5
ERROR = 2
REMOTE = 0x300
LOCAL = 0x100


def at(seconds: float) -> datetime:
    """The moment so many seconds into the story."""
    return T0 + timedelta(seconds=seconds)


def new_trace() -> bytes:
    return os.urandom(16)


def new_span() -> bytes:
    return os.urandom(8)


def new_message(seconds: float = 0.0) -> str:
    """A UUIDv7 of that moment."""
    random = int.from_bytes(os.urandom(10), "big")
    value = (
        int(at(seconds).timestamp() * 1000) << 80 | random & ~(0xF << 76) & ~(0x3 << 62) | 7 << 76 | 2 << 62
    )
    return str(uuid.UUID(int=value))


@dataclass(frozen=True, slots=True)
class S:
    """One span. Times are seconds into the story."""

    name: str = "work"
    service: str = "orders"
    instance: str = "1"
    kind: int = INTERNAL
    start: float = 0.0
    end: float = 0.01
    trace: bytes = field(default_factory=new_trace)
    id: bytes = field(default_factory=new_span)
    parent: bytes = b""
    flags: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)
    status: int = 0
    words: str = ""
    links: Sequence[tuple[bytes, bytes]] = ()
    events: Sequence[tuple[float, str, Mapping[str, Any]]] = ()
    host: str = ""
    scope: str = "hopwatch"

    @property
    def message(self) -> str:
        return str(self.attributes["hopwatch.message.id"])

    def but(self, **changes: Any) -> "S":
        """The same span with other attributes (dots written as double underscores) or fields."""
        own = {name: value for name, value in changes.items() if name in self.__slots__}
        other = {name.replace("__", "."): value for name, value in changes.items() if name not in own}
        attributes = {
            name: value for name, value in {**self.attributes, **other}.items() if value is not None
        }
        return replace(self, **{"attributes": attributes, **own})


def sent(
    destination: str = "orders",
    system: str = "nats",
    *,
    start: float = 0.0,
    outcome: str | None = "confirmed",
    service: str = "shop",
    message: str | None = None,
    **more: Any,
) -> S:
    """A hopwatch send span."""
    message = message or new_message(start)
    return S(
        name=f"publish {destination}", service=service, kind=PRODUCER, start=start, end=start + 0.01,
        attributes={
            "messaging.system": system,
            "messaging.operation.name": "publish",
            "messaging.operation.type": "send",
            "messaging.destination.name": destination,
            "hopwatch.destination": destination,
            "hopwatch.message.id": message,
            **({"hopwatch.publish.outcome": outcome} if outcome else {}),
        },
    ).but(**more)  # fmt: skip


def processed(
    send: S,
    receiver: str = "billing",
    *,
    start: float = 1.0,
    took: float = 0.1,
    settle: str | None = "ack",
    attempt: int = 1,
    service: str = "billing",
    error: str = "",
    **more: Any,
) -> S:
    """A hopwatch process span of what `send` sent."""
    kept = {
        name: value
        for name, value in send.attributes.items()
        if name
        in ("messaging.system", "hopwatch.destination", "messaging.destination.name", "hopwatch.message.id",
            "messaging.destination.partition.id", "messaging.kafka.offset")
    }  # fmt: skip
    return S(
        name="process", service=service, kind=CONSUMER, start=start, end=start + took, trace=send.trace, parent=send.id,
        flags=REMOTE, status=ERROR if error else 0, words=error,
        attributes={
            **kept,
            "messaging.operation.type": "process",
            "hopwatch.receiver": receiver,
            "hopwatch.attempt": attempt,
            **({"hopwatch.settle.outcome": settle} if settle else {}),
        },
    ).but(**more)  # fmt: skip


def opened(process: S, *, after: float = 1.0) -> S:
    """The report that a hop is still open."""
    attributes = {**process.attributes, "hopwatch.report": "open"}
    attributes.pop("hopwatch.settle.outcome", None)
    start = process.start + after
    return replace(
        process, name="open", kind=INTERNAL, id=new_span(), parent=process.id, flags=LOCAL, start=start, end=start,
        attributes=attributes, status=0, words="",
    )  # fmt: skip


def committed(
    topic: str, offset: int, receiver: str = "billing", *, start: float = 2.0, partition: str = "0"
) -> S:
    """A consumer group's commit."""
    return S(
        name="commit", service="billing", kind=CLIENT, start=start, end=start,
        attributes={
            "messaging.system": "kafka",
            "messaging.operation.type": "settle",
            "hopwatch.destination": topic,
            "messaging.destination.partition.id": partition,
            "messaging.kafka.offset": offset,
            "hopwatch.receiver": receiver,
            "hopwatch.settle.outcome": "commit",
        },
    )  # fmt: skip


def subscribed(
    pattern: str = "orders",
    receiver: str = "billing",
    system: str = "nats",
    *,
    start: float = -1.0,
    durable: bool = True,
    report: str = "subscribe",
    instance: str = "1",
) -> S:
    """A subscription report."""
    return S(
        name=report, service="billing", instance=instance, start=start, end=start,
        attributes={
            "hopwatch.report": report,
            "messaging.system": system,
            "hopwatch.subscription.pattern": pattern,
            "hopwatch.receiver": receiver,
            "hopwatch.subscription.durable": durable,
        },
    )  # fmt: skip


def in_kafka(offset: int, partition: str = "0") -> dict[str, Any]:
    """What a Kafka send carries besides."""
    return {"messaging__destination__partition__id": partition, "messaging__kafka__offset": offset}


def any_value(value: Any) -> AnyValue:
    """A value as OTLP writes it."""
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, bytes):
        return AnyValue(bytes_value=value)
    if isinstance(value, str):
        return AnyValue(string_value=value)
    found = AnyValue()
    if isinstance(value, Mapping):
        found.kvlist_value.SetInParent()
        for name, inner in value.items():
            found.kvlist_value.values.add(key=name).value.CopyFrom(any_value(inner))
    else:
        found.array_value.SetInParent()
        for inner in value:
            found.array_value.values.append(any_value(inner))
    return found


def request(*spans: S) -> bytes:
    """One serialized ExportTraceServiceRequest."""
    built = ExportTraceServiceRequest()
    for one in spans:
        resource = built.resource_spans.add()
        told = {"service.name": one.service, "service.instance.id": one.instance, "host.name": one.host}
        for name, value in told.items():
            if not value:
                continue
            resource.resource.attributes.add(key=name).value.CopyFrom(any_value(value))
        scope = resource.scope_spans.add()
        scope.scope.name = one.scope
        span = scope.spans.add(
            trace_id=one.trace,
            span_id=one.id,
            parent_span_id=one.parent,
            name=one.name,
            kind=one.kind,
            flags=one.flags,
        )  # type: ignore[arg-type]  # kinds are plain numbers here
        span.start_time_unix_nano = _ns(one.start)
        span.end_time_unix_nano = _ns(one.end)
        for name, value in one.attributes.items():
            span.attributes.add(key=name).value.CopyFrom(any_value(value))
        for trace, linked in one.links:
            span.links.add(trace_id=trace, span_id=linked)
        for moment, name, attributes in one.events:
            event = span.events.add(time_unix_nano=_ns(moment), name=name)
            for key, value in attributes.items():
                event.attributes.add(key=key).value.CopyFrom(any_value(value))
        if one.status:
            span.status.code = one.status  # type: ignore[assignment]
            span.status.message = one.words
    return built.SerializeToString()


def _ns(seconds: float) -> int:
    return int(T0.timestamp()) * 10**9 + round(seconds * 10**9)


_tokens = count()


def take(store: Store, *spans: S) -> None:
    """Insert spans as one request with a token of its own."""
    store.insert_otlp(request(*spans), f"test-{next(_tokens)}")


def moved(first: int, until: int, *, start: float = 2.0, topic: str = "orders", partition: str = "0") -> S:
    """A consumer of the group billing was moved by a seek."""
    return S(
        name="skip", service="billing", start=start, end=start,
        attributes={
            "hopwatch.report": "skip", "messaging.system": "kafka", "messaging.operation.type": "settle",
            "hopwatch.destination": topic, "hopwatch.receiver": "billing",
            "messaging.destination.partition.id": partition, "messaging.kafka.offset": first,
            "hopwatch.skipped.until": until,
        },
    )  # fmt: skip


def judged(
    store: Store,
    *,
    now: float = 10.0,
    deadline: float = 30.0,
    grace: float = 2.0,
    since: float = -3000.0,
    until: float = 3000.0,
    clocks: Clocks = NOTHING,
) -> list[Row]:
    """All deliveries as they stand so many seconds into the story, the newest first, judged from nothing but the evidence."""
    with store.judging() as session:
        session.look()
        messages = [row[0] for row in store._writer.query("SELECT DISTINCT message FROM ledger").result_rows]
        found = evaluate(session, messages, lambda _: clocks.offsets_by_process(), _us(now), deadline, grace)
    rows = [stored_row(row) for row in found.iter_rows(named=True)]
    inside = [row for row in rows if at(since) <= row["first_at"] <= at(until)]
    by_receiver = sorted(inside, key=lambda row: row["receiver"])
    return sorted(by_receiver, key=lambda row: (row["first_at"], row["message"]), reverse=True)


class Asked:
    """The questions, each asked once the judge has judged all there is."""

    def __init__(self, store: Store, deadline_s: float = 30.0) -> None:
        self._store = store
        self._deadline_s = deadline_s

    def __getattr__(self, question: str) -> Any:
        judge = Judge(self._store, ClockReader(self._store).offsets_around, self._deadline_s)
        judge.settle()
        return getattr(Queries(self._store, judge.decisions), question)


def asked(store: Store, deadline_s: float = 30.0) -> Any:
    """Return the questions, to be asked of what has been judged; `deadline_s` as for the judge."""
    return Asked(store, deadline_s)


def samples_of(queries: Any) -> list[Any]:
    """Every sample that /metrics would show, whatever group it is of."""
    return [sample for _, ask in queries.metrics() for sample in ask()]


def _us(seconds: float) -> int:
    return int(T0.timestamp()) * 10**6 + round(seconds * 10**6)


def stored_row(row: dict[str, Any]) -> dict[str, Any]:
    """A judged row as a query would return it from the store."""
    times = ("since", "due_at", "first_at", "sent_at", "received_at", "settled_at")
    bits = {"producer": 1, "consumer": 2, "broker": 4}
    return row | {
        **{name: datetime.fromtimestamp(0, UTC) + timedelta(microseconds=row[name]) for name in times},
        "why": sentence(row["cause"], row["detail"]),
        "witnesses": [name for name, bit in bits.items() if row["witnesses"] & bit],
        "trace_id": row["trace_id"] if any(row["trace_id"]) else row["flow"],
        "keys": [(key["name"], key["value"]) for key in row["keys"]],
    }


def verdicts(store: Store, *, now: float = 10.0, **more: float) -> dict[str, str]:
    """Verdict per receiver, where all deliveries are of one message."""
    rows = judged(store, now=now, **more)
    found = {row["receiver"]: row["verdict"] for row in rows}
    assert len(found) == len(rows), rows
    return found


TABLES = (
    "spans",
    "links",
    "resources",
    "ledger",
    "commits",
    "durable_subscriptions",
    "brief_subscriptions",
    "commit_heads",
    "touched",
    "deliveries",
    "attention",
    "judge_progress",
    "aliases",
    "strangers",
    "span_totals",
    "edges",
    "receiver_states",
    "sightings",
    "watches",
    "coverage",
    "brokers",
    "declared",
    "deadline_rules",
    "losses",
    "clock_pairs",
    "told",
    "moves",
    "span_minutes",
    "senders_wanted",
    "foreign_readers",
)


@cache
def engine_home() -> str:
    """One directory for all tests of this process: only one can be open, and its tables need making only once."""
    return tempfile.mkdtemp(prefix="hopwatch-engine-")


def empty(store: Store) -> None:
    """Forget everything, tokens too."""
    for table in TABLES:
        store._writer.command(f"TRUNCATE TABLE {store._layout.stored(table)}")


@pytest.fixture(scope="module")
def engine() -> Iterator[Store]:
    """The embedded engine, closed between modules so that other tests may open theirs; where HOPWATCH_TEST_CLUSTER is set, a cluster of one node."""
    with ExitStack() as stack:
        if os.environ.get("HOPWATCH_TEST_CLUSTER"):
            url = stack.enter_context(clickhouse(engine_home(), "shards"))
            store = Store.open(f"{url}/hopwatch_cluster", StoreSettings(cluster="shards"))
        else:
            store = Store.open(engine_home())
        stack.callback(store.close)
        yield store


@pytest.fixture
def store(engine: Store) -> Store:
    """The engine with nothing in it."""
    empty(engine)
    return engine


def flat(rows: Iterable[Row], *names: str) -> list[tuple[Any, ...]]:
    """Some columns of rows."""
    return [tuple(row[name] for name in names) for row in rows]
