"""Which brokers are watched, from the settings."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopwatch_collector.errors import SettingsError
from hopwatch_collector.settings import Settings
from hopwatch_collector.witness.configured import kafka_options, nats_options, witnesses


def test_nothing_is_watched_unless_asked_for() -> None:
    """No broker named, no witness."""
    assert witnesses(Settings()) == []


def test_every_broker_named_is_watched_without_its_password() -> None:
    """One witness per broker, and addresses that are shown hold no password."""
    settings = Settings(
        watch_kafka="kafka://reader:secret@kafka:9092",
        watch_rabbitmq="http://reader:secret@rabbit:15672/shop",
        watch_rabbitmq_firehose="amqp://reader:secret@rabbit/shop",
        watch_nats="nats://reader:secret@nats:4222",
    )
    found = witnesses(settings)
    assert [(witness.system, witness.broker) for witness in found] == [
        ("kafka", "kafka:9092"), ("rabbitmq", "rabbit:15672/shop"), ("rabbitmq-firehose", "rabbit:5672/shop"),
        ("nats", "nats:4222"),
    ]  # fmt: skip
    assert "secret" not in repr(settings)


def test_kafka_addresses() -> None:
    """Plain bootstrap servers, or a URL with login, mechanism and TLS."""
    assert kafka_options("a:9092,b:9092") == ("a:9092,b:9092", {})
    assert kafka_options("[::1]:9092, b") == ("[::1]:9092, b", {})
    servers, options = kafka_options("kafkas://a:9093")
    assert (servers, options.pop("ssl_context").verify_mode) == ("a:9093", ssl.CERT_REQUIRED)
    assert options == {"security_protocol": "SSL"}
    assert kafka_options("kafka://me:p%40ss@a:9092,b:9092?mechanism=SCRAM-SHA-512") == (
        "a:9092,b:9092",
        {
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": "me",
            "sasl_plain_password": "p@ss",
        },
    )


def test_nats_addresses() -> None:
    """With or without a scheme; a login as it is meant, not as an address spells it."""
    assert nats_options("a") == ("nats://a", {})
    assert nats_options("tls://a:4222") == ("tls://a:4222", {})
    assert nats_options("nats://me:p%40ss@a") == ("nats://me:p%40ss@a", {"user": "me", "password": "p@ss"})
    assert nats_options("nats://to%2Fken@a") == ("nats://to%2Fken@a", {"token": "to/ken"})


@pytest.mark.parametrize(
    "settings",
    [
        {"watch_kafka": "http://a:9092"},
        {"watch_kafka": "kafka://[a"},
        {"watch_kafka": "a:b"},
        {"watch_kafka": "a:9092,"},
        {"watch_kafka": "kafka://"},
        {"watch_kafka": "kafkas://a:99999"},
        {"watch_kafka": "kafka://me:secret@a?mechanism=GSSAPI"},
        {"watch_nats": "http://a"},
        {"watch_nats": "nats://a:b"},
        {"watch_nats": "nats://["},
        {"watch_nats": "nats://"},
        {"watch_nats": "nats://a", "watch_nats_monitoring": "a:8222"},
        {"watch_nats_monitoring": "http://a:8222"},
        {"watch_rabbitmq": "http://a:99999"},
        {"watch_rabbitmq": "http://a", "watch_rabbitmq_events": "amqp://a:99999"},
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
        witnesses(Settings(**settings))


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    """Whatever is typed, the answer is options or a SettingsError."""
    for read in (kafka_options, nats_options):
        try:
            servers, options = read(text)
        except SettingsError:
            continue
        assert isinstance(servers, str)
        assert isinstance(options, dict)
