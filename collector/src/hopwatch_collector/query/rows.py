"""Rows of the engine, turned into the API's models."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from hopwatch_collector.api.models import (
    UNDELIVERED,
    Attempt,
    Delivery,
    Edge,
    FlowState,
    FlowSummary,
    LagRow,
    Span,
    SpanEvent,
    SpanLink,
    Verdict,
)
from hopwatch_collector.engine import Row
from hopwatch_collector.judge.histogram import quantiles
from hopwatch_collector.judge.rules import by_silence, sentence
from hopwatch_collector.query.advice import missing_for
from hopwatch_collector.query.clocks import Clocks
from hopwatch_collector.query.text import json_object

NEVER = datetime(1970, 1, 1, tzinfo=UTC)
"""What the engine's clock columns hold where nothing happened."""

WAITING = frozenset({Verdict.WAITING, Verdict.OVERDUE})
IN_FLIGHT = frozenset({Verdict.IN_FLIGHT, Verdict.STUCK})


_ON_ITS_WAY: Final = timedelta(seconds=60)
"""What a service has to tell is here after a few seconds, and after a minute where its exporter had to try again."""

WITNESSES = {"producer": 1, "consumer": 2, "broker": 4}
"""How `deliveries` writes down whose word a verdict rests on."""


def moment(at: datetime) -> datetime | None:
    """Return a time, None for never."""
    return at if at.year > 1970 else None


def as_told(at: datetime | None, off_us: int) -> datetime | None:
    """Return a corrected time as its own clock told it, `off_us` microseconds ahead."""
    return None if at is None else at + timedelta(microseconds=off_us)


def corrected(at: datetime | None, off_s: float) -> datetime | None:
    """Return a time that a clock `off_s` seconds ahead told, by the collector's clock."""
    return None if at is None else at - timedelta(seconds=off_s)


def message_id(key: bytes) -> str:
    """Return the 36-character form of a message key."""
    return str(UUID(bytes=key))


def key_of(text: str) -> str | None:
    """Return a message id's 32 upper-case hex digits, None if `text` is not one."""
    compact = text.strip().replace("-", "")
    if len(text.strip()) not in (32, 36) or len(compact) != 32 or not _is_hex(compact):
        return None
    return compact.upper()


def trace_of(text: str) -> str | None:
    """Return a flow or trace id's 32 lower-case hex digits, None if `text` is not one: zeros stand for none."""
    compact = text.strip().lower()
    return compact if len(compact) == 32 and _is_hex(compact) and compact.strip("0") else None


def _is_hex(text: str) -> bool:
    return all(character in "0123456789abcdefABCDEF" for character in text)


def delivery_fields(row: Row) -> dict[str, Any]:
    """Return what a `Delivery` is made of."""
    sent_at = row["sent_at"] if row["sender_seen"] else None
    received_at = moment(row["received_at"])
    latency = (received_at - sent_at).total_seconds() * 1000 if sent_at and received_at else None
    sender_off, receiver_off = row["sender_off_us"], row["receiver_off_us"]
    return {
        "message_id": message_id(row["message"]),
        "receiver": row["receiver"],
        "verdict": Verdict(row["verdict"]),
        "cause": row["cause"],
        "reason": sentence(row["cause"], row["detail"]),
        "by_silence": by_silence(row["cause"]),
        "provisional_until": _provisional_until(row),
        "witnesses": [name for name, bit in WITNESSES.items() if row["witnesses"] & bit],
        # A sender's clock may be ahead of ours: nothing has been so since a moment that is yet to come.
        "since": min(row["since"], datetime.now(UTC)),
        "deadline": moment(row["due_at"]),
        "missing": missing_for(row["cause"]),
        "declared": row["declared"] != "",
        "system": row["system"],
        "broker": row["broker"],
        "destination": row["destination"],
        "producer": row["producer"],
        "consumer": row["consumer"],
        "sent_at": as_told(sent_at, sender_off),
        "received_at": as_told(received_at, receiver_off),
        "settled_at": moment(row["settled_at"]),
        "latency_ms": None if latency is None else max(0.0, latency),
        "sender_clock_offset_s": sender_off / 1e6,
        "receiver_clock_offset_s": receiver_off / 1e6,
        "attempts": row["attempts"],
        "flow_id": row["flow"].hex(),
        "trace_id": row["trace_id"].hex(),
        "keys": {key["name"]: key["value"] for key in row["keys"]},
    }


def _provisional_until(row: Row) -> datetime | None:
    """Return until when what would change a verdict from silence may still come; None: it no longer may, or it is not from silence."""
    until: datetime = max(row["since"], row["sent_at"]) + _ON_ITS_WAY
    return until if by_silence(row["cause"]) and until > datetime.now(UTC) else None


def delivery(row: Row) -> Delivery:
    """Return a row of `deliveries` as the API shows it."""
    return Delivery(**delivery_fields(row))


def attempt(row: Row, number: int, clocks: Clocks) -> Attempt:
    """Return a row of message_attempts.sql, completed by its span, as the API shows it."""
    return Attempt(
        number=number,
        service=row["service"],
        instance=row["instance"],
        received_at=row["started_at"],
        ended_at=moment(row["ended_at"]),
        settle_outcome=row["settle"],
        error=row["error"],
        trace_id=row["trace_id"].hex(),
        span_id=row["span_id"].hex(),
        clock_offset_s=clocks.of_process(row["resource"]) / 1e6,
    )


def span(row: Row, instance: str, links: list[SpanLink], clocks: Clocks) -> Span:
    """Return a row of flow_spans.sql as the API shows it; columns appear among the attributes under their names."""
    parent = b"" if row["role"] == "open" else row["parent_id"]
    return Span(
        trace_id=row["trace_id"].hex(),
        span_id=span_id(row),
        parent_span_id=parent.hex() if any(parent) else "",
        name=row["name"],
        kind="internal" if row["kind_name"] == "unspecified" else row["kind_name"],
        service=row["service"],
        instance=instance,
        started_at=row["started_at"],
        clock_offset_s=clocks.of_process(row["resource"]) / 1e6,
        duration_ms=row["duration"] / 1e6,
        status=row["status_name"],
        status_message=row["status_message"],
        system=row["system"],
        operation=row["operation"],
        destination=row["destination"],
        receiver=row["receiver"],
        message_id="" if not any(row["message"]) else message_id(row["message"]),
        attributes=dict(row["attrs"]) | _from_columns(row),
        events=[
            SpanEvent(at=at, name=name, attributes=json_object(attrs))
            for at, name, attrs in zip(
                row["event_times"], row["event_names"], row["event_attrs"], strict=True
            )
        ],
        links=links,
    )


def span_id(row: Row) -> str:
    """Return the id (16 hex digits) of a span, or of the open one that it is a report of."""
    found: bytes = row["parent_id"] if row["role"] == "open" else row["span_id"]
    return found.hex()


def _from_columns(row: Row) -> dict[str, str]:
    known = {
        "hopwatch.attempt": str(row["attempt"]) if row["attempt"] else "",
        "hopwatch.settle.outcome": row["settle"],
        "hopwatch.reason": row["reason"],
    }
    return {name: value for name, value in known.items() if value} | {
        f"hopwatch.key.{name}": value for name, value in row["keys"].items()
    }


def flow_summary(row: Row, verdicts: Mapping[Verdict, int]) -> FlowSummary:
    """Return a row of flow_summaries.sql as the API shows it, with how the flow's deliveries stand."""
    name, service = row["root"]
    first, last = row["first_at"], row["last_at"]
    return FlowSummary(
        flow_id=row["flow_id"],
        name=name,
        service=service,
        state=flow_state(verdicts, row["errors"]),
        started_at=first,
        last_at=last,
        duration_ms=(last - first).total_seconds() * 1000,
        spans=row["spans"],
        hops=sum(verdicts.values()),
        undelivered=sum(count for verdict, count in verdicts.items() if verdict in UNDELIVERED),
        errors=row["errors"],
        services=list(row["services"]),
        keys=dict(row["keys"]),
    )


def flow_state(verdicts: Iterable[Verdict], errors: int) -> FlowState:
    """Return the state of a flow: what needs a person comes first, then what still moves."""
    present = frozenset(verdicts)
    if present & UNDELIVERED:
        return "undelivered"
    if present & (WAITING | IN_FLIGHT):
        return "active"
    return "failed" if errors else "done"


def lag_row(row: Row, now: datetime) -> LagRow:
    """Return what is known of a receiver's lag (query/ledger.py) as the API shows it."""
    return LagRow(
        system=row["system"],
        destination=row["destination"],
        receiver=row["receiver"],
        waiting=row["waiting"],
        known_waiting=row["waiting"],
        in_flight=row["in_flight"],
        oldest_s=max(0.0, (now - row["oldest"]).total_seconds()) if row["waiting"] else 0.0,
        pending_reported=row["last_pending"] if row["last_pending"] >= 0 else None,
        last_received_at=moment(row["last_received_at"]),
        sample_flow_ids=list(dict.fromkeys(row["samples"])),
    )


def edge(row: Row) -> Edge:
    """Return a row of edges.sql as the API shows it."""
    p50, p99 = quantiles(dict(zip(*row["waits"], strict=True)), 0.5, 0.99)
    return Edge(
        producer=row["producer"],
        system=row["system"],
        destination=row["destination"],
        receiver=row["receiver"],
        consumer=row["consumer"],
        deliveries=row["deliveries"],
        undelivered=row["undelivered"],
        errors=row["errors"],
        p50_ms=None if p50 is None else p50 / 1000,
        p99_ms=None if p99 is None else p99 / 1000,
        backwards=row["backwards"],
    )
