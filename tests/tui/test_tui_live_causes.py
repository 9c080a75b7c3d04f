"""The live view's Undelivered tab: one line per cause, asked for while it is in sight."""

from datetime import timedelta
from typing import Any

import pytest
from live_support import Driver, running

from hopwatch_collector.api import models
from hopwatch_tui.answers import CauseList
from hopwatch_tui.model import LiveModel
from hopwatch_tui.screens import live as live_module


def asked_for_causes(api: Any) -> int:
    """How often the collector was asked for causes."""
    return sum(1 for path, _ in api.asked if path == "undelivered")


def judged(make: Any, seconds: float, undelivered: int = 3) -> models.Live:
    """A snapshot whose verdicts are of so many seconds later."""
    counts = [models.VerdictCount(verdict="overdue", deliveries=undelivered)] if undelivered else []
    return make.live(judged_at=make.now + timedelta(seconds=seconds), verdicts=counts)


async def test_undelivered_is_one_line_per_cause(shop: Any, make: Any) -> None:
    """Count, verdict, destination, receiver, oldest and newest; the most frequent first, as the collector has them."""
    shop.causes = [make.cause(), make.cause(verdict="returned", cause="returned", receiver="", deliveries=4)]
    async with running(shop) as live:
        await live.press("2")
        await live.sees("2,375", "OLDEST", "NEWEST")
        assert live.line("2,375").split() == (
            ["▌", "2,375", "!", "overdue", "orders.placed", "billing", "3h20m", "12s"]
        )
        assert live.line("returned").split()[-4:] == ["orders.placed", "nobody", "3h20m", "12s"]
        (asked,) = [asked for path, asked in shop.asked if path == "undelivered"]
        assert asked == [("since", "300s"), ("limit", "1000")]


async def test_reason_and_advice_of_a_cause_are_read_in_full(shop: Any, make: Any) -> None:
    """Below the list stands the whole reason of the line under the cursor, and what to do about it."""
    shop.causes = [
        make.cause(cause=f"cause.{n}", reason=f"reason {n}: {'so ' * 20}", advice=f"Do {n}.") for n in (1, 2)
    ]
    async with running(shop, size=(120, 24)) as live:
        await live.press("2")
        await live.sees(f"reason 1: {'so ' * 20}".strip() + "  cause.1", "Do 1.")
        await live.press("j")
        await live.sees(f"reason 2: {'so ' * 20}".strip() + "  cause.2", "Do 2.")


async def test_causes_are_asked_for_while_they_are_in_sight(
    shop: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before the tab is shown, again for newer verdicts, not for the same, and no longer in another tab."""
    monkeypatch.setattr(live_module, "CAUSES_EVERY_S", 0.0)
    async with running(shop) as live:
        await live.sees("2 Undelivered 3")
        assert asked_for_causes(shop) == 0
        await live.press("2")
        await live.sees("2,375")
        await seen_twice(live)
        assert asked_for_causes(shop) == 1
        shop.causes = [make.cause(deliveries=2400)]
        shop.show(judged(make, 1))
        await live.sees("2,400")
        assert asked_for_causes(shop) == 2
        await live.press("1")
        shop.show(judged(make, 2, undelivered=4))
        await live.sees("2 Undelivered 4")
        assert asked_for_causes(shop) == 2


async def test_causes_are_not_asked_for_at_every_snapshot(
    shop: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question makes the collector judge the whole window: after an answer there is a rest."""
    monkeypatch.setattr(live_module, "CAUSES_EVERY_S", 3600.0)
    async with running(shop) as live:
        await live.press("2")
        await live.sees("2,375")
        shop.show(judged(make, 1, undelivered=5))
        await live.sees("2 Undelivered 5")
        await seen_twice(live)
        assert asked_for_causes(shop) == 1


async def test_causes_that_cannot_be_had_are_said_so(
    shop: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error stands where errors stand, the lines of before stay, and the view goes on."""
    monkeypatch.setattr(live_module, "CAUSES_EVERY_S", 0.0)
    async with running(shop) as live:
        await live.press("2")
        await live.sees("2,375")
        shop.failing_paths["undelivered"] = "too much"
        shop.show(judged(make, 1))
        await live.sees("▲ Service Unavailable", "2,375", "● live")
        await live.press("1")
        await live.misses("▲ Service Unavailable")
        del shop.failing_paths["undelivered"]
        shop.show(judged(make, 2))
        await live.press("2")
        await live.misses("▲ Service Unavailable")


async def test_causes_stand_still_while_the_view_is_paused(
    shop: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paused, nothing is asked for; what nobody has seen yet is, once."""
    monkeypatch.setattr(live_module, "CAUSES_EVERY_S", 0.0)
    async with running(shop) as live:
        await live.press("space", "2")
        await live.sees("2,375", "‖ paused")
        shop.causes = [make.cause(deliveries=2400)]
        shop.show(judged(make, 1))
        await live.sees("newer snapshot")
        assert asked_for_causes(shop) == 1
        await live.press("space")
        await live.sees("2,400")


def test_nothing_undelivered_needs_no_question() -> None:
    """Where a snapshot knows of none, nobody is asked, and causes of before are gone."""
    model = LiveModel()
    assert not model.causes_wanted
    model.explain(CauseList(causes=(), truncated=False), None)
    assert model.causes == ()


async def seen_twice(live: Driver) -> None:
    """Wait until two more snapshots have come in."""
    for _ in range(2):
        before = live.app.model.snapshot
        await live.until(lambda before=before: live.app.model.snapshot is not before)
