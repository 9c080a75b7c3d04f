"""The ledger is a fold that order, repetition, lateness and batching of facts cannot change."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_support import S, committed, empty, in_kafka, judged, opened, processed, sent, subscribed, take

from hopwatch_collector.engine import Store

SETTLES = ["ack", "nack", "requeue", "reject", "term", "auto", "none", None]


@st.composite
def stories(draw: st.DrawFn) -> list[S]:
    """Spans of up to three messages with subscriptions, attempts, open reports, dead letters and commits."""
    story: list[S] = []
    for number in range(draw(st.integers(1, 3))):
        system = draw(st.sampled_from(["nats", "rabbitmq", "kafka"]))
        position = in_kafka(number) if system == "kafka" else {}
        outcome = draw(
            st.sampled_from(["sent", "confirmed", "returned", "refused", "unconfirmed", "duplicate"])
        )
        send = sent(f"topic.{number}", system, start=float(number), outcome=outcome, **position)
        if draw(st.booleans()):
            story.append(send)
        for receiver in draw(st.sets(st.sampled_from(["billing", "mail"]))):
            if draw(st.booleans()):
                story.append(subscribed(f"topic.{number}", receiver, system, durable=draw(st.booleans())))
            for attempt in range(1, draw(st.integers(1, 3))):
                process = processed(
                    send, receiver, attempt=attempt, start=attempt + 1.0, settle=draw(st.sampled_from(SETTLES)),
                    error=draw(st.sampled_from(["", "", "boom"])), service=receiver,
                )  # fmt: skip
                told = draw(st.sampled_from(["open", "end", "both"]))
                story += [opened(process)] if told != "end" else []
                story += [process] if told != "open" else []
            if draw(st.booleans()):
                story.append(
                    processed(
                        send,
                        "graveyard",
                        hopwatch__dead_letter__receiver=receiver,
                        hopwatch__dead_letter__reason="expired",
                    )
                )
            if system == "kafka" and draw(st.booleans()):
                story.append(committed(f"topic.{number}", draw(st.integers(0, 3)), receiver))
    return story


def ledger(store: Store) -> list[Any]:
    """The whole ledger, folded."""
    return store._writer.query(
        "SELECT message, receiver, attempt, min(started_at), max(ended_at), max(call), max(system), max(destination), max(service), "
        "max(trace_id), max(flow), max(outcome), max(settle), max(failed), max(dead), max(error), max(reason), max(partition), max(offset), "
        "max(pending), arraySort(groupUniqArrayArray(keys)) FROM ledger GROUP BY message, receiver, attempt ORDER BY message, receiver, attempt"
    ).result_rows


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(story=stories(), data=st.data())
def test_order_repetition_and_batches_change_nothing(
    store: Store, story: list[S], data: st.DataObject
) -> None:
    """The same facts in any order, any batches, some of them twice, give the same ledger and the same verdicts."""
    empty(store)
    if story:
        take(store, *story)
    expected, expected_verdicts = ledger(store), judged(store)

    empty(store)
    again = data.draw(st.lists(st.sampled_from(story), max_size=4)) if story else []
    shuffled = data.draw(st.permutations(story + again))
    size = data.draw(st.integers(1, 4))
    for start in range(0, len(shuffled), size):
        take(store, *shuffled[start : start + size])
    assert ledger(store) == expected
    assert judged(store) == expected_verdicts


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(story=stories())
def test_merges_change_nothing(store: Store, story: list[S]) -> None:
    """What background merges make of the parts is what a query makes of them."""
    empty(store)
    for span in story:
        take(store, span)
    before = judged(store)
    store._writer.command("OPTIMIZE TABLE ledger FINAL")
    store._writer.command("OPTIMIZE TABLE durable_subscriptions FINAL")
    store._writer.command("OPTIMIZE TABLE commits FINAL")
    assert judged(store) == before
