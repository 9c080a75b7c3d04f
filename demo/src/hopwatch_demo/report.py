"""What the demo prints at its end: flows, lag, undelivered with reasons, one flow as a tree, faults, agreement."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from rich.console import Console, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from hopwatch_demo.expect import Course
from hopwatch_demo.ledger import Row
from hopwatch_demo.patience import scale_wait
from hopwatch_demo.verify import Agreement
from hopwatch_tui import lists
from hopwatch_tui import report as drawn
from hopwatch_tui.answers import Delivery, DeliveryList, Flow, FlowSummary, LagList, LagRow, parse
from hopwatch_tui.client import Client, Refused

T = TypeVar("T")

DELIVERED: Final = frozenset({"settled", "in_flight", "waiting"})
"""Verdicts nobody needs to look at."""

SHOWN: Final = 12
"""Flows and differences printed at most."""

UNDELIVERED: Final[Mapping[str, str | int]] = {"verdict": "undelivered", "limit": 1000}
PATIENCE_S: Final = 30.0
WIDTH: Final = 140
"""Columns of the report where there is no terminal to ask."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to."""

    brokers: str
    rows: Sequence[Row]
    agreement: Agreement
    courses: Sequence[Course]

    @property
    def flows(self) -> int:
        """Flows that deliveries belong to."""
        return len({row.flow_id for row in self.rows})

    @property
    def undelivered(self) -> int:
        """Deliveries somebody should look at."""
        return sum(row.verdict not in DELIVERED for row in self.rows)

    @property
    def ok(self) -> bool:
        """Whether ledger and ground truth agree on everything and every fault took its course."""
        return self.agreement.complete and not any(course.strayed for course in self.courses)

    def line(self) -> str:
        """The closing line."""
        return (
            f"demo: flows={self.flows} deliveries={len(self.rows)} undelivered={self.undelivered} "
            f"agreement={self.agreement.agreed}/{self.agreement.total}"
        )

    def json(self) -> str:
        """The same for programs."""
        said = {
            "brokers": self.brokers,
            "flows": self.flows,
            "deliveries": len(self.rows),
            "undelivered": self.undelivered,
            "agreement": {"agreed": self.agreement.agreed, "total": self.agreement.total},
            "verdicts": Counter(row.verdict for row in self.rows),
            "faults": [asdict(course) for course in self.courses],
            "differences": [asdict(difference) for difference in self.agreement.differences],
            "ok": self.ok,
        }
        return json.dumps(said, indent=2)


def draw(result: Result, api_url: str, console: Console) -> None:
    """Print the report; what it shows besides agreement and faults is asked from the collector's API now."""
    now = datetime.now(UTC)
    with Client(api_url) as client:
        flows = _patiently(lambda: _flows(client))
        lag = _patiently(lambda: client.parse(LagList, client.lag())).rows
        bad = _patiently(lambda: client.parse(DeliveryList, client.deliveries(**UNDELIVERED))).deliveries
        tree = _patiently(lambda: client.parse(Flow, client.flow(_telling_flow(result.rows))))
    for title, content in _sections(result, flows, lag, bad, tree, now):
        console.print(Rule(title, align="left", style="dim"))
        console.print(content)
        console.print()


def _patiently(ask: Callable[[], T]) -> T:
    """Ask again for a while where the collector could not answer within its own limits.

    Raises:
        ApiError: it still cannot, or something else is wrong.
    """
    until = time.monotonic() + scale_wait(PATIENCE_S)
    while True:
        try:
            return ask()
        except Refused:
            if time.monotonic() > until:
                raise
            time.sleep(1.0)


def _flows(client: Client) -> Sequence[FlowSummary]:
    answer: Any = client.get("flows", {"limit": SHOWN}).data
    return [parse(FlowSummary, flow) for flow in answer["flows"]]


def _telling_flow(rows: Iterable[Row]) -> str:
    """The flow with most kinds of verdict: the one that shows most."""
    verdicts: dict[str, set[str]] = {}
    for row in rows:
        verdicts.setdefault(row.flow_id, set()).add(row.verdict)
    return max(sorted(verdicts), key=lambda flow: len(verdicts[flow]))


def _sections(
    result: Result,
    flows: Sequence[FlowSummary],
    lag: Sequence[LagRow],
    bad: Sequence[Delivery],
    tree: Flow,
    now: datetime,
) -> Iterable[tuple[str, RenderableType]]:
    behind = [row for row in lag if row.waiting or row.in_flight]
    yield f"the latest {len(flows)} of {result.flows} flows", lists.flows_table(flows, now)
    yield "one of them", drawn.flow_tree(tree)
    yield "lag", lists.lag_table(behind) if behind else Text("nobody is behind")
    yield (
        f"{result.undelivered} undelivered, by reason",
        lists.undelivered_summary(bad) if bad else Text("everything was delivered"),
    )
    verdicts = Counter(row.verdict for row in result.rows)
    yield "all deliveries", drawn.verdict_counts(verdicts.most_common())
    yield "faults committed on purpose, and what became of what they struck", _faults(result.courses)
    yield "brokers", Text(result.brokers.removeprefix("brokers: "))
    if result.agreement.differences:
        yield "where ledger and ground truth differ", _differences(result.agreement)


def _faults(courses: Sequence[Course]) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("FAULT", "BROKER", "EXPECTED", "FOUND, AS THE SERVICES RECORDED IT"):
        table.add_column(column, overflow="fold")
    for course in courses:
        found = ", ".join(f"{count} {verdict}" for verdict, count in sorted(course.verdicts.items()))
        strayed = f"  ✗ {'; '.join(course.strayed)}" if course.strayed else ""
        table.add_row(
            course.fault, course.broker, course.expected, (found or "did not strike in this run") + strayed
        )
    return table


def _differences(agreement: Agreement) -> RenderableType:
    lines = [str(difference) for difference in agreement.differences[:SHOWN]]
    more = len(agreement.differences) - len(lines)
    return Text("\n".join([*lines, *([f"… and {more} more"] if more > 0 else [])]))
