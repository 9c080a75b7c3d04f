"""What to do about one delivery: what the rules have to say of its cause, and what is known of its surroundings that helps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from hopwatch_collector.api.models import DeliveryDetail, Message, Verdict
from hopwatch_collector.engine import Row, Store
from hopwatch_collector.query.advice import advice_on
from hopwatch_collector.query.rows import NEVER, corrected

_UNADDRESSED: Final = frozenset({Verdict.RETURNED, Verdict.NO_RECEIVER})
"""Verdicts about a message that reached nobody: who was owed such before, and where else does its sender send to?"""
_SILENT: Final = frozenset({Verdict.WAITING, Verdict.OVERDUE, Verdict.STUCK, Verdict.LOST, Verdict.UNKNOWN})
"""Verdicts about a receiver of whom nothing more was heard: when was it last there?"""
_BACK: Final = timedelta(hours=1)
"""How far back before a message plain subscribers, and what its sender sent, are looked for."""
_NAMED: Final = 2
_BOUND: Final = {"rabbitmq": "queue `{}` was bound to this key"}
_SUBSCRIBED: Final = "`{}` was subscribed to it"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known around a message that reached nobody."""

    former: Sequence[Row] = ()
    """Who was subscribed to its destination and no longer is, those who left last first."""
    used: Sequence[Row] = ()
    """Where else its sender sent to, and somebody received it: the last one first."""


def surroundings(store: Store, message: Message) -> Surroundings:
    """Ask for what helps with a message that reached nobody; nothing is asked of any other."""
    lost = [one for one in message.deliveries if one.verdict in _UNADDRESSED]
    if not lost:
        return Surroundings()
    at = corrected(message.sent_at, message.sender_clock_offset_s) or lost[0].since
    asked = {
        "system": message.system, "destination": message.destination, "producer": message.producer, "since": at - _BACK,
        "until": at + _BACK, "top": _NAMED,
    }  # fmt: skip
    return Surroundings(
        store.query("former_receivers", asked),
        store.query("sender_destinations", asked) if message.producer else (),
    )


def advise(delivery: DeliveryDetail, around: Surroundings, claims: Sequence[Row]) -> str:
    """Return what to do about a delivery, with what is known; `claims`: of its receiver, as receiver_claims.sql has them."""
    known = [*_before(delivery, around), *_last_seen(delivery, claims)]
    advice = advice_on(delivery.cause)
    return " ".join([advice, *known]) if advice else ""


def _before(delivery: DeliveryDetail, around: Surroundings) -> Iterator[str]:
    if delivery.verdict not in _UNADDRESSED:
        return
    for row in around.former:
        words = _BOUND.get(delivery.system, _SUBSCRIBED).format(row["receiver"])
        yield f"Until {_time(row['left_at'])} {words}."
    for row in around.used:
        yield f"`{delivery.producer}` also sent to `{row['destination']}`, where `{row['receiver']}` last received at {_time(row['last_at'])}."


def _last_seen(delivery: DeliveryDetail, claims: Sequence[Row]) -> Iterator[str]:
    if delivery.verdict not in _SILENT:
        return
    told = [claim for claim in claims if claim["told_by"] == "service" and claim["last_at"] > NEVER]
    last = max(told, key=lambda claim: claim["last_at"], default=None)
    if last is None:
        return
    if last["left_at"] > last["last_at"]:
        yield f"`{last['service']}` unsubscribed at {_time(last['left_at'])}."
    else:
        yield f"`{last['service']}` was last seen at {_time(last['last_at'])}."


def _time(at: datetime) -> str:
    """A time of day, in UTC."""
    return f"{at:%H:%M:%S}"
