"""The shapes the query API answers with; the OpenAPI document and every client follow from them."""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, Field

from hopwatch_collector.api.shapes import CLOCK_OFFSET, Page
from hopwatch_collector.api.shapes import Clock as Clock
from hopwatch_collector.api.shapes import ClockList as ClockList
from hopwatch_collector.api.shapes import Model as Model


class Verdict(StrEnum):
    """What became of a delivery; see the table of verdicts in the collector's README."""

    SETTLED = "settled"
    DEAD_LETTERED = "dead_lettered"
    EXPIRED = "expired"
    EVICTED = "evicted"
    RETURNED = "returned"
    REFUSED = "refused"
    UNCONFIRMED = "unconfirmed"
    SKIPPED = "skipped"
    FAILED = "failed"
    IN_FLIGHT = "in_flight"
    STUCK = "stuck"
    WAITING = "waiting"
    OVERDUE = "overdue"
    NO_RECEIVER = "no_receiver"
    LOST = "lost"
    UNKNOWN = "unknown"


UNDELIVERED: frozenset[Verdict] = frozenset(Verdict) - {Verdict.SETTLED, Verdict.IN_FLIGHT, Verdict.WAITING}
"""Verdicts a person should look at: not settled, and not merely on its way within its deadline."""

Witness = Literal["producer", "consumer", "broker"]
Source = Literal["producer", "consumer", "broker", "declaration"]
"""Who says something: a witness, or the team in its configuration, which is no witness of what happened."""
FlowState = Literal["active", "done", "failed", "undelivered"]
"""active: something is in flight or waiting; undelivered: some delivery is; failed: some span erred; done: else."""


class Attempt(Model):
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
    clock_offset_s: float = Field(default=0.0, description=CLOCK_OFFSET)


class Delivery(Model):
    """One message and one receiver that was owed it, and what became of it."""

    message_id: str
    receiver: str = Field(description="empty where nobody is known to have been owed it")
    verdict: Verdict
    cause: str = Field(
        default="", description="the verdict and its ground, the same for programs as `reason` for people"
    )
    reason: str = Field(description="the verdict in words")
    by_silence: bool = Field(
        default=False, description="whether the verdict rests on somebody not having said anything"
    )
    provisional_until: datetime | None = Field(
        default=None,
        description="of a verdict from silence: until when what would change it may still be on its way; null: it stands",
    )
    witnesses: list[Witness]
    since: datetime = Field(description="when the delivery came into this state")
    deadline: datetime | None = Field(
        default=None,
        description="when it turns or turned overdue or stuck; null where nothing is open any more",
    )
    missing: str = Field(default="", description="of `unknown`: what would settle the doubt")
    declared: bool = Field(
        default=False,
        description="whether the team declares that this receiver is owed it (`expects`, AsyncAPI)",
    )
    system: str = Field(description="nats, rabbitmq, kafka, http, grpc, …")
    broker: str = Field(
        default="",
        description="by the name it is watched under, else what its clients tell of it; empty where that was not told",
    )
    destination: str
    producer: str = Field(description="service that sent it, empty if unseen")
    consumer: str = Field(description="service that received it, empty if unseen")
    sent_at: datetime | None = Field(description="by its sender's clock")
    received_at: datetime | None = Field(description="by its receiver's clock")
    settled_at: datetime | None
    latency_ms: float | None = Field(description="sent to first received, corrected: never negative")
    sender_clock_offset_s: float = Field(default=0.0, description=CLOCK_OFFSET)
    receiver_clock_offset_s: float = Field(default=0.0, description=CLOCK_OFFSET)
    attempts: int
    flow_id: str
    trace_id: str
    keys: dict[str, str]


class Message(Model):
    """One message with everything known of it."""

    message_id: str
    aliases: list[str]
    system: str
    destination: str
    producer: str
    flow_id: str
    trace_id: str
    span_id: str = Field(description="the span that sent it, empty if unseen")
    sent_at: datetime | None = Field(description="by its sender's clock")
    sender_clock_offset_s: float = Field(default=0.0, description=CLOCK_OFFSET)
    publish_outcome: str
    publish_reason: str
    partition: str = Field(description="Kafka partition or JetStream stream")
    offset: int | None = Field(description="Kafka offset or JetStream sequence")
    conversation_id: str
    keys: dict[str, str]
    deliveries: list["DeliveryDetail"]


class DeliveryDetail(Delivery):
    """A delivery with its single attempts, oldest first."""

    history: list[Attempt]


class Evidence(Model):
    """One thing a witness saw of a delivery, or that is declared of its receiver."""

    witness: Source
    at: datetime | None
    says: str


class DecidedBy(Model):
    """The rule that decides a delivery as everything stands now, and what would decide otherwise."""

    cause: str
    signals: dict[str, bool] = Field(description="what the rule asks for, and whether it holds")
    by_silence: bool = Field(description="whether it rests on somebody not having said anything")
    otherwise: str = Field(
        description="the cause of the first rule that one signal keeps from deciding; empty: none"
    )
    if_signal: str = Field(description="that signal: it would have to hold, or `not` to hold")


class Explanation(Model):
    """Why one delivery stands as it does."""

    receiver: str
    verdict: Verdict
    cause: str
    reason: str
    since: datetime
    deadline: datetime | None = Field(
        description="when a message that waits or is in hand turns overdue or stuck"
    )
    evidence: list[Evidence] = Field(
        description="in the order of time; what has no time of its own comes last"
    )
    missing: str = Field(description="of `unknown`: what would settle the doubt")
    advice: str = Field(description="what to do about it, empty where nothing is")
    decision: DecidedBy | None = Field(
        default=None, description="how it is decided; null where that is not known"
    )


class Why(Model):
    """Every delivery of a message, explained."""

    message_id: str
    system: str
    destination: str
    flow_id: str
    explanations: list[Explanation]


class Cause(Model):
    """Undelivered messages that have a cause, a destination and a receiver in common."""

    cause: str
    verdict: Verdict
    reason: str = Field(description="the cause in words, as the newest of them has it")
    advice: str = Field(description="what to do about it")
    by_silence: bool = Field(
        default=False, description="whether the verdict rests on somebody not having said anything"
    )
    system: str
    destination: str
    receiver: str
    deliveries: int
    first_at: datetime = Field(description="when the first of them was sent")
    last_at: datetime
    sample_message_ids: list[str] = Field(description="the newest of them, at most 5")


class FlowSummary(Model):
    """One line of the live view: everything one trigger caused, in brief."""

    flow_id: str
    name: str = Field(description="name of the root span, or of the earliest span seen")
    service: str = Field(description="service of that span")
    state: FlowState
    started_at: datetime
    last_at: datetime
    duration_ms: float
    spans: int
    hops: int
    undelivered: int
    errors: int
    services: list[str]
    keys: dict[str, str]


class Span(Model):
    """One span, as normalised by the collector."""

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    kind: str = Field(description="internal, server, client, producer or consumer")
    service: str
    instance: str
    started_at: datetime
    clock_offset_s: float = Field(default=0.0, description=CLOCK_OFFSET)
    duration_ms: float
    status: str = Field(description="unset, ok or error")
    status_message: str
    system: str
    operation: str
    destination: str
    receiver: str
    message_id: str
    attributes: dict[str, str]
    events: list["SpanEvent"]
    links: list["SpanLink"]


class SpanEvent(Model):
    """Something that happened during a span."""

    at: datetime
    name: str
    attributes: dict[str, str]


class SpanLink(Model):
    """Another span this one refers to."""

    trace_id: str
    span_id: str


class LinkedFlow(Model):
    """A neighbouring flow: `upstream` caused this one through a link, `downstream` was caused by it."""

    flow_id: str
    direction: Literal["upstream", "downstream"]


class Flow(Model):
    """One flow, whole."""

    summary: FlowSummary
    hops: list[Delivery] = Field(description="oldest first")
    spans: list[Span] = Field(description="oldest first")
    linked: list[LinkedFlow]
    truncated: bool = Field(description="whether hops or spans were cut off at the limit")


class FlowList(Page):
    flows: list[FlowSummary]


class DeliveryList(Page):
    deliveries: list[Delivery]
    next_cursor: str | None = Field(
        default=None, description="what to ask for as `cursor` to go on behind these; null: there are no more"
    )


class CauseList(Page):
    causes: list[Cause] = Field(description="the most frequent first")


class PartitionLag(Model):
    """How far one receiver is behind on one partition, as the broker tells."""

    partition: str
    waiting: int
    oldest_s: float | None


class LagRow(Model):
    """How far one receiver is behind on one destination."""

    system: str
    destination: str = Field(
        description="empty: all destinations of this receiver together, as its broker counts them"
    )
    receiver: str
    waiting: int = Field(
        description="messages owed and not yet handed out: all the broker holds, where it is asked"
    )
    known_waiting: int = Field(default=0, description="those of them that hopwatch saw being sent")
    by_broker: bool = Field(
        default=False, description="whether the broker tells; else hopwatch counts what it saw"
    )
    in_flight: int = Field(description="received and not settled")
    oldest_s: float = Field(
        description="seconds the oldest waiting message has waited, 0 if none or not told"
    )
    growth_per_s: float | None = Field(
        default=None, description="how fast the number that waits grows, over five minutes"
    )
    drain_s: float | None = Field(
        default=None, description="seconds until nothing waits at this rate, null if not in sight"
    )
    consumers: int | None = Field(default=None, description="who is reading now, where the broker tells")
    partitions: list[PartitionLag] = Field(
        default_factory=list, description="of a receiver with several partitions"
    )
    pending_reported: int | None = Field(description="what the client last said still waited, where it says")
    last_received_at: datetime | None
    sample_flow_ids: list[str] = Field(description="flows behind the number, oldest first, at most 5")


class LagList(Page):
    rows: list[LagRow]


class Loss(Model):
    """Spans that a service lost before they could reach the collector, as it told: its part of the ledger has gaps."""

    service: str
    spans: int
    reasons: dict[str, int] = Field(
        description="spans by reason: queue_full, refused, too_old, unencodable, closed"
    )
    first_at: datetime = Field(description="since when spans that ended are missing")
    last_at: datetime = Field(description="when the last of the losses was told")
    processes: int = Field(description="how many of its processes lost some")


class LossList(Page):
    losses: list[Loss] = Field(description="the latest first")


class Edge(Model):
    """Calls or messages from one service to another through a destination, in the window asked for."""

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
    backwards: int = Field(default=0, description="received before sent, as clocks have it: in no latency")


class Topology(Page):
    edges: list[Edge]


class SearchHit(Model):
    """One thing found; `why` names what matched."""

    kind: Literal["message", "flow"]
    id: str
    why: str = Field(
        description="message id, alias, flow id, trace id, key order_id, service, destination, …"
    )
    title: str
    at: datetime
    state: str = Field(description="verdict of a message (its worst), state of a flow")
    flow_id: str


class SearchResult(Page):
    query: str
    hits: list[SearchHit]


class VerdictCount(Model):
    verdict: Verdict
    deliveries: int


class Live(Model):
    """One snapshot of the live stream, about the last `window_s` seconds."""

    at: datetime
    judged_at: datetime | None = Field(
        default=None,
        description="when deliveries were last judged; flows whose messages came later are `active` until theirs are",
    )
    window_s: float
    flows: list[FlowSummary] = Field(description="newest first")
    verdicts: list[VerdictCount]
    lag: list[LagRow]
    undelivered: list[Delivery] = Field(description="newest first")
    spans_per_s: float
    losses: list[Loss] = Field(default_factory=list, description="what services lost on the way here")
    clocks: list[Clock] = Field(default_factory=list, description="those that are off, at most 20")
    truncated: bool


class WitnessHealth(Model):
    """One broker that the collector asks what it holds."""

    system: str
    broker: str = Field(description="what it is called: the name it was given, else its address")
    trouble: str = Field(description="why it cannot be asked, or what it does not show; empty: nothing")


class Health(Model):
    """Answer of /healthz and /readyz."""

    status: Literal["ok", "starting", "failing"]
    reason: str
    version: str
    journal_backlog_bytes: int
    engine: str
    witnesses: list[WitnessHealth] = Field(default_factory=list, description="brokers that are watched")


class InvalidParameter(Model):
    """One parameter that was not accepted, and why."""

    parameter: str
    detail: str


class Problem(BaseModel):
    """An error as RFC 9457 problem details (application/problem+json)."""

    type: str = Field(description="urn:hopwatch:problem:…, stable, for programs")
    title: str
    status: int
    detail: str
    instance: str | None = Field(default=None, description="id under which the collector's log says more")
    errors: list[InvalidParameter] | None = Field(default=None, description="of invalid parameters, each one")


Message.model_rebuild()
Span.model_rebuild()
