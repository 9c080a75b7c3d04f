"""Which brokers are to be watched, as the settings say."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from hopwatch_collector.errors import SettingsError
from hopwatch_collector.metrics import Metrics
from hopwatch_collector.settings import Settings
from hopwatch_collector.witness.model import Witness
from hopwatch_collector.witness.watch import Watch, Writes


def watches(settings: Settings, store: Writes, metrics: Metrics) -> list[Watch]:
    """Return a watch for every broker named in the settings.

    Raises:
        SettingsError: an address makes no sense, or the client library for it is not installed.
    """
    try:
        return [Watch(witness, store, metrics) for witness in _witnesses(settings)]
    except ImportError as error:
        raise SettingsError(
            f"to watch a broker its client is needed: pip install 'hopwatch-collector[watch]' ({error})"
        ) from error


def _witnesses(settings: Settings) -> Iterator[Witness]:
    """The client libraries are imported only where they are used."""
    if settings.watch_kafka:
        from hopwatch_collector.witness.kafka import KafkaWitness

        bootstrap, options = kafka_options(settings.watch_kafka)
        yield KafkaWitness(bootstrap, **options)
    if settings.watch_rabbitmq:
        from hopwatch_collector.witness.rabbitmq import RabbitMQWitness
        from hopwatch_collector.witness.rabbitmq_events import RabbitMQEvents

        url, vhost = _management(settings.watch_rabbitmq)
        told = settings.watch_rabbitmq_events
        events = RabbitMQEvents(_amqp("events", told), vhost) if told else None
        yield RabbitMQWitness(url, vhost, events)
    elif settings.watch_rabbitmq_events or settings.watch_rabbitmq_firehose:
        raise SettingsError("RabbitMQ's events and firehose add to --watch-rabbitmq; name that too")
    if settings.watch_rabbitmq and settings.watch_rabbitmq_firehose:
        from hopwatch_collector.witness.rabbitmq_firehose import RabbitMQFirehose

        yield RabbitMQFirehose(_amqp("firehose", settings.watch_rabbitmq_firehose, vhost), url)
    if settings.watch_nats:
        from hopwatch_collector.witness.nats import NatsWitness

        yield NatsWitness(settings.watch_nats, settings.watch_nats_monitoring or "")


def kafka_options(text: str) -> tuple[str, dict[str, Any]]:
    """Return bootstrap servers and aiokafka's options of `host:port[,…]` or `kafka://user:password@host:port?mechanism=…`.

    Raises:
        SettingsError: it is neither.
    """
    if "://" not in text:
        return text, {}
    parts = _split(text)
    if parts.scheme not in ("kafka", "kafkas") or not parts.netloc:
        raise SettingsError("--watch-kafka is host:9092 or kafka://user:password@host:9092")
    login, _, servers = parts.netloc.rpartition("@")
    transport = "SSL" if parts.scheme == "kafkas" else "PLAINTEXT"
    if not login:
        return servers, {"security_protocol": transport}
    user, _, password = login.partition(":")
    return servers, {
        "security_protocol": f"SASL_{transport}",
        "sasl_mechanism": parse_qs(parts.query).get("mechanism", ["PLAIN"])[0],
        "sasl_plain_username": unquote(user),
        "sasl_plain_password": unquote(password),
    }


def _split(text: str) -> SplitResult:
    """An address in parts; one that is none has none."""
    try:
        return urlsplit(text)
    except ValueError:
        return SplitResult("", "", "", "", "")


def _amqp(what: str, text: str, vhost: str | None = None) -> str:
    """An AMQP address, of this virtual host if it matters."""
    parts = _split(text)
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
        raise SettingsError(f"--watch-rabbitmq-{what} is amqp://user:password@host:5672")
    if vhost is not None and (unquote(parts.path[1:]) or "/") != vhost:
        raise SettingsError(f"--watch-rabbitmq-{what} and --watch-rabbitmq are of the same virtual host")
    return text


def _management(text: str) -> tuple[str, str]:
    parts = _split(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError("--watch-rabbitmq is http://user:password@host:15672")
    vhost = unquote(parts.path.lstrip("/")) or "/"
    return f"{parts.scheme}://{parts.netloc}", vhost
