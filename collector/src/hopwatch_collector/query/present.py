"""One snapshot for the live view: the newest flows as they are, and how deliveries stand as they were judged."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from hopwatch_collector.api.models import UNDELIVERED, FlowSummary, LagRow, Live, Verdict, VerdictCount
from hopwatch_collector.engine import Row, Store
from hopwatch_collector.query.clocks import Clocks
from hopwatch_collector.query.ledger import Counts, Filters, Ledger
from hopwatch_collector.query.losses import doubted, losses
from hopwatch_collector.query.rows import delivery, flow_summary
from hopwatch_collector.query.window import Window

LIVE_FLOWS: Final = 50
_MAX_LOSSES: Final = 20
_MAX_CLOCKS: Final = 20
_MAX_LAG: Final = 200
_MAX_UNDELIVERED: Final = 100
_RATE_S: Final = 10
"""Seconds over which spans per second are reckoned."""
_UNDELIVERED: Final = Filters(verdicts=tuple(sorted(UNDELIVERED)))


def snapshot(
    store: Store, ledger: Ledger, clocks: Clocks, counts: Counts, lag: list[LagRow], window: Window
) -> Live:
    """Return what the live view shows of a window that ends now; `counts` are of that window."""
    now = window.until
    flows, more_flows = _newest(store, ledger, clocks, window)
    undelivered, following = ledger.newest(window, _UNDELIVERED, _MAX_UNDELIVERED)
    verdicts: dict[Verdict, int] = defaultdict(int)
    for of_receiver in counts.verdicts().values():
        for verdict, count in of_receiver.items():
            verdicts[verdict] += count
    rate = store.query("span_rate", {"since": now - timedelta(seconds=_RATE_S), "until": now})
    return Live(
        at=now,
        judged_at=now,
        window_s=(now - window.since).total_seconds(),
        flows=flows,
        verdicts=[
            VerdictCount(verdict=verdict, deliveries=count) for verdict, count in sorted(verdicts.items())
        ],
        lag=lag[:_MAX_LAG],
        undelivered=doubted(store, [delivery(row) for row in undelivered]),
        spans_per_s=rate[0]["spans"] / _RATE_S,
        losses=losses(store, window.since, _MAX_LOSSES),
        clocks=clocks.off(_MAX_CLOCKS),
        truncated=more_flows or following is not None or len(lag) > _MAX_LAG,
    )


def _newest(store: Store, ledger: Ledger, clocks: Clocks, window: Window) -> tuple[list[FlowSummary], bool]:
    """Return the flows with the latest news, and whether there are more."""
    asked = {"since": window.since, "until": window.until, "service": "", "destination": ""}
    found = store.query("recent_flows", asked | clocks.parameters() | {"top": LIVE_FLOWS + 1})
    flows = [row["flow_id"] for row in found[:LIVE_FLOWS]]
    rows = store.query("flow_summaries", {"flows": flows, **clocks.parameters()}) if flows else []
    verdicts = ledger.of_flows(rows)
    return [_summary(row, verdicts.get(row["flow_id"], {})) for row in rows], len(found) > LIVE_FLOWS


def _summary(row: Row, verdicts: Mapping[Verdict, int]) -> FlowSummary:
    summary = flow_summary(row, verdicts)
    if verdicts or not row["messages"]:
        return summary
    # Nobody knows yet what became of its messages. Each is one delivery at least.
    return summary.model_copy(update={"state": "active", "hops": len(row["messages"])})
