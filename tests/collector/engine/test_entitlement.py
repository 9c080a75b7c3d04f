"""Who was owed a message: wildcards of each broker, and the times between which a receiver was entitled."""

import pytest
from ledger_support import S, judged, sent, subscribed, take, verdicts

from hopwatch_collector.engine import Store


@pytest.mark.parametrize(
    ("pattern", "destination", "owed"),
    [
        ("orders.*", "orders.new", True),
        ("orders.*", "orders.new.eu", False),
        ("orders.*", "orders", False),
        ("orders.>", "orders.new.eu", True),
        ("orders.>", "orders", False),
        (">", "anything.at.all", True),
        ("*.new", "orders.new", True),
        ("orders.new", "ordersXnew", False),
        ("orders.ne*", "orders.new", False),
        ("orders.(.+)$", "orders.new", False),
        ("a+b.*", "a+b.c", True),
        ("a+b.*", "aab.c", False),
        ("[.*", "[.x", True),
    ],
)  # fmt: skip
def test_nats_wildcards(store: Store, pattern: str, destination: str, owed: bool) -> None:
    """`*` is one word, `>` one or more at the end; nothing else in a pattern has a meaning."""
    take(store, subscribed(pattern), sent(destination))
    assert verdicts(store) == ({"billing": "waiting"} if owed else {"": "no_receiver"})


@pytest.mark.parametrize(
    ("pattern", "destination", "owed"),
    [
        ("events:order.*", "events:order.new", True),
        ("events:order.*", "events:order.new.eu", False),
        ("events:order.#", "events:order", True),
        ("events:order.#", "events:order.new.eu", True),
        ("events:#.eu", "events:eu", True),
        ("events:#.eu", "events:order.new.eu", True),
        ("events:a.#.z", "events:a.z", True),
        ("events:a.#.z", "events:a.b.c.z", True),
        ("events:a.#.z", "events:a.b.c", False),
        ("events:#", "events:", True),
        ("events:#", "other:order", False),
        ("ev.nts:#", "events:order", False),
        ("ev.nts:order.*", "ev.nts:order.new", True),
        ("events:order.new", "events:order.new", True),
        ("queue", "queue", True),
        ("queue", "queue:x", False),
    ],
)  # fmt: skip
def test_amqp_wildcards(store: Store, pattern: str, destination: str, owed: bool) -> None:
    """`*` is one word, `#` any number of words, in the binding key only."""
    take(store, subscribed(pattern, system="rabbitmq"), sent(destination, "rabbitmq"))
    assert verdicts(store) == ({"billing": "waiting"} if owed else {"": "no_receiver"})


def test_wildcards_mean_nothing_to_kafka(store: Store) -> None:
    """A Kafka topic is matched as it is written."""
    take(store, subscribed("orders.*", system="kafka"), sent("orders.new", "kafka"))
    assert verdicts(store) == {"": "no_receiver"}


def test_systems_are_kept_apart(store: Store) -> None:
    """A NATS subscriber is owed nothing that was sent to RabbitMQ under the same name."""
    take(store, subscribed("orders", system="rabbitmq"), sent("orders"))
    assert verdicts(store) == {"": "no_receiver"}


@pytest.mark.parametrize(
    ("story", "start", "owed"),
    [
        ([subscribed(start=0, durable=False)], 10.0, True),
        ([subscribed(start=0, durable=False)], -5.0, False),
        ([subscribed(start=0, durable=False)], 60.0, False),
        ([subscribed(start=0, durable=False), subscribed(start=15, durable=False), subscribed(start=30, durable=False)], 60.0, True),
        ([subscribed(start=0, durable=False), subscribed(start=5, durable=False, report="unsubscribe")], 10.0, False),
        ([subscribed(start=0, durable=False), subscribed(start=16, durable=False, report="unsubscribe")], 20.0, False),
        ([subscribed(start=0, durable=False), subscribed(start=200, durable=False)], 100.0, False),
        ([subscribed(start=0, durable=False), subscribed(start=200, durable=False)], 201.0, True),
        ([subscribed(start=0)], 500.0, True),
        ([subscribed(start=0)], -5.0, False),
        ([subscribed(start=0), subscribed(start=50, report="unsubscribe")], 60.0, False),
        ([subscribed(start=0), subscribed(start=50, report="unsubscribe")], 40.0, True),
        ([subscribed(start=0), subscribed(start=50, report="unsubscribe"), subscribed(start=1, instance="2")], 60.0, True),
    ],
)  # fmt: skip
def test_when_a_receiver_is_entitled(store: Store, story: list[S], start: float, owed: bool) -> None:
    """Durable: from the first report to the unsubscription. Others: while reports keep coming."""
    take(store, *story)
    take(store, sent(start=start))
    assert verdicts(store, now=start + 5) == ({"billing": "waiting"} if owed else {"": "no_receiver"})


def test_the_order_of_reports_does_not_matter(store: Store) -> None:
    """A subscription reported after the message it was entitled to is late, not missing."""
    take(store, sent(start=5.0))
    assert verdicts(store) == {"": "no_receiver"}
    take(store, subscribed(start=1.0))
    assert judged(store)[0]["receiver"] == "billing"
