"""Answers drawn for print: rich renderables for the commands, the flow view and the demo's closing report."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from hopwatch_tui import clocks
from hopwatch_tui import format as fmt
from hopwatch_tui.answers import (
    Attempt,
    Cause,
    ClockList,
    Delivery,
    DeliveryDetail,
    Explanation,
    Flow,
    FlowSummary,
    LagRow,
    Message,
    SearchHit,
    Why,
)
from hopwatch_tui.format import ANSI, Sign, Tone
from hopwatch_tui.hops import HopNode, MessageNode, hop_tree
from hopwatch_tui.text import clean, fit_middle


def styled(*parts: tuple[str, Tone] | str) -> Text:
    """Text in tones; nothing in it is markup."""
    text = Text()
    for part in parts:
        value, tone = part if isinstance(part, tuple) else (part, Tone.PLAIN)
        text.append(value, ANSI[tone])
    return text


def sign_text(sign: Sign) -> Text:
    """A verdict or state: glyph and word in its tone."""
    return styled((str(sign), sign.tone))


def flow_tree(flow: Flow) -> RenderableType:
    """One flow as a tree of hops, each with its verdict and latency, and the reason of those not delivered."""
    summary = flow.summary
    head = styled(
        (summary.name or "flow", Tone.STRONG),
        "  ",
        (str(fmt.state(summary.state)), fmt.state(summary.state).tone),
        (f"  {summary.service}  {fmt.duration(summary.duration_ms)}  flow {summary.flow_id}", Tone.DIM),
    )
    tree = Tree(head, guide_style="dim")
    for node in hop_tree(flow):
        _add_message(tree, node)
    if not flow.hops:
        tree.add(styled(("no messages were seen in this flow", Tone.DIM)))
    notes = [styled((f"{_neighbour(link.direction)} flow {link.flow_id}", Tone.DIM)) for link in flow.linked]
    if legend := clocks.legend(flow):
        notes.append(styled((legend, Tone.WARN)))
    if flow.truncated:
        notes.append(styled(("▲ cut off at the collector's limit: there is more to this flow", Tone.WARN)))
    return Group(tree, *notes)


def _neighbour(direction: str) -> str:
    return {"upstream": "caused by", "downstream": "caused"}.get(direction, direction)


def _add_message(tree: Tree, node: MessageNode) -> None:
    label = styled((clean(node.system), Tone.DIM), " ", node.destination or "(destination unseen)")
    if len(node.hops) == 1:
        _add_hop(tree, node.hops[0], label)
        return
    branch = tree.add(label + styled((f"  → {len(node.hops)} receivers", Tone.DIM)))
    for hop in node.hops:
        _add_hop(branch, hop, Text())


def _add_hop(tree: Tree, hop: HopNode, label: Text) -> None:
    delivery = hop.delivery
    sign = fmt.verdict(delivery.verdict)
    line = label + styled(" " if label else "", ("→ ", Tone.DIM), _receiver_text(delivery), "  ")
    line.append_text(sign_text(sign))
    if delivery.latency_ms is not None:
        line.append(f" {clocks.latency(delivery)}", ANSI[Tone.DIM])
    if delivery.attempts > 1:
        line.append(f" ×{delivery.attempts}", ANSI[Tone.WARN])
    if delivery.verdict not in fmt.DELIVERED and delivery.reason:
        line.append(f"  {one_line(delivery.reason)}", ANSI[Tone.DIM])
    branch = tree.add(line)
    for message in hop.caused:
        _add_message(branch, message)


def _receiver_text(delivery: Delivery) -> str:
    receiver, consumer = delivery.receiver, delivery.consumer
    if not receiver:
        return consumer or "nobody"
    return receiver if not consumer or consumer == receiver else f"{receiver} ({consumer})"


def one_line(value: str) -> str:
    """The first line of a text of several."""
    first, more, _ = value.strip().partition("\n")
    return first + (" …" if more else "")


def _table(*columns: tuple[str, str] | str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        name, justify = column if isinstance(column, tuple) else (column, "left")
        table.add_column(name, justify="right" if justify == "right" else "left", overflow="fold")
    return table


def why_view(answer: Why, explanations: Sequence[Explanation]) -> RenderableType:
    """A message's deliveries one by one: the verdict, the evidence under it, what is missing and what to do."""
    head = styled(
        (answer.message_id, Tone.STRONG),
        (f"  {answer.system} {answer.destination}  flow {answer.flow_id}", Tone.DIM),
    )
    return Group(head, *(_explained(one) for one in explanations))


def _explained(one: Explanation) -> RenderableType:
    line = styled(("→ ", Tone.DIM), one.receiver or "nobody", "  ")
    line.append_text(sign_text(fmt.verdict(one.verdict)))
    line.append(f"  {one_line(one.reason)}")
    table = _table("", "", "")
    table.show_header = False
    for evidence in one.evidence:
        table.add_row(
            styled((evidence.at.strftime("%H:%M:%S.%f")[:-3] if evidence.at else "", Tone.DIM)),
            styled((evidence.witness, Tone.KEY)),
            Text(one_line(evidence.says)),
        )
    notes = [
        styled((f"{name}: ", Tone.STRONG), text)
        for name, text in (
            ("deadline", fmt.stamp(one.deadline) if one.deadline else ""),
            ("missing", one.missing),
            ("what to do", one.advice),
        )
        if text
    ]
    return Padding(Group(line, Padding(Group(table, *notes), (0, 0, 0, 2))), (1, 0, 0, 0))


def causes_view(causes: Sequence[Cause], now: datetime | None) -> RenderableType:
    """Undelivered messages by cause, destination and receiver, each with when, a sample, and what to do."""
    table = _table(
        ("COUNT", "right"),
        "VERDICT",
        "DESTINATION → RECEIVER",
        "WHY, AND WHAT TO DO",
        ("FIRST", "right"),
        ("LAST", "right"),
        "SAMPLE",
    )
    table.columns[1].no_wrap = True
    table.columns[6].overflow = "ellipsis"
    table.columns[6].no_wrap = True
    table.columns[6].min_width = 12
    for cause in causes:
        words = Text(one_line(cause.reason))
        if cause.advice:
            words.append(f"\n{cause.advice}", ANSI[Tone.DIM])
        table.add_row(
            fmt.count(cause.deliveries),
            sign_text(fmt.verdict(cause.verdict)),
            Text(f"{cause.destination} → {cause.receiver or 'nobody'}"),
            words,
            Text(fmt.age(cause.first_at, now)),
            Text(fmt.age(cause.last_at, now)),
            styled((fit_middle(next(iter(cause.sample_message_ids), ""), 36), Tone.DIM)),
        )
    return table


def undelivered_table(deliveries: Sequence[Delivery], now: datetime | None) -> RenderableType:
    """Deliveries somebody should look at, with the reason of each."""
    table = _table("VERDICT", "DESTINATION → RECEIVER", "REASON", ("AGE", "right"), "MESSAGE")
    table.columns[0].no_wrap = True
    table.columns[4].overflow = "ellipsis"
    table.columns[4].no_wrap = True
    table.columns[4].min_width = 12
    for delivery in deliveries:
        table.add_row(
            sign_text(fmt.verdict(delivery.verdict)),
            Text(f"{delivery.destination} → {_receiver_text(delivery)}"),
            Text(one_line(delivery.reason)),
            Text(fmt.age(clocks.sent(delivery) or delivery.since, now)),
            styled((fit_middle(delivery.message_id, 36), Tone.DIM)),
        )
    return table


def undelivered_summary(deliveries: Sequence[Delivery]) -> RenderableType:
    """Undelivered by destination, receiver, verdict and reason: how many of each, the most frequent first."""
    counts: dict[tuple[str, str, str, str], int] = {}
    for delivery in deliveries:
        group = (delivery.verdict, delivery.destination, _receiver_text(delivery), one_line(delivery.reason))
        counts[group] = counts.get(group, 0) + 1
    table = _table(("COUNT", "right"), "VERDICT", "DESTINATION → RECEIVER", "REASON")
    for (verdict, destination, receiver, reason), number in sorted(counts.items(), key=lambda item: -item[1]):
        table.add_row(
            fmt.count(number),
            sign_text(fmt.verdict(verdict)),
            Text(f"{destination} → {receiver}"),
            Text(reason),
        )
    return table


def lag_table(rows: Sequence[LagRow]) -> RenderableType:
    """How far each receiver is behind, the furthest first; where its broker tells, all that it holds."""
    table = _table(
        "SYSTEM",
        "DESTINATION",
        "RECEIVER",
        ("WAITING", "right"),
        ("IN FLIGHT", "right"),
        ("OLDEST", "right"),
        ("PER MIN", "right"),
        ("DRAINED IN", "right"),
        "TOLD BY",
    )
    for row in sorted(rows, key=lambda row: (-row.waiting, -row.oldest_s)):
        behind = Tone.WARN if row.waiting else Tone.PLAIN
        table.add_row(
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
    return table


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
    table = _table("HOST", ("AHEAD BY", "right"), ("±", "right"), "", ("HOPS", "right"), "SINCE")
    for clock in known.clocks:
        table.add_row(
            Text(clock.host),
            fmt.duration(clock.offset_s * 1000),
            fmt.duration(None if clock.uncertainty_s is None else clock.uncertainty_s * 1000),
            styled((clocks.verdict(clock, known), Tone.WARN if clock.corrected_s else Tone.DIM)),
            fmt.count(clock.hops),
            styled((fmt.clock(clock.since)[:8], Tone.DIM)),
        )
    notes = []
    if known.reference != known.collector:
        notes.append(
            f"nothing shows whether the collector's clock is right: it is taken to agree with that of {known.reference}"
        )
    if known.left_out:
        why = "their hops contradict each other (clock set, or several machines of one name)"
        notes.append(f"not compared, as {why}: {', '.join(known.left_out)}")
    return Group(table, *(styled((note, Tone.DIM)) for note in notes))


def flows_table(flows: Sequence[FlowSummary], now: datetime | None) -> RenderableType:
    """Flows, one line each."""
    table = _table(
        "STATE",
        "FLOW",
        "SERVICE",
        ("HOPS", "right"),
        ("UNDELIVERED", "right"),
        ("AGE", "right"),
        ("TOOK", "right"),
        "ID",
    )
    for flow in flows:
        table.add_row(
            sign_text(fmt.state(flow.state)),
            Text(flow.name),
            Text(flow.service),
            fmt.count(flow.hops),
            styled((fmt.count(flow.undelivered), Tone.WARN if flow.undelivered else Tone.DIM)),
            fmt.age(flow.started_at, now),
            fmt.duration(flow.duration_ms),
            styled((fit_middle(flow.flow_id, 32), Tone.DIM)),
        )
    return table


def hits_table(hits: Sequence[SearchHit], now: datetime | None) -> RenderableType:
    """What a search found: what it is, why it matched, its state and its full id to go on with."""
    table = _table("FOUND", "STATE", "MATCHED", "WHAT", ("AGE", "right"), "ID")
    table.columns[5].no_wrap = True
    table.columns[5].overflow = "ignore"
    for hit in hits:
        table.add_row(
            hit.kind,
            sign_text(fmt.state(hit.state)),
            styled((hit.why, Tone.DIM)),
            Text(hit.title),
            fmt.age(hit.at, now),
            Text(hit.id),
        )
    return table


def verdict_counts(counts: Iterable[tuple[str, int]]) -> Text:
    """Numbers of deliveries by verdict, on one line."""
    text = Text()
    for name, number in counts:
        sign = fmt.verdict(name)
        text.append(("  " if text else "") + f"{sign.glyph} {fmt.count(number)} {sign.word}", ANSI[sign.tone])
    return text


def facts(pairs: Iterable[tuple[str, str | Text]]) -> RenderableType:
    """Names and values under one another; empty values are left out."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        if value:
            table.add_row(name, Text(value) if isinstance(value, str) else value)
    return table


def keys_text(keys: Mapping[str, str]) -> str:
    """Business keys as `name=value`, by name."""
    return "  ".join(f"{name}={value}" for name, value in sorted(keys.items()))


def message_view(message: Message) -> RenderableType:
    """One message whole: where it went, what its sender knows, and each delivery with attempts and evidence."""
    head = styled(
        ("message ", Tone.DIM),
        (message.message_id, Tone.STRONG),
        "  ",
        f"{message.system} {message.destination}",
    )
    return Group(head, message_body(message))


def message_body(message: Message) -> RenderableType:
    """`message_view` without its first line."""
    place = message.partition + (f" @ {message.offset}" if message.offset is not None else "")
    outcome = " · ".join(part for part in (message.publish_outcome, message.publish_reason) if part)
    about = facts(
        (
            ("sent by", message.producer or "unseen: no span of its sender arrived"),
            ("sent at", clocks.stamp(clocks.sent(message), message.sent_at, message.sender_clock_offset_s)),
            ("publish", outcome),
            ("position", place),
            ("keys", keys_text(message.keys)),
            ("also known as", ", ".join(message.aliases)),
            ("conversation", message.conversation_id),
            ("flow", message.flow_id),
            ("trace", message.trace_id),
        )
    )
    parts: list[RenderableType] = [Padding(about, (0, 0, 1, 2))]
    parts += [delivery_view(delivery) for delivery in message.deliveries]
    if not message.deliveries:
        parts.append(styled(("no delivery is known of this message", Tone.DIM)))
    return Group(*parts)


def delivery_view(delivery: DeliveryDetail) -> RenderableType:
    """One delivery: verdict, why, on whose word, and its attempts."""
    head = styled(("→ ", Tone.DIM), (_receiver_text(delivery), Tone.STRONG), "  ")
    head.append_text(sign_text(fmt.verdict(delivery.verdict)))
    about = facts(
        (
            ("why", delivery.reason),
            ("evidence", ", ".join(delivery.witnesses) or "none"),
            ("declared", "the team says that this receiver is owed it" if delivery.declared else ""),
            ("missing", delivery.missing),
            ("since", fmt.stamp(delivery.since)),
            ("deadline", fmt.stamp(delivery.deadline) if delivery.deadline else ""),
            (
                "received",
                clocks.stamp(
                    clocks.received(delivery), delivery.received_at, delivery.receiver_clock_offset_s
                )
                if delivery.received_at
                else "",
            ),
            ("latency", clocks.latency(delivery)),
            ("settled", fmt.stamp(delivery.settled_at) if delivery.settled_at else ""),
        )
    )
    parts: list[RenderableType] = [head, Padding(about, (0, 0, 0, 2))]
    if delivery.history:
        parts.append(Padding(attempts_table(delivery.history), (1, 0, 0, 2)))
    return Padding(Group(*parts), (0, 0, 1, 0))


def attempts_table(attempts: Sequence[Attempt]) -> RenderableType:
    """Handings-over of a message to one receiver, oldest first."""
    table = _table(("ATTEMPT", "right"), "SERVICE", "RECEIVED", ("TOOK", "right"), "SETTLED", "ERROR")
    for attempt in attempts:
        took = None
        if attempt.received_at and attempt.ended_at:
            took = (attempt.ended_at - attempt.received_at).total_seconds() * 1000
        where = f"{attempt.service}  {fit_middle(attempt.instance, 13)}".rstrip()
        table.add_row(
            str(attempt.number),
            Text(where),
            clocks.mark(attempt.clock_offset_s) + fmt.clock(clocks.taken(attempt)),
            fmt.duration(took) if took is not None else styled(("still open", Tone.WARN)),
            Text(attempt.settle_outcome or "–"),
            styled((attempt.error, Tone.BAD)),
        )
    return table
