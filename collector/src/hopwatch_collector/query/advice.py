"""What to do about each cause of non-delivery, in one sentence; and what would settle a doubt: as the rules have it."""

from hopwatch_collector.judge.rules import CAUSES


def missing_for(cause: str) -> str:
    """Return what evidence would settle a doubt, empty where there is none."""
    rule = CAUSES.get(cause)
    return rule.needs if rule else ""


def advice_on(cause: str) -> str:
    """Return what to do about a cause, empty where nothing is to be done."""
    rule = CAUSES.get(cause)
    if rule is None:
        return ""
    return rule.advice or (f"To know, hopwatch needs {rule.needs}." if rule.needs else "")
