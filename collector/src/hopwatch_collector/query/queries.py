"""The questions the API and the terminal view ask. What became of deliveries is read as the judge wrote it."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from hopwatch_collector.api.models import (
    UNDELIVERED,
    Attempt,
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
from hopwatch_collector.query.ledger import Counts, Filters, Ledger
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
    span_id,
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
        rows = self._store.query("flow_summaries", {"flows": flow_ids, **clocks.parameters()})
        verdicts = self._ledger.of_flows(rows)
        return [flow_summary(row, verdicts.get(row["flow_id"], {})) for row in rows]

    def flow(self, flow_id: str) -> Flow | None:
        """Return one flow, whole; a trace id leads to the flow the trace belongs to. None: unknown."""
        asked = trace_of(flow_id)
        if asked is None:
            return None
        flow, rows = asked, self._spans_of(asked)
        if not rows:
            found = self.flow_of(asked)
            flow, rows = found or asked, self._spans_of(found) if found else []
        if not rows:
            return None
        shown = rows[:MAX_SPANS]
        messages = sorted({row["message"].hex() for row in shown if any(row["message"])})
        clocks = self._clocks.around(min(row["started_at"] for row in shown))
        hops = self.deliveries_of(messages, MAX_HOPS + 1)
        links = self._links(flow, sorted({row["trace_id"].hex() for row in shown}))
        instances = self._instances(row["resource"] for row in shown)
        verdicts: dict[Verdict, int] = defaultdict(int)
        for hop in hops:
            verdicts[Verdict(hop["verdict"])] += 1
        summary = self._store.query("flow_summaries", {"flows": [flow], **clocks.parameters()})[0]
        return Flow(
            summary=flow_summary(summary, verdicts),
            hops=doubted(self._store, [delivery(hop) for hop in hops[:MAX_HOPS]]),
            spans=sorted(
                (
                    span(row, instances.get(row["resource"], ""), _links_of(row, links), clocks)
                    for row in shown
                ),
                key=lambda one: one.started_at - timedelta(seconds=one.clock_offset_s),
            ),
            linked=_neighbours(flow, links),
            truncated=len(rows) > MAX_SPANS or len(hops) > MAX_HOPS,
        )

    def _spans_of(self, flow: str) -> list[Row]:
        return self._store.query("flow_spans", {"flow": flow, "top": MAX_SPANS + 1})

    def _instances(self, resources: Iterable[int]) -> Mapping[int, str]:
        """What processes call themselves, by key into `resources`."""
        rows = self._store.query("instances", {"resources": sorted({0, *resources})})
        return {row["resource"]: row["instance"] for row in rows}

    def _links(self, flow: str, traces: Sequence[str]) -> list[Row]:
        """Links from and to the spans of a flow's traces, with the flows at their other ends."""
        rows = self._store.query("flow_links", {"traces": traces})
        others = sorted({row["to_trace"] for row in rows} - set(traces))
        known = self._store.query("flows_of", {"flows": others}) if others else []
        flows = {**dict.fromkeys(traces, flow), **{row["trace_id"]: row["flow_id"] for row in known}}
        return [{**row, "to_flow": flows.get(row["to_trace"], row["to_trace"])} for row in rows]

    def flow_of(self, trace_id: str) -> str | None:
        """Return the flow that a trace belongs to, None if nothing is known of it."""
        heads = self._store.query("flow_of", {"flow": trace_id})
        return str(heads[0]["flow_id"]) if heads else None

    def deliveries_of(self, messages: Sequence[str], limit: int) -> list[Row]:
        """Return rows of `deliveries` for the messages named (32 hex digits each), oldest first."""
        return self._ledger.of_messages(messages, limit)

    def hits_of(self, messages: Sequence[str], limit: int) -> list[Row]:
        """Return of deliveries of the messages named (32 hex digits each) what a list of hits shows, oldest first."""
        return self._store.query("hits_of", {"messages": messages, "top": limit}) if messages else []

    def message(self, id_or_alias: str) -> Message | None:
        """Return one message with all that is known of it, None if nothing is; of several that an alias means, the latest."""
        key = key_of(id_or_alias)
        rows = self.deliveries_of([key], MAX_HOPS) if key else []
        if not rows:
            rows = self._latest(self.deliveries_of(self.other_keys(id_or_alias), MAX_HOPS))
        if not rows:
            return None
        clocks = self._clocks.around(rows[0]["first_at"])
        params = {"message": rows[0]["message"].hex()}
        aliases = [row["alias"] for row in self._store.query("message_aliases", params)]
        found = _message(rows, aliases, self._history(params), clocks)
        return found.model_copy(update={"deliveries": doubted(self._store, found.deliveries)})

    def _latest(self, rows: Sequence[Row]) -> list[Row]:
        """Of rows of several messages, those of the one that was sent last."""
        last = max(rows, key=lambda row: row["first_at"], default=None)
        return [row for row in rows if last is not None and row["message"] == last["message"]]

    def _history(self, params: Mapping[str, Any]) -> list[Row]:
        """Each handing-over of a message, and its send, with the spans that told of them."""
        told = self._store.query("message_attempts", params)
        spans = {
            (row["to_receiver"], row["attempt"], row["hop"]): row["span"]
            for row in self._store.query("message_spans", params)
        }
        instances = self._instances(resource for _, _, resource in spans.values())
        return [_handing_over(row, spans, instances) for row in told]

    def other_keys(self, id_or_alias: str) -> list[str]:
        """Return the messages (32 hex digits each) that an id or alias may mean, besides the one of that very id."""
        key = key_of(id_or_alias)
        rows = self._store.query("message_keys", {"alias": id_or_alias.strip()})
        rows += self._store.query("known_as", {"id": key}) if key else []
        return [row["message"].hex() for row in rows]

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
        rows, more = self._lag(self._ledger.counts(Window(since or now - LAG_WINDOW, now)), now)
        if since is not None:
            rows = [row for row in rows if row.waiting or row.in_flight or row.last_received_at]
        return LagList(rows=rows[:MAX_LAG_ROWS], truncated=more or len(rows) > MAX_LAG_ROWS)

    def _lag(self, counts: Counts, now: datetime) -> tuple[list[LagRow], bool]:
        known = self._ledger.lag(counts, now, MAX_LAG_ROWS + 1)
        told = lagging.told_by_brokers(self._store, now)
        return lagging.merged(known, told), len(known) > MAX_LAG_ROWS

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
        window = Window(now - timedelta(seconds=window_s), now)
        counts = self._ledger.counts(window)
        rows, _ = self._lag(counts, now)
        return snapshot(self._store, self._ledger, self._clocks.around(), counts, rows, window)

    def metrics(self) -> Iterable[metrics.Family]:
        """Return what /metrics shows of spans, service graph, lag and deliveries: families, each of which may fail alone."""
        now = datetime.now(UTC)
        # Read once for both families. What fails is not remembered: each of them fails for itself.
        counts = cache(lambda: self._ledger.counts(Window(now - LAG_WINDOW, now)))
        return (
            *metrics.of_spans(self._store),
            ("lag", lambda: metrics.lag(lagging.counted_once(self._lag(counts(), now)[0]))),
            ("deliveries", lambda: metrics.deliveries(counts().standing())),
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
        if link["span_id"] == span_id(row) and link["trace_id"] == row["trace_id"].hex()
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
                history=_attempts([told for told in history if _told_of(rows, told) is one], clocks),
            )
            for one in rows
        ],
    )


def _told_of(rows: Sequence[Row], told: Row) -> Row | None:
    """The delivery that a handing-over is of: the receiver's, or the service's where only that was told."""
    named = [row for row in rows if row["receiver"] == told["receiver"]]
    if named or not told["unnamed"]:
        return named[0] if named else None
    received = [row for row in rows if row["attempts"] > 0]
    of_service = [row for row in received if row["consumer"] == told["service"]]
    return next(iter(of_service or received), None)


def _handing_over(
    row: Row, spans: Mapping[tuple[str, int, bytes], tuple[bytes, bytes, int]], instances: Mapping[int, str]
) -> Row:
    """A row of message_attempts.sql with trace, span and process of the span that told of it."""
    trace, span_of, resource = spans.get((row["receiver"], row["attempt"], row["hop"]), (b"", b"", 0))
    return {
        **row,
        "trace_id": trace if any(trace) else row["trace_id"],
        "span_id": row["hop"] if any(row["hop"]) else span_of,
        "instance": instances.get(resource, ""),
    }


def _attempts(history: Sequence[Row], clocks: Clocks) -> list[Attempt]:
    """What was told of one receiver, numbered in order: Kafka counts no attempts, AMQP says only "again"."""
    handed = sorted(
        (row for row in history if row["attempt"] > 0), key=lambda row: (row["attempt"], row["started_at"])
    )
    return [attempt(row, max(row["attempt"], place), clocks) for place, row in enumerate(handed, 1)]
