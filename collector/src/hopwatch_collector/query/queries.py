"""The questions the API and the terminal view ask."""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hopwatch_collector.api.models import (
    UNDELIVERED,
    Cause,
    CauseList,
    ClockList,
    DeliveryDetail,
    DeliveryList,
    Flow,
    FlowList,
    FlowState,
    FlowSummary,
    LagList,
    LinkedFlow,
    Live,
    LossList,
    Message,
    SearchResult,
    SpanLink,
    Topology,
    Verdict,
    Why,
)
from hopwatch_collector.engine import Row, Store
from hopwatch_collector.query import lag as lagging
from hopwatch_collector.query import metrics, search, why
from hopwatch_collector.query.advice import advice_on
from hopwatch_collector.query.clocks import ClockReader, Clocks
from hopwatch_collector.query.losses import doubted, losses
from hopwatch_collector.query.present import Judged, Present
from hopwatch_collector.query.rows import (
    as_told,
    attempt,
    delivery,
    delivery_fields,
    edge,
    flow_summary,
    key_of,
    lag_row,
    message_id,
    span,
    trace_of,
)
from hopwatch_collector.query.standing import Standing
from hopwatch_collector.query.window import SearchQuery, Window

GRACE_S: Final = 2.0
"""Seconds in which a message without a known receiver is not yet called undelivered."""

LAG_WINDOW: Final = timedelta(hours=1)
"""How far back messages count as lag and as `hopwatch_deliveries`."""

MAX_SPANS: Final = 5_000
MAX_HOPS: Final = 2_000
MAX_FACTS: Final = 200_000
"""Facts judged at once, about 3 s of CPU. A longer list is judged piece by piece, a sum over fewer seconds."""
LIST_SECONDS: Final = 8.0
"""Seconds in which a list is looked for; then it is cut off."""
MAX_JUDGED: Final = 20_000
"""Messages judged for one list of flows; those beyond are in no flow's state."""
MAX_EDGES: Final = 1_000
MAX_LAG_ROWS: Final = 1_000
_STATE_CANDIDATES: Final = 1_000
"""Flows looked at to find those in a given state, which is only known once their deliveries are judged."""

_ANY_MOMENT: Final = Window(datetime(1970, 1, 2, tzinfo=UTC), datetime(2199, 1, 1, tzinfo=UTC))


class Queries:
    """Every method blocks, may be called from any thread, and raises QueryLimit where an answer would cost too much."""

    def __init__(self, store: Store, deadline_s: float = 30.0, grace_s: float = GRACE_S) -> None:
        """`deadline_s`: seconds after which what waits is overdue and what is in flight is stuck."""
        self._store = store
        self._deadline_s = deadline_s
        self._grace_s = grace_s
        self._clocks = ClockReader(store)
        self._present = Present(store, self._clocks, self._affordable, self._judge, self._held)

    def engine_version(self) -> str:
        """Return name and version of the engine."""
        return self._store.version

    def flows(
        self,
        window: Window,
        service: str | None = None,
        destination: str | None = None,
        state: FlowState | None = None,
        limit: int = 100,
    ) -> FlowList:
        """Return flows with a matching span in the window, those with the latest news first."""
        wanted = limit if state is None else max(limit, _STATE_CANDIDATES)
        rows = self._store.query(
            "recent_flows",
            {
                **_span_of(window),
                **self._clocks.around(window.until).parameters(),
                "service": service or "",
                "destination": destination or "",
                "top": wanted + 1,
            },
        )
        found = self.summaries([row["flow_id"] for row in rows[:wanted]], window)
        matching = [flow for flow in found if state is None or flow.state == state]
        return FlowList(flows=matching[:limit], truncated=len(rows) > wanted or len(matching) > limit)

    def summaries(self, flow_ids: Sequence[str], window: Window) -> list[FlowSummary]:
        """Return the flows named in brief, those with the latest news first."""
        return self.in_brief(flow_ids, window)[0]

    def in_brief(
        self, flow_ids: Sequence[str], window: Window, messages: Sequence[str] = (), top: int = 0
    ) -> tuple[list[FlowSummary], list[Row]]:
        """Return the same and rows of `deliveries` of some messages (hex), at most `top`: judged at once, at half the cost."""
        clocks = self._clocks.around(window.until)
        params = {"flows": flow_ids, "since": window.since, **clocks.parameters()}
        rows = self._store.query("flow_summaries", params) if flow_ids else []
        judged = [*messages, *[message for row in rows for message in row["messages"]][:MAX_JUDGED]]
        asked = ["flow_verdicts", "deliveries_named"] if messages else ["flow_verdicts"]
        params = self._judge(_ANY_MOMENT, clocks=clocks, messages=judged, named=messages, top=top)
        counts, *deliveries = self._store.query_together(asked, params) if judged else [[]]
        verdicts: dict[str, dict[Verdict, int]] = defaultdict(dict)
        for row in counts:
            verdicts[row["flow"].hex()][Verdict(row["verdict"])] = row["deliveries"]
        flows = [flow_summary(row, verdicts.get(row["flow_id"], {})) for row in rows]
        return flows, deliveries[0] if deliveries else []

    def flow(self, flow_id: str) -> Flow | None:
        """Return one flow, whole; a trace id leads to the flow the trace belongs to. None: unknown."""
        asked = trace_of(flow_id)
        if asked is None:
            return None
        heads = self._store.query("flow_of", {"id": asked})
        if not heads:
            return None
        flow, since = heads[0]["flow_id"], heads[0]["first_at"]
        rows = self._store.query("flow_spans", {"flow": flow, "since": since, "top": MAX_SPANS + 1})
        shown = rows[:MAX_SPANS]
        if not shown:
            return None
        messages = sorted({row["message"].hex() for row in shown if any(row["message"])})
        clocks = self._clocks.around(since)
        hops = self.deliveries_of(messages, MAX_HOPS + 1, clocks)
        links = self._store.query(
            "flow_links", {"flow": flow, "since": since, "traces": sorted({row["trace_id"] for row in shown})}
        )
        verdicts: dict[Verdict, int] = defaultdict(int)
        for hop in hops:
            verdicts[Verdict(hop["verdict"])] += 1
        summary = self._store.query(
            "flow_summaries", {"flows": [flow], "since": since, **clocks.parameters()}
        )[0]
        return Flow(
            summary=flow_summary(summary, verdicts),
            hops=doubted(self._store, [delivery(hop) for hop in hops[:MAX_HOPS]]),
            spans=sorted(
                (span(row, _links_of(row, links), clocks) for row in shown),
                key=lambda one: one.started_at - timedelta(seconds=one.clock_offset_s),
            ),
            linked=_neighbours(flow, links),
            truncated=len(rows) > MAX_SPANS or len(hops) > MAX_HOPS,
        )

    def flow_of(self, trace_id: str) -> str | None:
        """Return the flow that a trace belongs to, None if nothing is known of it."""
        heads = self._store.query("flow_of", {"id": trace_id})
        return str(heads[0]["flow_id"]) if heads else None

    def deliveries_of(self, messages: Sequence[str], limit: int, clocks: Clocks | None = None) -> list[Row]:
        """Return rows of `deliveries` for the messages named (32 hex digits each), oldest first.

        Times are corrected by `clocks`, those of now where none are given.
        """
        if not messages:
            return []
        params = self._judge(_ANY_MOMENT, clocks=clocks, messages=messages, top=limit)
        return self._store.query("deliveries_of", params)

    def message(self, id_or_alias: str) -> Message | None:
        """Return one message with all that is known of it, None if nothing is; of several, the latest."""
        keys = self.message_keys(id_or_alias)
        if not keys:
            return None
        key = keys[0]["message"].hex()
        clocks = self._clocks.around(keys[0]["first_at"])
        rows = self.deliveries_of([key], MAX_HOPS, clocks)
        if not rows:
            return None
        params = {"message": key}
        aliases = [row["alias"] for row in self._store.query("message_aliases", params)]
        history = self._store.query("message_attempts", {**params, "day": keys[0]["first_at"].date()})
        found = _message(rows, aliases, history, clocks)
        return found.model_copy(update={"deliveries": doubted(self._store, found.deliveries)})

    def message_keys(self, id_or_alias: str) -> list[Row]:
        """Return the messages an id or alias may mean, the latest first."""
        return self._store.query(
            "message_keys", {"id": key_of(id_or_alias) or "", "alias": id_or_alias.strip()}
        )

    def deliveries(
        self,
        window: Window,
        verdicts: frozenset[Verdict] | None = None,
        destination: str | None = None,
        receiver: str | None = None,
        service: str | None = None,
        limit: int = 100,
    ) -> DeliveryList:
        """Return deliveries of messages that began in the window and match, newest first.

        A window with very many messages is looked through from its end until there are enough, or time is up.
        """
        asked: dict[str, Any] = {
            "verdicts": sorted(verdicts or ()),
            "destination": destination or "",
            "receiver": receiver or "",
            "service": service or "",
        }
        end = time.monotonic() + LIST_SECONDS
        rows: list[Row] = []
        more = True
        while more and len(rows) <= limit and time.monotonic() < end:
            piece, more = self._affordable(window)
            rows += self._store.query("deliveries", self._judge(piece, **asked, top=limit + 1 - len(rows)))
            window = Window(window.since, piece.since - timedelta(microseconds=1))
        found = doubted(self._store, [delivery(row) for row in rows[:limit]])
        return DeliveryList(deliveries=found, truncated=more or len(rows) > limit)

    def undelivered(
        self,
        window: Window,
        destination: str | None = None,
        receiver: str | None = None,
        service: str | None = None,
        limit: int = 100,
        verdicts: frozenset[Verdict] | None = None,
    ) -> CauseList:
        """Return what was not delivered in the window by cause, destination and receiver, the most frequent first."""
        judged, cut = self._affordable(window)
        asked: dict[str, Any] = {
            "undelivered": sorted(UNDELIVERED if verdicts is None else verdicts & UNDELIVERED),
            "destination": destination or "",
            "receiver": receiver or "",
            "service": service or "",
        }
        rows = self._store.query("causes", self._judge(judged, **asked, top=limit + 1))
        found = doubted(self._store, [_cause(row) for row in rows[:limit]])
        return CauseList(causes=found, truncated=cut or len(rows) > limit)

    def why(self, id_or_alias: str) -> Why | None:
        """Return every delivery of a message with its evidence, None if the message is unknown."""
        message = self.message(id_or_alias)
        if message is None:
            return None
        clocks = self._clocks.around(message.sent_at)
        return why.explain(self._store, message, clocks)

    def _affordable(self, window: Window) -> tuple[Window, bool]:
        """Return the latest part of a window that can be judged at once, and whether there is more of it."""
        span = _span_of(window)
        if self._store.query("facts_in_window", span)[0]["facts"] <= MAX_FACTS:
            return window, False
        return Window(
            self._store.query("latest_facts", {**span, "top": MAX_FACTS})[0]["since"], window.until
        ), True

    def lag(self, since: datetime | None = None) -> LagList:
        """Return how far each receiver is behind, over messages of the last hour.

        With `since`: over messages from then on, and only receivers that something waits for or that received something.
        """
        now = datetime.now(UTC)
        window, cut = self._affordable(Window(since or now - LAG_WINDOW, now))
        rows = self._store.query("lag", self._judge(window, now, top=MAX_LAG_ROWS + 1))
        known = [lag_row(row, now) for row in rows[:MAX_LAG_ROWS]]
        told = lagging.merged(known, self._held(now))
        if since is not None:  # brokers name every receiver they know, however long it has been idle
            told = [row for row in told if row.waiting or row.in_flight or row.last_received_at]
        return LagList(rows=told[:MAX_LAG_ROWS], truncated=cut or max(len(rows), len(told)) > MAX_LAG_ROWS)

    def _held(self, now: datetime) -> Mapping[lagging.Key, lagging.Held]:
        return lagging.held(self._store.query("broker_lag", {"now": now, "back": lagging.TREND_S}), now)

    def losses(self, since: datetime, limit: int = 100) -> LossList:
        """Return what services told since then that they lost on its way here, the latest first."""
        found = losses(self._store, since, limit + 1)
        return LossList(losses=found[:limit], truncated=len(found) > limit)

    def topology(self, window: Window) -> Topology:
        """Return who reached whom through what."""
        window, cut = self._affordable(window)
        rows = self._store.query(
            "edges", self._judge(window, undelivered=sorted(UNDELIVERED), top=MAX_EDGES + 1)
        )
        return Topology(edges=[edge(row) for row in rows[:MAX_EDGES]], truncated=cut or len(rows) > MAX_EDGES)

    def search(self, query: SearchQuery) -> SearchResult:
        """Return messages and flows that match, the latest first."""
        return search.run(self, self._store, query)

    def live(self, window_s: float) -> Live:
        """Return one snapshot of the last `window_s` seconds."""
        return self.look(window_s, self.judge(window_s))

    def judge(self, window_s: float) -> Judged:
        """Return how the deliveries of the last `window_s` seconds stand now: the part of `live` that takes long."""
        return self._present.judge(window_s)

    def look(self, window_s: float, judged: Judged) -> Live:
        """Return the newest flows as they are, the rest as it was judged. A flow yet to be judged is `active`."""
        return self._present.look(window_s, judged)

    def metrics(self) -> Iterable[metrics.Sample]:
        """Return what /metrics shows of spans, service graph, lag and deliveries."""
        now = datetime.now(UTC)
        window, _ = self._affordable(Window(now - LAG_WINDOW, now))
        params = self._judge(window, now, flows=[], undelivered=[], top=0)
        standing = Standing.read(self._store.query("standing", params), now)
        rows = lagging.counted_once(lagging.merged(standing.lag, self._held(now)))
        yield from metrics.samples(self._store, replace(standing, lag=rows))
        yield from metrics.clocks(self._clocks.around().shown())

    def clocks(self, at: datetime | None = None) -> ClockList:
        """Return how far the clocks of hosts are apart, now or around another moment."""
        return self._clocks.measured(at).shown()

    def _judge(
        self, window: Window, now: datetime | None = None, clocks: Clocks | None = None, **others: Any
    ) -> dict[str, Any]:
        """Return the parameters of verdicts.sql and `others`; `clocks`: those at the window's end unless given."""
        clock = now or datetime.now(UTC)
        known = clocks or self._clocks.around(window.until)
        return {
            **_span_of(window),
            **known.parameters(),
            "now": clock,
            "deadline": self._deadline_s,
            "grace": self._grace_s,
            **others,
        }


def _span_of(window: Window) -> dict[str, Any]:
    return {"since": window.since, "until": window.until}


def _links_of(row: Row, links: Sequence[Row]) -> list[SpanLink]:
    return [
        SpanLink(trace_id=link["to_trace"], span_id=link["to_span"])
        for link in links
        if link["span_id"] == row["span_id"] and link["trace_id"] == row["trace_id"]
    ]


def _neighbours(flow: str, links: Sequence[Row]) -> list[LinkedFlow]:
    upstream = {link["to_flow"] for link in links if link["flow_id"] == flow and link["to_flow"] != flow}
    downstream = {link["flow_id"] for link in links if link["to_flow"] == flow and link["flow_id"] != flow}
    return [
        *(LinkedFlow(flow_id=other, direction="upstream") for other in sorted(upstream)),
        *(LinkedFlow(flow_id=other, direction="downstream") for other in sorted(downstream)),
    ]


def _message(rows: Sequence[Row], aliases: list[str], history: Sequence[Row], clocks: Clocks) -> Message:
    row = rows[0]
    sends = [told for told in history if told["receiver"] == ""]
    return Message(
        message_id=message_id(row["message"]),
        aliases=aliases,
        system=row["system"],
        destination=row["destination"],
        producer=row["producer"],
        flow_id=row["flow"].hex(),
        trace_id=row["trace_id"].hex(),
        span_id=sends[0]["span_id"].hex() if sends and any(sends[0]["span_id"]) else "",
        sent_at=as_told(row["sent_at"], row["sender_off_us"]) if row["sender_seen"] else None,
        sender_clock_offset_s=row["sender_off_us"] / 1e6,
        publish_outcome=row["outcome"],
        publish_reason=row["publish_reason"],
        partition=row["partition"],
        offset=row["offset"] if row["offset"] >= 0 else None,
        conversation_id=row["conversation"],
        keys=dict(row["keys"]),
        deliveries=[
            DeliveryDetail(
                **delivery_fields(one),
                history=[
                    attempt(told, clocks)
                    for told in history
                    if told["receiver"] == one["receiver"] and told["attempt"] > 0
                ],
            )
            for one in rows
        ],
    )


def _cause(row: Row) -> Cause:
    return Cause(
        cause=row["cause"],
        verdict=Verdict(row["verdict"]),
        reason=row["why"],
        advice=advice_on(row["cause"]),
        system=row["system"],
        destination=row["destination"],
        receiver=row["receiver"],
        deliveries=row["deliveries"],
        first_at=row["first_at"],
        last_at=row["last_at"],
        sample_message_ids=[message_id(key) for key in row["samples"]],
    )
