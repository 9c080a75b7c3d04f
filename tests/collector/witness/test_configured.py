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
    assert [(one.witness.system, one.name) for one in found] == [
        ("kafka", "kafka:9092"), ("rabbitmq", "rabbit:15672/shop"), ("rabbitmq-firehose", "rabbit:15672/shop"),
        ("nats", "nats:4222"),
    ]  # fmt: skip
    assert "secret" not in repr(settings)


def test_several_of_a_kind() -> None:
    """Each with or without a name before it; a password may have a `=` in it; one virtual host, one option."""
    settings = Settings(
        watch_kafka=("orders=kafka-a:9092,kafka-b:9092", "kafka://me:a=b@kafka-c:9092?mechanism=PLAIN"),
        watch_rabbitmq=("http://me:x@rabbit", "billing=https://me:x@rabbit/billing"),
        watch_nats=("a=nats:4222", "b.2=nats://me:x@nats:4223"),
    )
    assert [(one.name, one.witness.broker) for one in witnesses(settings)] == [
        ("orders", "kafka-a:9092,kafka-b:9092"), ("kafka-c:9092", "kafka-c:9092"),
        ("rabbit:15672", "rabbit:15672"), ("billing", "rabbit:15672/billing"),
        ("a", "nats:4222"), ("b.2", "nats:4223"),
    ]  # fmt: skip


def test_what_adds_to_a_broker_is_of_the_one_of_its_name() -> None:
    """Without a name, of the only one there is."""
    settings = Settings(
        watch_rabbitmq=("a=http://rabbit-a", "b=http://rabbit-b/shop"),
        watch_rabbitmq_events=("b=amqp://rabbit-b",),
        watch_rabbitmq_firehose=("b=amqp://rabbit-b/shop", "a=amqp://rabbit-a"),
        watch_nats=("main=nats",),
        watch_nats_monitoring=("http://nats:8222",),
    )
    found = [(one.name, one.witness.system, one.witness.broker) for one in witnesses(settings)]
    assert found == [
        ("a", "rabbitmq", "rabbit-a:15672"), ("a", "rabbitmq-firehose", "rabbit-a:5672"),
        ("b", "rabbitmq", "rabbit-b:15672/shop"), ("b", "rabbitmq-firehose", "rabbit-b:5672/shop"),
        ("main", "nats", "nats:4222"),
    ]  # fmt: skip


def test_several_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blanks and line ends are between brokers, commas between the servers of one Kafka."""
    monkeypatch.setenv("HOPWATCH_WATCH_KAFKA", "  orders=a:9092,b:9092 audit=c:9092,\n  d:9092\n e:9092")
    monkeypatch.setenv("HOPWATCH_WATCH_NATS", "nats://n:4222")
    found = [(one.name, one.witness.broker.replace("\n", " ")) for one in witnesses(Settings())]
    assert found == [
        ("orders", "a:9092,b:9092"), ("audit", "c:9092,   d:9092"), ("e:9092", "e:9092"), ("n:4222", "n:4222"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"watch_kafka": "a=x:9092 b=X"}, "x:9092 is both a and b"),
        ({"watch_kafka": "a=x:9092,y:9092 b=y:9092"}, "y:9092 is both a and b"),
        ({"watch_kafka": "x x:9092"}, "x:9092 is both x and x:9092"),
        ({"watch_kafka": "x:9092 x:9092"}, "x:9092 is named twice"),
        ({"watch_kafka": "a=x a=y"}, "two brokers are called a"),
        ({"watch_nats": "a=nats://me:secret@x b=nats://you:secret@x:4222"}, "x:4222 is both a and b"),
        ({"watch_rabbitmq": "a=http://me:secret@x/shop b=https://you:secret@x:15672/shop"}, "is both a and b"),
        ({"watch_nats": "a=x b=y", "watch_nats_monitoring": "http://x:8222"}, "of which --watch-nats?"),
        ({"watch_nats": "a=x", "watch_nats_monitoring": "b=http://x:8222"}, "no --watch-nats has that name"),
        ({"watch_nats": "x", "watch_nats_monitoring": "http://x http://y"}, "two are of the same --watch-nats"),
        ({"watch_rabbitmq": "a=http://x b=http://y", "watch_rabbitmq_events": "amqp://x"}, "of which"),
        ({"watch_rabbitmq": "a=http://x b=http://y", "watch_rabbitmq_firehose": "c=amqp://x"}, "that name"),
        ({"watch_rabbitmq": "a=http://x/v", "watch_rabbitmq_firehose": "a=amqp://x"}, "the same virtual host"),
        ({"watch_kafka": "a="}, "--watch-kafka is"),
    ],
)  # fmt: skip
def test_names_that_leave_something_open_are_refused(settings: dict[str, str], words: str) -> None:
    """Two names of one broker, one name of two, what adds to one and does not say to which; without any password."""
    with pytest.raises(SettingsError, match="--watch-") as refused:
        witnesses(Settings(**settings))  # type: ignore[arg-type]  # as from the environment
    assert words in str(refused.value)
    assert "secret" not in str(refused.value)


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
