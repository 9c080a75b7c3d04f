"""Which hop caused which: the hops of a flow as a tree, told from its spans. No drawing here.

A hop's message is sent by a span; the nearest process or server span above that one belongs to the hop that caused it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from hopwatch_tui import clocks
from hopwatch_tui.answers import Delivery, Flow, Span
from hopwatch_tui.format import DELIVERED

_RECEIVING = frozenset({"consumer", "server"})
_SENDING = frozenset({"producer", "client"})
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(slots=True)
class MessageNode:
    """One message of a flow with its hops (one per receiver) and the messages each of them caused."""

    message_id: str
    system: str
    destination: str
    producer: str
    sent_at: datetime | None
    hops: list["HopNode"] = field(default_factory=list)


@dataclass(slots=True)
class HopNode:
    """One message that crossed to one receiver, and what was sent while it was processed."""

    delivery: Delivery
    caused: list[MessageNode] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SpanRow:
    """A span at its place in the waterfall: how deep it lies under the flow's root."""

    span: Span
    depth: int


def hop_tree(flow: Flow) -> list[MessageNode]:
    """The messages nothing in this flow caused, oldest first, each with everything below it."""
    nodes = _message_nodes(flow.hops)
    causes = _causes(flow.spans)
    roots: list[MessageNode] = []
    for node in nodes.values():
        parent = _parent_hop(node, nodes, causes)
        (parent.caused if parent else roots).append(node)
    return roots


def _message_nodes(hops: Sequence[Delivery]) -> dict[str, MessageNode]:
    nodes: dict[str, MessageNode] = {}
    for hop in sorted(hops, key=lambda hop: clocks.sent(hop) or clocks.received(hop) or hop.since or _EPOCH):
        node = nodes.get(hop.message_id)
        if node is None:
            node = MessageNode(hop.message_id, hop.system, hop.destination, hop.producer, clocks.sent(hop))
            nodes[hop.message_id] = node
        node.hops.append(HopNode(hop))
    return nodes


def _causes(spans: Sequence[Span]) -> dict[str, Span]:
    """For each message, the receiving span its sending span lies under."""
    by_id = {span.span_id: span for span in spans}
    causes: dict[str, Span] = {}
    for span in spans:
        if span.kind not in _SENDING or not span.message_id or span.message_id in causes:
            continue
        above = by_id.get(span.parent_span_id)
        for _ in range(len(by_id)):  # spans are untrusted: their parents may form a ring
            if above is None:
                break
            if above.kind in _RECEIVING and above.message_id and above.message_id != span.message_id:
                causes[span.message_id] = above
                break
            above = by_id.get(above.parent_span_id)
    return causes


def _parent_hop(node: MessageNode, nodes: dict[str, MessageNode], causes: dict[str, Span]) -> HopNode | None:
    cause = causes.get(node.message_id)
    if cause is None or cause.message_id not in nodes or _is_above(node.message_id, cause, causes):
        return None
    candidates = nodes[cause.message_id].hops
    by_receiver = [hop for hop in candidates if cause.receiver and hop.delivery.receiver == cause.receiver]
    by_service = [hop for hop in candidates if hop.delivery.consumer == cause.service]
    return (by_receiver or by_service or candidates)[0]


def _is_above(message_id: str, cause: Span, causes: dict[str, Span]) -> bool:
    """Whether `message_id` caused, over any number of hops, its own cause: a ring, which the tree must not hold."""
    seen: set[str] = set()
    above: Span | None = cause
    while above is not None and above.message_id not in seen:
        if above.message_id == message_id:
            return True
        seen.add(above.message_id)
        above = causes.get(above.message_id)
    return above is not None


def waterfall(spans: Sequence[Span]) -> list[SpanRow]:
    """Spans in reading order: each under its parent, siblings by their start, orphans as roots. Reports are left out."""
    shown = [span for span in spans if not span.attributes.get("hopwatch.report")]
    known = {span.span_id for span in shown}
    children: dict[str, list[Span]] = {}
    for span in sorted(shown, key=lambda span: clocks.began(span) or _EPOCH):
        parent = span.parent_span_id if span.parent_span_id in known else ""
        children.setdefault("" if parent == span.span_id else parent, []).append(span)
    rows: list[SpanRow] = []
    seen: set[str] = set()
    _walk(children, children.get("", ()), rows, seen)
    # spans whose parents form a ring hang under no root; each is shown as one
    _walk(children, (span for span in shown if span.span_id not in seen), rows, seen)
    return rows


def _walk(
    children: dict[str, list[Span]], roots: Iterable[Span], rows: list[SpanRow], seen: set[str]
) -> None:
    for root in roots:
        stack = [(root, 0)]
        while stack:
            span, depth = stack.pop()
            if span.span_id in seen:
                continue
            seen.add(span.span_id)
            rows.append(SpanRow(span, depth))
            stack += [(child, depth + 1) for child in reversed(children.get(span.span_id, ()))]


def lanes(hops: Sequence[Delivery]) -> list[str]:
    """Services of a sequence drawing, in the order they first take part. An unseen receiver stands by its own name."""
    order: dict[str, None] = {}
    for node in _message_nodes(hops).values():
        for hop in node.hops:
            for name in ends(hop.delivery):
                order.setdefault(name)
    return [name for name in order if name]


def ends(hop: Delivery) -> tuple[str, str]:
    """Where a hop's arrow starts and ends: services, or the receiver's name where no service was seen; '' for nobody."""
    return hop.producer or "?", hop.consumer or hop.receiver


def in_order(hops: Sequence[Delivery]) -> list[Delivery]:
    """Hops by the time they were sent, those of one message together."""
    return [hop.delivery for node in _message_nodes(hops).values() for hop in node.hops]


def undelivered(hops: Iterable[Delivery]) -> int:
    """How many of the hops a person should look at."""
    return sum(hop.verdict not in DELIVERED for hop in hops)
