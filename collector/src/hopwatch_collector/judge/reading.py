"""Reads the evidence about some messages from the store: what is there of the messages, then what bears on their receivers."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import polars as pl

from hopwatch_collector.judge.brokers import SYSTEMS, Brokers
from hopwatch_collector.judge.evidence import Evidence
from hopwatch_collector.judge.facts import folded
from hopwatch_collector.judge.frames import (
    ADVISORIES,
    ANYBODY,
    BROKERS,
    COMMITS,
    COVERAGE,
    DEADLINES,
    EXPECTED,
    FOREIGN_READERS,
    LOSSES,
    MESSAGE_EVENTS,
    POLLS,
    ROWS_OF_FACTS,
    SECOND,
    SEEKS,
    SERVICES,
    STATES,
    SUBSCRIPTIONS,
    Schema,
    empty,
    shaped_or_empty,
)
from hopwatch_collector.judge.kept import Kept
from hopwatch_collector.judge.standing import Standing

_MINUTE_S: Final = 60
_STRETCH_S: Final = 1800
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

    def look(self) -> None:
        """Look which tables have rows by now, and which were written into."""

    def in_use(self, table: str) -> bool:
        """Whether a table had rows when that was last looked for."""

    def stand(self, table: str) -> Hashable:
        """Return what is another one once somebody wrote into the table, as it was when that was last looked for."""


@dataclass(frozen=True, slots=True)
class Bearings:
    """Between which moments (s) the messages lie."""

    since: int
    until: int
    slack: int
    """The most seconds that any clock is off."""


class EvidenceReader:
    """Reads evidence in two steps: what there is of messages and who may be owed them, then what bears on these receivers.

    What bears on receivers is read of stretches of time and of all receivers lately asked for, so that it can be kept from one
    reading to the next: more than is needed does no harm.
    """

    def __init__(self, session: Session, kept: Kept | None = None) -> None:
        """`kept`: from one reading to the next."""
        self._session = session
        self._kept = kept or Kept()

    def of_messages(self, messages: Sequence[bytes], offsets: Callable[[int], Mapping[int, int]]) -> Evidence:
        """Return what there is of the messages (16 bytes each) and of subscriptions; `offsets`: of clocks around a moment (µs)."""
        self._session.pick(messages)
        brokers = self._brokers()
        facts = brokers.named(folded(self._frame("facts", ROWS_OF_FACTS)))
        if facts.is_empty():
            return Evidence()
        latest: Any = facts["started_at"].max()
        evidence = Evidence(facts=facts, brokers=brokers, clock_offsets=offsets(int(latest)))
        at = _bearings(evidence)
        around = {
            "since": _floored(at.since - 120 - at.slack, _MINUTE_S),
            "until": _floored(at.until + 60 + at.slack, _MINUTE_S) + _MINUTE_S,
        }
        nearby = {
            "since": _floored(at.since - _HOUR_S, _STRETCH_S),
            "until": _floored(at.until + _HOUR_S, _STRETCH_S) + _STRETCH_S,
        }
        return replace(
            evidence,
            message_events=self._frame("message_events", MESSAGE_EVENTS, "told"),
            durable=self._named(brokers, "durable_subscriptions", SUBSCRIPTIONS, "durable_subscriptions"),
            brief=self._named(brokers, "brief_subscriptions", SUBSCRIPTIONS, "brief_subscriptions", around),
            expected=self._lasting("expected_subscriptions", EXPECTED, "declared"),
            foreign_readers=self._named(
                brokers, "foreign_readers", FOREIGN_READERS, "foreign_readers", nearby
            ),
            deadlines=self._lasting("deadline_rules", DEADLINES, "deadline_rules"),
        )

    def of_brokers(self, evidence: Evidence, pairs: pl.DataFrame, now: int) -> Evidence:
        """Add what brokers say of the receivers in `pairs`, as known at the moment `now` (µs)."""
        brokered = pairs.filter(pl.col("system").is_in(SYSTEMS))
        brokers = evidence.brokers
        evidence = replace(evidence, polls=self.polls(now))
        if brokered.is_empty():
            return evidence
        at = _bearings(evidence)
        named = {"receivers": self._kept.widened("receivers", brokered["receiver"].unique())}
        from_at, until_at = self._firehose(now)
        evidence = replace(
            evidence,
            standing=self._standing(brokers, named, _floored(at.since - _HOUR_S, _STRETCH_S)),
            firehose_from=from_at,
            firehose_until=until_at,
        )
        offsets = brokered.filter(pl.col("offset") >= 0)["offset"].unique().to_list()
        if not offsets:
            return self._with_coverage(evidence, named, now)
        moved = {**named, "since": _floored(at.since - 60 - at.slack, _STRETCH_S)}
        asked = {**named, "offsets": offsets}
        evidence = replace(
            evidence,
            commits=brokers.named(self._commits(brokered, named["receivers"]), "kafka"),
            commit_heads=self._named(brokers, "commit_heads", COMMITS, "commit_heads", named, "kafka"),
            seeks=self._named(brokers, "seeks", SEEKS, "moves", moved, "kafka"),
            advisories=brokers.named(self._frame("advisories", ADVISORIES, "sightings", asked)),
        )
        return self._with_coverage(evidence, named, now)

    def _with_coverage(self, evidence: Evidence, named: Mapping[str, Any], now: int) -> Evidence:
        """Add who told what they do as these receivers, where a broker says something that bears on it."""
        said = (evidence.standing.last, evidence.commit_heads, evidence.commits)
        if all(frame.is_empty() for frame in said):
            return evidence
        at = _bearings(evidence)
        since = {"since": _floored(at.since - 120 - at.slack, _STRETCH_S)}
        until = {"until": _floored(now // SECOND + 60 + at.slack, _MINUTE_S) + _MINUTE_S}
        anybody = {"receivers": [*named["receivers"], ANYBODY]}
        told = self._named(evidence.brokers, "coverage", COVERAGE, "coverage", {**anybody, **since, **until})
        told = self._with_mute(told)
        return replace(evidence, coverage=told, losses=self._lasting("losses", LOSSES, "losses", since))

    def _with_mute(self, told: pl.DataFrame) -> pl.DataFrame:
        """Have a process that cannot tell what it receives stand for every receiver of its service's, as one that tells a part."""
        anybody = pl.col("receiver") == ANYBODY
        mute, others = told.filter(anybody), told.filter(~anybody)
        if mute.is_empty() or others.is_empty():
            return others
        asked = {"resources": told["resource"].unique().sort().to_list()}
        services = shaped_or_empty(self._session.frame("services_of", asked), SERVICES)
        receivers = others.select("system", "broker", "receiver", "resource").join(services, on="resource")
        doubts = (
            mute.drop("broker", "receiver", "member", "reads", "part")
            .join(services, on="resource")
            .join(receivers.drop("resource").unique(maintain_order=True), on=["system", "service"])
            .with_columns(member=pl.lit(""), reads=pl.lit(value=True), part=pl.lit(value=True))
        )
        return pl.concat([others, doubts.select(others.columns)])

    def _standing(self, brokers: Brokers, named: Mapping[str, Any], since: int) -> Standing:
        """How receivers stood since a moment (s), and last before."""
        before = {**named, "since": max(0, since - _DAY_S), "until": since}

        def read() -> Standing:
            states = self._frame("receiver_states", STATES, "receiver_states", {**named, "since": since})
            latest = self._frame("latest_receiver_states", STATES, "receiver_states", before)
            return Standing.of(brokers.named(states), brokers.named(latest))

        return self._kept.get("standing", self._session, ("receiver_states", "brokers"), _asked(before), read)

    def _brokers(self) -> Brokers:
        def read() -> Brokers:
            return Brokers.of(self._frame("brokers", BROKERS, "brokers"))

        return self._kept.get("brokers", self._session, ("brokers",), (), read)

    def polls(self, now: int) -> pl.DataFrame:
        """Return when each kind of broker could last be asked, as known at the moment `now` (µs)."""
        return self._lasting("polls", POLLS, "watches", _recently(now))

    def _firehose(self, now: int) -> tuple[int, int]:
        if not self._session.in_use("told"):
            return 0, 0
        recently = _recently(now)

        def read() -> tuple[int, int]:
            found = self._session.frame("firehose", recently)
            return int(found["from_at"][0]), int(found["until_at"][0])

        return self._kept.get("firehose", self._session, ("told", "watches"), _asked(recently), read)

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

    def _lasting(
        self, name: str, schema: Schema, table: str, parameters: Mapping[str, Any] | None = None
    ) -> pl.DataFrame:
        """What is kept until somebody writes into the table."""

        def read() -> pl.DataFrame:
            return self._frame(name, schema, table, parameters)

        return self._kept.get(name, self._session, (table,), _asked(parameters), read)

    def _named(
        self, brokers: Brokers, name: str, schema: Schema, table: str, parameters: Mapping[str, Any] | None = None, system: str = ""
    ) -> pl.DataFrame:  # fmt: skip
        """The same of what brokers tell or what is told of them, with the name of each."""

        def read() -> pl.DataFrame:
            return brokers.named(self._lasting(name, schema, table, parameters), system)

        return self._kept.get(f"named {name}", self._session, (table, "brokers"), _asked(parameters), read)

    def _frame(
        self, name: str, schema: Schema, table: str = "", parameters: Mapping[str, Any] | None = None
    ) -> pl.DataFrame:
        if table and not self._session.in_use(table):
            return empty(schema)
        return shaped_or_empty(self._session.frame(name, parameters or {}), schema)


def _asked(parameters: Mapping[str, Any] | None) -> Hashable:
    """The parameters as what is asked can be told by."""
    return tuple(
        (name, tuple(value) if isinstance(value, list) else value)
        for name, value in (parameters or {}).items()
    )


def _recently(now: int) -> dict[str, int]:
    return {"since": _floored(now // SECOND - _DAY_S, _HOUR_S)}


def _floored(moment: int, stretch: int) -> int:
    """The beginning of the stretch of time (s) that a moment lies in."""
    return max(0, moment) // stretch * stretch


def _bearings(evidence: Evidence) -> Bearings:
    begins = int(evidence.facts["started_at"].min()) // SECOND  # type: ignore[arg-type]  # there are some
    ends = int(evidence.facts["started_at"].max()) // SECOND  # type: ignore[arg-type]
    most = max((abs(off) for off in evidence.clock_offsets.values()), default=0)
    return Bearings(max(begins, 1), ends, -(-most // SECOND))
