"""AsyncAPI 3 documents: who they say receives what, what is left out with the reason, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hopwatch_collector.errors import SettingsError
from hopwatch_collector.expects.asyncapi import Told, read_asyncapi

Write = Callable[..., Path]
Tell = Callable[..., Told]


def document(
    protocol: str, channel: dict[str, Any], operation: dict[str, Any], **root: Any
) -> dict[str, Any]:
    """A document of one server, one channel and one operation that receives."""
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Billing", "version": "1"},
        "servers": {"one": {"host": "broker", "protocol": protocol}},
        "channels": {"orders": channel},
        "operations": {
            "onOrder": {"action": "receive", "channel": {"$ref": "#/channels/orders"}, **operation}
        },
        **root,
    }


@pytest.fixture
def told(write: Write) -> Tell:
    """What a document says."""
    return lambda *parts, **root: read_asyncapi(write(json.dumps(document(*parts, **root)), "shop.json"))


def pairs(told: Told) -> list[tuple[str, str, str]]:
    """System, destination and receiver of everything that is declared."""
    return [(one.system, one.pattern.text, one.receiver) for one in told.expectations]


GROUP = {"bindings": {"kafka": {"groupId": {"type": "string", "const": "billing"}}}}


@pytest.mark.parametrize(
    ("protocol", "channel", "operation", "expected"),
    [
        ("kafka", {"address": "orders"}, GROUP, ("kafka", "orders", "billing")),
        ("kafka-secure", {"address": "orders"}, GROUP, ("kafka", "orders", "billing")),
        ("kafka", {"address": "orders", "bindings": {"kafka": {"topic": "orders-v2"}}}, GROUP, ("kafka", "orders-v2", "billing")),
        ("kafka", {"address": "orders"}, {"bindings": {"kafka": {"groupId": "billing"}}}, ("kafka", "orders", "billing")),
        ("kafka", {"address": "orders-{region}"}, GROUP, ("kafka", "orders-*", "billing")),
        ("kafka", {"address": "orders"}, {"traits": [GROUP]}, ("kafka", "orders", "billing")),
        ("nats", {"address": "orders.{region}"}, {"bindings": {"nats": {"queue": "billing"}}}, ("nats", "orders.*", "billing")),
        ("nats", {"address": "orders"}, {"x-hopwatch-receiver": "ORDERS/billing"}, ("nats", "orders", "ORDERS/billing")),
        ("amqp", {"address": "order.{what}", "bindings": {"amqp": {"is": "routingKey", "exchange": {"name": "events", "type": "topic"}, "queue": {"name": "bills"}}}}, {},
            ("rabbitmq", "events:order.*", "bills")),
        ("amqps", {"address": "bills", "bindings": {"amqp": {"is": "queue", "queue": {"name": "billing"}}}}, {}, ("rabbitmq", "billing", "billing")),
        ("amqp", {"address": "bills", "bindings": {"amqp": {"is": "queue"}}}, {}, ("rabbitmq", "bills", "bills")),
        ("amqp", {"address": None, "bindings": {"amqp": {"is": "routingKey", "exchange": {"name": "news", "type": "fanout"}}}}, {"x-hopwatch-receiver": "bills"},
            ("rabbitmq", "news:#", "bills")),
    ],
)  # fmt: skip
def test_each_protocol_names_its_receiver(
    told: Tell,
    protocol: str,
    channel: dict[str, Any],
    operation: dict[str, Any],
    expected: tuple[str, str, str],
) -> None:
    """In its own bindings, spelled as the ledger spells it; parameters of the address are wildcards."""
    found = told(protocol, channel, operation)
    assert pairs(found) == [expected]
    assert found.left_out == []
    assert found.expectations[0].source == "operation onOrder in shop.json"


def test_a_plain_subscriber_needs_its_services_name(told: Tell) -> None:
    """A title is not a service's name: guessed wrongly, every message would be undelivered."""
    plain = ({"address": "prices.{item}"}, {})
    (why,) = told("nats", *plain).left_out
    assert "operation onOrder: nothing says who receives on nats" in why
    assert "x-hopwatch-service" in why
    named = told("nats", *plain, info={"title": "Billing", "x-hopwatch-service": "billing"})
    assert pairs(named) == [("nats", "prices.*", "billing:prices.*")]


def test_yaml_with_references_between_its_parts(write: Write) -> None:
    """Channels, operations, servers, traits and bindings may be components, and refer to one another."""
    text = """
asyncapi: 3.1.0
info: {title: Shop, version: '1'}
servers:
  main: {$ref: '#/components/servers/main'}
  web: {host: web, protocol: https}
channels:
  placed: {$ref: '#/components/channels/order~1placed'}
operations:
  bill: {$ref: '#/components/operations/bill'}
  place: {action: send, channel: {$ref: '#/channels/placed'}}
components:
  servers:
    main: {host: kafka, protocol: kafka}
  channels:
    order/placed: {address: orders, bindings: {}, servers: [{$ref: '#/servers/main'}]}
  operations:
    bill:
      action: receive
      channel: {$ref: '#/channels/placed'}
      traits: [{$ref: '#/components/operationTraits/group'}]
  operationTraits:
    group: {bindings: {$ref: '#/components/operationBindings/group'}}
  operationBindings:
    group: {kafka: {groupId: {enum: [billing, audit]}}}
"""
    found = read_asyncapi(write(text, "shop.yaml"))
    assert pairs(found) == [("kafka", "orders", "billing"), ("kafka", "orders", "audit")]
    assert found.left_out == []


@pytest.mark.parametrize(
    ("protocol", "channel", "operation", "why"),
    [
        ("kafka", {"address": "orders"}, {}, "add bindings.kafka.groupId"),
        ("amqp", {"address": "order.new"}, {}, "add the channel's bindings.amqp.queue.name"),
        ("https", {"address": "/orders"}, {}, "no operation with `action: receive` on Kafka, AMQP or NATS"),
        ("kafka", {"address": None}, GROUP, "only known when it runs"),
        ("amqp", {"address": "tasks.{id}", "bindings": {"amqp": {"is": "queue"}}}, {}, "its receiver is only known when it runs"),
        ("kafka", {"address": "orders"}, {"channel": None}, "names no channel"),
        ("kafka", {"address": "orders"}, {"action": "send"}, "no operation with `action: receive`"),
    ],
)  # fmt: skip
def test_what_names_no_receiver_is_left_out_and_said(
    told: Tell, protocol: str, channel: dict[str, Any], operation: dict[str, Any], why: str
) -> None:
    """Nothing is guessed: the operation is named with what to add to it."""
    found = told(protocol, channel, operation)
    assert found.expectations == []
    (said,) = found.left_out
    assert said.startswith("shop.json")
    assert why in said


def refusal(path: Path) -> str:
    """Why a document is refused."""
    with pytest.raises(SettingsError) as refused:
        read_asyncapi(path)
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("asyncapi: 2.6.0", "shop.yaml, line 1: asyncapi: AsyncAPI 2.6.0 is not read, 3.0 is: convert it"),
        ("openapi: 3.0.0", "not an AsyncAPI document"),
        ("[]", "not an AsyncAPI document"),
        ("asyncapi: 3.0.0\noperations:\n  a: {$ref: 'https://elsewhere/shop.yaml#/operations/a'}", "line 3: operations.a: 'https://elsewhere/shop.yaml#/operations/a' is in another document"),
        ("asyncapi: 3.0.0\noperations:\n  a: {$ref: './other.yaml'}", "asyncapi bundle"),
        ("asyncapi: 3.0.0\noperations:\n  a:\n    action: receive\n    channel: {$ref: '#/channels/none'}", "line 5: operations.a.channel: there is no '#/channels/none'"),
        ("asyncapi: 3.0.0\noperations:\n  a: {$ref: '#/operations/a'}", "lead in a circle"),
        ("asyncapi: 3.0.0\noperations:\n  a: {$ref: '#/operations/b'}\n  b: {$ref: '#/operations/a'}", "lead in a circle"),
        ("asyncapi: 3.0.0\noperations:\n  a: {$ref: '#/asyncapi'}", "is not a mapping"),
        ("asyncapi: 3.0.0\nservers: {s: {protocol: nats}}\nchannels: {c: {address: 'a..b'}}\noperations:\n"
         "  a: {action: receive, channel: {$ref: '#/channels/c'}, x-hopwatch-receiver: r}", "operation a: 'a..b' has an empty word"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(write: Write, text: str, said: str) -> None:
    """Another version, references to elsewhere, to nothing or in a circle: a sentence with the line and what to do."""
    assert said in refusal(write(text, "shop.yaml"))


@pytest.mark.parametrize(
    "root",
    [
        {"operations": []}, {"operations": "all"}, {"operations": {"a": 1}}, {"operations": {"a": {"action": "receive", "channel": 7}}},
        {"servers": [1, 2]}, {"servers": {"one": {"protocol": {}}}}, {"servers": {"one": None}}, {"info": 3}, {"channels": None, "operations": {}},
        {"operations": {"a": {"action": "receive", "channel": {"address": 1, "servers": {}, "bindings": []}, "bindings": {"kafka": [], "nats": None}}}},
        {"operations": {"a": {"action": "receive", "channel": {"address": "x", "bindings": {"amqp": {"queue": 1, "exchange": 2}}}, "traits": [7, {"bindings": 8}]}}},
    ],
)  # fmt: skip
@pytest.mark.parametrize("protocol", ["kafka", "nats", "amqp"])
def test_shapes_that_no_document_has_declare_nobody(told: Tell, protocol: str, root: dict[str, Any]) -> None:
    """Whatever stands where something else should: nobody is declared, and nothing worse happens."""
    found = told(protocol, {"address": "orders"}, {}, **root)
    assert found.expectations == []
    assert found.left_out
