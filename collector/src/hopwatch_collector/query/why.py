"""Why a delivery stands as it does: everything each witness saw of it, in words, with the time it saw it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hopwatch_collector.api.models import (
    DecidedBy,
    DeliveryDetail,
    Evidence,
    Explanation,
    Message,
    Source,
    Why,
)
from hopwatch_collector.engine import Row, Store
from hopwatch_collector.judge.decision import Decision
from hopwatch_collector.query.clocks import Clocks
from hopwatch_collector.query.hints import Surroundings, advise, surroundings
from hopwatch_collector.query.losses import Gaps, gaps, in_words
from hopwatch_collector.query.rows import corrected, moment

MAX_CLAIMS: Final = 20
"""Claims told per receiver."""
_AWAY_AFTER: Final = timedelta(seconds=30)
_BROKERS: Final = frozenset({"kafka", "nats", "rabbitmq"})


@dataclass(frozen=True, slots=True)
class _Told:
    """What is known besides the ledger, by receiver."""

    claims: Mapping[str, list[Row]]
    positions: Mapping[str, list[Row]]
    sightings: Mapping[str, list[Row]]
    singly: Mapping[str, list[Row]]
    """Of this message; under no receiver: for whomever."""
    watch: Row | None
    gaps: Gaps
    around: Surroundings


def explain(store: Store, message: Message, clocks: Clocks, decisions: Mapping[str, Decision]) -> Why:
    """Return every delivery of a message with its evidence and, where known, the rule that decides it."""
    now = datetime.now(UTC)
    told = _ask(store, message, now, clocks)
    return Why(
        message_id=message.message_id,
        system=message.system,
        destination=message.destination,
        flow_id=message.flow_id,
        explanations=[
            _explanation(message, delivery, told, now).model_copy(
                update={"decision": _decision(decisions.get(delivery.receiver))}
            )
            for delivery in message.deliveries
        ],
    )


def _ask(store: Store, message: Message, now: datetime, clocks: Clocks) -> _Told:
    receivers = [delivery.receiver for delivery in message.deliveries if delivery.receiver]
    at = {"system": message.system, "receivers": receivers}
    watches = store.query("watches", {"now": now}) if message.system in _BROKERS else []
    topic = f"{message.destination}:" if message.system == "kafka" else ""
    place = {
        "system": message.system,
        "partition": f"{topic}{message.partition}",
        "offset": message.offset,
    }
    return _Told(
        _by_receiver(store.query("receiver_claims", {**at, "top": MAX_CLAIMS, **clocks.parameters()})),
        _by_receiver(store.query("receiver_positions", at)),
        _by_receiver(store.query("message_sightings", place) if message.offset is not None else []),
        _by_receiver(store.query("message_told", {"message": message.message_id.replace("-", "")})),
        next((watch for watch in watches if watch["system"] == message.system), None),
        gaps(store, message.deliveries),
        surroundings(store, message),
    )


def _by_receiver(rows: Iterable[Row]) -> Mapping[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["receiver"]].append(row)
    return found


def _explanation(message: Message, delivery: DeliveryDetail, told: _Told, now: datetime) -> Explanation:
    seen = [
        *_sender(message, told),
        *_entitled(delivery, told),
        *_attempts(delivery),
        *_broker(message, delivery, told, now),
        *_lost(delivery, told),
    ]
    dated = sorted((one for one in seen if one.at is not None), key=lambda one: one.at or now)
    return Explanation(
        receiver=delivery.receiver,
        verdict=delivery.verdict,
        cause=delivery.cause,
        reason=delivery.reason,
        since=delivery.since,
        deadline=delivery.deadline,
        evidence=[*dated, *(one for one in seen if one.at is None)],
        missing=delivery.missing,
        advice=advise(delivery, told.around, told.claims.get(delivery.receiver, [])),
    )


def _decision(decision: Decision | None) -> DecidedBy | None:
    if decision is None:
        return None
    otherwise = decision.otherwise
    return DecidedBy(
        cause=decision.rule.cause,
        signals=dict(decision.signals),
        by_silence=decision.rule.by_silence,
        otherwise=otherwise.cause if otherwise else "",
        if_signal=decision.if_signal,
    )


def _sender(message: Message, told: _Told) -> Iterator[Evidence]:
    for one in told.singly.get("", []):
        if one["kind"] == "ttl":
            yield Evidence(
                witness="producer", at=one["at"], says=f"it may be discarded after {one['number'] / 1000:g} s"
            )
        if one["kind"] == "published":
            yield Evidence(
                witness="broker", at=one["at"], says=f"somebody published it to {message.destination}"
            )
    if message.sent_at is None or not message.producer:
        yield Evidence(witness="producer", at=None, says="the sender was not seen")
        return
    where = "" if message.offset is None else f", at {message.partition}:{message.offset}"
    why = f": {message.publish_reason}" if message.publish_reason else ""
    said = f"{message.producer} sent it to {message.destination}; the send was {message.publish_outcome or 'not answered'}"
    off = message.sender_clock_offset_s
    yield Evidence(
        witness="producer", at=corrected(message.sent_at, off), says=f"{said}{where}{why}{_clock(off)}"
    )


def _entitled(delivery: DeliveryDetail, told: _Told) -> Iterator[Evidence]:
    for claim in told.claims.get(delivery.receiver, []):
        left = f", until {claim['left_at']:%H:%M:%S}" if claim["left_at"] > claim["last_at"] else ""
        since = claim["first_at"] if claim["first_at"].year < 2299 else None
        yield Evidence(
            witness=_CLAIMED_BY[claim["told_by"]],
            at=moment(since) if since else None,
            says=f"{delivery.receiver} is owed {_pattern(claim['pattern'])}, {_says(claim)}{left}",
        )


_CLAIMED_BY: Final[Mapping[str, Source]] = {
    "service": "consumer",
    "broker": "broker",
    "declaration": "declaration",
}


def _pattern(pattern: str) -> str:
    """A pattern in words: its marks stand before it."""
    return pattern.replace("\x1f", ": ")


def _says(claim: Row) -> str:
    """Where a title comes from: a service's report, the broker, or a declaration."""
    name = claim["service"]
    if claim["told_by"] == "declaration":
        return f"as declared: {name}"
    if claim["told_by"] == "service":
        return f"says {name}"
    return f"says the broker{f' of {name}' if name else ''}"


def _attempts(delivery: DeliveryDetail) -> Iterator[Evidence]:
    for attempt in delivery.history:
        how = (
            f"settled by {attempt.settle_outcome}"
            if attempt.settle_outcome not in ("", "none")
            else "not settled"
        )
        took = (
            f"ended after {(attempt.ended_at - attempt.received_at).total_seconds():.3f} s"
            if attempt.ended_at and attempt.received_at
            else "has not ended"
        )
        error = f"; it failed: {attempt.error}" if attempt.error else ""
        yield Evidence(
            witness="consumer",
            at=corrected(attempt.received_at, attempt.clock_offset_s),
            says=f"attempt {attempt.number} at {attempt.service} {took}, {how}{error}{_clock(attempt.clock_offset_s)}",
        )
    if not delivery.history and delivery.receiver:
        yield Evidence(witness="consumer", at=None, says="no attempt was seen")


def _clock(off_s: float) -> str:
    return (
        f" (its clock is {abs(off_s):.3f} s {'ahead' if off_s > 0 else 'behind'}: corrected)" if off_s else ""
    )


def _broker(message: Message, delivery: DeliveryDetail, told: _Told, now: datetime) -> Iterator[Evidence]:
    for sighting in told.sightings.get(delivery.receiver, []):
        yield Evidence(witness="broker", at=sighting["at"], says=_sighted(sighting))
    for one in told.singly.get(delivery.receiver, []) if delivery.receiver else ():
        again = " again" if one["number"] else ""
        says = "routed it to" if one["kind"] == "routed" else f"handed it out{again} from"
        yield Evidence(witness="broker", at=one["at"], says=f"the broker {says} {delivery.receiver}")
    for row in told.positions.get(delivery.receiver, []):
        if message.partition in ("", row["partition"]) or not row["partition"]:
            yield Evidence(witness="broker", at=None, says=_stands(row, message))
    if message.system in _BROKERS:
        yield Evidence(witness="broker", at=None, says=_watched(message.system, told.watch, now))


def _lost(delivery: DeliveryDetail, told: _Told) -> Iterator[Evidence]:
    for loss in told.gaps.behind(delivery):
        why = ", ".join(f"{spans} {reason}" for reason, spans in loss.reasons.items())
        yield Evidence(
            witness="consumer" if loss.service != delivery.producer else "producer",
            at=loss.last_at,
            says=f"{in_words(loss)} ({why}): what it did with this message may be among them",
        )


def _sighted(sighting: Row) -> str:
    if sighting["kind"] == "max_deliveries":
        times = f" after {sighting['attempts']} deliveries" if sighting["attempts"] else ""
        return f"the server gave it up{times}"
    if sighting["kind"] in ("removed", "ended unheard", "compacted", "aborted"):
        return f"nothing is left at its offset: {sighting['kind']}"
    return f"the consumer terminated it{': ' + sighting['reason'] if sighting['reason'] else ''}"


def _stands(row: Row, message: Message) -> str:
    stands: Mapping[str, Any] = row["stands"]
    name = row["receiver"] + (f" on {row['destination'] or row['partition']}" if row["partition"] else "")
    if stands["state"] == "gone":
        return f"{name} was deleted; noticed at {row['at']:%H:%M:%S}"
    facts = []
    if stands["next"] >= 0:
        facts.append(
            f"holds offsets {stands['first']} to {stands['end'] - 1}, next to hand out is {stands['next']}"
        )
        if stands["done"] != stands["next"]:
            facts.append(f"all before {stands['done']} are settled")
    if stands["waiting"] >= 0:
        facts.append(f"{stands['waiting']} wait")
    if stands["in_hand"] >= 0:
        facts.append(f"{stands['in_hand']} are handed out and not settled")
    if stands["published"] >= 0:
        facts.append(
            f"{stands['published']} came in, {stands['handed']} were handed out, {stands['acked']} settled so far"
        )
    if stands["ttl_ms"] >= 0:
        facts.append(f"time to live {stands['ttl_ms'] / 1000:g} s")
    if stands["max_length"] >= 0:
        facts.append(f"at most {stands['max_length']} long")
    if stands["dead_letters"]:
        facts.append("has a dead-letter exchange")
    if stands["consumers"] == 0 or stands["state"] == "empty":
        facts.append("nobody is reading")
    if stands["state"] == "members untold":
        facts.append("who reads is not told: a group of the new consumer protocol")
    if stands["state"] == "hidden":
        facts.append("as it last stood: the witness can no longer see it")
    return f"{name}: {'; '.join(facts)}; unchanged since {row['at']:%H:%M:%S}"


def _watched(system: str, watch: Row | None, now: datetime) -> str:
    if watch is None:
        return f"{system} is not watched: start the collector with --watch-{system}"
    if now - watch["ok_at"] > _AWAY_AFTER:
        last = f"last at {watch['ok_at']:%H:%M:%S}" if watch["ok_at"].year > 1970 else "never yet"
        trouble = f": {watch['trouble']}" if watch["trouble"] else ""
        return f"{system} at {watch['broker']} is not being asked now ({last}){trouble}"
    return f"{system} at {watch['broker']} was last asked at {watch['ok_at']:%H:%M:%S}"
