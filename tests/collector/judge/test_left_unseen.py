"""What a consumer that tells gave back or left behind may be taken by one that does not: then the queue's word counts."""

import pytest
from evidence_support import finding, looked, stood
from ledger_support import processed, sent, subscribed, take

from hopwatch_collector.engine import Store


@pytest.mark.parametrize("settle", ["requeue", "none"])
@pytest.mark.parametrize(
    ("acked", "cause"), [(1, "settled.uninstrumented"), (0, "unknown.uninstrumented_consumers")]
)
def test_taken_over_by_a_consumer_that_does_not_tell(
    store: Store, settle: str, acked: int, cause: str
) -> None:
    """Given back, or held by one that went away; the queue, which another reads too, holds nothing more: if all that was
    handed out last is acknowledged it is settled, else nobody knows. It is neither waiting nor stuck."""
    message = sent("billing", "rabbitmq")
    told = [
        subscribed("billing", "billing", system="rabbitmq", start=start).but(hopwatch__member="mark-1")
        for start in (-60.0, 0.0, 15.0)
    ]
    take(store, *told, message, processed(message, settle=settle))
    quiet = {"waiting": 0, "in_hand": 0, "consumers": 2}
    stood(store, "rabbitmq", "billing", -30.0, published=0, handed=0, acked=0, **quiet)
    stood(store, "rabbitmq", "billing", 4.0, published=1, handed=2, acked=acked, **quiet)
    looked(store, "rabbitmq", 60.0)
    assert finding(store, 60.0) == cause


@pytest.mark.parametrize(("settle", "cause"), [("requeue", "overdue.nacked"), ("none", "stuck.unsettled")])
def test_still_in_somebodys_hands(store: Store, settle: str, cause: str) -> None:
    """As long as the queue counts it as handed out and nobody else reads, it is where its consumer said."""
    message = sent("billing", "rabbitmq")
    told = [
        subscribed("billing", "billing", system="rabbitmq", start=start).but(hopwatch__member="mark-1")
        for start in (-60.0, 0.0, 15.0, 30.0, 45.0)
    ]
    take(store, *told, message, processed(message, settle=settle))
    stood(
        store, "rabbitmq", "billing", -30.0, published=0, handed=0, acked=0, waiting=0, in_hand=0, consumers=1
    )
    stood(
        store, "rabbitmq", "billing", 4.0, published=1, handed=1, acked=0, waiting=0, in_hand=1, consumers=1
    )
    looked(store, "rabbitmq", 60.0)
    assert finding(store, 60.0) == cause
