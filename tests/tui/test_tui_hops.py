"""Which hop caused which, and in what order spans are read."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hopwatch_tui.answers import Flow, parse
from hopwatch_tui.hops import MessageNode, hop_tree, in_order, lanes, waterfall


def outline(nodes: list[MessageNode]) -> list[Any]:
    """Destinations with, per receiver, what it caused."""
    return [
        (node.destination, {hop.delivery.receiver: outline(hop.caused) for hop in node.hops})
        for node in nodes
    ]


def test_hops_hang_under_the_hop_that_caused_them(make: Any) -> None:
    """What billing sent while processing hangs under billing, not under the other receiver."""
    flow = parse(Flow, json.loads(make.shop_flow().model_dump_json()))
    billing = {"billing": [("receipts", {"archive": []})], "mail": []}
    assert outline(hop_tree(flow)) == [("POST /orders", {"orders": [("orders.placed", billing)]})]


def test_hops_without_spans_stand_alone(make: Any) -> None:
    """A hop whose spans never arrived is a root, and none is left out."""
    flow = parse(Flow, json.loads(make.shop_flow().model_dump_json()) | {"spans": []})
    assert [node.destination for node in hop_tree(flow)] == ["POST /orders", "orders.placed", "receipts"]


@given(st.data())
def test_no_arrangement_of_parents_loses_or_repeats_anything(data: st.DataObject) -> None:
    """Spans whose parents form rings, point nowhere or at themselves are each shown once; so is each hop."""
    size = data.draw(st.integers(1, 8))
    number = st.integers(0, size + 1)
    kinds = st.sampled_from(["client", "server", "producer", "consumer", "internal"])
    spans = [
        {
            "span_id": str(n),
            "parent_span_id": str(data.draw(number)),
            "kind": data.draw(kinds),
            "message_id": str(data.draw(number)),
        }
        for n in range(size)
    ]
    hops = [{"message_id": str(n), "receiver": str(n), "destination": str(n)} for n in range(size)]
    flow = parse(Flow, {"summary": {}, "spans": spans, "hops": hops})
    assert sorted(row.span.span_id for row in waterfall(flow.spans)) == sorted(str(n) for n in range(size))
    shown: list[str] = []
    pending = hop_tree(flow)
    while pending:
        node = pending.pop()
        shown.append(node.message_id)
        pending += [caused for hop in node.hops for caused in hop.caused]
    assert sorted(shown) == sorted(str(n) for n in range(size))


def test_reports_are_no_part_of_the_waterfall(make: Any) -> None:
    """A span that is news rather than work is left out."""
    spans = [make.span(1), make.span(2, 1, attributes={"hopwatch.report": "open"})]
    flow = parse(Flow, {"summary": {}, "spans": [json.loads(one.model_dump_json()) for one in spans]})
    assert [(row.span.name, row.depth) for row in waterfall(flow.spans)] == [("span 1", 0)]


def test_lanes_follow_the_order_of_taking_part(make: Any) -> None:
    """Services appear from left to right as messages reach them; a receiver nobody saw stands by its name."""
    flow = parse(Flow, json.loads(make.shop_flow().model_dump_json()))
    assert lanes(flow.hops) == ["gateway", "orders", "billing", "mail", "archive"]
    assert [hop.receiver for hop in in_order(flow.hops)] == ["orders", "billing", "mail", "archive"]
