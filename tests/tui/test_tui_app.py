"""The live view driven by keys against a real HTTP server; the screen's own text is what is looked at."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from textual.pilot import Pilot

from hopwatch_collector.api import models
from hopwatch_tui.app import HopwatchApp
from hopwatch_tui.model import Connection
from hopwatch_tui.screens.live import LiveScreen
from hopwatch_tui.widgets.lines import Lines

DEADLINE_S = 60.0


class Driver:
    """The app under test, its keys and its screen."""

    def __init__(self, app: HopwatchApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    def screen(self) -> str:
        """What a person reads."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in line).rstrip() for line in strips)

    def line(self, words: str) -> str:
        """The first line on the screen that holds these words."""
        return next((line for line in self.screen().splitlines() if words in line), "")

    def cursor(self) -> str:
        """The line the cursor is on."""
        return self.line("▌")

    async def press(self, *keys: str) -> None:
        """Type."""
        await self.pilot.press(*keys)

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for a condition, at most so long."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, f"it did not happen; the screen:\n{self.screen()}"
            await self.pilot.pause()
            await asyncio.sleep(0)

    async def sees(self, *words: str) -> None:
        """Wait until all these words are on the screen."""
        await self.until(lambda: all(word in self.screen() for word in words))

    async def misses(self, words: str) -> None:
        """Wait until these words are no longer on the screen."""
        await self.until(lambda: words not in self.screen())


@asynccontextmanager
async def running(api: Any, size: tuple[int, int] = (80, 24)) -> AsyncIterator[Driver]:
    """The app, once its first snapshot is shown."""
    app = HopwatchApp(api.url)
    async with app.run_test(size=size) as pilot:
        driver = Driver(app, pilot)
        await driver.until(lambda: app.model.snapshot is not None or app.model.trouble is not None)
        await driver.until(lambda: isinstance(app.screen, LiveScreen))
        yield driver


@pytest.fixture
def shop(api: Any, make: Any) -> Any:
    """The stub knowing one shop flow among others, two hops undelivered, one lag."""
    flow = make.shop_flow()
    api.flows[flow.summary.flow_id] = flow
    for number in (1, 2, 3):
        api.messages[str(number)] = make.message(number)
    api.deliveries = [hop for hop in flow.hops if hop.verdict == "overdue"]
    api.show(
        make.live(
            [flow.summary, *(make.flow_summary(number) for number in range(2, 12))],
            undelivered=api.deliveries,
            lag=[make.lag_row()],
            verdicts=[
                models.VerdictCount(verdict="settled", deliveries=1812),
                {"verdict": "stuck", "deliveries": 3},
            ],
        )
    )
    return api


async def test_the_live_screen_says_how_things_stand(shop: Any) -> None:
    """Header, verdict counts and flows fit on 80×24, each flow with state, hops, undelivered, age and latency."""
    async with running(shop) as live:
        await live.sees(
            "● live", "35 spans/s", "✓ 1,812 settled", "■ 3 stuck", "1 Flows 11", "2 Undelivered 3", "3 Lag 1"
        )
        assert live.line("POST /checkout").split() == (
            ["▌", "!", "undelivered", "POST", "/checkout", "gateway", "4", "1", "1s", "42ms"]
        )


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


async def test_a_hop_opens_its_message(shop: Any, make: Any) -> None:
    """Enter on a hop shows the message with attempts and evidence; f opens its flow."""
    async with running(shop) as live:
        await live.press("2")
        await live.sees("VERDICT")
        await live.press("enter")
        await live.sees("evidence", "producer, consumer", "ATTEMPT", "alias-2")
        await live.press("f")
        await live.sees("1 Waterfall 7")


async def test_a_lag_opens_what_waits(shop: Any) -> None:
    """Enter on a lag asks for the deliveries behind the number."""
    async with running(shop) as live:
        await live.press("3")
        await live.sees("WAITING")
        await live.press("enter")
        await live.sees("orders.placed → billing", "3 waiting", "overdue")
        path, asked = shop.asked[-1]
        assert path == "deliveries"
        assert {("receiver", "billing"), ("destination", "orders.placed"), ("verdict", "waiting")} <= set(
            asked
        )


async def test_views_switch_by_number_and_tab(shop: Any) -> None:
    """1, 2, 3 and Tab go through the views."""
    async with running(shop) as live:
        for key, words in (
            ("2", "VERDICT"),
            ("3", "OLDEST"),
            ("1", "LATENCY"),
            ("tab", "VERDICT"),
            ("shift+tab", "LATENCY"),
        ):
            await live.press(key)
            await live.sees(words)


async def test_the_filter_narrows_while_typing_and_esc_drops_it(shop: Any) -> None:
    """`/` filters as one types, Enter keeps it, a word with a minus leaves out, Esc clears."""
    async with running(shop) as live:
        await live.press("slash", *"orders/7")
        await live.misses("POST /checkout")
        await live.press("enter")
        assert "POST /orders/7" in live.cursor()
        await live.press("escape")
        await live.sees("POST /checkout", "POST /orders/2")
        await live.press("slash", *"-done", "enter")
        await live.misses("POST /orders/2")
        await live.sees("POST /checkout")


async def test_a_filter_that_nothing_passes_says_how_to_drop_it(shop: Any) -> None:
    """An empty list because of the filter says so."""
    async with running(shop) as live:
        await live.press("slash", *"zzz")
        await live.sees("No line holds “zzz”.", "Esc clears the filter.")


async def test_each_view_keeps_its_own_filter(shop: Any) -> None:
    """Switching the view does not carry the filter along, coming back finds it."""
    async with running(shop) as live:
        await live.press("slash", *"orders/7", "enter", "2")
        await live.sees("! overdue")
        await live.press("1")
        await live.misses("POST /checkout")
        await live.sees("POST /orders/7", "orders/7")


async def test_help_lists_keys_and_can_be_filtered(shop: Any) -> None:
    """`?` shows keys and verdicts, `/` works there too, the same key closes it."""
    async with running(shop) as live:
        await live.press("question_mark")
        await live.sees("Everywhere", "show only lines holding these words")
        await live.press("slash", *"dead-letter", "enter")
        await live.sees("† dead-lettered")
        await live.misses("Everywhere")
        await live.press("escape", "question_mark")
        await live.sees("● live")


async def test_search_asks_the_collector_and_opens_what_it_found(shop: Any) -> None:
    """`s`, a query, Enter, Enter: the message found is open."""
    shop.hits = [
        models.SearchHit(
            kind="message",
            id="alias-2",
            why="alias",
            title="orders.placed",
            at="2026-01-31T11:59:00Z",
            state="settled",
            flow_id="",
        )
    ]
    async with running(shop) as live:
        await live.press("s")
        await live.sees("Type an id, a business key or its value.")
        await live.press(*"4711", "enter")
        await live.sees("1 result", "orders.placed", "✓ settled")
        assert ("q", "4711") in shop.asked[-1][1]
        await live.press("enter")
        await live.sees("also known as  alias-2")


async def test_a_search_that_finds_nothing_says_what_to_do(shop: Any) -> None:
    """No result names the query and where to look further."""
    async with running(shop) as live:
        await live.press("ctrl+f", *"zzz", "enter")
        await live.sees("Nothing found for “zzz”", "hopwatch find --since 7d")


async def test_the_cursor_stays_on_its_flow(shop: Any, make: Any) -> None:
    """New flows come in above; the cursor goes along with the flow it is on and stays in sight."""
    async with running(shop) as live:
        await live.press("j", "j")
        assert "POST /orders/3 " in live.cursor()
        old = [make.flow_summary(number) for number in range(2, 12)]
        new = [make.flow_summary(number, started_at=make.ago(0)) for number in range(50, 150)]
        shop.show(make.live(new[:5] + old))
        await live.sees("POST /orders/50")
        assert "POST /orders/3 " in live.cursor()
        shop.show(make.live(new + old))
        await live.sees("1 Flows 110")
        assert "POST /orders/3 " in live.cursor()
        await live.press("g")
        assert "POST /orders/50 " in live.cursor()


async def test_pause_holds_the_screen_still(shop: Any, make: Any) -> None:
    """Space holds, counts what is newer, and catches up."""
    async with running(shop) as live:
        await live.press("space")
        await live.sees("‖ paused")
        shop.show(make.live([make.flow_summary(77)]))
        await live.sees("1 newer snapshot")
        assert "POST /checkout" in live.screen()
        await live.press("space")
        await live.sees("● live", "POST /orders/77")


async def test_a_line_says_which_services_lost_spans(shop: Any, make: Any) -> None:
    """The ledger has gaps then: the line names the latest of them, as many as fit, and goes when there are none."""
    lost = [
        models.Loss(
            service=service, spans=spans, reasons={"queue_full": spans}, first_at=make.ago(9), last_at=make.ago(1), processes=1
        )
        for service, spans in (("billing", 1_234), ("mail", 5), ("till", 7), ("audit", 1))
    ]  # fmt: skip
    async with running(shop, size=(130, 24)) as live:
        shop.show(make.live([make.flow_summary(1)], losses=lost))
        await live.sees("billing 1,234, mail 5, till 7 and 1 more; their part of the ledger has gaps")
        shop.show(make.live([make.flow_summary(1)]))
        await live.misses("the ledger has gaps")
    async with running(shop) as live:
        shop.show(make.live([make.flow_summary(1)], losses=lost))
        await live.sees("1,247 spans lost: the ledger has gaps")


async def test_a_lost_connection_keeps_the_screen_and_comes_back(shop: Any, make: Any) -> None:
    """Losing the collector says so and keeps the rows; when it is back the view goes on by itself."""
    async with running(shop) as live:
        shop.stop()
        await live.sees("▲ no connection", "POST /checkout", "hopwatch collect")
        shop.show(make.live([make.flow_summary(77)]))
        shop.start()
        await live.press("r")
        await live.sees("● live", "POST /orders/77")
        assert live.app.model.connection is Connection.LIVE


async def test_without_a_collector_the_screen_says_what_to_do(api: Any) -> None:
    """Started before the collector is, the view says how to start one."""
    api.stop()
    async with running(api) as live:
        await live.sees("No collector at", "Start one with `hopwatch collect`")


async def test_an_opened_flow_survives_a_lost_connection(shop: Any) -> None:
    """Reloading a flow without a collector keeps the drawing and says what happened."""
    async with running(shop) as live:
        await live.press("enter")
        await live.sees("1 Waterfall 7")
        shop.stop()
        await live.press("r")
        await live.sees("▲ No collector at", "1 Waterfall 7", "billing  charge")


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


async def test_an_empty_live_view_says_what_to_do(api: Any) -> None:
    """Without flows the screen says how to get some."""
    async with running(api) as live:
        await live.sees("No flow in the last 5m.", "hopwatch run --")
        await live.press("2")
        await live.sees("Nothing undelivered in the last 5m.")
        await live.press("3")
        await live.sees("No receiver is known yet.")


async def test_hostile_names_are_harmless(api: Any, make: Any) -> None:
    """Escapes, bidi, markup and megabyte names neither act nor break the columns."""
    evil = "\x1b]52;c;eA==\x07\u202e[bold red]\x9b2J\u200b" + "x" * 100_000
    flow = make.shop_flow()
    flow = flow.model_copy(
        update={
            "summary": flow.summary.model_copy(update={"name": evil, "service": evil, "keys": {evil: evil}}),
            "spans": [
                make.span(
                    1, name=evil, service=evil, attributes={evil: evil}, status="error", status_message=evil
                )
            ],
            "hops": [
                make.delivery(1, destination=evil, receiver=evil, reason=evil, producer=evil, consumer=evil)
            ],
        }
    )
    api.flows[flow.summary.flow_id] = flow
    api.messages["1"] = make.message(1, destination=evil, aliases=[evil], publish_reason=evil)
    api.show(
        make.live([flow.summary], undelivered=flow.hops, lag=[make.lag_row(destination=evil, receiver=evil)])
    )
    async with running(api) as live:
        seen = []
        for keys in ((), ("2",), ("3",), ("1", "enter"), ("2",), ("enter",)):
            await live.press(*keys)
            await live.until(lambda: "asking" not in live.screen() and "Asking" not in live.screen())
            seen.append(live.screen())
            assert all(len(line) <= 80 for line in seen[-1].splitlines())
        text = "".join(seen)
        assert "␛]52;c;eA==␇�[bold red]�2J�x" in text
        assert not set(text) & set("\x1b\x07\u202e\x9b\u200b")


async def test_five_thousand_rows_are_formatted_only_where_seen(api: Any, make: Any) -> None:
    """A snapshot of 5,000 flows draws no more lines than are in sight, and the ends are a key away."""
    flows = [make.flow_summary(number) for number in range(1, 5001)]
    api.show(make.live(flows))
    async with running(api, size=(95, 24)) as live:
        await live.sees("1 Flows 5,000", "POST /orders/1 ")
        lines = live.app.screen.query_one("#list-flows", Lines)
        drawn: list[int] = []
        draw = lines.painter.line

        def count(item: Any, width: int, now: Any) -> Any:
            drawn.append(1)
            return draw(item, width, now)

        lines.painter = type(
            "Counting",
            (),
            {"line": staticmethod(count), "key": lines.painter.key, "haystack": lines.painter.haystack},
        )
        await live.press("G")
        assert "POST /orders/5000" in live.cursor()
        api.show(make.live([make.flow_summary(6000, started_at=make.ago(0)), *flows]))
        await live.sees("1 Flows 5,001")
        assert "POST /orders/5000" in live.cursor()
        await live.press("slash", *"orders/4321")
        await live.misses("POST /orders/5000")
        await live.press("enter")
        assert "POST /orders/4321" in live.cursor()
        assert len(drawn) < len(flows)


async def test_copy_takes_the_id_under_the_cursor(shop: Any) -> None:
    """`y` copies the flow's id, and the message's where one is under the cursor."""
    async with running(shop) as live:
        await live.press("y")
        assert live.app.clipboard == f"{1:032x}"
        await live.press("2", "y")
        assert live.app.clipboard == "00000000-0000-0000-0000-000000000002"


async def test_the_mouse_moves_and_opens(shop: Any) -> None:
    """A click puts the cursor on a line, another opens it."""
    async with running(shop) as live:
        await live.pilot.click("#list-flows", offset=(20, 3))
        assert "POST /orders/4 " in live.cursor()
        await live.press("k", "k", "k")
        await live.pilot.click("#list-flows", offset=(20, 0))
        await live.sees("1 Waterfall 7")


async def test_wide_screens_show_more(shop: Any) -> None:
    """With room, business keys and ids have columns of their own."""
    async with running(shop, size=(160, 40)) as live:
        await live.sees("KEYS", "order_id=1", "…00000001", "ERR")


async def test_many_services_on_a_narrow_screen_become_words(shop: Any, make: Any) -> None:
    """Where the lanes do not fit, a hop is a line of words."""
    flow = make.shop_flow()
    hops = [make.delivery(n, producer=f"svc-{n}", consumer=f"svc-{n + 1}") for n in range(1, 13)]
    shop.flows[flow.summary.flow_id] = flow.model_copy(update={"hops": hops})
    async with running(shop) as live:
        await live.press("enter", "2")
        await live.sees("FROM → DESTINATION → RECEIVER", "svc-3 → orders.placed → svc-4")


async def test_every_action_is_in_the_palette_and_q_ends(shop: Any) -> None:
    """The palette offers what the keys do; q leaves."""
    async with running(shop) as live:
        commands = {command.title for command in live.app.get_system_commands(live.app.screen)}
        assert {"Search", "Filter", "Pause", "Undelivered"} <= commands
        await live.press("q")
        await live.until(lambda: not live.app.is_running)


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


async def test_the_reason_of_an_undelivered_is_read_in_full(api: Any, make: Any) -> None:
    """Below the list stands the whole reason of the line under the cursor, and on whose word."""
    reasons = ["terminated by the receiver: card declined", "there was nowhere to route it: no responders"]
    api.show(
        make.live(undelivered=[make.delivery(n, verdict="failed", reason=r) for n, r in enumerate(reasons)])
    )
    async with running(api, size=(120, 24)) as live:
        await live.press("2")
        await live.sees(f"{reasons[0]}  seen by producer, consumer")
        await live.press("j")
        await live.sees(f"{reasons[1]}  seen by producer, consumer")


async def test_verdict_counts_shrink_to_their_glyphs(api: Any, make: Any) -> None:
    """Where the words do not fit on the line, the glyphs stay, each with its number."""
    counts = [
        models.VerdictCount(verdict=verdict, deliveries=1000 + n)
        for n, verdict in enumerate(sorted(models.Verdict)[:8])
    ]
    api.show(make.live(verdicts=counts))
    async with running(api) as live:
        await live.sees("† 1,000  × 1,002  − 1,001", "◊ 1,005")
    async with running(api, size=(160, 24)) as live:
        await live.sees("† 1,000 dead-lettered", "× 1,002 expired")


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


async def test_silence_is_said(shop: Any) -> None:
    """A stream that is open but brings nothing is not called live without saying how old the news is."""
    async with running(shop) as live:
        await live.sees("● live")
        shop.quiet = True
        await live.sees("◌ live, last news")
        shop.quiet = False
        await live.sees("● live")


async def test_leaving_while_an_answer_is_on_its_way_is_no_error(shop: Any) -> None:
    """A flow left, or the view quitted, before its answer came takes nothing down with it."""
    async with running(shop) as live:
        await live.press("enter", "escape", "enter", "2", "escape")
        await live.sees("● live")
        await live.press("enter", "q")
        await live.until(lambda: not live.app.is_running)
    assert live.app.return_code == 0
