"""Rounds over one broker, one after the other: processes are started, told, killed; then the ledger is read."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final

import httpx
from services.truth_spec import ENVIRONMENT, Client
from support.process import Process
from support.waiting import NotInTime

from hopwatch_demo.patience import scale_wait
from truth import kafka, nats, rabbitmq
from truth.book import Book
from truth.compare import FINAL, Finding, Tally, compare
from truth.expected import Doubts, Expected, Log
from truth.scenario import HANGS, KILLED, LEAVES, PARTS, Fault, Member, Scenario
from truth.watch import Watch

STAGES: Final[Mapping[str, Any]] = {"kafka": kafka, "rabbitmq": rabbitmq, "nats": nats}
"""What each broker's module has: `draw` and `Stage`."""

STILL_S: Final = 3.0
"""Nothing more is written down for so long: the round has come to rest."""
REST_WITHIN_S: Final = 40.0
RIGHT_WITHIN_S: Final = 75.0
"""Until when the ledger has to be right: a process that may still tell of what it did is waited for up to 50 s.

A collector that was away meanwhile has that long from when it is back."""
LOOK_EVERY_S: Final = 3.0
SHOWN: Final = 3
"""Findings of each kind that are explained."""

_never = threading.Event()


@dataclass(frozen=True)
class Size:
    """How much is sent in a round, and how fast."""

    messages: int
    rate: float


def draw(broker: str, seed: str, number: int, size: Size, prefix: str) -> Scenario:
    """Return the scenario of a round: the same for the same seed, whatever else runs."""
    lot = Random(f"{seed}/{broker}/{number}")
    run = f"{prefix}{broker[0]}{number}"
    scenario: Scenario = STAGES[broker].draw(lot, f"{seed}/{broker}/{number}", run, size.rate)
    return scenario


@dataclass
class Round:
    """One scenario, played."""

    scenario: Scenario
    url: str
    folder: Path
    watch: Watch
    environment: Mapping[str, str]
    size: Size
    log: Log = field(default_factory=Log)
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    tally: Tally = field(default_factory=Tally)
    expected: list[Expected] = field(default_factory=list)
    _processes: dict[str, Process] = field(default_factory=dict)
    _ended: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stage = STAGES[self.scenario.broker].Stage(self.scenario, self.url)
        self.folder.mkdir(parents=True)

    def play(self) -> None:
        """Play it to its end, and wait until the ledger is right or time is up."""
        with ExitStack() as stack:
            stack.callback(self._end_all)
            asyncio.run(self.stage.prepare())
            self._start([self.scenario.sender, *self._beginning(0)])
            self._observe()
            for part in range(PARTS):
                if part:
                    self._pass_moment(part)
                self._send(part)
            self._rest()
            asyncio.run(self.stage.finish())
            for name in [*self._processes]:
                self._export(name)
            self._settle()

    @property
    def ended(self) -> list[str]:
        """Processes that have ended of themselves, with what they said."""
        return self._ended

    def judge_again(self) -> list[Finding]:
        """Compare once more what nothing should have undone since, and return what is wrong now."""
        standing = [one for one in self.expected if one.verdicts <= FINAL]
        keys = {one.key for one in standing}
        rows = [row for row in self._rows() if (row.keys.get("event", ""), row.receiver) in keys]
        before = {(one.event, one.receiver) for one in (*self.tally.wrong, *self.tally.known)}
        found = compare(standing, rows, self.scenario.run, self._unsent())
        return [one for one in found.wrong if (one.event, one.receiver) not in before]

    def clear(self) -> None:
        """Take away what it made at the broker."""
        asyncio.run(self.stage.clear())

    def told(self) -> Iterator[str]:
        """Yield what was found, each kind with its scenario and what the collector says to it."""
        for name, findings in (("WRONG", self.tally.wrong), ("unknown though known", self.tally.known)):
            for kind, count in Counter(one.kind for one in findings).most_common():
                yield f"{name}: {count} x [seed {self.scenario.seed}] {kind}"
                like = [one for one in findings if one.kind == kind]
                for one in like[:SHOWN]:
                    yield f"    {one.event} ({one.message_id}): {one.truth}"
                if like[0].message_id:
                    yield from self.watch.why(like[0].message_id, like[0].receiver)
        if self.tally.wrong or self.tally.known:
            yield f"scenario {self.scenario.seed}: {self.scenario}"

    def _start(self, clients: Sequence[Client]) -> None:
        """Start clients; they come up at the same time."""
        for client in clients:
            env = {**self.environment, **ENVIRONMENT[client.telling]}
            spec = json.dumps(client.as_json())
            self._processes[client.name] = Process.service(
                "truth_client", spec, str(self._record(client.name)), env=env
            )
        for client in clients:
            process = self._processes[client.name]
            assert process.answer(within=90) == {"ready": True}, process

    def _record(self, client: str) -> Path:
        return self.folder / f"{client}.jsonl"

    def _beginning(self, moment: int) -> list[Client]:
        return [member.client for member in self.scenario.members if member.begins == moment]

    def _observe(self) -> None:
        """Wait until the collector has asked the broker twice since now."""
        self.watch.await_looks(self.scenario.broker, 2)

    def _pass_moment(self, moment: int) -> None:
        """Do what belongs between two stretches, in quiet."""
        faults = [fault for fault in self.scenario.faults if fault.at == moment]
        begins = self._beginning(moment)
        if not faults and not begins:
            return
        self._rest()
        self._observe()
        for fault in faults:
            self._strike(fault)
        self._start(begins)
        self._observe()

    def _strike(self, fault: Fault) -> None:
        self.log.done[f"{fault.what} {fault.target}"] = time.time()
        asyncio.run(self.stage.strike(fault))

    def _send(self, part: int) -> None:
        """Send a stretch; members whose moment has come end in the midst of it."""
        first, following = (self.size.messages * one // PARTS for one in (part, part + 1))
        sender = self._processes[self.scenario.sender.name]
        sender.tell(do="send", first=first, count=following - first, mark=self.stage.mark)
        ending = [
            one for one in self.scenario.members if one.at == part and one.ends in (LEAVES, KILLED, HANGS)
        ]
        lot = Random(f"{self.scenario.seed} ends {part}")
        for member in ending:
            _never.wait(lot.uniform(0.1, 0.6) * (following - first) / self.size.rate)
            self._end(member)
        answer = sender.answer(within=120 + (following - first) / self.size.rate)
        assert answer == {"sent": following - first}, answer

    def _end(self, member: Member) -> None:
        process = self._processes[member.client.name]
        if member.ends == KILLED:
            self.log.killed[member.client.name] = time.time()
            process.kill()
            del self._processes[member.client.name]
        elif member.ends == HANGS:
            self.log.hung[member.client.name] = time.time()
            assert process.ask(do="pause") == {"paused": True}
        else:
            assert process.ask(do="leave") == {"left": True}
            process.wait(within=60)
            process.close()
            del self._processes[member.client.name]

    def _export(self, name: str) -> None:
        process = self._processes[name]
        process.tell(do="export")
        assert process.answer(within=90)["flushed"], process

    def _book(self) -> Book:
        clients = [self.scenario.sender, *(member.client for member in self.scenario.members)]
        return Book.read({client.name: self._record(client.name) for client in clients})

    def _rest(self) -> None:
        """Wait until clients have written nothing more for a while."""
        end = time.monotonic() + scale_wait(REST_WITHIN_S)
        seen, since = -1, time.monotonic()
        while time.monotonic() < end and time.monotonic() - since < STILL_S:
            size = sum(path.stat().st_size for path in self.folder.glob("*.jsonl"))
            if size != seen:
                seen, since = size, time.monotonic()
            _never.wait(0.2)

    def _settle(self) -> None:
        """Compare until all is right, or time is up."""
        book = self._book()
        end = time.monotonic() + scale_wait(RIGHT_WITHIN_S)
        while True:
            self.log.away = self.watch.away
            self.expected = list(self.stage.expected(book, Doubts(self.scenario, self.log)))
            self.tally = compare(self.expected, self._rows(), self.scenario.run, self._unsent())
            back = max((until for _, until in self.log.away), default=0.0)
            if self.tally.done or (
                time.monotonic() > end and time.time() > back + scale_wait(RIGHT_WITHIN_S)
            ):
                return
            _never.wait(LOOK_EVERY_S)

    def _unsent(self) -> set[str]:
        return {event for event, line in self._book().sent.items() if line.how.startswith("failed")}

    def _rows(self) -> list[Any]:
        return self.watch.rows(self.began)

    def _end_all(self) -> None:
        for process in self._processes.values():
            if not process.running:
                self._ended.append(str(process))
            process.kill()


class Lane:
    """Plays rounds over one broker until told to end."""

    def __init__(
        self,
        broker: str,
        make: Callable[[str, int], Round],
        numbers: Iterator[int],
        say: Callable[[str], None],
        ends_at: float,
    ) -> None:
        self._broker, self._make, self._numbers, self._say = broker, make, numbers, say
        self._ends_at = ends_at
        self.rounds: list[Round] = []
        self.broken: list[str] = []
        """Rounds that could not be played, and why."""

    def work(self) -> None:
        """Play rounds until time is up or there are no more; at least one."""
        for number in self._numbers:
            one = self._make(self._broker, number)
            began = time.monotonic()
            try:
                one.play()
            except (AssertionError, NotInTime, OSError, httpx.HTTPError, RuntimeError) as error:
                self.broken.append(f"{one.scenario.seed}: {type(error).__name__}: {error}")
                self._say(f"{one.scenario.seed} could not be played: {error}")
                for line in one.ended:
                    self._say(line)
                self._say(f"scenario {one.scenario.seed}: {one.scenario}")
            else:
                self.rounds.append(one)
                self._say(f"{one.scenario.seed}: {one.tally} in {time.monotonic() - began:.0f} s")
                for line in one.told():
                    self._say(line)
            if time.monotonic() > self._ends_at:
                return
