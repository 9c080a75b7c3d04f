"""Rounds over RabbitMQ: exchanges, queues with limits and dead letters, consumers that come and go; what is right."""

from collections.abc import Iterator
from random import Random
from typing import Any, Final

import aio_pika
from services.record import Line
from services.truth_spec import Client

from truth.book import Book
from truth.expected import HELD, OPEN, Doubts, Expected, joined, last
from truth.scenario import (
    PARTS,
    Fault,
    Member,
    Scenario,
    draw_end,
    draw_sender_telling,
    draw_shares,
    draw_telling,
    pick,
)

PURGED: Final = "purge"
DELETED: Final = "delete"
ROUTES: Final = ("a", "b", "nowhere")
TTL_MS: Final = 3_000
LONGEST: Final = 25
"""Messages that a queue with a limit holds."""


def draw(lot: Random, seed: str, run: str, rate: float) -> Scenario:
    """Return a scenario: one exchange, two to four queues, none to two consumers each."""
    mandatory = lot.random() < 0.7
    settings = {"rate": rate, "mandatory": mandatory, "one_by_one": False, "route": "a"}
    kind = pick(lot, {"direct": 40, "topic": 40, "fanout": 20})
    queues: dict[str, dict[str, Any]] = {}
    members: list[Member] = []
    faults: list[Fault] = []
    for number in range(lot.randint(2, 4)):
        name = f"{run}.q{number}"
        queue, consumers, done = _queue(lot, seed, run, name)
        queues[name] = queue
        members += consumers
        faults += done
        settings["one_by_one"] |= queue["limit"] == "length"
    shares = {} if kind == "fanout" else {"b": 0.45, "nowhere": 0.02}
    telling = draw_sender_telling(lot)
    sender = Client(f"{run}.sender", "rabbitmq", "send", telling, seed, run, run, "", settings, shares)
    topology = {"exchange": kind, "queues": queues}
    return Scenario("rabbitmq", seed, run, sender, tuple(members), tuple(faults), topology)


def _queue(lot: Random, seed: str, run: str, name: str) -> tuple[dict[str, Any], list[Member], list[Fault]]:
    what = pick(lot, {"read": 62, "shelf": 12, "purged": 8, "deleted": 6, "ttl": 7, "length": 5})
    queue = {
        "routes": lot.choice([["a"], ["b"], ["a", "b"], ["a", "b"]]),
        "dead_letters": lot.random() < 0.4,
        "quorum": lot.random() < 0.2 and what in ("read", "shelf"),
        "limit": what if what in ("ttl", "length") else "",
    }
    if what == "read":
        members = [_member(lot, seed, run, name, number) for number in range(lot.randint(1, 2))]
        return queue, members, []
    at = lot.randint(1, PARTS - 1)
    fault = {"purged": [Fault(PURGED, name, at)], "deleted": [Fault(DELETED, name, at)]}.get(what, [])
    return queue, [], fault


def _member(lot: Random, seed: str, run: str, queue: str, number: int) -> Member:
    no_ack = lot.random() < 0.12
    fates = {"reject": 0.06, "again": 0.05, "fail": 0.04, "acked_failed": 0.03, "hold": 0.02}
    client = Client(
        f"{queue}.m{number}",
        "rabbitmq",
        "receive",
        draw_telling(lot),
        seed,
        run,
        queue,
        queue,
        {"prefetch": lot.choice([30, 60, 120]), "no_ack": no_ack},
        draw_shares(lot, {"acked_failed": 0.05} if no_ack else fates),
    )
    return Member(client, 0, *draw_end(lot))


class Stage:
    """The exchange and the queues of a round."""

    mark = ""

    def __init__(self, scenario: Scenario, url: str) -> None:
        self.scenario, self._url = scenario, url
        self._queues: dict[str, dict[str, Any]] = scenario.topology["queues"]

    async def prepare(self) -> None:
        """Declare everything; a queue with dead letters has a queue of them, which nobody reads."""
        run = self.scenario.run
        async with await aio_pika.connect(self._url) as connection:
            channel = await connection.channel()
            kind = aio_pika.ExchangeType(self.scenario.topology["exchange"])
            exchange = await channel.declare_exchange(run, kind, durable=True)
            for name, settings in self._queues.items():
                arguments: dict[str, Any] = {}
                if settings["dead_letters"]:
                    letters = await channel.declare_exchange(
                        f"{name}-letters", aio_pika.ExchangeType.FANOUT, durable=True
                    )
                    await (await channel.declare_queue(f"{name}.dead", durable=True)).bind(letters)
                    arguments["x-dead-letter-exchange"] = letters.name
                if settings["quorum"]:
                    arguments["x-queue-type"] = "quorum"
                if settings["limit"] == "ttl":
                    arguments["x-message-ttl"] = TTL_MS
                if settings["limit"] == "length":
                    arguments["x-max-length"] = LONGEST
                queue = await channel.declare_queue(name, durable=True, arguments=arguments)
                for route in settings["routes"]:
                    await queue.bind(exchange, route)

    async def strike(self, fault: Fault) -> None:
        """Purge or delete a queue that nobody reads."""
        async with await aio_pika.connect(self._url) as connection:
            channel = await connection.channel()
            if fault.what == PURGED:
                await (await channel.get_queue(fault.target)).purge()
            else:
                await channel.queue_delete(fault.target)

    async def finish(self) -> None:
        """Nothing is asked of the broker: records and faults say it all."""

    async def clear(self) -> None:
        """Delete everything."""
        async with await aio_pika.connect(self._url) as connection:
            channel = await connection.channel()
            for name, settings in self._queues.items():
                await channel.queue_delete(name)
                if settings["dead_letters"]:
                    await channel.queue_delete(f"{name}.dead")
                    await channel.exchange_delete(f"{name}-letters")
            await channel.exchange_delete(self.scenario.run)

    def expected(self, book: Book, doubts: Doubts) -> Iterator[Expected]:
        """Yield what is right to say of every message and queue."""
        newest = {
            name: set(self._reached(book, name)[-LONGEST:])
            for name, settings in self._queues.items()
            if settings["limit"] == "length"
        }
        for event, sent in book.sent.items():
            if sent.how.startswith("failed"):
                continue
            queues = [name for name in self._queues if self._owed(name, sent, doubts)]
            if not queues:
                yield self._nowhere(event, sent, doubts)
            for queue in queues:
                yield from self._of_queue(event, sent, queue, book, doubts, newest.get(queue))

    def _nowhere(self, event: str, sent: Line, doubts: Doubts) -> Expected:
        returned = sent.how == "returned"
        verdicts = frozenset({"returned"} if returned else {"no_receiver"})
        doubt = joined(
            [
                doubts.of_sender(),
                "the collector was away" if not returned and doubts.log.absent(sent.at, sent.at) else "",
            ]
        )
        return Expected(event, "", verdicts, "it led nowhere", doubt, optional=bool(doubts.of_sender()))

    def _of_queue(
        self, event: str, sent: Line, queue: str, book: Book, doubts: Doubts, newest: set[str] | None
    ) -> Iterator[Expected]:
        settings = self._queues[queue]
        attempt = last(book.attempts, (event, queue))
        doubt = [doubts.of_sender()]
        if attempt is None:
            verdicts, truth = self._unread(event, sent, queue, doubts, newest)
            doubt.append(doubts.of_silence(queue, sent, book.last_at))
        else:
            verdicts, truth = self._read(attempt.how, dead_letters=settings["dead_letters"])
            truth = f"{truth} at {attempt.client}"
            doubt.append(doubts.of_attempt(attempt))
            ended = attempt.client in doubts.log.killed or self._left(attempt.client)
            if not attempt.how and ended:
                # Its connection is gone, and the queue has it again.
                verdicts, truth = HELD, f"{truth}, which ended"
                doubt.append(doubts.of_silence(queue, sent, book.last_at))
            if attempt.how == "again":
                doubt.append(doubts.of_silence(queue, sent, book.last_at))
            if attempt.how and doubts.torn(attempt):
                verdicts = verdicts | HELD
            if attempt.how == "acked_failed" and doubts.silent(attempt):
                verdicts = verdicts | {"settled"}
        optional = bool(doubts.of_sender())
        yield Expected(event, queue, verdicts, truth, joined(doubt), optional=optional)
        if "dead_lettered" in verdicts:
            # The dead letter lies there and nobody reads it; whose copy it is nobody has told.
            yield Expected(
                event,
                f"{queue}.dead",
                HELD,
                "a dead letter that nobody reads",
                "no copy was told of",
                optional=True,
            )

    def _unread(
        self, event: str, sent: Line, queue: str, doubts: Doubts, newest: set[str] | None
    ) -> tuple[frozenset[str], str]:
        settings = self._queues[queue]
        dead = frozenset({"dead_lettered"})
        purged = doubts.log.done.get(f"{PURGED} {queue}")
        deleted = doubts.log.done.get(f"{DELETED} {queue}")
        if purged is not None and sent.at < purged:
            return frozenset({"lost"}), "purged"
        if deleted is not None and sent.at < deleted:
            return frozenset({"lost"}), "its queue was deleted"
        if settings["limit"] == "ttl":
            return (dead if settings["dead_letters"] else frozenset({"expired"})), "its time to live ended"
        if newest is not None and event not in newest:
            return (dead if settings["dead_letters"] else frozenset({"evicted"})), "the queue was too long"
        return frozenset({"overdue"}), "not read"

    def _read(self, how: str, *, dead_letters: bool) -> tuple[frozenset[str], str]:
        gone = frozenset({"dead_lettered"} if dead_letters else {"failed"})
        return {
            "": (OPEN, "held"),
            "ack": (frozenset({"settled"}), "acknowledged"),
            "reject": (gone, "rejected"),
            "fail": (gone, "rejected by a failing handler"),
            "acked_failed": (frozenset({"failed"}), "acknowledged, and then failed"),
            "again": (HELD, "given back"),
        }[how]

    def _left(self, client: str) -> bool:
        return any(one.client.name == client and one.ends == "leaves" for one in self.scenario.members)

    def _owed(self, queue: str, sent: Line, doubts: Doubts) -> bool:
        deleted = doubts.log.done.get(f"{DELETED} {queue}")
        if deleted is not None and sent.at > deleted:
            return False
        fanout = self.scenario.topology["exchange"] == "fanout"
        return fanout or sent.route in self._queues[queue]["routes"]

    def _reached(self, book: Book, queue: str) -> list[str]:
        routes = self._queues[queue]["routes"]
        fanout = self.scenario.topology["exchange"] == "fanout"
        found = [(one.at, event) for event, one in book.sent.items() if fanout or one.route in routes]
        return [event for _, event in sorted(found)]
