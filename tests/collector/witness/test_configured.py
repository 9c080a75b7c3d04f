"""Which brokers are watched, from the settings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopwatch_collector.errors import SettingsError
from hopwatch_collector.metrics import Metrics
from hopwatch_collector.settings import Settings
from hopwatch_collector.witness.configured import kafka_options, watches


def test_nothing_is_watched_unless_asked_for() -> None:
    """No broker named, no witness."""
    assert watches(Settings(), None, Metrics()) == []  # type: ignore[arg-type]  # nothing is written here


def test_every_broker_named_is_watched_without_its_password() -> None:
    """One watch per broker, and addresses that are shown hold no password."""
    settings = Settings(
        watch_kafka="kafka://reader:secret@kafka:9092",
        watch_rabbitmq="http://reader:secret@rabbit:15672/shop",
        watch_rabbitmq_firehose="amqp://reader:secret@rabbit/shop",
        watch_nats="nats://reader:secret@nats:4222",
    )
    found = watches(settings, None, Metrics())  # type: ignore[arg-type]  # nothing is written here
    assert [(watch.system, watch.broker) for watch in found] == [
        ("kafka", "kafka:9092"), ("rabbitmq", "rabbit:15672/shop"), ("rabbitmq-firehose", "rabbit:5672/shop"),
        ("nats", "nats:4222"),
    ]  # fmt: skip
    assert "secret" not in repr(settings)


def test_kafka_addresses() -> None:
    """Plain bootstrap servers, or a URL with login, mechanism and TLS."""
    assert kafka_options("a:9092,b:9092") == ("a:9092,b:9092", {})
    assert kafka_options("kafkas://a:9093") == ("a:9093", {"security_protocol": "SSL"})
    assert kafka_options("kafka://me:p%40ss@a:9092,b:9092?mechanism=SCRAM-SHA-512") == (
        "a:9092,b:9092",
        {
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": "me",
            "sasl_plain_password": "p@ss",
        },
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"watch_kafka": "http://a:9092"},
        {"watch_kafka": "kafka://[a"},
        {"watch_rabbitmq": "amqp://a:5672"},
        {"watch_rabbitmq_firehose": "amqp://a:5672"},
        {"watch_rabbitmq_events": "amqp://a:5672"},
        {"watch_rabbitmq": "http://a", "watch_rabbitmq_events": "kafka://a"},
        {"watch_rabbitmq": "http://a", "watch_rabbitmq_firehose": "http://a"},
        {"watch_rabbitmq": "http://a", "watch_rabbitmq_firehose": "amqp://a/other"},
    ],
)
def test_an_address_of_another_kind_is_refused(settings: dict[str, str]) -> None:
    """A mistake in an address is said at the start, with the form that is wanted."""
    with pytest.raises(SettingsError, match="--watch-"):
        watches(Settings(**settings), None, Metrics())  # type: ignore[arg-type]  # refused before


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    """Whatever is typed, the answer is options or a SettingsError."""
    try:
        servers, options = kafka_options(text)
    except SettingsError:
        return
    assert isinstance(servers, str)
    assert isinstance(options, dict)
