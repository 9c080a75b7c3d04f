"""How everything stands at a moment: the rows of standing.sql, sorted into what the live view and /metrics show."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from hopwatch_collector.api.models import Delivery, LagRow, Verdict
from hopwatch_collector.engine import Row
from hopwatch_collector.query.rows import IN_FLIGHT, NEVER, WAITING, delivery, lag_row

MAX_UNDELIVERED: Final = 100
MAX_LAG_ROWS: Final = 200

Receiver = tuple[str, str, str]
"""System, destination, receiver."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Counts of verdicts, in all, per flow and per receiver; lag; and the newest undelivered deliveries."""

    verdicts: Mapping[Verdict, int]
    flows: Mapping[str, Mapping[Verdict, int]]
    receivers: Mapping[Receiver, Mapping[Verdict, int]]
    lag: list[LagRow]
    undelivered: list[Delivery]
    truncated: bool

    @classmethod
    def read(cls, rows: Iterable[Row], now: datetime) -> "Standing":
        """Sort the rows of standing.sql."""
        verdicts: dict[Verdict, int] = defaultdict(int)
        flows: dict[str, dict[Verdict, int]] = defaultdict(dict)
        receivers: dict[Receiver, dict[Verdict, int]] = defaultdict(dict)
        lags: dict[Receiver, dict[str, Any]] = {}
        undelivered: list[Delivery] = []
        cut = False
        for row in rows:
            if row["kind"] == "undelivered":
                undelivered = [delivery(_named(one)) for one in row["rows"]][:MAX_UNDELIVERED]
                cut = len(row["rows"]) > MAX_UNDELIVERED
                continue
            verdict = Verdict(row["verdict"])
            if row["kind"] == "flow":
                flows[row["flow"].hex()][verdict] = row["deliveries"]
                continue
            name = (row["system"], row["destination"], row["receiver"])
            verdicts[verdict] += row["deliveries"]
            receivers[name][verdict] = row["deliveries"]
            if name[2] and not row["call"]:
                _add(lags.setdefault(name, _nothing(name)), verdict, row)
        ordered = sorted(
            lags.values(),
            key=lambda lag: (-lag["waiting"], -lag["in_flight"], lag["destination"], lag["receiver"]),
        )
        return cls(
            verdicts=verdicts,
            flows=flows,
            receivers=receivers,
            lag=[lag_row(lag, now) for lag in ordered[:MAX_LAG_ROWS]],
            undelivered=undelivered,
            truncated=cut or len(ordered) > MAX_LAG_ROWS,
        )


def _nothing(name: Receiver) -> dict[str, Any]:
    system, destination, receiver = name
    return {
        "system": system,
        "destination": destination,
        "receiver": receiver,
        "waiting": 0,
        "in_flight": 0,
        "oldest": datetime.max,
        "last_received_at": NEVER,
        "last_pending": -1,
        "pending_at": NEVER,
        "samples": [],
    }


def _add(lag: dict[str, Any], verdict: Verdict, row: Row) -> None:
    lag["last_received_at"] = max(lag["last_received_at"], row["last_received_at"])
    if row["last_pending"] >= 0 and row["pending_at"] > lag["pending_at"]:
        lag["last_pending"], lag["pending_at"] = row["last_pending"], row["pending_at"]
    if verdict in WAITING and row["lagging"]:
        lag["oldest"] = min(lag["oldest"].replace(tzinfo=NEVER.tzinfo), row["oldest"])
        lag["waiting"] += row["lagging"]
        lag["samples"] = (row["samples"] + lag["samples"])[:5]
    elif verdict in IN_FLIGHT:
        lag["in_flight"] += row["deliveries"]
        lag["samples"] = (lag["samples"] + row["samples"])[:5]


_NAMES: Final = (
    "first_at", "message", "receiver", "verdict", "cause", "why", "since", "witnesses", "system", "destination", "producer", "consumer",
    "sender_seen", "sent_at", "received_at", "settled_at", "attempts", "flow", "trace_id", "keys", "due_at",
    "declared", "sender_off_us", "receiver_off_us",
)  # fmt: skip


def _named(values: tuple[Any, ...]) -> Row:
    return dict(zip(_NAMES, values, strict=True))
