"""Which brokers are to be watched, as the settings say."""

import ssl
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from hopwatch_collector.addresses import server_in
from hopwatch_collector.errors import SettingsError
from hopwatch_collector.settings import Settings
from hopwatch_collector.witness.model import Witness

_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
"""Of what aiokafka knows, those that a user and a password are enough for."""

_KAFKA: Final = (
    "host:9092, several with commas between, or kafka://user:password@host:9092 (kafkas:// with TLS)"
)
_FORMS: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "rabbitmq": (("http", "https"), "http://user:password@host:15672"),
    "rabbitmq-events": (("amqp", "amqps"), "amqp://user:password@host:5672"),
    "rabbitmq-firehose": (("amqp", "amqps"), "amqp://user:password@host:5672"),
    "nats": (("nats", "tls", "ws", "wss"), "nats://user:password@host:4222"),
    "nats-monitoring": (("http", "https"), "http://host:8222"),
}
"""Of every `--watch-` option that is an address: its schemes, and how it is written."""


def witnesses(settings: Settings) -> list[Witness]:
    """Return a witness for every broker named in the settings; none has looked yet.

    Raises:
        SettingsError: an address makes no sense, or the client library for it is not installed.
    """
    try:
        return list(_witnesses(settings))
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
    yield from _rabbitmq(settings)
    if settings.watch_nats:
        from hopwatch_collector.witness.nats import NatsWitness

        url, options = nats_options(settings.watch_nats)
        if settings.watch_nats_monitoring:
            _address("nats-monitoring", settings.watch_nats_monitoring)
        yield NatsWitness(url, settings.watch_nats_monitoring or "", **options)
    elif settings.watch_nats_monitoring:
        raise SettingsError("NATS's monitoring endpoint adds to --watch-nats; name that too")


def _rabbitmq(settings: Settings) -> Iterator[Witness]:
    """RabbitMQ's management API, which hears of events; and its firehose."""
    events, firehose = settings.watch_rabbitmq_events, settings.watch_rabbitmq_firehose
    if not settings.watch_rabbitmq:
        if events or firehose:
            raise SettingsError("RabbitMQ's events and firehose add to --watch-rabbitmq; name that too")
        return
    from hopwatch_collector.witness.rabbitmq import RabbitMQWitness
    from hopwatch_collector.witness.rabbitmq_events import RabbitMQEvents

    parts = _address("rabbitmq", settings.watch_rabbitmq)
    url, vhost = f"{parts.scheme}://{parts.netloc}", _vhost(parts)
    if events:
        _address("rabbitmq-events", events)
    yield RabbitMQWitness(url, vhost, RabbitMQEvents(events, vhost) if events else None)
    if firehose:
        from hopwatch_collector.witness.rabbitmq_firehose import RabbitMQFirehose

        if _vhost(_address("rabbitmq-firehose", firehose)) != vhost:
            raise SettingsError("--watch-rabbitmq-firehose and --watch-rabbitmq are of the same virtual host")
        yield RabbitMQFirehose(firehose, url)


def kafka_options(text: str) -> tuple[str, dict[str, Any]]:
    """Return bootstrap servers and aiokafka's options of `host:port[,…]` or `kafka://user:password@host:port?mechanism=…`.

    With TLS a certificate is good if OpenSSL's own authorities vouch for it, or those in the file `SSL_CERT_FILE`.

    Raises:
        SettingsError: it is neither.
    """
    if "://" not in text:
        return _servers(text), {}
    try:
        parts = urlsplit(text)  # not of one server: there may be several
    except ValueError:
        raise SettingsError(f"--watch-kafka is {_KAFKA}") from None
    if parts.scheme not in ("kafka", "kafkas"):
        raise SettingsError(f"--watch-kafka is {_KAFKA}")
    login, _, servers = parts.netloc.rpartition("@")
    sealed = parts.scheme == "kafkas"
    options: dict[str, Any] = {"ssl_context": ssl.create_default_context()} if sealed else {}
    transport = "SSL" if sealed else "PLAINTEXT"
    if not login:
        return _servers(servers), options | {"security_protocol": transport}
    mechanism = parse_qs(parts.query).get("mechanism", ["PLAIN"])[0]
    if mechanism not in _MECHANISMS:
        raise SettingsError(f"--watch-kafka: the mechanism is one of {', '.join(_MECHANISMS)}")
    user, _, password = login.partition(":")
    return _servers(servers), options | {
        "security_protocol": f"SASL_{transport}",
        "sasl_mechanism": mechanism,
        "sasl_plain_username": unquote(user),
        "sasl_plain_password": unquote(password),
    }


def nats_options(text: str) -> tuple[str, dict[str, Any]]:
    """Return the address of a NATS server, its scheme always there, and nats-py's options for its login.

    Raises:
        SettingsError: it is no address.
    """
    url = text if "://" in text else f"nats://{text}"
    parts = _address("nats", url)
    if parts.username is None:
        return url, {}
    # nats-py takes them from the address as they are written there, and so would a password with `%40` in it.
    if parts.password is None:
        return url, {"token": unquote(parts.username)}
    return url, {"user": unquote(parts.username), "password": unquote(parts.password)}


def _servers(text: str) -> str:
    """Kafka's bootstrap servers, if each of them has a name and a port that can be."""
    for server in text.split(","):
        parts = server_in(f"kafka://{server.strip()}", ("kafka",))
        if parts is None or parts.path or parts.query or parts.fragment:
            raise SettingsError(f"--watch-kafka is {_KAFKA}")
    return text


def _address(what: str, text: str) -> SplitResult:
    """The parts of an address, if it is one that `--watch-<what>` takes."""
    schemes, form = _FORMS[what]
    parts = server_in(text, schemes)
    if parts is None:
        raise SettingsError(f"--watch-{what} is {form}")
    return parts


def _vhost(parts: SplitResult) -> str:
    return unquote(parts.path[1:]) or "/"
