"""Reads the evidence about some messages from the store: what is there of the messages, then what bears on their receivers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import polars as pl

from hopwatch_collector.judge.brokers import SYSTEMS, Brokers
from hopwatch_collector.judge.evidence import Evidence
from hopwatch_collector.judge.frames import (
    ADVISORIES,
    BROKERS,
    COMMITS,
    COVERAGE,
    DEADLINES,
    EXPECTED,
    FACTS,
    LOSSES,
    MESSAGE_EVENTS,
    POLLS,
    SECOND,
    SEEKS,
    STATES,
    SUBSCRIPTIONS,
    Schema,
    empty,
    shaped_or_empty,
)

_HOUR_S: Final = 3600
_DAY_S: Final = 86_400
_COMMITS_BEYOND: Final = 10_000
"""Commits are read up to so many offsets beyond the last message judged; of what lies further the group's latest commit tells."""


class Session(Protocol):
    """Of the store, what reading takes. One thread at a time."""

    def pick(self, messages: Sequence[bytes]) -> None:
        """Say which messages the statements after this are about."""

    def frame(self, name: str, parameters: Mapping[str, Any], **texts: str) -> pl.DataFrame:
        """Run `sql/<name>.sql` and return its rows; `texts` stand for its `{{…}}`."""

    def look_for_rows(self) -> None:
        """Look which tables have rows by now."""

    def in_use(self, table: str) -> bool:
        """Whether a table may have rows: none where it had none when that was last looked for."""


@dataclass(frozen=True, slots=True)
class Bearings:
    """Between which moments (s) the messages lie."""

    since: int
    until: int
    slack: int
    """The most seconds that any clock is off."""


class EvidenceReader:
    """Reads evidence in two steps: what there is of messages and who may be owed them, then what bears on these receivers."""

    def __init__(self, session: Session, known: dict[str, pl.DataFrame] | None = None) -> None:
        """`known`: what is kept of subscriptions and declarations from one reading to the next; whoever keeps it empties it."""
        self._session = session
        self._known = {} if known is None else known

    def of_messages(self, messages: Sequence[bytes], offsets: Callable[[int], Mapping[int, int]]) -> Evidence:
        """Return what there is of the messages (16 bytes each) and of subscriptions; `offsets`: of clocks around a moment (µs)."""
        self._session.pick(messages)
        brokers = self._brokers()
        facts = brokers.named(self._frame("facts", FACTS))
        if facts.is_empty():
            return Evidence()
        latest: Any = facts["started_at"].max()
        evidence = Evidence(facts=facts, brokers=brokers, clock_offsets=offsets(int(latest)))
        at = _bearings(evidence)
        around = {"since": max(0, at.since - 120 - at.slack), "until": at.until + 60 + at.slack}
        return replace(
            evidence,
            message_events=self._frame("message_events", MESSAGE_EVENTS, "told"),
            durable=brokers.named(
                self._kept("durable_subscriptions", SUBSCRIPTIONS, "durable_subscriptions")
            ),
            brief=brokers.named(
                self._frame("brief_subscriptions", SUBSCRIPTIONS, "brief_subscriptions", around)
            ),
            expected=self._kept("expected_subscriptions", EXPECTED, "declared"),
            deadlines=self._kept("deadline_rules", DEADLINES, "deadline_rules"),
        )

    def of_brokers(self, evidence: Evidence, pairs: pl.DataFrame, now: int) -> Evidence:
        """Add what brokers say of the receivers in `pairs`, as known at the moment `now` (µs)."""
        brokered = pairs.filter(pl.col("system").is_in(SYSTEMS))
        brokers = evidence.brokers
        recently = max(0, now // SECOND - _DAY_S)
        evidence = replace(evidence, polls=self._frame("polls", POLLS, "watches", {"since": recently}))
        if brokered.is_empty():
            return evidence
        at = _bearings(evidence)
        named = {"receivers": sorted(brokered["receiver"].unique())}
        first = max(0, at.since - _HOUR_S)
        offsets = brokered.filter(pl.col("offset") >= 0)["offset"].unique().to_list()
        from_at, until_at = self._firehose(recently)
        evidence = replace(
            evidence,
            states=brokers.named(
                self._frame("receiver_states", STATES, "receiver_states", {**named, "since": first})
            ),
            latest_states=brokers.named(
                self._frame(
                    "latest_receiver_states",
                    STATES,
                    "receiver_states",
                    {**named, "since": max(0, first - _DAY_S), "until": first},
                )
            ),
            firehose_from=from_at,
            firehose_until=until_at,
        )
        if not offsets:
            return self._with_coverage(evidence, named, now)
        moved = {**named, "since": max(0, at.since - 60 - at.slack)}
        evidence = replace(
            evidence,
            commits=brokers.named(self._commits(brokered, named["receivers"]), "kafka"),
            commit_heads=brokers.named(self._frame("commit_heads", COMMITS, "commits", named), "kafka"),
            seeks=brokers.named(self._frame("seeks", SEEKS, "moves", moved), "kafka"),
            advisories=brokers.named(
                self._frame("advisories", ADVISORIES, "sightings", {**named, "offsets": offsets})
            ),
        )
        return self._with_coverage(evidence, named, now)

    def _with_coverage(self, evidence: Evidence, named: Mapping[str, Any], now: int) -> Evidence:
        """Add who told what they do as these receivers, where a broker says something that bears on it."""
        said = (evidence.states, evidence.latest_states, evidence.commit_heads, evidence.commits)
        if all(frame.is_empty() for frame in said):
            return evidence
        at = _bearings(evidence)
        around = {"since": max(0, at.since - 120 - at.slack), "until": now // SECOND + 60 + at.slack}
        found = self._frame("coverage", COVERAGE, "coverage", {**named, **around})
        lost = self._frame("losses", LOSSES, "losses", {"since": around["since"]})
        return replace(evidence, coverage=evidence.brokers.named(found), losses=lost)

    def _brokers(self) -> Brokers:
        return Brokers.of(self._kept("brokers", BROKERS, "brokers"))

    def _firehose(self, since: int) -> tuple[int, int]:
        if not self._session.in_use("told"):
            return 0, 0
        found = self._session.frame("firehose", {"since": since})
        return int(found["from_at"][0]), int(found["until_at"][0])

    def _commits(self, pairs: pl.DataFrame, receivers: Sequence[str]) -> pl.DataFrame:
        placed = pairs.filter((pl.col("system") == "kafka") & (pl.col("offset") >= 0))
        if placed.is_empty() or not self._session.in_use("commits"):
            return empty(COMMITS)
        places = placed.group_by("destination", "partition").agg(
            low=pl.col("offset").min(), high=pl.col("offset").max()
        )
        parameters: dict[str, Any] = {"receivers": receivers}
        conditions = []
        for number, place in enumerate(places.iter_rows(named=True)):
            parameters |= {
                f"d{number}": place["destination"],
                f"p{number}": place["partition"],
                f"l{number}": place["low"],
                f"h{number}": place["high"] + _COMMITS_BEYOND,
            }
            conditions.append(
                f"destination = {{d{number}:String}} AND receiver IN {{receivers:Array(String)}} AND partition = {{p{number}:String}}"
                f" AND offset > {{l{number}:Int64}} AND offset <= {{h{number}:Int64}}"
            )
        text = " OR ".join(f"({condition})" for condition in conditions)
        return shaped_or_empty(self._session.frame("commits", parameters, places=text), COMMITS)

    def _kept(self, name: str, schema: Schema, table: str) -> pl.DataFrame:
        if not self._session.in_use(table):
            return empty(schema)
        if name not in self._known:
            self._known[name] = self._frame(name, schema)
        return self._known[name]

    def _frame(
        self, name: str, schema: Schema, table: str = "", parameters: Mapping[str, Any] | None = None
    ) -> pl.DataFrame:
        if table and not self._session.in_use(table):
            return empty(schema)
        return shaped_or_empty(self._session.frame(name, parameters or {}), schema)


def _bearings(evidence: Evidence) -> Bearings:
    begins = int(evidence.facts["started_at"].min()) // SECOND  # type: ignore[arg-type]  # there are some
    ends = int(evidence.facts["started_at"].max()) // SECOND  # type: ignore[arg-type]
    most = max((abs(off) for off in evidence.clock_offsets.values()), default=0)
    return Bearings(max(begins, 1), ends, -(-most // SECOND))
