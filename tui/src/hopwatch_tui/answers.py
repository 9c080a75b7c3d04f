"""The collector's answers as frozen values, parsed tolerantly and cleaned once on the way in.

Fields a newer collector adds are ignored, fields an older one lacks get an empty value; a wrong type is an error.
Every string passes through `text.clean` here, so nothing untrusted reaches a screen by another road. Times are UTC,
`*_ms` are milliseconds, `*_s` seconds; see the collector's OpenAPI document for the meaning of each field.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, TypeVar, Union, get_args, get_origin

from hopwatch_tui.text import clean

T = TypeVar("T")


class UnexpectedShape(ValueError):
    """An answer does not have the shape the API promises."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One handing-over of a message to a receiver."""

    number: int
    service: str
    instance: str
    received_at: datetime | None
    ended_at: datetime | None
    settle_outcome: str
    error: str
    trace_id: str
    span_id: str
    clock_offset_s: float


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message and one receiver that was owed it, and what became of it."""

    message_id: str
    receiver: str
    verdict: str
    cause: str
    reason: str
    by_silence: bool
    provisional_until: datetime | None
    witnesses: tuple[str, ...]
    since: datetime | None
    deadline: datetime | None
    missing: str
    declared: bool
    system: str
    broker: str
    destination: str
    producer: str
    consumer: str
    sent_at: datetime | None
    received_at: datetime | None
    settled_at: datetime | None
    latency_ms: float | None
    sender_clock_offset_s: float
    receiver_clock_offset_s: float
    attempts: int
    flow_id: str
    trace_id: str
    keys: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing a witness saw of a delivery."""

    witness: str
    at: datetime | None
    says: str


@dataclass(frozen=True, slots=True)
class DecidedBy:
    """The rule that decides a delivery, and what would decide otherwise."""

    cause: str
    signals: Mapping[str, str]
    by_silence: bool
    otherwise: str
    if_signal: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one delivery stands as it does."""

    receiver: str
    verdict: str
    cause: str
    reason: str
    since: datetime | None
    deadline: datetime | None
    evidence: tuple[Evidence, ...]
    missing: str
    advice: str
    decision: DecidedBy | None


@dataclass(frozen=True, slots=True)
class Why:
    """Every delivery of a message, explained."""

    message_id: str
    system: str
    destination: str
    flow_id: str
    explanations: tuple[Explanation, ...]


@dataclass(frozen=True, slots=True)
class Cause:
    """Undelivered messages that have a cause, a destination and a receiver in common."""

    cause: str
    verdict: str
    reason: str
    advice: str
    by_silence: bool
    system: str
    destination: str
    receiver: str
    deliveries: int
    first_at: datetime | None
    last_at: datetime | None
    sample_message_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CauseList:
    """Causes, the most frequent first."""

    causes: tuple[Cause, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class DeliveryDetail(Delivery):
    """A delivery with its single attempts, oldest first."""

    history: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """One message with everything known of it."""

    message_id: str
    aliases: tuple[str, ...]
    system: str
    destination: str
    producer: str
    flow_id: str
    trace_id: str
    span_id: str
    sent_at: datetime | None
    sender_clock_offset_s: float
    publish_outcome: str
    publish_reason: str
    partition: str
    offset: int | None
    conversation_id: str
    keys: Mapping[str, str]
    deliveries: tuple[DeliveryDetail, ...]


@dataclass(frozen=True, slots=True)
class FlowSummary:
    """Everything one trigger caused, in brief."""

    flow_id: str
    name: str
    service: str
    state: str
    started_at: datetime | None
    last_at: datetime | None
    duration_ms: float
    spans: int
    hops: int
    undelivered: int
    errors: int
    services: tuple[str, ...]
    keys: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something that happened during a span."""

    at: datetime | None
    name: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SpanLink:
    """Another span this one refers to."""

    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True)
class Span:
    """One span, as normalised by the collector."""

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    kind: str
    service: str
    instance: str
    started_at: datetime | None
    clock_offset_s: float
    duration_ms: float
    status: str
    status_message: str
    system: str
    operation: str
    destination: str
    receiver: str
    message_id: str
    attributes: Mapping[str, str]
    events: tuple[SpanEvent, ...]
    links: tuple[SpanLink, ...]


@dataclass(frozen=True, slots=True)
class LinkedFlow:
    """A neighbouring flow."""

    flow_id: str
    direction: str


@dataclass(frozen=True, slots=True)
class Flow:
    """One flow, whole."""

    summary: FlowSummary
    hops: tuple[Delivery, ...]
    spans: tuple[Span, ...]
    linked: tuple[LinkedFlow, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class FlowList:
    """Flows in brief, those with the latest news first."""

    flows: tuple[FlowSummary, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class DeliveryList:
    """Deliveries, newest first."""

    deliveries: tuple[Delivery, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """How far one receiver is behind on one partition."""

    partition: str
    waiting: int
    oldest_s: float | None


@dataclass(frozen=True, slots=True)
class LagRow:
    """How far one receiver is behind on one destination; an empty one stands for all of the receiver's together."""

    system: str
    destination: str
    receiver: str
    waiting: int
    known_waiting: int
    by_broker: bool
    in_flight: int
    oldest_s: float
    growth_per_s: float | None
    drain_s: float | None
    consumers: int | None
    partitions: tuple[PartitionLag, ...]
    pending_reported: int | None
    last_received_at: datetime | None
    sample_flow_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LagList:
    """Lag of every receiver."""

    rows: tuple[LagRow, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class Edge:
    """Calls or messages from one service to another through a destination."""

    producer: str
    system: str
    destination: str
    receiver: str
    consumer: str
    deliveries: int
    undelivered: int
    errors: int
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class Topology:
    """Who reached whom through what."""

    edges: tuple[Edge, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class WitnessHealth:
    """One broker that the collector asks what it holds."""

    system: str
    broker: str
    trouble: str


@dataclass(frozen=True, slots=True)
class Health:
    """How the collector itself is."""

    status: str
    reason: str
    version: str
    journal_backlog_bytes: int
    engine: str
    witnesses: tuple[WitnessHealth, ...]


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One thing found; `why` names what matched."""

    kind: str
    id: str
    why: str
    title: str
    at: datetime | None
    state: str
    flow_id: str


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found."""

    query: str
    hits: tuple[SearchHit, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class VerdictCount:
    """How many deliveries have a verdict."""

    verdict: str
    deliveries: int


@dataclass(frozen=True, slots=True)
class Loss:
    """Spans that a service lost on their way to the collector."""

    service: str
    spans: int
    reasons: Mapping[str, int]
    first_at: datetime | None
    last_at: datetime | None
    processes: int


@dataclass(frozen=True, slots=True)
class Clock:
    """How far a host's clock is ahead of the collector's (negative: behind)."""

    host: str
    offset_s: float
    uncertainty_s: float | None
    at_least_s: float | None
    at_most_s: float | None
    corrected_s: float
    hops: int
    since: datetime | None


@dataclass(frozen=True, slots=True)
class ClockList:
    """Clocks, those furthest off first."""

    reference: str
    collector: str
    left_out: tuple[str, ...]
    clocks: tuple[Clock, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class Live:
    """One snapshot of the live stream, about the last `window_s` seconds; all but the flows as of `judged_at`."""

    at: datetime | None
    judged_at: datetime | None
    window_s: float
    flows: tuple[FlowSummary, ...]
    verdicts: tuple[VerdictCount, ...]
    lag: tuple[LagRow, ...]
    undelivered: tuple[Delivery, ...]
    spans_per_s: float
    losses: tuple[Loss, ...]
    clocks: tuple[Clock, ...]
    truncated: bool


def parse(cls: type[T], data: object) -> T:
    """Build an answer from decoded JSON. Raises `UnexpectedShape` naming the field where the type is wrong."""
    if not isinstance(data, dict):
        raise UnexpectedShape(f"expected an object for {cls.__name__}, got {type(data).__name__}")
    values = []
    for name, convert, missing in _PLANS.get(cls) or _plan(cls):
        raw = data.get(name)
        try:
            values.append(missing if raw is None else convert(raw))
        except UnexpectedShape:
            raise
        except (TypeError, ValueError, OverflowError) as error:
            raise UnexpectedShape(f"{cls.__name__}.{name}: {error}") from error
    return cls(*values)


_Plan = tuple[tuple[str, Callable[[Any], Any], Any], ...]
_PLANS: dict[type, _Plan] = {}
"""Field name, converter and stand-in for a missing value, per class; worked out once."""


def _plan(cls: type[Any]) -> _Plan:
    plan = tuple((field.name, *_converter(field.name, field.type)) for field in fields(cls))
    _PLANS[cls] = plan
    return plan


_MULTILINE = frozenset({"reason", "error", "status_message", "publish_reason", "attributes"})
"""Fields that may rightly hold several lines: stack traces, broker texts."""


def _converter(name: str, kind: Any) -> tuple[Callable[[Any], Any], Any]:
    """How to convert a value of the type `kind`, and what stands for a missing one."""
    lines = name in _MULTILINE
    if get_origin(kind) in (Union, types.UnionType):
        (inner,) = [part for part in get_args(kind) if part is not type(None)]
        return _converter(name, inner)[0], None
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        convert = _converter(name, inner)[0]
        return (lambda raw: tuple(convert(item) for item in _checked(list, raw))), ()
    if get_origin(kind) is Mapping:
        return (lambda raw: _strings(raw, lines=lines)), {}
    if kind is str:
        return (lambda raw: clean(raw if isinstance(raw, str) else str(raw), lines=lines)), ""
    if kind is datetime:
        return _time, None
    scalars: dict[Any, tuple[Callable[[Any], Any], Any]] = {
        int: (_whole, 0),
        float: (_number, 0.0),
        bool: (bool, False),
    }
    return scalars.get(kind) or ((lambda raw: parse(kind, raw)), None)


def _checked(kind: type[T], raw: object) -> T:
    if not isinstance(raw, kind):
        raise TypeError(f"expected a {kind.__name__}, got {type(raw).__name__}")
    return raw


def _strings(raw: object, *, lines: bool) -> dict[str, str]:
    pairs = _checked(dict, raw).items()
    return {clean(str(key), limit=200): clean(str(value), lines=lines) for key, value in pairs}


def _number(raw: object) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise TypeError(f"expected a number, got {type(raw).__name__}")
    return float(raw)


def _whole(raw: object) -> int:
    return int(_number(raw))


def _time(raw: object) -> datetime:
    moment = datetime.fromisoformat(_checked(str, raw))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
