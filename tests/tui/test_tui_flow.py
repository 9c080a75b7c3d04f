"""A flow opened from the live view: waterfall, sequence, and what is said about them."""

from itertools import pairwise
from typing import Any

from live_support import running

from hopwatch_collector.api import models


async def test_a_flow_opens_as_waterfall_and_as_sequence(shop: Any) -> None:
    """Enter opens the flow; 2 shows its hops between services; Esc goes back."""
    async with running(shop) as live:
        await live.press("enter")
        await live.sees("1 Waterfall 7", "2 Sequence 4", "✗ billing  charge", "━━━")
        await live.press("2")
        await live.sees(
            "gateway   orders    billing   mail      archive", "── orders.placed ──▶", "! overdue"
        )
        await live.press("escape")
        await live.sees("● live")


async def test_clocks_that_are_off_are_told_on_the_live_screen_and_in_the_flow(shop: Any, make: Any) -> None:
    """One line above the lists while clocks are off; in a flow what the mark means; gone when they agree again."""
    off = {"uncertainty_s": 0.1, "at_least_s": 299.9, "at_most_s": 300.1, "hops": 9, "since": None}
    clock = models.Clock(host="shop-1", offset_s=300.0, corrected_s=300.0, **off)
    flow = make.shop_flow()
    spans = [
        one.model_copy(update={"clock_offset_s": 300.0}) for one in flow.spans if one.service == "orders"
    ]
    shop.flows[flow.summary.flow_id] = flow.model_copy(update={"spans": spans})
    shop.show(make.live([flow.summary], clocks=[clock]))
    async with running(shop, size=(120, 24)) as live:
        await live.sees("▲ clocks are off: shop-1 5m ahead; times are corrected")
        await live.press("enter")
        await live.sees("~ clocks corrected: orders 5m ahead")
        await live.press("escape")
        shop.show(make.live([flow.summary]))
        await live.misses("clocks are off")


async def test_the_span_under_the_cursor_is_shown_in_full(shop: Any) -> None:
    """Below the waterfall stand the facts of the span the cursor is on."""
    async with running(shop) as live:
        await live.press("enter")
        await live.sees("1 Waterfall 7")
        await live.press("j", "j", "j", "j")
        await live.sees("card declined")


async def test_an_opened_flow_follows_the_live_stream(shop: Any, make: Any) -> None:
    """When the flow's line changes, the opened flow is asked for again."""
    async with running(shop) as live:
        await live.press("enter")
        await live.sees("2 Sequence 4")
        flow = make.shop_flow()
        shop.flows[flow.summary.flow_id] = flow.model_copy(update={"hops": [*flow.hops, make.delivery(9)]})
        shop.show(make.live([flow.summary.model_copy(update={"hops": 5})]))
        await live.sees("2 Sequence 5")


async def test_a_flow_nobody_knows_says_so(api: Any, make: Any) -> None:
    """A flow that has gone is an explanation, not a crash."""
    api.show(make.live([make.flow_summary(5)]))
    async with running(api) as live:
        await live.press("enter")
        await live.sees("Nothing is known by this id")


async def test_many_services_on_a_narrow_screen_become_words(shop: Any, make: Any) -> None:
    """Where the lanes do not fit, a hop is a line of words."""
    flow = make.shop_flow()
    hops = [make.delivery(n, producer=f"svc-{n}", consumer=f"svc-{n + 1}") for n in range(1, 13)]
    shop.flows[flow.summary.flow_id] = flow.model_copy(update={"hops": hops})
    async with running(shop) as live:
        await live.press("enter", "2")
        await live.sees("FROM → DESTINATION → RECEIVER", "svc-3 → orders.placed → svc-4")


async def test_zoom_stretches_the_waterfall(shop: Any) -> None:
    """`z` makes the span under the cursor fill the width, marks what lies outside, and goes back."""
    async with running(shop) as live:
        await live.press("enter")
        await live.sees("1 Waterfall 7", "70ms")
        whole = live.line("billing  charge")
        await live.press("j", "j", "z")
        await live.sees("25ms", "30ms")
        assert live.line("publish orders.plac").count("━") > 20
        assert "›" in live.line("billing  charge")
        await live.press("z")
        await live.until(lambda: live.line("billing  charge") == whole)


async def test_long_service_names_share_two_lines(shop: Any, make: Any) -> None:
    """Names longer than their lane stand by turns on two lines above the sequence."""
    flow = make.shop_flow()
    names = ["customers", "gateway", "payments", "notifications", "analytics", "shipping"]
    hops = [make.delivery(n, producer=a, consumer=b) for n, (a, b) in enumerate(pairwise(names))]
    shop.flows[flow.summary.flow_id] = flow.model_copy(update={"hops": hops})
    async with running(shop) as live:
        await live.press("enter", "2")
        await live.sees("customers", "notifications", "shipping")
        assert live.line("customers").split() == ["customers", "payments", "analytics"]
        assert live.line("AFTER").split() == ["AFTER", "gateway", "notifications", "shipping", "VERDICT"]
