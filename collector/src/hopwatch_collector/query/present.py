"""The present in two parts: the newest flows, found at once, and how deliveries stand, which takes longer to judge."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from hopwatch_collector.api.models import (
    UNDELIVERED,
    Clock,
    Delivery,
    FlowSummary,
    LagRow,
    Live,
    Loss,
    VerdictCount,
)
from hopwatch_collector.engine import Row, Store
from hopwatch_collector.query import lag as lagging
from hopwatch_collector.query.clocks import ClockReader, Clocks
from hopwatch_collector.query.losses import doubted, losses
from hopwatch_collector.query.rows import flow_summary
from hopwatch_collector.query.standing import Standing
from hopwatch_collector.query.window import Window

LIVE_FLOWS: Final = 50
_MAX_LOSSES: Final = 20
_MAX_CLOCKS: Final = 20
_MAX_LAG: Final = 200
_RATE_S: Final = 10
"""Seconds over which spans per second are reckoned."""


@dataclass(frozen=True, slots=True)
class Judged:
    """How the deliveries of the last while stood at a moment, and what else belongs to it."""

    at: datetime
    flows: Mapping[str, Mapping[Any, int]]
    """Deliveries by verdict, of every flow that was newest then; flows that are not in here are yet to be judged."""
    verdicts: list[VerdictCount]
    lag: list[LagRow]
    undelivered: list[Delivery]
    losses: list[Loss]
    clocks: list[Clock]
    truncated: bool


class JudgingParameters(Protocol):
    """Makes the parameters of verdicts.sql."""

    def __call__(self, window: Window, now: datetime, **others: Any) -> dict[str, Any]: ...


class Present:
    """Looks at the last seconds. Every method blocks and may be called from any thread."""

    def __init__(
        self,
        store: Store,
        clocks: ClockReader,
        affordable: Callable[[Window], tuple[Window, bool]],
        parameters: JudgingParameters,
        held: Callable[[datetime], Mapping[lagging.Key, lagging.Held]],
    ) -> None:
        self._store = store
        self._clocks = clocks
        self._affordable = affordable
        self._parameters = parameters
        self._held = held

    def judge(self, window_s: float) -> Judged:
        """Return how the deliveries of the last `window_s` seconds stand now."""
        now = datetime.now(UTC)
        window = Window(now - timedelta(seconds=window_s), now)
        clocks = self._clocks.around()
        newest, _ = self._newest(window, clocks)
        judged, cut = self._affordable(window)
        asked = self._parameters(judged, now, flows=newest, undelivered=sorted(UNDELIVERED), top=0)
        standing = Standing.read(self._store.query("standing", asked), now)
        return Judged(
            at=now,
            flows={flow: standing.flows.get(flow, {}) for flow in newest},
            verdicts=[VerdictCount(verdict=v, deliveries=n) for v, n in sorted(standing.verdicts.items())],
            lag=lagging.merged(standing.lag, self._held(now))[:_MAX_LAG],
            undelivered=doubted(self._store, standing.undelivered),
            losses=losses(self._store, window.since, _MAX_LOSSES),
            clocks=clocks.off(_MAX_CLOCKS),
            truncated=cut or standing.truncated,
        )

    def look(self, window_s: float, judged: Judged) -> Live:
        """Return the newest flows as they are, the rest as it was judged."""
        now = datetime.now(UTC)
        window = Window(now - timedelta(seconds=window_s), now)
        clocks = self._clocks.around()
        newest, more = self._newest(window, clocks)
        asked = {"flows": newest, "since": window.since, **clocks.parameters()}
        rows = self._store.query("flow_summaries", asked) if newest else []
        rate = self._store.query("span_rate", {"since": now - timedelta(seconds=_RATE_S), "until": now})
        return Live(
            at=now,
            judged_at=judged.at,
            window_s=window_s,
            flows=[_summary(row, judged) for row in rows],
            verdicts=judged.verdicts,
            lag=judged.lag,
            undelivered=judged.undelivered,
            spans_per_s=rate[0]["spans"] / _RATE_S,
            losses=judged.losses,
            clocks=judged.clocks,
            truncated=judged.truncated or more,
        )

    def _newest(self, window: Window, clocks: Clocks) -> tuple[list[str], bool]:
        """Return the flows with the latest news, and whether there are more."""
        asked = {"since": window.since, "until": window.until, "service": "", "destination": ""}
        rows = self._store.query("recent_flows", asked | clocks.parameters() | {"top": LIVE_FLOWS + 1})
        return [row["flow_id"] for row in rows[:LIVE_FLOWS]], len(rows) > LIVE_FLOWS


def _summary(row: Row, judged: Judged) -> FlowSummary:
    known = judged.flows.get(row["flow_id"])
    summary = flow_summary(row, known or {})
    if known is not None or not row["messages"]:
        return summary
    # Nobody knows yet what became of its messages. Each is one delivery at least.
    return summary.model_copy(update={"state": "active", "hops": len(row["messages"])})
