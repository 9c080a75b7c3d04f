"""The table of rules: every row can decide, every signal is asked for, and causes are codes that say one thing."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from hopwatch_collector.api.models import UNDELIVERED, Verdict
from hopwatch_collector.judge.rules import CAUSES, RULES, SIGNALS_USED, Rule, sentence, table
from hopwatch_collector.judge.signals import SIGNALS

README = Path(__file__).parents[3] / "collector" / "README.md"


def holds(rule: Rule, signals: Mapping[str, bool]) -> bool:
    """Whether all conditions of a rule hold."""
    return all(
        not signals[one.removeprefix("not ")] if one.startswith("not ") else signals[one] for one in rule.when
    )


def deciding(signals: Mapping[str, bool]) -> Rule:
    """The first rule that holds."""
    return next(rule for rule in RULES if holds(rule, signals))


def circumstances(rule: Rule) -> dict[str, bool]:
    """Signals under which this rule decides: what it asks for, and whatever keeps earlier rules from deciding."""
    wanted = {one.removeprefix("not "): not one.startswith("not ") for one in rule.when}
    signals = dict.fromkeys(SIGNALS, False) | wanted
    for _ in range(len(RULES)):
        first = deciding(signals)
        if first is rule:
            break
        free = [one for one in first.when if one.removeprefix("not ") not in wanted]
        assert free, f"{rule.cause} is always preceded by {first.cause}"
        signals[free[0].removeprefix("not ")] = free[0].startswith("not ")
    return signals


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.cause)
def test_every_rule_can_decide(rule: Rule) -> None:
    """No row of the table stands in the shadow of those above it."""
    assert deciding(circumstances(rule)) is rule


def test_signals_are_those_that_rules_ask_for() -> None:
    """A rule asks for no signal that there is not, and no signal is worked out for nothing."""
    assert set(SIGNALS) == SIGNALS_USED


def test_causes_are_codes() -> None:
    """Lower case, underscores, one point after the verdict; the same cause says the same wherever it stands."""
    for rule in RULES:
        assert re.fullmatch(r"[a-z_]+(\.[a-z_]+)?", rule.cause)
        assert Verdict(rule.verdict)
        assert (rule.says, rule.advice, rule.needs) == (
            CAUSES[rule.cause].says,
            CAUSES[rule.cause].advice,
            CAUSES[rule.cause].needs,
        )
    assert {rule.verdict for rule in RULES} == set(Verdict)


def test_what_is_undelivered_has_advice_and_what_is_unknown_a_need() -> None:
    """Only what is on its way or has arrived needs neither."""
    for rule in RULES:
        if Verdict(rule.verdict) in UNDELIVERED:
            assert bool(rule.needs) == (rule.verdict == "unknown")
            assert bool(rule.advice) != bool(rule.needs)
        else:
            assert not rule.needs


def test_the_readme_has_the_table_of_causes() -> None:
    """Word for word. Where it differs, `make causes` writes it anew."""
    assert table() in README.read_text("utf-8")


def test_a_cause_in_words() -> None:
    """What the evidence adds comes after a colon; a cause of a later version is told as it is."""
    assert sentence("refused", "disk full") == "the broker did not take it: disk full"
    assert sentence("lost.in_space") == "lost.in_space"
