"""What is to be judged again: messages with new facts, those whose moment has come, and those that news of their receiver concerns.

Everything is read from the store since a moment of the engine's clock. What is remembered between two looks (how receivers
stood, what is known of subscriptions) only spares judging again what cannot have changed.
"""

from collections import deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from hopwatch_collector.judge.brokers import SYSTEMS, Brokers
from hopwatch_collector.judge.frames import BROKERS, SECOND, empty, shaped_or_empty
from hopwatch_collector.judge.kept import Kept
from hopwatch_collector.judge.reading import EvidenceReader, Session
from hopwatch_collector.judge.subscriptions import lets_through

_TOUCHED: Final = {"message": pl.Binary, "at": pl.Int64}
MOST: Final = 100_000
"""Messages that one piece of news is followed up for at a time."""
_ALL: Final = 10_000_000
_REST: Final = 7 * SECOND
_FIREHOSE_LAG: Final = 5 * SECOND
_STALE: Final = 30 * SECOND
_TOLD_BROKERS: Final = {**BROKERS, "seen_at": pl.Int64}
_NEAR: Final = 30 * SECOND
_FAR: Final = 2**62
_ANY_MOMENT: Final = 4_000_000_000_000
"""Later than any clock says, in ms."""
_FIRST: Final = bytes(16)
_FIRST_MS: Final = 2 * 86_400_000
_FAR_MS: Final = 10**13
_REPEATED_MS: Final = 20 * 60_000
"""States are written again every quarter of an hour though they did not change."""

_STATE = tuple[str, str, str, str, str]
_SUBSCRIPTION = tuple[str, str, str, str, bool, int]


@dataclass(slots=True)
class _Stood:
    """How a receiver stood at a place when it was last looked at."""

    first: int
    next: int
    done: int
    other: str
    counters: str
    at: int
    rest_due: bool = False


@dataclass(frozen=True, slots=True)
class Concern:
    """Rows of `attention` that news is about, as a condition with its parameters."""

    where: str
    parameters: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, where: str, **parameters: Any) -> "Concern":
        """Return it; lists become tuples, so that two that say the same are the same."""
        plain = {
            name: tuple(value) if isinstance(value, list) else value for name, value in parameters.items()
        }
        return cls(where, tuple(sorted(plain.items())))

    def bound(self) -> dict[str, Any]:
        """Return the parameters as a statement takes them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self.parameters}


@dataclass(slots=True)
class Changes:
    """Finds them, one look after the other. One thread at a time."""

    session: Session
    overlap_ms: int = 0
    """For so long what was learnt is read again, where others write too: rows become visible a little after the moment they bear."""
    states: dict[_STATE, _Stood] = field(default_factory=dict)
    heads: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    subscriptions: dict[_SUBSCRIPTION, tuple[int, int, int]] = field(default_factory=dict)
    loaded: bool = False
    """Whether `states` has what was known when the last judge stopped."""
    brokers: Brokers | None = None
    """Which brokers there were; None: not looked yet."""
    polled: dict[tuple[str, str], tuple[bool, str, int]] = field(default_factory=dict)
    declared: tuple[Any, ...] | None = None
    kept: Kept = field(default_factory=Kept)
    """What evidence has in common from one look to the next."""
    stands: dict[str, Hashable] = field(default_factory=dict)
    """How tables stood when what was learnt from them was last followed up."""
    offsets: dict[int, int] = field(default_factory=dict)
    concerns: deque[Concern] = field(default_factory=deque)
    """What news was about and has not been followed up yet; of the first, messages up to `reached` have been."""
    reached: bytes = _FIRST
    recent: pl.DataFrame = field(default_factory=lambda: empty(_TOUCHED))
    """Messages judged lately, with the moment of what was learnt: within the overlap they are read again."""

    def touched(self, after: int, upto: int, top: int) -> tuple[list[bytes], int, bool]:
        """Return messages that something was learnt of between two moments (ms).

        With them: up to which moment that is all of them, and whether there are more.
        """
        found, more = self._touched(max(0, after - self.overlap_ms), upto, top + len(self.recent))
        if found.is_empty():
            return [], max(after, upto), False
        last = int(found["at"][-1])
        if more:  # of the last millisecond there may be more than was read
            found = found.filter(pl.col("at") < last)
            last -= 1
        reached = max(after, last if more else upto)
        new = found.join(self.recent, on=["message", "at"], how="anti") if len(self.recent) else found
        if self.overlap_ms:
            self.recent = pl.concat([self.recent, new]).filter(pl.col("at") > reached - 2 * self.overlap_ms)
        return new["message"].unique(maintain_order=True).to_list(), reached, more

    def learnt_since(self, after: int) -> set[bytes]:
        """Return messages that something was learnt of after a moment (ms), without taking note of it."""
        found, _ = self._touched(max(0, after - self.overlap_ms), _ANY_MOMENT, MOST)
        return set() if found.is_empty() else set(found["message"].to_list())

    def _touched(self, after: int, upto: int, top: int) -> tuple[pl.DataFrame, bool]:
        """Return the first rows between two moments, and whether there are more: those of one millisecond at least."""
        while True:
            parameters = {"after": after, "upto": upto, "top": top}
            found = shaped_or_empty(self.session.frame("touched", parameters), _TOUCHED)
            if len(found) < top:
                return found, False
            if found["at"][0] < found["at"][-1]:
                return found, True
            top *= 4

    def due(self, now: int) -> list[bytes]:
        """Return messages whose verdict time alone may have changed by now (µs)."""
        return _messages(self.session.frame("due", {"now": now, "top": MOST}))

    def next_due(self, now: int) -> int:
        """Return the next moment (µs) at which that may be so."""
        return int(self.session.frame("next_due", {"now": now})["at"][0]) or _FAR

    def look(self, after: int, now: int) -> list[bytes]:
        """Learn what became known of receivers after a moment (ms): return messages it is about, and note others in `concerns`."""
        since = {"after": max(_FIRST_MS, after - self.overlap_ms)}
        concerns: list[Concern] = []
        if self._written("receiver_states"):
            concerns += self._by_states(since)
        if self._written("brokers"):
            concerns += self._by_brokers(since["after"])
        concerns += self._by_polls(now)
        if self._written("commit_heads"):
            concerns += self._by_heads(since)
        if self._written("moves"):
            concerns += self._by_seeks(since)
        if self._written("sightings"):
            concerns += self._by_advisories(since)
        if self._written("declared", "deadline_rules"):
            concerns += self._by_declarations()
        self.concerns += dict.fromkeys(concerns)
        if self._written("durable_subscriptions", "brief_subscriptions"):
            return self._by_subscriptions(since, after)
        return []

    def _written(self, *tables: str) -> bool:
        """Whether somebody wrote into one of the tables since this was last asked; the first time, whether there is anything in them."""
        stands = {table: self.session.stand(table) for table in tables if self.session.in_use(table)}
        new = any(self.stands.get(table) != stand for table, stand in stands.items())
        self.stands |= stands
        return new

    def all_open(self) -> None:
        """Note that everything open is to be judged again."""
        self.concerns.append(_open_rows("1"))

    def concerned(self) -> list[bytes]:
        """Return the next messages that something noted in `concerns` is about; none: there is nothing left."""
        while self.concerns:
            asked = {**self.concerns[0].bound(), "after": self.reached.hex(), "top": MOST}
            found = _messages(self.session.frame("attention_of", asked, where=self.concerns[0].where))
            self.reached = found[-1] if len(found) == MOST else _FIRST
            if len(found) < MOST:
                self.concerns.popleft()
            if found:
                return found
        return []

    def skewed(self, offsets: Mapping[int, int], now: int) -> list[bytes]:
        """Return messages told of by processes whose clocks are known otherwise than before: µs to take off by process."""
        known = {resource: off for resource, off in offsets.items() if off}
        before, self.offsets = self.offsets, known
        moved = [
            resource
            for resource in {*known, *before}
            if abs(known.get(resource, 0) - before.get(resource, 0)) > _CLOCK_STEP
        ]
        if not moved:
            return []
        furthest = max((abs(off) for off in (*known.values(), *before.values())), default=0)
        since = max(1, (now - furthest) // SECOND - _CLOCK_BACK_S)
        return _messages(
            self.session.frame("messages_of_processes", {"resources": moved, "since": since, "top": _ALL})
        )

    def _by_states(self, since: Mapping[str, int]) -> Iterable[Concern]:
        if not self.loaded:  # how receivers stood when the last judge stopped is no news
            self.loaded = True
            list(self._moved({"after": since["after"] - _REPEATED_MS, "until": since["after"]}))
        yield from self._moved({**since, "until": _FAR_MS})

    def _moved(self, between: Mapping[str, int]) -> Iterable[Concern]:
        for row in self.session.frame("changed_states", between).iter_rows(named=True):
            key = (row["system"], row["broker"], row["destination"], row["receiver"], row["partition"])
            before = self.states.get(key)
            if before is not None and row["at"] <= before.at:
                continue
            stood = _Stood(
                row["first"], row["next"], row["done"], row["other"], row["counters"], row["at"],
                rest_due=row["system"] == "rabbitmq",
            )  # fmt: skip
            self.states[key] = stood
            yield from _moved(key, before, stood)

    def _by_polls(self, now: int) -> Iterable[Concern]:
        if not self.session.in_use("watches"):
            return
        polls = {
            (row["system"], row["broker"]): (row["ok_at"], row["blind"])
            for row in EvidenceReader(self.session, self.kept).polls(now).iter_rows(named=True)
        }
        for (system, broker), (ok_at, blind) in polls.items():
            sees = ok_at >= now - _STALE
            before = self.polled.get((system, broker))
            self.polled[system, broker] = (sees, blind, ok_at)
            if before is None or before[:2] != (sees, blind):
                yield _open_rows("system = {system:String}", system=system)
            elif ok_at > before[2]:
                yield Concern.of(
                    "system = {system:String} AND open AND cause IN ('waiting.no_receiver_yet', 'waiting.declared', 'unknown.broker_unreachable')"
                    " AND first_at < fromUnixTimestamp64Micro({until:Int64}, 'UTC')",
                    system=system,
                    until=ok_at,
                )
        yield from self._at_rest({key: ok_at for key, (ok_at, _) in polls.items()})

    def _at_rest(self, polled: Mapping[tuple[str, str], int]) -> Iterable[Concern]:
        """Queues whose counters have stood still long enough to say something."""
        rested = []
        polled_last = max((at for (system, _), at in polled.items() if system == "rabbitmq"), default=0)
        firehose_until = max(
            (at for (system, _), at in polled.items() if system == "rabbitmq-firehose"), default=0
        )
        for key, stood in self.states.items():
            name = self.brokers.name_of(*key[:2]) if self.brokers else ""
            polled_at = polled.get(("rabbitmq", name), polled_last)
            heard = not firehose_until or firehose_until >= stood.at + _FIREHOSE_LAG
            if stood.rest_due and polled_at >= stood.at + _REST and heard:
                stood.rest_due = False
                rested.append(key[3])
        if rested:
            yield _open_rows(
                "system = 'rabbitmq' AND receiver IN {receivers:Array(String)}", receivers=rested
            )

    def _by_heads(self, since: Mapping[str, int]) -> Iterable[Concern]:
        for broker, destination, receiver, partition, offset in self.session.frame(
            "changed_heads", since
        ).iter_rows():
            before = self.heads.get((broker, destination, receiver, partition), -1)
            self.heads[broker, destination, receiver, partition] = offset
            if offset > before:
                yield _in_log("kafka", destination, receiver, partition, before, offset)

    def _by_seeks(self, since: Mapping[str, int]) -> Iterable[Concern]:
        for destination, receiver, partition, low, high in self.session.frame(
            "changed_seeks", since
        ).iter_rows():
            yield _in_log("kafka", destination, receiver, partition, low, high)

    def _by_advisories(self, since: Mapping[str, int]) -> Iterable[Concern]:
        found = self.session.frame("changed_advisories", since)
        if not found.is_empty():
            yield Concern.of(
                "receiver IN {receivers:Array(String)} AND offset IN {offsets:Array(Int64)}",
                receivers=sorted(found["receiver"].unique()),
                offsets=sorted(found["offset"].unique()),
            )

    def _by_brokers(self, after: int) -> Iterable[Concern]:
        """All that is open, where it is now known otherwise than before which broker is meant."""
        told = shaped_or_empty(self.session.frame("brokers", {}), _TOLD_BROKERS)
        known_before = Brokers.of(told.filter(pl.col("seen_at") <= after).select(*BROKERS))
        before, self.brokers = self.brokers or known_before, Brokers.of(told.select(*BROKERS))
        if before != self.brokers:
            yield _open_rows("system IN {systems:Array(String)}", systems=list(SYSTEMS))

    def _by_subscriptions(self, since: Mapping[str, int], after: int) -> list[bytes]:
        """Messages sent since somebody came who is owed them, or went."""
        began: dict[str, dict[str, int]] = {}
        for row in self.session.frame("changed_subscriptions", since).iter_rows(named=True):
            key = (
                row["system"], row["broker"], row["pattern"], row["receiver"], bool(row["durable"]), row["resource"],
            )  # fmt: skip
            now = (row["first_at"], row["last_at"], row["unsubscribed_at"])
            moment = _since_when(self.subscriptions.get(key), now, durable=key[4])
            self.subscriptions[key] = now
            if moment is None or (row["learnt_at"] <= after - self.overlap_ms and key[4] and not now[2]):
                continue
            patterns = began.setdefault(row["system"], {})
            patterns[row["pattern"]] = min(moment, patterns.get(row["pattern"], moment))
        return [message for system, patterns in began.items() for message in self._sent_to(system, patterns)]

    def _sent_to(self, system: str, patterns: Mapping[str, int]) -> list[bytes]:
        """Messages that went to what the patterns match, since the moments (µs) beside them."""
        since = max(1, (min(patterns.values()) - _NEAR) // SECOND - 1)
        sent = self.session.frame("messages_since", {"system": system, "since": since, "top": _ALL})
        if sent.is_empty():
            return []
        destinations = sent.select(pl.lit(system).alias("system"), "destination").unique()
        reached = lets_through(
            pl.DataFrame({"system": [system] * len(patterns), "pattern": list(patterns)}), destinations
        )
        return _messages(sent.join(reached.select("destination").unique(), on="destination", how="semi"))

    def _by_declarations(self) -> Iterable[Concern]:
        """All that is open, where the team declares something else than before."""
        declared = tuple(
            tuple(self.session.frame(name, {}).sort(pl.all()).iter_rows())
            for name in ("expected_subscriptions", "deadline_rules")
        )
        before, self.declared = self.declared, declared
        if before is not None and before != declared:
            yield _open_rows("1")


_CLOCK_STEP: Final = 1_000
"""µs by which the correction of a clock has to differ for its messages to be judged again."""
_CLOCK_BACK_S: Final = 900


def _moved(key: _STATE, before: _Stood | None, now: _Stood) -> Iterable[Concern]:
    """What a change of a receiver's state concerns: of a log the offsets that it passed, of a queue all that rests on counters."""
    system, _, destination, receiver, partition = key
    if before is None or before.other != now.other:
        place = "receiver = {receiver:String} AND system = {system:String}"
        yield _open_rows(place, receiver=receiver, system=system)
        return
    if now.next >= 0:
        reached = max(now.first, now.next, now.done)
        passed = (before.first, before.next, before.done) != (now.first, now.next, now.done)
        if passed:
            low = min(before.first, before.next, before.done) - 1
            yield _in_log(system, destination, receiver, partition, low, reached)
    elif before.counters != now.counters:
        yield _open_rows(
            "system = {system:String} AND receiver = {receiver:String} AND cause NOT IN ('waiting.held', 'overdue.held', 'failed.reject')"
            " AND NOT startsWith(cause, 'unknown.')",
            system=system,
            receiver=receiver,
        )


def _since_when(
    before: tuple[int, int, int] | None, now: tuple[int, int, int], *, durable: bool
) -> int | None:
    """From when on a subscription's news matters to messages (µs); None: it does not."""
    first, last, left = now
    if left > 0 and (before is None or left > before[2]):
        return left
    if before is None or first < before[0]:
        return first
    held = 3 * 15 * SECOND
    if not durable and first > before[1] + held:
        return first
    return None if durable or last <= before[1] + held else before[1]


def _in_log(system: str, destination: str, receiver: str, partition: str, low: int, high: int) -> Concern:
    """Whatever is in `attention` between two offsets of a log."""
    topic = " AND destination = {destination:String}" if system == "kafka" else ""
    return Concern.of(
        "system = {system:String} AND receiver = {receiver:String} AND partition = {partition:String}"
        f" AND offset >= {{low:Int64}} AND offset < {{high:Int64}}{topic}",
        system=system, destination=destination, receiver=receiver, partition=partition, low=low, high=high,
    )  # fmt: skip


def _open_rows(where: str, **parameters: Any) -> Concern:
    return Concern.of(f"open AND {where}", **parameters)


def _messages(found: pl.DataFrame) -> list[bytes]:
    return [] if found.is_empty() else found["message"].to_list()


def chunks(messages: Sequence[bytes], size: int) -> Iterable[Sequence[bytes]]:
    """Cut a list into pieces."""
    return (messages[start : start + size] for start in range(0, len(messages), size))
