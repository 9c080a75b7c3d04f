"""Answers of one thing drawn for print: rich renderables for the commands, the flow view and the demo's closing report."""

from collections.abc import Iterable, Mapping, Sequence

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
    DecidedBy,
    Delivery,
    DeliveryDetail,
    Explanation,
    Flow,
    Message,
    Why,
)
from hopwatch_tui.fitting import Cell, Field, Fitted, bare, number, table
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
    line = label + styled(" " if label else "", ("→ ", Tone.DIM), receiver_text(delivery), "  ")
    line.append_text(sign_text(sign))
    if delivery.latency_ms is not None:
        line.append(f" {clocks.latency(delivery)}", ANSI[Tone.DIM])
    if delivery.attempts > 1:
        line.append(f" ×{delivery.attempts}", ANSI[Tone.WARN])
    if delivery.verdict not in fmt.DELIVERED and delivery.reason:
        line.append(f"  {reason_text(delivery)}", ANSI[Tone.DIM])
    branch = tree.add(line)
    for message in hop.caused:
        _add_message(branch, message)


def receiver_text(delivery: Delivery) -> str:
    receiver, consumer = delivery.receiver, delivery.consumer
    if not receiver:
        return consumer or "nobody"
    return receiver if not consumer or consumer == receiver else f"{receiver} ({consumer})"


def reason_text(one: Delivery | Cause) -> str:
    """Why it stands so, in one line; of a verdict from silence, that it is, and until when it may change."""
    until = one.provisional_until if isinstance(one, Delivery | DeliveryDetail) else None
    silent = " · from silence" if one.by_silence else ""
    return one_line(one.reason) + silent + (f", may change until {until:%H:%M:%S}" if until else "")


def one_line(value: str) -> str:
    """The first line of a text of several."""
    first, more, _ = value.strip().partition("\n")
    return first + (" …" if more else "")


def why_view(answer: Why, explanations: Sequence[Explanation]) -> RenderableType:
    """A message's deliveries one by one: the verdict, the evidence under it, what is missing and what to do."""
    head = styled(
        (answer.message_id, Tone.STRONG),
        (f"  {answer.system} {answer.destination}  flow {answer.flow_id}", Tone.DIM),
    )
    return Group(head, styled(("all times are UTC", Tone.DIM)), *(_explained(one) for one in explanations))


def _explained(one: Explanation) -> RenderableType:
    line = styled(("→ ", Tone.DIM), one.receiver or "nobody", "  ")
    line.append_text(sign_text(fmt.verdict(one.verdict)))
    line.append(f"  {one_line(one.reason)}")
    evidence = bare()
    evidence.show_header = False
    evidence.add_column(no_wrap=True)
    evidence.add_column(no_wrap=True)
    evidence.add_column(overflow="fold")
    for seen in one.evidence:
        evidence.add_row(
            styled((seen.at.strftime("%H:%M:%S.%f")[:-3] if seen.at else "", Tone.DIM)),
            styled((seen.witness, Tone.KEY)),
            Text(one_line(seen.says)),
        )
    notes = [
        styled((f"{name}: ", Tone.STRONG), text)
        for name, text in (
            ("deadline", fmt.stamp(one.deadline) if one.deadline else ""),
            ("missing", one.missing),
            ("what to do", one.advice),
            ("decided by", _decided(one.decision) if one.decision else ""),
        )
        if text
    ]
    return Padding(Group(line, Padding(Group(evidence, *notes), (0, 0, 0, 2))), (1, 0, 0, 0))


def _decided(decision: DecidedBy) -> str:
    """The rule's cause with the signals it asks for, and the nearest rule that would decide otherwise."""
    # Signals are truth values, spelled as Python's words.
    asked = ", ".join(name if value == "True" else f"not {name}" for name, value in decision.signals.items())
    silent = "; it rests on somebody's silence" if decision.by_silence else ""
    nearest = f"; {decision.otherwise} if {decision.if_signal}" if decision.otherwise else ""
    return one_line(f"{decision.cause}{f' ({asked})' if asked else ''}{silent}{nearest}")


def verdict_counts(counts: Iterable[tuple[str, int]]) -> Text:
    """Numbers of deliveries by verdict, on one line."""
    text = Text()
    for name, times in counts:
        sign = fmt.verdict(name)
        text.append(("  " if text else "") + f"{sign.glyph} {fmt.count(times)} {sign.word}", ANSI[sign.tone])
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
    head = styled(("→ ", Tone.DIM), (receiver_text(delivery), Tone.STRONG), "  ")
    head.append_text(sign_text(fmt.verdict(delivery.verdict)))
    about = facts(
        (
            ("why", reason_text(delivery)),
            ("evidence", ", ".join(delivery.witnesses) or "none"),
            ("broker", delivery.broker),
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
    fields = (
        number("ATTEMPT"),
        Field("SERVICE"),
        Field("RECEIVED", whole=True),
        number("TOOK"),
        Field("SETTLED"),
        Field("ERROR"),
    )
    return Fitted(lambda width: table(fields, width, [_attempt(one) for one in attempts]))


def _attempt(attempt: Attempt) -> Sequence[Cell]:
    took = None
    if attempt.received_at and attempt.ended_at:
        took = (attempt.ended_at - attempt.received_at).total_seconds() * 1000
    return (
        str(attempt.number),
        Text(f"{attempt.service}  {fit_middle(attempt.instance, 13)}".rstrip()),
        clocks.mark(attempt.clock_offset_s) + fmt.clock(clocks.taken(attempt)),
        fmt.duration(took) if took is not None else styled(("still open", Tone.WARN)),
        Text(attempt.settle_outcome or "–"),
        styled((attempt.error, Tone.BAD)),
    )
