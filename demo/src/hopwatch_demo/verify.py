"""Compares the ledger with the ground truth, delivery by delivery, in both directions."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hopwatch_demo.catalogue import call_event
from hopwatch_demo.expect import Expected
from hopwatch_demo.ledger import Row


@dataclass(frozen=True, slots=True)
class Difference:
    """One delivery of which ledger and ground truth do not say the same."""

    event: str
    receiver: str
    truth: str
    ledger: str

    def __str__(self) -> str:
        return f"{self.event or '(no event)'} → {self.receiver or 'nobody'}: truth {self.truth}; ledger {self.ledger}"


@dataclass(frozen=True, slots=True)
class Agreement:
    """What came of a comparison. `total` counts deliveries that either side knows."""

    total: int
    differences: Sequence[Difference]

    @property
    def agreed(self) -> int:
        """Deliveries of which both sides say the same."""
        return self.total - len(self.differences)

    @property
    def complete(self) -> bool:
        """Whether there is something to agree on, and no difference."""
        return self.total > 0 and not self.differences


def compare(expected: Mapping[tuple[str, str], Expected], rows: Iterable[Row]) -> Agreement:
    """Compare verdict, attempts and flow of every delivery; what only one side knows is a difference too."""
    told: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        told[row.event, row.receiver].append(row)
    flows = _flows(told)
    found: list[Difference] = []
    for key in sorted(expected.keys() | told.keys()):
        truth, ledger = _truth(expected.get(key)), _ledger(told.get(key, []))
        if truth == ledger and key in expected:
            truth, ledger = _flow_told(expected[key], told[key][0], flows)
        if truth != ledger:
            found.append(Difference(*key, truth, ledger + _why(told.get(key, []))))
    return Agreement(len(expected.keys() | told.keys()), found)


def _truth(expected: Expected | None) -> str:
    return "nothing" if expected is None else f"{expected.verdict}, attempts {expected.attempts}"


def _ledger(rows: Sequence[Row]) -> str:
    if len(rows) > 1:
        return f"{len(rows)} messages: " + ", ".join(row.message_id for row in rows)
    return f"{rows[0].verdict}, attempts {rows[0].attempts}" if rows else "nothing"


def _why(rows: Sequence[Row]) -> str:
    return "".join(f" [{row.message_id} to {row.destination}: {row.reason}]" for row in rows)


def _flows(told: Mapping[tuple[str, str], Sequence[Row]]) -> dict[str, str]:
    """The flow of each order: that of the call which placed it."""
    return {
        event.partition(".")[0]: rows[0].flow_id
        for (event, _), rows in told.items()
        if rows and event == call_event(event.partition(".")[0], "gateway")
    }


def _flow_told(expected: Expected, row: Row, flows: Mapping[str, str]) -> tuple[str, str]:
    """Everything an order caused is one flow."""
    return f"flow {flows.get(expected.order, 'of its order')}", f"flow {row.flow_id}"
