"""Messages of many fates as the engine's tables hold them, and what has to become of each: what `make bench-judge` has judged.

Facts go straight into the ledger, as many in one insert as the collector puts into one, so that filling takes little beside
judging. Around them lies what brokers and services tell in such an hour: commits, counters, looks, subscriptions.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

SECOND: Final = 1_000_000
PARTITIONS: Final = 4
"""Of every Kafka topic."""
_MESSAGES_AT_ONCE: Final = 8_000
"""Per insert: with what receivers show, some 20,000 facts."""
_STRIDE: Final = 37
"""Coprime to a hundred: fates follow each other mixed."""
_COMMIT_EVERY: Final = 64
"""Offsets."""
_LOOK_EVERY_S: Final = 5
_NEVER: Final = 0
_NO_END: Final = 10_382_256_000_000_000

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Seen:
    """What one receiver showed of a message."""

    receiver: str
    settle: str = "ack"
    after_s: float = 0.05
    """From sent to received."""
    took_s: float | None = 0.02
    """None: not ended."""
    error: str = ""
    attempt: int = 1
    dead: str = ""
    """Not a handing-over: the reason by which a dead-lettered copy was read."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What happens to some of the messages, and the cause that each of their deliveries ends with."""

    of_hundred: int
    system: str
    destination: str
    causes: tuple[str, ...]
    seen: tuple[Seen, ...] = ()
    owed: tuple[str, ...] = ()
    """Receivers with a subscription that lasts."""
    briefly: tuple[str, ...] = ()
    """Those with one that lasts while they are connected."""
    outcome: str = "confirmed"
    stream: str = ""
    """JetStream's, whose sequence numbers its messages."""
    call: bool = False
    keyed: bool = True
    commits: tuple[str, ...] = ()
    """Groups that commit past all of it."""
    stands: tuple[str, ...] = ()
    """Groups that have not read any of it."""
    queues: tuple[str, ...] = ()
    """RabbitMQ's, of which all is taken and settled."""
    full: tuple[str, ...] = ()
    """Those of which nothing is."""

    @property
    def placed(self) -> bool:
        """Whether its messages have a place in a log."""
        return self.system == "kafka" or bool(self.stream)


FATES: Final = (
    Fate(22, "nats", "orders.made", ("settled.ack",), (Seen("ORDERS/billing"),), ("ORDERS/billing",), stream="ORDERS"),
    Fate(
        10, "nats", "stock.moved", ("settled.ack", "settled.ack"), (Seen("STOCK/shelf"), Seen("STOCK/shop", after_s=0.2)),
        ("STOCK/shelf", "STOCK/shop"), stream="STOCK",
    ),
    Fate(4, "nats", "prices.changed", ("settled.auto",), (Seen("web:prices.changed", "auto"),), keyed=False),
    Fate(16, "rabbitmq", "shop:mail.send", ("settled.ack",), (Seen("mail"),), ("mail",), queues=("mail",)),
    Fate(
        6, "rabbitmq", "shop:paid", ("settled.ack", "settled.ack"), (Seen("books"), Seen("points")), ("books", "points"),
        queues=("books", "points"),
    ),
    Fate(12, "kafka", "clicks", ("settled.committed",), (Seen("ranking", "none"),), commits=("ranking",), keyed=False),
    Fate(
        4, "kafka", "payments", ("settled.committed", "settled.committed"), (Seen("ledger", "none"), Seen("fraud", "none")),
        commits=("ledger", "fraud"),
    ),
    Fate(8, "http", "POST /orders", ("settled.answered",), (Seen("orders", "auto", 0.001),), call=True),
    Fate(2, "http", "GET /rates", ("settled.callee_unseen",), call=True),
    Fate(
        3, "kafka", "views", ("settled.committed", "overdue.held"), (Seen("ranking", "none"),), commits=("ranking",),
        stands=("reports",), keyed=False,
    ),
    Fate(1, "kafka", "audits", ("skipped",), commits=("audit",), keyed=False),
    Fate(2, "rabbitmq", "shop:archive", ("overdue.held",), owed=("archive",), full=("archive",)),
    Fate(1, "nats", "labels.print", ("failed.ack",), (Seen("printers", error="no paper"),), ("printers",)),
    Fate(1, "rabbitmq", "shop:refund", ("failed.reject",), (Seen("refunds", "reject", error="no such order"),), ("refunds",)),
    Fate(
        2, "rabbitmq", "shop:bill", ("dead_lettered.copy", "settled.ack"),
        (Seen("bills", "reject", error="no address"), Seen("bills", attempt=0, after_s=0.1, dead="rejected"), Seen("dead-bills", after_s=0.1)),
        ("bills",),
    ),
    Fate(1, "nats", "images.scale", ("stuck.open",), (Seen("scalers", "", took_s=None),), ("scalers",)),
    Fate(1, "nats", "coupons.give", ("overdue.nacked",), (Seen("coupons", "nack", error="try later"),), ("coupons",)),
    Fate(1, "nats", "nobody.reads", ("no_receiver.broker",), keyed=False),
    Fate(1, "rabbitmq", "shop:nowhere", ("returned",), outcome="returned"),
    Fate(1, "http", "PUT /stock", ("failed.answered",), (Seen("stock", "auto", 0.001, error="409"),), call=True),
    Fate(1, "nats", "ticks.clock", ("unknown.not_stored",), briefly=("board:ticks.clock",), keyed=False),
)  # fmt: skip
"""By how many of a hundred messages go that way."""

DELIVERIES_PER_MESSAGE: Final = sum(fate.of_hundred * len(fate.causes) for fate in FATES) / 100

_BY_SLOT: Final = np.repeat(np.arange(len(FATES)), [fate.of_hundred for fate in FATES])
_FIRST_SLOT: Final = np.concatenate([[0], np.cumsum([fate.of_hundred for fate in FATES])[:-1]])

_FIXED: Final = {"attempt": pl.UInt16, "call": pl.UInt8, "failed": pl.UInt8, "dead": pl.UInt8}
_KEYS: Final = pl.List(pl.Struct({"1": pl.String, "2": pl.String}))


@dataclass(frozen=True, slots=True)
class Hour:
    """So many messages over a stretch of time."""

    messages: int
    begin: int
    """µs since 1970."""
    lasting_s: int = 3600
    minted: bool = True
    """Whether message ids begin with the moment of sending, as hopwatch mints them; else they are random, as those of other SDKs."""

    @property
    def end(self) -> int:
        return self.begin + self.lasting_s * SECOND

    def count(self, fate: Fate) -> int:
        """How many messages have that fate."""
        number = FATES.index(fate)
        slots = _slots(np.arange(self.messages // 100 * 100, self.messages))
        return self.messages // 100 * fate.of_hundred + int((_BY_SLOT[slots] == number).sum())

    def causes(self) -> Counter[str]:
        """How many deliveries end with which cause."""
        found: Counter[str] = Counter()
        for fate in FATES:
            for cause in fate.causes:
                found[cause] += self.count(fate)
        return +found

    def facts(self, seed: int = 1) -> Iterator[tuple[int, pl.DataFrame]]:
        """Return rows of `ledger`, insert by insert, each with how many messages they are of."""
        random = np.random.default_rng(seed)
        for first in range(0, self.messages, _MESSAGES_AT_ONCE):
            numbers = np.arange(first, min(first + _MESSAGES_AT_ONCE, self.messages))
            yield (
                len(numbers),
                pl.concat(_facts_of(fate, rows) for fate, rows in self._by_fate(numbers, random)),
            )

    def _by_fate(self, numbers: Numbers, random: np.random.Generator) -> Iterator[tuple[Fate, pl.DataFrame]]:
        slots = _slots(numbers)
        fates = _BY_SLOT[slots]
        sent = self.begin + (numbers * (self.lasting_s * SECOND / self.messages)).astype(np.int64)
        whole = pl.DataFrame(
            {
                "fate": fates,
                "message": ids_of(sent, random)
                if self.minted
                else binary(random.bytes(16 * len(numbers)), 16),
                "trace_id": binary(random.bytes(16 * len(numbers)), 16),
                "sent": sent,
                "ordinal": numbers // 100 * np.bincount(_BY_SLOT)[fates] + slots - _FIRST_SLOT[fates],
            }
        )
        for (number,), rows in whole.partition_by("fate", as_dict=True, maintain_order=True).items():
            yield FATES[int(str(number))], rows


def _slots(numbers: Numbers) -> Numbers:
    return numbers * _STRIDE % 100


def ids_of(sent: Numbers, random: np.random.Generator) -> pl.Series:
    """Message ids as senders mint them: UUIDs of version 7, by the moment they were sent."""
    ids = random.integers(0, 256, (len(sent), 16), dtype=np.uint8)
    ids[:, :6] = (sent // 1000).astype(">u8").view(np.uint8).reshape(-1, 8)[:, 2:]
    ids[:, 6] = ids[:, 6] & 0x0F | 0x70
    ids[:, 8] = ids[:, 8] & 0x3F | 0x80
    return binary(ids.tobytes(), 16)


def binary(data: bytes, width: int) -> pl.Series:
    """So many bytes each."""
    return pl.Series([data[at : at + width] for at in range(0, len(data), width)], dtype=pl.Binary)


def _facts_of(fate: Fate, rows: pl.DataFrame) -> pl.DataFrame:
    placed, in_kafka = fate.placed, fate.system == "kafka"
    known = rows.select(
        "message",
        "trace_id",
        "sent",
        system=pl.lit(fate.system),
        destination=pl.lit(fate.destination),
        call=pl.lit(int(fate.call), pl.UInt8),
        partition=(pl.col("ordinal") % PARTITIONS).cast(pl.String) if in_kafka else pl.lit(fate.stream),
        offset=pl.col("ordinal") // PARTITIONS
        if in_kafka
        else pl.col("ordinal") + 1
        if placed
        else pl.lit(-1),
        keys=_keys() if fate.keyed else pl.lit([], _KEYS),
    ).with_columns(pl.col("offset").cast(pl.Int64))
    sides = [_sent(fate, known), *(_seen(one, known) for one in fate.seen)]
    return pl.concat(sides).with_columns(day=pl.col("started_at").dt.date()).drop("sent")


def _keys() -> pl.Expr:
    order = pl.struct(pl.lit("order_id").alias("1"), pl.col("ordinal").cast(pl.String).alias("2"))
    return pl.concat_list(order).cast(_KEYS)


def _sent(fate: Fate, known: pl.DataFrame) -> pl.DataFrame:
    failed = fate.call and any(one.error for one in fate.seen)
    return _side(known, "", 0, 0, 2_000).with_columns(
        service=pl.lit("shop"),
        peer=pl.lit("api:8080" if fate.call else ""),
        outcome=pl.lit(fate.outcome),
        settle=pl.lit(""),
        failed=pl.lit(int(failed), pl.UInt8),
        error=pl.lit("409" if failed else ""),
        reason=pl.lit("NO_ROUTE" if fate.outcome == "returned" else ""),
        dead=pl.lit(0, pl.UInt8),
    )


def _seen(one: Seen, known: pl.DataFrame) -> pl.DataFrame:
    ended = None if one.took_s is None else int(one.took_s * SECOND)
    return _side(known, one.receiver, one.attempt, int(one.after_s * SECOND), ended).with_columns(
        service=pl.lit("" if one.dead else one.receiver.partition(":")[0]),
        peer=pl.lit(""),
        outcome=pl.lit(""),
        settle=pl.lit("" if one.dead else one.settle),
        failed=pl.lit(int(bool(one.error)), pl.UInt8),
        error=pl.lit(one.error),
        reason=pl.lit(one.dead),
        dead=pl.lit(int(bool(one.dead)), pl.UInt8),
    )


def _side(known: pl.DataFrame, receiver: str, attempt: int, after: int, took: int | None) -> pl.DataFrame:
    started = pl.col("sent") + after
    hops = bool(receiver) and attempt > 0
    return known.with_columns(
        receiver=pl.lit(receiver),
        attempt=pl.lit(attempt, pl.UInt16),
        hop=pl.col("trace_id").bin.slice(8) if hops else pl.lit(bytes(8)),
        resource=pl.lit(hash_of(receiver), pl.UInt64),
        started_at=moment(started),
        ended_at=moment(pl.lit(_NEVER) if took is None else started + took),
        seen_at=moment(started),
    )


def moment(us: pl.Expr) -> pl.Expr:
    """A time as the engine takes it."""
    return us.cast(pl.Int64).cast(pl.Datetime("us", "UTC"))


def hash_of(name: str) -> int:
    """A process's number, by its name."""
    return int.from_bytes(name.encode()[-7:].rjust(8, b"\x01"), "big")


@dataclass(slots=True)
class Surroundings:
    """What brokers and services told in that hour besides, as frames by table."""

    hour: Hour
    now: int
    """µs since 1970: until then brokers were looked at."""
    _looks: Numbers = field(init=False)

    def __post_init__(self) -> None:
        self._looks = np.arange(
            self.hour.begin - 60 * SECOND, self.hour.end + 5 * SECOND, _LOOK_EVERY_S * SECOND
        )

    def tables(self) -> Iterator[tuple[str, pl.DataFrame]]:
        """Return rows of each table that has some."""
        yield "receiver_states", pl.concat(self._states())
        yield "commits", pl.concat(self._commits())
        yield "watches", looks(self.hour.begin, self.now - SECOND, ("kafka", "nats", "rabbitmq"))
        yield "coverage", self._coverage()
        yield "durable_subscriptions", self._subscriptions()
        yield "brief_subscriptions", pl.concat(self._brief())

    def _share(self) -> NDArray[np.float64]:
        """Of all messages how many were sent, look by look."""
        return np.clip((self._looks - self.hour.begin) / (self.hour.lasting_s * SECOND), 0.0, 1.0)

    def _states(self) -> Iterator[pl.DataFrame]:
        for fate in FATES:
            count = self.hour.count(fate)
            for group in (*fate.commits, *fate.stands):
                for partition in range(PARTITIONS):
                    end = (self._share() * in_partition(count, partition)).astype(np.int64)
                    read = end if group in fate.commits else end * 0
                    yield log_states(
                        "kafka", fate.destination, group, str(partition), self._looks, (0, end, read, read)
                    )
            if fate.stream:
                end = (self._share() * count).astype(np.int64) + 1
                for receiver in fate.owed:
                    yield log_states(
                        "nats", "", receiver, fate.stream, self._looks, (1, end, end, end), heard_from=1
                    )
            for queue in (*fate.queues, *fate.full):
                published = (self._share() * count).astype(np.int64)
                yield queue_states(queue, self._looks, published, waits=queue in fate.full)

    def _commits(self) -> Iterator[pl.DataFrame]:
        for fate in FATES:
            for group in fate.commits:
                for partition in range(PARTITIONS):
                    end = in_partition(self.hour.count(fate), partition)
                    offsets = np.unique(np.append(np.arange(_COMMIT_EVERY, end, _COMMIT_EVERY), end))
                    sent = self.hour.begin + (offsets / end * self.hour.lasting_s * SECOND).astype(np.int64)
                    yield commits(fate.destination, group, str(partition), offsets, sent + SECOND)

    def _coverage(self) -> pl.DataFrame:
        known = {(fate.system, one.receiver) for fate in FATES for one in fate.seen}
        known |= {(fate.system, group) for fate in FATES for group in fate.commits}
        return coverage(sorted(known), self.hour.begin - 60 * SECOND, self.now)

    def _subscriptions(self) -> pl.DataFrame:
        owed = [(fate.system, _pattern(fate, receiver), receiver) for fate in FATES for receiver in fate.owed]
        owed += [
            ("kafka", fate.destination, group) for fate in FATES for group in (*fate.commits, *fate.stands)
        ]
        others = [
            ("nats", f"other.{number}.{'*' if number % 5 == 0 else 'made'}", f"S{number}/c")
            for number in range(100)
        ]
        return subscriptions(sorted({*owed, *others}), self.hour.begin - 3600 * SECOND)

    def _brief(self) -> Iterator[pl.DataFrame]:
        reports = np.arange(self.hour.begin - 60 * SECOND, self.hour.end + 60 * SECOND, 15 * SECOND)
        subscribers = [("nats", fate.destination, receiver) for fate in FATES for receiver in fate.briefly]
        subscribers += [("nats", f"quiet.{number}", f"web:quiet.{number}") for number in range(10)]
        for subscriber in subscribers:
            yield brief_subscriptions(subscriber, reports)


def in_partition(count: int, partition: int) -> int:
    """How many of so many messages lie in a partition."""
    return (count - partition + PARTITIONS - 1) // PARTITIONS


def _pattern(fate: Fate, receiver: str) -> str:
    """One of them by a wildcard."""
    return fate.destination.replace(".made", ".*") if receiver.startswith("ORDERS") else fate.destination


def log_states(
    system: str, destination: str, receiver: str, partition: str, at: Numbers,
    places: tuple[int | Numbers, int | Numbers, int | Numbers, int | Numbers], heard_from: int = -1,
) -> pl.DataFrame:  # fmt: skip
    """Rows of `receiver_states` of a log; `places`: first, end, next, done."""
    first, end, following, done = (
        np.broadcast_to(np.asarray(place, dtype=np.int64), at.shape) for place in places
    )
    waiting = end - following
    return _states(system, destination, receiver, partition, at, (first, end, following, done), (waiting, waiting * 0), heard_from=heard_from)  # fmt: skip


def queue_states(queue: str, at: Numbers, published: Numbers, *, waits: bool) -> pl.DataFrame:
    """Rows of `receiver_states` of a queue of which all is taken, or nothing."""
    none, taken = np.full(at.shape, -1), published * (not waits)
    log, held = (none, none, none, none), (published - taken, published * 0)
    return _states("rabbitmq", "", queue, "", at, log, held, (published, taken, taken))


def _states(
    system: str, destination: str, receiver: str, partition: str, at: Numbers, log: tuple[Numbers, ...], held: tuple[Numbers, ...],
    counters: tuple[Numbers, ...] | None = None, heard_from: int = -1,
) -> pl.DataFrame:  # fmt: skip
    unsaid = np.full(at.shape, -1)
    counted = counters or (unsaid, unsaid, unsaid)
    numbers = dict(zip(("first", "end", "next", "done"), log, strict=True))
    numbers |= dict(zip(("waiting", "in_hand"), held, strict=True))
    numbers |= dict(zip(("published", "handed", "acked"), counted, strict=True))
    rows = pl.DataFrame({"us": at, **numbers})
    return rows.select(
        *(pl.col(name).cast(pl.Int64) for name in numbers),
        system=pl.lit(system),
        destination=pl.lit(destination),
        receiver=pl.lit(receiver),
        partition=pl.lit(partition),
        at=moment(pl.col("us")),
        day=moment(pl.col("us")).dt.date(),
        consumers=pl.lit(1, pl.Int64),
        oldest_at=moment(pl.lit(0)),
        ttl_ms=pl.lit(-1, pl.Int64),
        max_length=pl.lit(-1, pl.Int64),
        dead_letters=pl.lit(0, pl.UInt8),
        state=pl.lit(""),
        uncounted=pl.lit(0, pl.UInt8),
        heard_from=pl.lit(heard_from, pl.Int64),
    )


def commits(topic: str, group: str, partition: str, offsets: Numbers, at: Numbers) -> pl.DataFrame:
    """Rows of `commits`."""
    return pl.DataFrame({"offset": offsets, "us": at}).select(
        destination=pl.lit(topic),
        receiver=pl.lit(group),
        partition=pl.lit(partition),
        offset=pl.col("offset").cast(pl.Int64),
        at=moment(pl.col("us")),
        last_at=moment(pl.col("us")),
        day=moment(pl.col("us")).dt.date(),
        resource=pl.lit(hash_of(group), pl.UInt64),
    )


def looks(since: int, until: int, systems: Sequence[str]) -> pl.DataFrame:
    """Rows of `watches`: a witness says every ten seconds that it looked."""
    at = pl.DataFrame({"us": np.arange(until, since, -10 * SECOND)})
    return pl.DataFrame({"system": systems}).join(at, how="cross").select(
        "system",
        broker=pl.col("system") + pl.lit(":1"),
        at=moment(pl.col("us")),
        day=moment(pl.col("us")).dt.date(),
        ok=pl.lit(1, pl.UInt8),
        trouble=pl.lit(""),
        requests=pl.lit(3, pl.UInt32),
        took_ms=pl.lit(2, pl.UInt32),
    )  # fmt: skip


def coverage(receivers: Sequence[tuple[str, str]], begin: int, end: int) -> pl.DataFrame:
    """Rows of `coverage`: receivers (system, name) whose consumers tell all they do between two moments, minute by minute."""
    minutes = pl.DataFrame({"at": np.arange(begin // (60 * SECOND) * 60 * SECOND, end, 60 * SECOND)})
    every = pl.DataFrame(receivers, schema=["system", "receiver"], orient="row").join(minutes, how="cross")
    return every.select(
        "system",
        "receiver",
        minute=moment(pl.col("at")).cast(pl.Datetime("ms", "UTC")),
        resource=pl.lit(7, pl.UInt64),
        reads=pl.lit(1, pl.UInt8),
        first_at=moment(pl.col("at")),
        last_at=moment(pl.col("at") + 59 * SECOND),
        day=moment(pl.col("at")).dt.date(),
    )


def subscriptions(owed: Sequence[tuple[str, str, str]], at: int) -> pl.DataFrame:
    """Rows of `durable_subscriptions`: system, pattern, receiver, since a moment."""
    return pl.DataFrame(owed, schema=["system", "pattern", "receiver"], orient="row").with_columns(
        day=moment(pl.lit(at)).dt.date(),
        resource=pl.lit(7, pl.UInt64),
        service=pl.lit("witness"),
        first_at=moment(pl.lit(at)),
        last_at=moment(pl.lit(at)),
        unsubscribed_at=moment(pl.lit(_NEVER)),
    )


def brief_subscriptions(subscriber: tuple[str, str, str], reports: Numbers) -> pl.DataFrame:
    """Rows of `brief_subscriptions`: one for each report."""
    system, pattern, receiver = subscriber
    return pl.DataFrame({"us": reports}).select(
        system=pl.lit(system),
        pattern=pl.lit(pattern),
        receiver=pl.lit(receiver),
        resource=pl.lit(hash_of(receiver), pl.UInt64),
        service=pl.lit("web"),
        day=moment(pl.col("us")).dt.date(),
        span_of_time=(pl.col("us") // (15 * SECOND) * 15).cast(pl.UInt32),
        first_at=moment(pl.col("us")),
        last_at=moment(pl.col("us")),
        unsubscribed_at=moment(pl.lit(_NEVER)),
    )
