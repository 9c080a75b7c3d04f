"""How one delivery was decided: by which rule, on which signals, and what would decide otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hopwatch_collector.judge import judging
from hopwatch_collector.judge.evaluation import Offsets
from hopwatch_collector.judge.reading import EvidenceReader, Session
from hopwatch_collector.judge.rules import RULES, Rule


@dataclass(frozen=True, slots=True)
class Decision:
    """The rule that decides a delivery as everything stands."""

    rule: Rule
    signals: Mapping[str, bool]
    """The signals that the rule asks for."""
    otherwise: Rule | None
    """The first rule before it that only one signal keeps from deciding; None: there is none."""
    if_signal: str
    """That signal, as a condition: `name` if it would have to hold, `not name` if not."""


def decisions(
    session: Session, message: bytes, offsets: Offsets, now: int, deadline_s: float, grace_s: float
) -> Mapping[str, Decision]:
    """Return how each delivery of a message is decided at the moment `now` (µs), by receiver."""
    reader = EvidenceReader(session)
    evidence = reader.of_messages([message], offsets)
    pairs = judging.paired(evidence)
    evidence = reader.of_brokers(evidence, pairs, now)
    found = judging.weighed(pairs, evidence, now, deadline_s, grace_s)
    return {row["receiver"]: _decision(row) for row in found.iter_rows(named=True)}


def _decision(row: Mapping[str, Any]) -> Decision:
    number: int = row["rule"]
    rule = RULES[number]
    near = (
        (other, missing[0])
        for other in RULES[:number]
        if other.cause != rule.cause and len(missing := _missing(other, row)) == 1
    )
    otherwise, condition = next(near, (None, ""))
    asked = [condition.removeprefix("not ") for condition in rule.when]
    return Decision(rule, {name: bool(row[f"is:{name}"]) for name in asked}, otherwise, condition)


def _missing(rule: Rule, row: Mapping[str, Any]) -> list[str]:
    """The conditions of a rule that do not hold."""
    return [
        condition
        for condition in rule.when
        if bool(row[f"is:{condition.removeprefix('not ')}"]) == condition.startswith("not ")
    ]
