"""What nobody would expect in the live view: names that would act on a terminal, and thousands of rows."""

from typing import Any

from live_support import running

from hopwatch_tui.widgets.lines import Lines


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
    api.causes = [make.cause(destination=evil, receiver=evil, reason=evil, advice=evil, cause=evil)]
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
