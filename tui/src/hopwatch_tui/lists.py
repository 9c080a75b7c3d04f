"""Answers of many rows drawn for print: rich tables for the commands and the demo's closing report."""

from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from hopwatch_tui import clocks
from hopwatch_tui import format as fmt
from hopwatch_tui.answers import (
    Cause,
    ClockList,
    Delivery,
    Edge,
    FlowSummary,
    Health,
    LagRow,
    Live,
    SearchHit,
)
from hopwatch_tui.fitting import WIDE, Cell, Field, Fitted, noted, number, stacked, table
from hopwatch_tui.format import Sign, Tone
from hopwatch_tui.report import facts, reason_text, receiver_text, sign_text, styled, verdict_counts
from hopwatch_tui.text import fit_middle

_VERDICT = Field("VERDICT", whole=True)


def causes_table(causes: Sequence[Cause], now: datetime | None) -> RenderableType:
    """Undelivered messages by cause, destination and receiver, each with when, why, a sample, and what to do."""
    return Fitted(lambda width: _causes(causes, now, width))


def _causes(causes: Sequence[Cause], now: datetime | None, width: int) -> RenderableType:
    fields = (
        number("COUNT"),
        _VERDICT,
        Field("DESTINATION → RECEIVER"),
        Field("WHY, AND WHAT TO DO", wide_from=WIDE + 20),
        number("OLDEST"),
        number("NEWEST"),
    )
    rows = [_cause(cause, now) for cause in causes]
    if width >= WIDE + 20:
        return table(fields, width, rows)
    return noted(fields, width, rows, [_why(cause) for cause in causes])


def _cause(cause: Cause, now: datetime | None) -> Sequence[Cell]:
    return (
        fmt.count(cause.deliveries),
        sign_text(fmt.verdict(cause.verdict)),
        Text(f"{cause.destination} → {cause.receiver or 'nobody'}"),
        _why(cause),
        fmt.age(cause.first_at, now),
        fmt.age(cause.last_at, now),
    )


def _why(cause: Cause) -> Text:
    sample = next(iter(cause.sample_message_ids), "")
    return stacked(
        Text(reason_text(cause)),
        styled((cause.advice, Tone.DIM)),
        styled((cause.cause, Tone.DIM)),
        styled((sample and f"for example {sample}", Tone.DIM)),
    )


def undelivered_table(deliveries: Sequence[Delivery], now: datetime | None) -> RenderableType:
    """Deliveries somebody should look at, with the reason of each."""
    return Fitted(lambda width: _undelivered(deliveries, now, width))


def _undelivered(deliveries: Sequence[Delivery], now: datetime | None, width: int) -> RenderableType:
    fields = (
        _VERDICT,
        Field("DESTINATION → RECEIVER"),
        Field("REASON", wide_from=WIDE),
        number("AGE"),
        Field("MESSAGE", whole=True, wide_from=WIDE),
    )
    rows = [
        (
            sign_text(fmt.verdict(delivery.verdict)),
            Text(f"{delivery.destination} → {receiver_text(delivery)}"),
            Text(reason_text(delivery)),
            fmt.age(clocks.sent(delivery) or delivery.since, now),
            styled((fit_middle(delivery.message_id, 36), Tone.DIM)),
        )
        for delivery in deliveries
    ]
    if width >= WIDE:
        return table(fields, width, rows)
    notes = [
        stacked(Text(reason_text(delivery)), styled((delivery.message_id, Tone.DIM)))
        for delivery in deliveries
    ]
    return noted(fields, width, rows, notes)


def undelivered_summary(deliveries: Sequence[Delivery]) -> RenderableType:
    """Undelivered by destination, receiver, verdict and reason: how many of each, the most frequent first."""
    counts: dict[tuple[str, str, str, str], int] = {}
    for delivery in deliveries:
        group = (delivery.verdict, delivery.destination, receiver_text(delivery), reason_text(delivery))
        counts[group] = counts.get(group, 0) + 1
    fields = (number("COUNT"), _VERDICT, Field("DESTINATION → RECEIVER"), Field("REASON"))
    rows = [
        (
            fmt.count(times),
            sign_text(fmt.verdict(verdict)),
            Text(f"{destination} → {receiver}"),
            Text(reason),
        )
        for (verdict, destination, receiver, reason), times in sorted(
            counts.items(), key=lambda item: -item[1]
        )
    ]
    return Fitted(lambda width: table(fields, width, rows))


def lag_table(rows: Sequence[LagRow]) -> RenderableType:
    """How far each receiver is behind, the furthest first; where its broker tells, all that it holds."""
    fields = (
        Field("SYSTEM", whole=True, wide_from=70),
        Field("DESTINATION"),
        Field("RECEIVER"),
        number("WAITING"),
        number("IN FLIGHT", wide_from=70),
        number("OLDEST"),
        number("PER MIN", wide_from=WIDE),
        number("DRAINED IN", wide_from=WIDE),
        Field("TOLD BY", whole=True, wide_from=110),
    )
    behind = sorted(rows, key=lambda row: (-row.waiting, -row.oldest_s))
    return Fitted(lambda width: table(fields, width, [_lag(row) for row in behind]))


def _lag(row: LagRow) -> Sequence[Cell]:
    behind = Tone.WARN if row.waiting else Tone.PLAIN
    return (
        styled((row.system, Tone.DIM)),
        Text(row.destination or "(all)"),
        Text(row.receiver),
        styled((fmt.count(row.waiting), behind)),
        fmt.count(row.in_flight),
        styled((fmt.duration(row.oldest_s * 1000) if row.waiting and row.oldest_s else "–", behind)),
        "–" if row.growth_per_s is None else f"{row.growth_per_s * 60:+.0f}",
        _drained(row),
        styled(("broker" if row.by_broker else "services", Tone.DIM)),
    )


def _drained(row: LagRow) -> Text:
    if not row.waiting:
        return Text("–")
    if row.drain_s is not None:
        return Text(fmt.duration(row.drain_s * 1000))
    if row.consumers == 0:
        return styled(("nobody reads", Tone.WARN))
    return styled(("growing", Tone.WARN)) if row.growth_per_s else Text("–")


def clocks_table(known: ClockList) -> RenderableType:
    """How far each host's clock is off, the furthest first, and what the word of none could settle."""
    fields = (
        Field("HOST"),
        number("AHEAD BY"),
        number("±"),
        Field(""),
        number("HOPS", wide_from=70),
        Field("SINCE", whole=True, wide_from=80),
    )
    rows = [
        (
            Text(clock.host),
            fmt.duration(clock.offset_s * 1000),
            fmt.duration(None if clock.uncertainty_s is None else clock.uncertainty_s * 1000),
            styled((clocks.verdict(clock, known), Tone.WARN if clock.corrected_s else Tone.DIM)),
            fmt.count(clock.hops),
            styled((fmt.clock(clock.since)[:8], Tone.DIM)),
        )
        for clock in known.clocks
    ]
    notes = []
    if known.reference != known.collector:
        notes.append(
            f"nothing shows whether the collector's clock is right: it is taken to agree with that of {known.reference}"
        )
    if known.left_out:
        why = "their hops contradict each other (clock set, or several machines of one name)"
        notes.append(f"not compared, as {why}: {', '.join(known.left_out)}")
    return Group(
        Fitted(lambda width: table(fields, width, rows)), *(styled((note, Tone.DIM)) for note in notes)
    )


def flows_table(flows: Sequence[FlowSummary], now: datetime | None) -> RenderableType:
    """Flows, one line each; on narrow terminals their ids below."""
    return Fitted(lambda width: _flows(flows, now, width))


def _flows(flows: Sequence[FlowSummary], now: datetime | None, width: int) -> RenderableType:
    fields = (
        Field("STATE", whole=True),
        Field("FLOW"),
        Field("SERVICE", wide_from=70),
        number("HOPS", wide_from=70),
        number("UNDELIVERED"),
        number("AGE"),
        number("TOOK", wide_from=70),
        Field("ID", whole=True, wide_from=WIDE + 10),
    )
    ids = [styled((fit_middle(flow.flow_id, 32), Tone.DIM)) for flow in flows]
    rows = [
        (
            sign_text(fmt.state(flow.state)),
            Text(flow.name),
            Text(flow.service),
            fmt.count(flow.hops),
            styled((fmt.count(flow.undelivered), Tone.WARN if flow.undelivered else Tone.DIM)),
            fmt.age(flow.started_at, now),
            fmt.duration(flow.duration_ms),
            id,
        )
        for flow, id in zip(flows, ids, strict=True)
    ]
    return table(fields, width, rows) if width >= WIDE + 10 else noted(fields, width, rows, ids)


def hits_table(hits: Sequence[SearchHit], now: datetime | None) -> RenderableType:
    """What a search found: what it is, why it matched, its state and its full id to go on with."""
    return Fitted(lambda width: _hits(hits, now, width))


def _hits(hits: Sequence[SearchHit], now: datetime | None, width: int) -> RenderableType:
    fields = (
        Field("FOUND", whole=True, wide_from=WIDE),
        Field("STATE", whole=True),
        Field("MATCHED", wide_from=70),
        Field("WHAT"),
        number("AGE"),
        Field("ID", whole=True, wide_from=WIDE),
    )
    rows = [
        (
            hit.kind,
            sign_text(fmt.state(hit.state)),
            styled((hit.why, Tone.DIM)),
            Text(hit.title),
            fmt.age(hit.at, now),
            Text(hit.id),
        )
        for hit in hits
    ]
    if width >= WIDE:
        return table(fields, width, rows)
    return noted(fields, width, rows, [styled((hit.id, Tone.DIM)) for hit in hits])


def topology_table(edges: Sequence[Edge]) -> RenderableType:
    """Who reached whom through what, how often, how long that took."""
    return Fitted(lambda width: _topology(edges, width))


def _topology(edges: Sequence[Edge], width: int) -> RenderableType:
    fields = (
        Field("SYSTEM", whole=True, wide_from=70),
        Field("FROM", wide_from=WIDE),
        Field("THROUGH" if width >= WIDE else "FROM → THROUGH → TO"),
        Field("TO", wide_from=WIDE),
        number("COUNT"),
        number("UNDELIV"),
        number("ERRORS", wide_from=70),
        number("P50", wide_from=70),
        number("P99"),
    )
    rows = []
    for edge in edges:
        producer, receiver = edge.producer or "(unseen)", _receiver(edge)
        through = edge.destination if width >= WIDE else f"{producer} → {edge.destination} → {receiver}"
        rows.append(
            (
                styled((edge.system, Tone.DIM)),
                Text(producer),
                Text(through),
                Text(receiver),
                fmt.count(edge.deliveries),
                styled((fmt.count(edge.undelivered), Tone.WARN if edge.undelivered else Tone.DIM)),
                styled((fmt.count(edge.errors), Tone.WARN if edge.errors else Tone.DIM)),
                fmt.duration(edge.p50_ms),
                fmt.duration(edge.p99_ms),
            )
        )
    return table(fields, width, rows)


def _receiver(edge: Edge) -> str:
    if not edge.receiver:
        return edge.consumer or "nobody"
    return edge.receiver if edge.consumer in ("", edge.receiver) else f"{edge.receiver} ({edge.consumer})"


_HEALTH = {
    "ok": Sign("✓", "ok", Tone.GOOD, ""),
    "starting": Sign("◌", "starting", Tone.BUSY, ""),
    "failing": Sign("✗", "failing", Tone.BAD, ""),
}


def status_view(health: Health, live: Live | None) -> RenderableType:
    """How the collector is, which brokers it watches, and how deliveries stand."""
    sign = _HEALTH.get(health.status) or Sign("?", health.status or "unknown", Tone.ODD, "")
    about: list[tuple[str, str | Text]] = [
        ("collector", sign_text(sign)),
        ("reason", health.reason),
        ("version", health.version),
        ("engine", health.engine),
        ("journal", f"{fmt.count(health.journal_backlog_bytes)} bytes not yet in the engine"),
    ]
    if live is not None:
        told = verdict_counts((one.verdict, one.deliveries) for one in live.verdicts)
        about.append(("coming in", f"{fmt.rate(live.spans_per_s).removesuffix('/s')} spans/s"))
        about.append((f"last {fmt.duration(live.window_s * 1000)}", told or "no deliveries"))
    if not health.witnesses:
        return Group(facts(about), styled(("no broker is watched: see --watch-kafka and its like", Tone.DIM)))
    fields = (Field("BROKER", whole=True), Field("NAME"), Field("TROUBLE"))
    rows = [
        (
            one.system,
            Text(one.broker),
            styled((one.trouble or "none", Tone.WARN if one.trouble else Tone.DIM)),
        )
        for one in health.witnesses
    ]
    brokers = Fitted(lambda width: table(fields, width, rows))
    return Group(facts(about), Padding(brokers, (1, 0, 0, 0)))
