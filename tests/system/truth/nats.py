"""Rounds over NATS: streams, durables pulled and pushed, plain subscribers and queue groups; and what is right."""

from collections.abc import Iterator
from random import Random
from typing import Any, Final

import nats
from nats.js.api import ConsumerConfig, StreamConfig
from services.record import Line
from services.truth_spec import PLAIN, SILENT, Client

from truth.book import Attempt, Book
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
LONG_S: Final = 3_600.0
DELIVERIES: Final = 3
"""After so many a durable that gives up does."""


def draw(lot: Random, seed: str, run: str, rate: float) -> Scenario:
    """Return a scenario: one stream with two to four durables, and one or two plain receivers beside it."""
    durables: dict[str, dict[str, Any]] = {}
    members: list[Member] = []
    faults: list[Fault] = []
    for number in range(lot.randint(2, 4)):
        name = f"d{number}"
        durables[name], consumers, done = _durable(lot, seed, run, name)
        members += consumers
        faults += done
    for number in range(lot.randint(1, 2)):
        members += _plain(lot, seed, run, number)
    if lot.random() < 0.12:
        faults.append(Fault(PURGED, run, lot.randint(1, PARTS - 1)))
    shares = {"b": 0.35, "plain": 0.2, "nobody": 0.02, "nowhere": 0.02}
    telling = draw_sender_telling(lot)
    sender = Client(
        f"{run}.sender", "nats", "send", telling, seed, run, run, "", {"rate": rate, "route": "a"}, shares
    )
    topology = {"durables": durables, "longest": 60 if lot.random() < 0.1 else -1}
    return Scenario("nats", seed, run, sender, tuple(members), tuple(faults), topology)


def _durable(lot: Random, seed: str, run: str, name: str) -> tuple[dict[str, Any], list[Member], list[Fault]]:
    way = pick(lot, {"pull": 50, "push": 35, "shelf": 15})
    gives_up = lot.random() < 0.25
    durable = {
        "way": "pull" if way == "shelf" else way,
        "routes": lot.choice([["a", "b"], ["a", "b"], ["a"], ["b"]]),
        "gives_up": gives_up,
        "start": lot.choice([1, 1, 1, 20]),
    }
    if way == "shelf":
        fault = [Fault(DELETED, name, lot.randint(1, PARTS - 1))] if lot.random() < 0.3 else []
        return durable, [], fault
    fates = {"term": 0.05, "again": 0.05, "hold": 0.02}
    if way == "push":
        # Of a loop that pulls nobody outside can see that its body failed.
        fates["acked_failed"] = 0.04
    if gives_up:
        fates["give_up"] = 0.05
    members = []
    for number in range(lot.randint(1, 2)):
        client = Client(
            f"{run}.{name}.m{number}",
            "nats",
            "receive",
            draw_telling(lot),
            seed,
            run,
            f"{run}.>",
            f"{run}/{name}",
            {"way": way, "at_most": lot.choice([1, 10, 50])},
            draw_shares(lot, fates),
        )
        members.append(Member(client, 0, *draw_end(lot)))
    return durable, members, []


def _plain(lot: Random, seed: str, run: str, number: int) -> Iterator[Member]:
    """Yield the members of a queue group, or a single subscriber, which is known by its service's name."""
    group = f"{run}-w{number}" if lot.random() < 0.7 else ""
    for member in range(lot.randint(1, 2) if group else 1):
        name, telling = f"{run}.w{number}.m{member}", draw_telling(lot)
        client = Client(
            name,
            "nats",
            "receive",
            # A single one that tells nothing has no name by which to find it in the ledger.
            PLAIN if telling == SILENT and not group else telling,
            seed,
            run,
            f"{run}-plain",
            group or f"{name}:{run}-plain",
            {"way": "plain", "group": group},
            draw_shares(lot, {"fail": 0.05}),
        )
        yield Member(client)


class Stage:
    """The stream and the durables of a round."""

    mark = ""

    def __init__(self, scenario: Scenario, url: str) -> None:
        self.scenario, self._url = scenario, url
        self._durables: dict[str, dict[str, Any]] = scenario.topology["durables"]

    async def prepare(self) -> None:
        """Make stream and durables."""
        run = self.scenario.run
        client = await nats.connect(self._url)
        jetstream = client.jetstream()
        longest = self.scenario.topology["longest"]
        await jetstream.add_stream(StreamConfig(name=run, subjects=[f"{run}.>"], max_msgs=longest))
        for name, settings in self._durables.items():
            routes = settings["routes"]
            pushed = settings["way"] == "push"
            await jetstream.add_consumer(
                run,
                ConsumerConfig(
                    durable_name=name,
                    filter_subject=f"{run}.>" if len(routes) > 1 else f"{run}.{routes[0]}",
                    ack_policy="explicit",
                    ack_wait=LONG_S,
                    max_ack_pending=-1,
                    max_deliver=DELIVERIES if settings["gives_up"] else -1,
                    deliver_subject=f"deliver.{run}.{name}" if pushed else None,
                    deliver_group=f"{run}-{name}" if pushed else None,
                    deliver_policy="by_start_sequence" if settings["start"] > 1 else "all",
                    opt_start_seq=settings["start"] if settings["start"] > 1 else None,
                ),
            )
        await client.close()

    async def strike(self, fault: Fault) -> None:
        """Purge the stream, or delete a durable that nobody reads."""
        client = await nats.connect(self._url)
        jetstream = client.jetstream()
        if fault.what == PURGED:
            await jetstream.purge_stream(fault.target)
        else:
            await jetstream.delete_consumer(self.scenario.run, fault.target)
        await client.close()

    async def finish(self) -> None:
        """Nothing is asked of the server: records and faults say it all."""

    async def clear(self) -> None:
        """Delete the stream."""
        client = await nats.connect(self._url)
        await client.jetstream().delete_stream(self.scenario.run)
        await client.close()

    def expected(self, book: Book, doubts: Doubts) -> Iterator[Expected]:
        """Yield what is right to say of every message and receiver."""
        plain = list(
            dict.fromkeys(
                one.client.receiver for one in self.scenario.members if one.client.settings["way"] == "plain"
            )
        )
        newest = max((one.offset for one in book.sent.values()), default=0)
        for event, sent in book.sent.items():
            if sent.how.startswith("failed"):
                continue
            if sent.route == "plain":
                for receiver in plain:
                    yield self._of_plain(event, sent, receiver, book, doubts)
                continue
            owed = [name for name in self._durables if self._owed(name, sent, doubts)]
            if not owed:
                yield self._nowhere(event, sent, doubts)
            for name in owed:
                yield self._of_durable(event, sent, name, book, doubts, newest)

    def _nowhere(self, event: str, sent: Line, doubts: Doubts) -> Expected:
        verdicts = frozenset({"returned"} if sent.how == "returned" else {"no_receiver"})
        doubt = [doubts.of_sender()]
        if sent.how != "returned" and doubts.log.absent(sent.at, sent.at):
            doubt.append("the collector was away")
        return Expected(
            event, "", verdicts, "it led nowhere", joined(doubt), optional=bool(doubts.of_sender())
        )

    def _of_plain(self, event: str, sent: Line, receiver: str, book: Book, doubts: Doubts) -> Expected:
        attempt = last(book.attempts, (event, receiver))
        optional = bool(doubts.of_sender())
        if attempt is None:
            doubt = joined([doubts.of_sender(), "a plain subject keeps nothing"])
            return Expected(event, receiver, frozenset({"lost"}), "never received", doubt, optional=optional)
        # Nobody but the subscriber itself could tell of it.
        untold = doubts.of_attempt(attempt)
        verdicts = {"ack": {"settled"}, "fail": {"failed"}, "": set(OPEN)}[attempt.how]
        if untold and attempt.how == "fail":
            verdicts = verdicts | {"settled"}
        silent = any(member.client.telling == SILENT for member in self.scenario.of(receiver))
        return Expected(
            event,
            receiver,
            frozenset(verdicts),
            f"{attempt.how or 'held'} at {attempt.client}",
            joined([doubts.of_sender(), untold]),
            optional=optional or silent,
        )

    def _of_durable(
        self, event: str, sent: Line, name: str, book: Book, doubts: Doubts, newest: int
    ) -> Expected:
        receiver = f"{self.scenario.run}/{name}"
        attempts = book.attempts.get((event, receiver), [])
        doubt = [doubts.of_sender()]
        if not attempts:
            verdicts, truth = self._unread(sent, name, doubts, newest)
            doubt.append(doubts.of_silence(receiver, sent, book.last_at))
        else:
            verdicts, truth = self._read(attempts, name, doubts)
            if attempts[-1].how in ("", "again", "give_up") and self._removed(sent, doubts, newest):
                # Its client may still hold what is no longer there.
                verdicts = verdicts | {"evicted"}
            doubt.append(doubts.of_attempt(attempts[-1]))
            if attempts[-1].how in ("again", "give_up", ""):
                doubt.append(doubts.of_silence(receiver, sent, book.last_at))
        optional = bool(doubts.of_sender())
        return Expected(event, receiver, verdicts, truth, joined(doubt), optional=optional)

    def _unread(self, sent: Line, name: str, doubts: Doubts, newest: int) -> tuple[frozenset[str], str]:
        deleted = doubts.log.done.get(f"{DELETED} {name}")
        removed = self._removed(sent, doubts, newest)
        if deleted is not None and sent.at < deleted:
            said = {"lost", "evicted"} if removed else {"lost"}
            return frozenset(said), "its durable was deleted"
        if removed:
            return frozenset({"evicted"}), removed
        # A server that has handed it out to a client that tells nothing cannot say whether that has begun on it.
        silent = any(not one.client.told for one in self.scenario.of(f"{self.scenario.run}/{name}"))
        return frozenset({"overdue", "stuck"} if silent else {"overdue"}), "not read"

    def _read(self, attempts: list[Attempt], name: str, doubts: Doubts) -> tuple[frozenset[str], str]:
        attempt = attempts[-1]
        gives_up = self._durables[name]["gives_up"]
        verdicts = {
            "": OPEN | HELD,
            "ack": frozenset({"settled"}),
            "term": frozenset({"dead_lettered"}),
            "acked_failed": frozenset({"failed", "settled"} if doubts.silent(attempt) else {"failed"}),
            "again": HELD,
            "give_up": HELD,
        }[attempt.how]
        if attempt.how in ("again", "give_up") and gives_up and len(attempts) >= DELIVERIES:
            verdicts = frozenset({"dead_lettered"})
        if attempt.how and doubts.torn(attempt):
            verdicts = verdicts | OPEN | HELD
        return verdicts, f"{attempt.how or 'held'} at {attempt.client} after {len(attempts)}"

    def _removed(self, sent: Line, doubts: Doubts, newest: int) -> str:
        """Return why the stream no longer holds it, empty where it does."""
        purged = doubts.log.done.get(f"{PURGED} {self.scenario.run}")
        longest = self.scenario.topology["longest"]
        if purged is not None and sent.at < purged:
            return "purged"
        return "the stream was too long" if longest > 0 and sent.offset <= newest - longest else ""

    def _owed(self, name: str, sent: Line, doubts: Doubts) -> bool:
        settings = self._durables[name]
        deleted = doubts.log.done.get(f"{DELETED} {name}")
        if deleted is not None and sent.at > deleted:
            return False
        return sent.route in settings["routes"] and sent.offset >= settings["start"]
