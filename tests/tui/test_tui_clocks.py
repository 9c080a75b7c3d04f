"""Times of clocks that are off: corrected and marked wherever they stand beside others, and kept as they were told."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from hopwatch_collector.api import models
from hopwatch_tui import clocks, lists, report
from hopwatch_tui.answers import Clock, ClockList, Delivery, Flow, Message, parse
from hopwatch_tui.drawings import HopSequence, Waterfall
from hopwatch_tui.hops import in_order, waterfall

Run = Callable[..., Any]
FLOW = f"{1:032x}"
OFF = pytest.mark.parametrize("off_s", [-300.0, 300.0])


def answer(cls: type[Any], model: Any) -> Any:
    """What the terminal view makes of the collector's answer."""
    return parse(cls, json.loads(model.model_dump_json()))


def printed(what: Any) -> str:
    """What a terminal would show."""
    console = Console(width=120, highlight=False)
    with console.capture() as drawn:
        console.print(what)
    return drawn.get()


def skewed_flow(make: Any, off_s: float) -> models.Flow:
    """The shop's flow as it is told where the clock of `orders` is off."""
    flow = make.shop_flow()
    later = timedelta(seconds=off_s)
    spans = [
        one.model_copy(update={"started_at": one.started_at + later, "clock_offset_s": off_s})
        if one.service == "orders"
        else one
        for one in flow.spans
    ]
    hops = []
    for hop in flow.hops:
        told: dict[str, Any] = {}
        if hop.producer == "orders":
            told |= {"sent_at": hop.sent_at + later, "sender_clock_offset_s": off_s}
        if hop.consumer == "orders":
            told |= {"received_at": hop.received_at + later, "receiver_clock_offset_s": off_s}
        hops.append(hop.model_copy(update=told))
    return flow.model_copy(update={"spans": spans, "hops": hops})


def clock(host: str, off_s: float = 0.0, **fields: Any) -> models.Clock:
    """A clock."""
    defaults: dict[str, Any] = {
        "host": host, "offset_s": off_s, "uncertainty_s": 0.003, "at_least_s": off_s - 0.003, "at_most_s": off_s + 0.003,
        "corrected_s": off_s, "hops": 1204, "since": "2026-01-31T11:45:00Z",
    }  # fmt: skip
    return models.Clock(**defaults | fields)


def known(*told: models.Clock, **fields: Any) -> models.ClockList:
    """An answer of /clocks."""
    defaults: dict[str, Any] = {"reference": "here", "collector": "here", "left_out": [], "truncated": False}
    return models.ClockList(**defaults | fields, clocks=list(told))


@OFF
def test_drawings_are_those_of_clocks_that_agree(make: Any, off_s: float) -> None:
    """Waterfall and sequence look as if all clocks agreed, but for the mark."""
    right, skewed = answer(Flow, make.shop_flow()), answer(Flow, skewed_flow(make, off_s))
    for painter, rows in (
        (Waterfall.of, lambda flow: waterfall(flow.spans)),
        (HopSequence.of, lambda flow: in_order(flow.hops)),
    ):
        texts = []
        for flow in (right, skewed):
            drawing: Any = painter(flow)
            lines = [drawing.line(row, 120, None) for row in rows(flow)]
            texts.append(["".join(text for text, _ in line) for line in lines])
        assert [line.replace("~", " ") for line in texts[1]] == texts[0]
        assert any("~" in line for line in texts[1])
        assert not any("~" in line for line in texts[0])


@OFF
def test_no_receipt_is_shown_before_its_sending(make: Any, off_s: float) -> None:
    """Even where a correction is off by some milliseconds."""
    hop = make.shop_flow().hops[1]
    sent = hop.sent_at + timedelta(seconds=off_s)
    told = answer(
        Delivery,
        hop.model_copy(
            update={"sent_at": sent, "received_at": hop.sent_at, "sender_clock_offset_s": off_s - 0.004}
        ),
    )
    assert told.sent_at == sent
    assert clocks.sent(told) is not None
    assert clocks.received(told) == clocks.sent(told)


def test_show_marks_and_explains_what_is_corrected(api: Any, make: Any, hopwatch: Run) -> None:
    """Latencies bear the mark, a line says whose clock it was, and --json has the times as they were told."""
    api.flows[FLOW] = skewed_flow(make, 300.0)
    text = hopwatch("show", FLOW).stdout.decode()
    assert "└── http POST /orders → orders  ✓ settled ~12ms" in text
    assert "nats receipts → archive  ✓ settled 12ms" in text
    assert "~ clocks corrected: orders 5m ahead" in text
    raw = json.loads(hopwatch("show", FLOW, "--json").stdout)
    assert raw == json.loads(api.flows[FLOW].model_dump_json())
    assert raw["hops"][1]["sender_clock_offset_s"] == 300.0


def test_a_flow_of_right_clocks_has_no_legend(make: Any) -> None:
    """Nothing is said where nothing is corrected."""
    assert "~" not in printed(report.flow_tree(answer(Flow, make.shop_flow())))


def test_a_message_shows_both_times(make: Any) -> None:
    """The corrected one, marked, and what the clock told."""
    message = make.message(sender_clock_offset_s=-300.0)
    attempt = make.attempt(clock_offset_s=0.25)
    detail = make.delivery_detail(history=[attempt], receiver_clock_offset_s=0.25)
    text = printed(report.message_view(answer(Message, message.model_copy(update={"deliveries": [detail]}))))
    assert "(its clock, 5m behind, told " in text
    assert "(its clock, 250ms ahead, told " in text
    assert text.count("~") == 4  # sent, received, latency, the attempt


def test_clocks_into_a_pipe(api: Any, hopwatch: Run) -> None:
    """Seconds with six digits, empty where nothing bounds them; `--at` is asked as it was typed."""
    api.clocks = known(
        clock("shop-1", 300.0), clock("db", uncertainty_s=None, at_most_s=None, corrected_s=0.0)
    )
    done = hopwatch("clocks", "--at", "2h")
    header, shop, db = [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert dict(zip(header, shop, strict=True)) == {
        "host": "shop-1", "offset_s": "300.000000", "uncertainty_s": "0.003000", "at_least_s": "299.997000",
        "at_most_s": "300.003000", "corrected_s": "300.000000", "hops": "1204", "since": "2026-01-31T11:45:00.000Z",
    }  # fmt: skip
    assert db[2:5] == ["", "-0.003000", ""]
    assert api.asked == [("clocks", [("at", "2h")])]
    assert done.returncode == 0
    assert hopwatch("clocks", "--json").stdout == api.clocks.model_dump_json().encode() + b"\n"


def test_no_clocks_is_exit_code_1(hopwatch: Run) -> None:
    """Nothing known prints nothing and says when there will be something."""
    done = hopwatch("clocks")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"once messages pass between hosts" in done.stderr


def test_clocks_on_a_terminal_say_what_is_assumed() -> None:
    """Each clock with what is made of it; whose clock was taken to be right, and that one was set."""
    told = known(
        clock("shop-1", -300.0), clock("web", 0.0), clock("db", uncertainty_s=None, corrected_s=0.0), clock("here", 0.0),
        reference="web", left_out=["browser"],
    )  # fmt: skip
    text = printed(lists.clocks_table(answer(ClockList, told)))
    for said in (
        "off: 5m behind", "taken to be right", "may be right, seen from one side", "the collector's", "1,204",
        "it is taken to agree with that of web", "not compared, as their hops contradict each other (clock set, or several machines of one name): browser",
    ):  # fmt: skip
        assert said in text


def test_the_banner_names_the_furthest(make: Any) -> None:
    """Three by name, the rest as a number; nothing where all agree."""
    told = [answer(Clock, clock(f"h{number}", 60.0 - number)) for number in range(5)]
    assert clocks.banner(told) == (
        "▲ clocks are off: h0 1m ahead, h1 59s ahead, h2 58s ahead and 2 more; times are corrected (`hopwatch clocks`)"
    )
    assert clocks.banner([answer(Clock, clock("right"))]) == ""
