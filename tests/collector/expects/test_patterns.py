"""Patterns of destinations: what is declared matches what the engine matches for titles that brokers and services report."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopwatch_collector.expects.model import Pattern
from hopwatch_collector.expects.patterns import address, destination, glob
from hopwatch_collector.witness.rabbitmq_routes import matches


def meant(pattern: Pattern, place: str) -> bool:
    """Whether a destination is meant, worked out as titles.sql does."""
    if place == pattern.text:
        return True
    if not pattern.expression or not place.startswith(pattern.prefix):
        return False
    rest = place.removeprefix(pattern.prefix)
    return re.search(pattern.expression, f".{rest}" if rest else "") is not None


@pytest.mark.parametrize(
    ("system", "pattern", "place", "expected"),
    [
        ("nats", "orders.*", "orders.new", True), ("nats", "orders.*", "orders.new.eu", False), ("nats", "orders.>", "orders", False),
        ("nats", "orders.>", "orders.new.eu", True), ("nats", "a+b.*", "aab.c", False), ("nats", "orders", "orders.new", False),
        ("rabbitmq", "events:order.#", "events:order", True), ("rabbitmq", "events:order.*", "events:order.a.b", False),
        ("rabbitmq", "events:#", "events:", True), ("rabbitmq", "my:events:order.*", "my:events:order.new", True),
        ("rabbitmq", "events:order.*", "other:order.new", False), ("rabbitmq", "queue", "queue", True),
        ("kafka", "orders-*", "orders-eu.v1", True), ("kafka", "orders-*", "returns", False), ("kafka", "a.b", "aXb", False),
        ("grpc", "shop.Payments/*", "shop.Payments/Pay", True),
    ],
)  # fmt: skip
def test_wildcards_are_each_brokers_own(system: str, pattern: str, place: str, expected: bool) -> None:
    """NATS and RabbitMQ by words, everything else by characters."""
    assert meant(destination(system, pattern), place) is expected


@given(
    st.lists(st.sampled_from(["a", "b", "*", "#"]), min_size=1, max_size=5),
    st.lists(st.sampled_from(["a", "b", ""]), max_size=5),
)
def test_binding_keys_mean_what_they_mean_to_the_witness(pattern: list[str], key: list[str]) -> None:
    """Any topic pattern lets through what the witness's own matching lets through."""
    told = destination("rabbitmq", f"events:{'.'.join(pattern)}")
    assert meant(told, f"events:{'.'.join(key)}") is matches(".".join(pattern), ".".join(key))


@pytest.mark.parametrize(
    ("system", "text", "exchange", "place", "expected"),
    [
        ("nats", "orders.{region}.new", "", "orders.eu.new", True),
        ("nats", "orders.{region}.new", "", "orders.eu.north.new", False),
        ("nats", "orders.v{version}", "", "orders.v2", True),
        ("nats", "orders.v{version}", "", "orders.2", False),
        ("nats", "orders.>", "", "orders.eu.new", True),
        ("rabbitmq", "order.{what}", "events", "events:order.new", True),
        ("rabbitmq", "order.{what}", "events", "order.new", False),
        ("rabbitmq", "order-{what}.eu", "events", "events:order-new.eu", True),
        ("rabbitmq", "tasks.{id}", "", "tasks.7", True),
        ("kafka", "orders-{region}", "", "orders-eu.north", True),
    ],
)  # fmt: skip
def test_parameters_are_wildcards(system: str, text: str, exchange: str, place: str, expected: bool) -> None:
    """A parameter is one word or a part of one; in a topic, which has no words, any characters."""
    assert meant(address(system, text, exchange), place) is expected


def test_names_with_wildcards() -> None:
    """`*` is any characters, and everything else is itself."""
    assert re.search(glob("nightly-*.v1"), "nightly-reports.v1")
    assert not re.search(glob("nightly-*.v1"), "nightly-reportsXv1")
    assert not re.search(glob("mail"), "email")
