"""How far receivers are behind: what the ledger knows to wait, and what brokers say waits, put together."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from hopwatch_collector.api.models import LagRow, PartitionLag
from hopwatch_collector.engine import Row, Store
from hopwatch_collector.query.rows import NEVER

TREND_S: Final = 300
"""Seconds over which a trend is taken."""
_SHORTEST_TREND_S: Final = 10.0

Place = tuple[str, str, str, str]
"""Broker, destination, receiver, partition."""
Key = tuple[str, str, str]
"""System, receiver, and the destination where the broker tells (Kafka's topic), else ''."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a broker says of one receiver, all its partitions together."""

    waiting: int
    in_hand: int | None
    consumers: int | None
    oldest_s: float | None
    at_most_s: float | None
    """No message that waits is older, whatever its sender's clock says; None: not known."""
    growth_per_s: float | None
    partitions: tuple[PartitionLag, ...]

    @property
    def drain_s(self) -> float | None:
        """Seconds until nothing waits at the present rate; None where that is not in sight."""
        if not self.waiting:
            return 0.0
        shrinking = -(self.growth_per_s or 0.0)
        return self.waiting / shrinking if shrinking > 0 else None


def told_by_brokers(store: Store, now: datetime) -> Mapping[Key, Held]:
    """Return what brokers say waits, by receiver."""
    found: dict[Key, list[Row]] = defaultdict(list)
    rows = _of_one_broker_each(store.query("broker_lag", {"now": now, "back": TREND_S}))
    not_before = _not_before(store, [row for row in rows if row["system"] == "kafka"], now)
    for row in rows:
        place = {**row, "not_before": not_before.get(_place(row), NEVER)}
        found[row["system"], row["receiver"], row["destination"]].append(place)
    return {key: _together(places, now) for key, places in found.items()}


def _not_before(store: Store, logs: Sequence[Row], now: datetime) -> Mapping[Place, datetime]:
    """When, by our own clock, logs were last seen to end before what now waits in them."""
    behind = [row for row in logs if row["last"][0] > 0]
    if not behind:
        return {}
    asked = {
        "now": now,
        "brokers": [row["broker"] for row in behind],
        "destinations": [row["destination"] for row in behind],
        "receivers": [row["receiver"] for row in behind],
        "partitions": [row["partition"] for row in behind],
        "followings": [row["following"] for row in behind],
    }
    return {_place(row): row["not_before"] for row in store.query("log_growth", asked)}


def _of_one_broker_each(rows: Sequence[Row]) -> list[Row]:
    """Leave out what was written before it was known of which broker, where that has been told since."""
    told = {(row["system"], *_place(row)[1:]) for row in rows if row["broker"]}
    return [row for row in rows if row["broker"] or (row["system"], *_place(row)[1:]) not in told]


def _place(row: Row) -> Place:
    return row["broker"], row["destination"], row["receiver"], row["partition"]


def _together(places: Sequence[Row], now: datetime) -> Held:
    told = [place["last"] for place in places]
    waiting = sum(one[0] for one in told)
    since = max((now - place["before_at"]).total_seconds() for place in places)
    grown = waiting - sum(max(0, place["waiting_before"]) for place in places)
    partitions = [
        PartitionLag(
            partition=place["partition"],
            waiting=place["last"][0],
            oldest_s=_age(place["last"][3], place["not_before"], now),
        )
        for place in sorted(places, key=lambda place: (len(place["partition"]), place["partition"]))
    ]
    return Held(
        waiting=waiting,
        in_hand=_sum(one[1] for one in told),
        consumers=_sum(one[2] for one in told[:1]),
        oldest_s=max((one.oldest_s for one in partitions if one.oldest_s is not None), default=None),
        at_most_s=_oldest_possible(places, now),
        growth_per_s=grown / since if since >= _SHORTEST_TREND_S else None,
        partitions=tuple(partitions) if len(partitions) > 1 else (),
    )


def _oldest_possible(places: Sequence[Row], now: datetime) -> float | None:
    seen = [place["not_before"] for place in places if place["last"][0] > 0]
    if not seen or min(seen) <= NEVER:
        return None
    oldest: datetime = min(seen)
    return (now - oldest).total_seconds()


def _age(oldest_at: datetime, not_before: datetime, now: datetime) -> float | None:
    """Never negative, nor more than since it was seen not to be there: clocks of senders may be ahead of ours or behind."""
    return max(0.0, (now - max(oldest_at, not_before)).total_seconds()) if oldest_at > NEVER else None


def _sum(values: Iterable[int]) -> int | None:
    told = [value for value in values if value >= 0]
    return sum(told) if told else None


def merged(rows: Iterable[LagRow], told: Mapping[Key, Held]) -> list[LagRow]:
    """Put what brokers say into the ledger's rows, those furthest behind first.

    A queue or durable counts all its destinations together: where the ledger knows several, it gets a row of its own,
    without a destination.
    """
    ledger = list(rows)
    destinations = Counter((row.system, row.receiver) for row in ledger)
    left = dict(told)
    result = []
    for row in ledger:
        key = row.system, row.receiver, row.destination if row.system == "kafka" else ""
        alone = row.system == "kafka" or destinations[row.system, row.receiver] == 1
        result.append(_with(row, left.pop(key)) if alone and key in left else row)
    result += [_with(_unknown(key), one) for key, one in left.items()]
    return sorted(
        result, key=lambda row: (-row.waiting, -row.in_flight, row.system, row.destination, row.receiver)
    )


def counted_once(rows: Sequence[LagRow]) -> list[LagRow]:
    """Leave out what a broker counts over all destinations of a receiver whose destinations are there too."""
    single = {(row.system, row.receiver) for row in rows if row.destination}
    return [row for row in rows if row.destination or (row.system, row.receiver) not in single]


def _with(row: LagRow, told: Held) -> LagRow:
    return row.model_copy(
        update={
            "by_broker": True,
            "waiting": told.waiting,
            "in_flight": row.in_flight if told.in_hand is None else told.in_hand,
            "oldest_s": _oldest(row, told),
            "growth_per_s": told.growth_per_s,
            "drain_s": told.drain_s,
            "consumers": told.consumers,
            "partitions": list(told.partitions),
        }
    )


def _oldest(row: LagRow, told: Held) -> float:
    """The oldest of all waits no shorter than what the ledger knows to wait, and no longer than the log shows."""
    if not told.waiting:
        return 0.0
    age = max(row.oldest_s, told.oldest_s or 0.0)
    return age if told.at_most_s is None else min(age, told.at_most_s)


def _unknown(key: Key) -> LagRow:
    """A receiver that only its broker knows."""
    system, receiver, destination = key
    return LagRow(
        system=system,
        destination=destination,
        receiver=receiver,
        waiting=0,
        known_waiting=0,
        in_flight=0,
        oldest_s=0.0,
        pending_reported=None,
        last_received_at=None,
        sample_flow_ids=[],
    )
