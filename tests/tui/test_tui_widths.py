"""Tables on narrow and wide terminals: numbers, ages and verdicts are whole, or say by an ellipsis that they are not."""

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from live_support import running
from rich.console import Console, RenderableType

from hopwatch_collector.api import models
from hopwatch_tui import answers, lists
from hopwatch_tui.format import Tone
from hopwatch_tui.tables import CAUSES, DELIVERIES, FLOWS, LAG, Table, cut

LONG = "shop.orders.placed.by.customers.of.the.northern.branch.v2"
WIDTHS = [60, 80, 120]


def answer(cls: type[Any], told: models.Model) -> Any:
    """What the API says, as the terminal view takes it."""
    return answers.parse(cls, told.model_dump(mode="json"))


def drawn(what: RenderableType, width: int) -> list[str]:
    """The lines of a table on a terminal of that width."""
    out = StringIO()
    Console(file=out, width=width, color_system=None, legacy_windows=False).print(what)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def tables(make: Any) -> dict[str, tuple[RenderableType, list[str]]]:
    """Every printed list with names that are too long for it, and what must be whole all the same."""
    many = 12_345_678
    cause = make.cause(destination=LONG, receiver=LONG, deliveries=many, verdict="dead_lettered")
    waits = make.lag_row(destination=LONG, receiver=LONG, waiting=many, oldest_s=12_000, by_broker=True)
    late = make.delivery(verdict="dead_lettered", destination=LONG, receiver=LONG, sent_at=make.ago(12_000))
    flow = make.flow_summary(
        name=LONG, service=LONG, state="undelivered", undelivered=many, started_at=make.ago(12_000)
    )
    edge = make.edge(producer=LONG, destination=LONG, receiver=LONG, deliveries=many, p99_ms=12_000_000)
    hit = models.SearchHit(
        kind="message", id="01890a5d-ac96-774b-bcce-b302099a8057", why="key order_id", title=LONG, at=make.ago(12_000),
        state="dead_lettered", flow_id="",
    )  # fmt: skip
    return {
        "causes": (
            lists.causes_table([answer(answers.Cause, cause)], make.now),
            ["12,345,678", "† dead-lettered", "3h20m", "12s"],
        ),
        "lag": (lists.lag_table([answer(answers.LagRow, waits)]), ["12,345,678", "3h20m"]),
        "each": (
            lists.undelivered_table([answer(answers.Delivery, late)], make.now),
            ["† dead-lettered", "3h20m"],
        ),
        "flows": (
            lists.flows_table([answer(answers.FlowSummary, flow)], make.now),
            ["! undelivered", "12,345,678", "3h20m"],
        ),
        "topology": (lists.topology_table([answer(answers.Edge, edge)]), ["12,345,678", "3h20m"]),
        "find": (
            lists.hits_table([answer(answers.SearchHit, hit)], make.now),
            ["† dead-lettered", "3h20m"],
        ),
    }


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["causes", "lag", "each", "flows", "topology", "find"])
def test_printed_numbers_ages_and_verdicts_are_whole(make: Any, name: str, width: int) -> None:
    """Each is in the row's first line, and no line is longer than the terminal is wide."""
    table, whole = tables(make)[name]
    lines = drawn(table, width)
    first = next(line for line in lines if whole[0] in line)
    for value in whole:
        assert f" {value} " in f" {first} ", first
    assert all(len(line) <= width for line in lines)
    assert LONG in "".join(drawn(table, 10_000))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("causes", "00000000-0000-0000-0000-000000000002"),
        ("each", "00000000-0000-0000-0000-000000000001"),
        ("flows", f"{1:032x}"),
        ("find", "01890a5d-ac96-774b-bcce-b302099a8057"),
    ],
)
def test_ids_are_in_one_piece(make: Any, name: str, id: str, width: int) -> None:
    """An id can be copied from a terminal of any width, to go on with."""
    table, _ = tables(make)[name]
    assert any(id in line for line in drawn(table, width)), drawn(table, width)


@pytest.mark.parametrize("name", ["causes", "lag", "topology"])
def test_where_there_is_no_room_at_all_an_ellipsis_says_so(make: Any, name: str) -> None:
    """A number is never shown without its last digits as if it were another."""
    table, _ = tables(make)[name]
    for width in (16, 20, 24, 28):
        lines = drawn(table, width)
        told = [line for line in lines if "12,345,678" in line or "…" in line]
        assert told, lines
        assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize("width", [*WIDTHS, 20, 30, 40])
@pytest.mark.parametrize(
    "table", [CAUSES, LAG, DELIVERIES, FLOWS], ids=["causes", "lag", "deliveries", "flows"]
)
def test_lines_of_the_live_view_are_as_wide_as_there_is_room(
    make: Any, table: Table[Any], width: int
) -> None:
    """A cell that is too long ends in an ellipsis, also that of the last column there is room for."""
    rows: dict[int, Callable[[], Any]] = {
        id(CAUSES): lambda: answer(answers.Cause, make.cause(deliveries=12_345_678, destination=LONG)),
        id(LAG): lambda: answer(answers.LagRow, make.lag_row(waiting=12_345_678, oldest_s=12_000)),
        id(DELIVERIES): lambda: answer(
            answers.Delivery, make.delivery(verdict="dead_lettered", destination=LONG)
        ),
        id(FLOWS): lambda: answer(answers.FlowSummary, make.flow_summary(state="undelivered", name=LONG)),
    }
    row = rows[id(table)]()
    line = "".join(text for text, _ in table.line(row, width, make.now))
    heading = "".join(text for text, _ in table.heading(width)[0])
    assert len(line) == len(heading) <= width
    assert "12,345,678" not in line
    if table in (CAUSES, LAG):
        assert "…" in line
    if width >= 60 and table in (CAUSES, LAG):
        assert "3h20m" in line


@pytest.mark.parametrize("width", WIDTHS)
async def test_live_lag_and_causes_show_the_oldest_whole(shop: Any, make: Any, width: int) -> None:
    """On the screen as in the line."""
    shop.causes = [make.cause(destination=LONG, receiver=LONG, verdict="dead_lettered")]
    shop.show(
        make.live(
            lag=[make.lag_row(destination=LONG, receiver=LONG, waiting=98_765, oldest_s=12_000)],
            undelivered=shop.deliveries,
        )
    )
    async with running(shop, size=(width, 24)) as live:
        await live.press("2")
        await live.sees("2,375", "† dead-lettered", "3h20m", "OLDEST")
        await live.press("3")
        await live.sees("98,765", "3h20m", "OLDEST")


def test_a_line_that_is_cut_says_so() -> None:
    """Of pieces that do not fit the last one shown ends in an ellipsis; what fits stays as it is."""
    line = (("abc", Tone.PLAIN), ("def", Tone.DIM))
    assert cut(line, 6) == line
    assert cut(line, 5) == (line[0], ("d…", Tone.DIM))
    assert cut(line, 3) == (("ab…", Tone.PLAIN),)
