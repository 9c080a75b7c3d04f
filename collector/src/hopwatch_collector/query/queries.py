"""The questions the API and the terminal view ask. What became of deliveries is read as the judge wrote it."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hopwatch_collector.api.models import (
    UNDELIVERED,
    CauseList,
    ClockList,
    DeliveryDetail,
    DeliveryList,
    Flow,
    FlowList,
    FlowState,
    FlowSummary,
    LagList,
    LagRow,
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
from hopwatch_collector.judge.decision import Decision
from hopwatch_collector.query import lag as lagging
from hopwatch_collector.query import metrics, search, why
from hopwatch_collector.query.clocks import ClockReader, Clocks
from hopwatch_collector.query.ledger import Filters, Ledger
from hopwatch_collector.query.losses import doubted, losses
from hopwatch_collector.query.present import snapshot
from hopwatch_collector.query.rows import (
    as_told,
    attempt,
    delivery,
    delivery_fields,
    edge,
    flow_summary,
    key_of,
    message_id,
    span,
    trace_of,
)
from hopwatch_collector.query.window import SearchQuery, Window

LAG_WINDOW: Final = timedelta(hours=1)
"""For how long a receiver that got something is listed though nothing waits for it, and settled deliveries are in /metrics."""

MAX_SPANS: Final = 5_000
MAX_HOPS: Final = 2_000
MAX_EDGES: Final = 1_000
MAX_LAG_ROWS: Final = 1_000
_STATE_CANDIDATES: Final = 1_000
"""Flows looked at to find those in a given state."""


Decisions = Callable[[bytes], Mapping[str, Decision]]
"""How the deliveries of a message (16 bytes) are decided, by receiver."""


class Queries:
    """Every method blocks, may be called from any thread, and raises QueryLimit where an answer would cost too much."""

    def __init__(self, store: Store, decisions: Decisions = lambda _: {}) -> None:
        """`decisions`: how the deliveries of a message are decided, for who asks why."""
        self._store = store
        self._decisions = decisions
        self._clocks = ClockReader(store)
        self._ledger = Ledger(store)

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
        if not flow_ids:
            return []
        clocks = self._clocks.around(window.until)
        params = {"flows": flow_ids, "since": window.since, **clocks.parameters()}
        rows = self._store.query("flow_summaries", params)
        verdicts = self._ledger.of_flows(flow_ids, window.since)
        return [flow_summary(row, verdicts.get(row["flow_id"], {})) for row in rows]

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
        hops = self.deliveries_of(messages, MAX_HOPS + 1)
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

    def deliveries_of(self, messages: Sequence[str], limit: int) -> list[Row]:
        """Return rows of `deliveries` for the messages named (32 hex digits each), oldest first."""
        return self._ledger.of_messages(messages, limit)

    def message(self, id_or_alias: str) -> Message | None:
        """Return one message with all that is known of it, None if nothing is; of several, the latest."""
        keys = self.message_keys(id_or_alias)
        if not keys:
            return None
        key = keys[0]["message"].hex()
        clocks = self._clocks.around(keys[0]["first_at"])
        rows = self.deliveries_of([key], MAX_HOPS)
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
        *,
        causes: frozenset[str] | None = None,
        cursor: str | None = None,
    ) -> DeliveryList:
        """Return deliveries of messages that began in the window and match, newest first, from behind `cursor` on.

        Raises InvalidCursor where `cursor` is not one that an earlier answer gave.
        """
        filters = Filters(
            verdicts=tuple(sorted(verdicts or ())),
            causes=tuple(sorted(causes or ())),
            destination=destination or "",
            receiver=receiver or "",
            service=service or "",
        )
        rows, following = self._ledger.newest(window, filters, limit, cursor)
        found = doubted(self._store, [delivery(row) for row in rows])
        return DeliveryList(deliveries=found, truncated=following is not None, next_cursor=following)

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
        filters = Filters(
            verdicts=tuple(sorted(UNDELIVERED if verdicts is None else verdicts & UNDELIVERED)),
            destination=destination or "",
            receiver=receiver or "",
            service=service or "",
        )
        causes = self._ledger.causes(window, filters, limit + 1)
        found = doubted(self._store, causes[:limit])
        return CauseList(causes=found, truncated=len(causes) > limit)

    def why(self, id_or_alias: str) -> Why | None:
        """Return every delivery of a message with its evidence, None if the message is unknown."""
        message = self.message(id_or_alias)
        if message is None:
            return None
        clocks = self._clocks.around(message.sent_at)
        decisions = self._decisions(bytes.fromhex(message.message_id.replace("-", "")))
        return why.explain(self._store, message, clocks, decisions)

    def lag(self, since: datetime | None = None) -> LagList:
        """Return how far each receiver is behind: those that have something waiting, or received something since then.

        `since`: an hour ago unless given; given, receivers that only their broker knows to be idle are left out.
        """
        now = datetime.now(UTC)
        rows, more = self._lag(now, since or now - LAG_WINDOW)
        if since is not None:
            rows = [row for row in rows if row.waiting or row.in_flight or row.last_received_at]
        return LagList(rows=rows[:MAX_LAG_ROWS], truncated=more or len(rows) > MAX_LAG_ROWS)

    def _lag(self, now: datetime, since: datetime) -> tuple[list[LagRow], bool]:
        known = self._ledger.lag(now, since, MAX_LAG_ROWS + 1)
        told = self._store.query("broker_lag", {"now": now, "back": lagging.TREND_S})
        return lagging.merged(known, lagging.held(told, now)), len(known) > MAX_LAG_ROWS

    def losses(self, since: datetime, limit: int = 100) -> LossList:
        """Return what services told since then that they lost on its way here, the latest first."""
        found = losses(self._store, since, limit + 1)
        return LossList(losses=found[:limit], truncated=len(found) > limit)

    def topology(self, window: Window) -> Topology:
        """Return who reached whom through what."""
        rows = self._ledger.edges(window, MAX_EDGES + 1)
        return Topology(edges=[edge(row) for row in rows[:MAX_EDGES]], truncated=len(rows) > MAX_EDGES)

    def search(self, query: SearchQuery) -> SearchResult:
        """Return messages and flows that match, the latest first."""
        return search.run(self, self._store, query)

    def live(self, window_s: float) -> Live:
        """Return one snapshot of the last `window_s` seconds."""
        now = datetime.now(UTC)
        rows, _ = self._lag(now, now - timedelta(seconds=window_s))
        return snapshot(self._store, self._ledger, self._clocks.around(), rows, now, window_s)

    def metrics(self) -> Iterable[metrics.Family]:
        """Return what /metrics shows of spans, service graph, lag and deliveries: families, each of which may fail alone."""
        now = datetime.now(UTC)
        since = now - LAG_WINDOW
        return (
            *metrics.of_spans(self._store),
            ("lag", lambda: metrics.lag(lagging.counted_once(self._lag(now, since)[0]))),
            ("deliveries", lambda: metrics.deliveries(self._ledger.standing(Window(since, now)))),
            ("clocks", lambda: metrics.clocks(self._clocks.around().shown())),
        )

    def clocks(self, at: datetime | None = None) -> ClockList:
        """Return how far the clocks of hosts are apart, now or around another moment."""
        return self._clocks.measured(at).shown()


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
        keys={key["name"]: key["value"] for key in row["keys"]},
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
