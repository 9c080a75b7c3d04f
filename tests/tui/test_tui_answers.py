"""Answers are parsed tolerantly and come out clean."""

import json
from dataclasses import fields
from typing import Any

import pytest

from hopwatch_collector.api import models
from hopwatch_tui import answers
from hopwatch_tui.answers import UnexpectedShape, parse

SHARED = [
    (answers.Attempt, models.Attempt),
    (answers.Delivery, models.Delivery),
    (answers.DeliveryDetail, models.DeliveryDetail),
    (answers.Message, models.Message),
    (answers.FlowSummary, models.FlowSummary),
    (answers.Span, models.Span),
    (answers.SpanEvent, models.SpanEvent),
    (answers.SpanLink, models.SpanLink),
    (answers.LinkedFlow, models.LinkedFlow),
    (answers.Flow, models.Flow),
    (answers.LagRow, models.LagRow),
    (answers.SearchHit, models.SearchHit),
    (answers.Live, models.Live),
]


@pytest.mark.parametrize(("ours", "theirs"), SHARED, ids=lambda cls: cls.__module__)
def test_fields_are_those_of_the_api(ours: Any, theirs: Any) -> None:
    """Each answer has exactly the fields that the API's model has."""
    assert {field.name for field in fields(ours)} == set(theirs.model_fields)


def test_an_answer_round_trips(make: Any) -> None:
    """Everything the API says arrives, times in UTC."""
    flow = parse(answers.Flow, json.loads(make.shop_flow().model_dump_json()))
    assert flow.summary.name == "POST /checkout"
    assert [hop.verdict for hop in flow.hops] == ["settled", "settled", "overdue", "settled"]
    assert flow.hops[2].latency_ms is None
    assert flow.spans[4].status_message == "card declined"
    assert flow.summary.started_at == make.ago(1)


def test_unknown_fields_are_ignored_and_missing_ones_empty() -> None:
    """An answer of a newer or older collector is still read."""
    row = parse(answers.LagRow, {"destination": "orders", "from_the_future": [1, 2]})
    assert (row.destination, row.waiting, row.last_received_at, row.sample_flow_ids) == (
        "orders",
        0,
        None,
        (),
    )


@pytest.mark.parametrize(
    "data",
    [
        [],
        {"waiting": "three"},
        {"waiting": True},
        {"oldest_s": {}},
        {"sample_flow_ids": "abc"},
        {"last_received_at": "yesterday"},
        {"last_received_at": 5},
        {"waiting": 1e999},
    ],
)
def test_a_wrong_shape_is_an_error(data: Any) -> None:
    """A value of another type is refused, not guessed."""
    with pytest.raises(UnexpectedShape):
        parse(answers.LagRow, data)


def test_hostile_names_are_cleaned_on_the_way_in() -> None:
    """Strings of answers, keys of maps included, hold nothing a terminal acts on."""
    row = parse(
        answers.FlowSummary, {"name": "\x1b]0;x\x07", "services": ["\u202ea"], "keys": {"\x1b": "\x9b"}}
    )
    assert (row.name, row.services, row.keys) == ("␛]0;x␇", ("�a",), {"␛": "�"})
