"""Which brokers are to be watched, as the settings say."""

import re
import ssl
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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


_NAMED: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})=(.*)", re.DOTALL)
"""An address with a name before it. No address has its first `=` behind nothing but these characters."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A broker that is to be watched."""

    name: str
    """What it is called where it is shown: as named in the settings, else its address without a password."""
    witness: Witness


@dataclass(frozen=True, slots=True)
class _Named:
    """An address as given, with what it is called, or ''."""

    name: str
    address: str


def witnesses(settings: Settings) -> list[Watched]:
    """Return a witness for every broker named in the settings; none has looked yet.

    Raises:
        SettingsError: an address or a name makes no sense, or the client library for it is not installed.
    """
    try:
        return [*_kafka(settings), *_rabbitmq(settings), *_nats(settings)]
    except ImportError as error:
        raise SettingsError(
            f"to watch a broker its client is needed: pip install 'hopwatch-collector[watch]' ({error})"
        ) from error


def _kafka(settings: Settings) -> Iterator[Watched]:
    """Clusters of Kafka. The client libraries are imported only where they are used."""
    named = [_named(text) for text in settings.watch_kafka]
    told = [kafka_options(one.address) for one in named]
    places = [
        [_shown(urlsplit(f"kafka://{one.strip()}"), 9092) for one in servers.split(",")]
        for servers, _ in told
    ]
    names = _distinct("kafka", named, [servers for servers, _ in told], places)
    for name, (servers, options) in zip(names, told, strict=True):
        from hopwatch_collector.witness.kafka import KafkaWitness

        yield Watched(name, KafkaWitness(servers, **options))


def _rabbitmq(settings: Settings) -> Iterator[Watched]:
    """Virtual hosts by RabbitMQ's management API, which hears of events; and their firehoses."""
    named = [_named(text) for text in settings.watch_rabbitmq]
    told = [_address("rabbitmq", one.address) for one in named]
    places = [_shown(parts, 15672, _vhost(parts)) for parts in told]
    names = _distinct("rabbitmq", named, places, [[place] for place in places])
    events = _companions("rabbitmq-events", settings.watch_rabbitmq_events, "rabbitmq", named)
    firehoses = _companions("rabbitmq-firehose", settings.watch_rabbitmq_firehose, "rabbitmq", named)
    for at, (name, parts) in enumerate(zip(names, told, strict=True)):
        from hopwatch_collector.witness.rabbitmq import RabbitMQWitness
        from hopwatch_collector.witness.rabbitmq_events import RabbitMQEvents
        from hopwatch_collector.witness.rabbitmq_firehose import RabbitMQFirehose

        url, vhost = f"{parts.scheme}://{parts.netloc}", _vhost(parts)
        heard = RabbitMQEvents(events[at], vhost) if at in events else None
        yield Watched(name, RabbitMQWitness(url, vhost, heard))
        if at in firehoses:
            if _vhost(_address("rabbitmq-firehose", firehoses[at])) != vhost:
                raise SettingsError(
                    "--watch-rabbitmq-firehose and --watch-rabbitmq are of the same virtual host"
                )
            yield Watched(name, RabbitMQFirehose(firehoses[at], url))


def _nats(settings: Settings) -> Iterator[Watched]:
    """Servers of NATS, with their monitoring endpoints."""
    named = [_named(text) for text in settings.watch_nats]
    told = [nats_options(one.address) for one in named]
    places = [_shown(urlsplit(url), 4222) for url, _ in told]
    names = _distinct("nats", named, places, [[place] for place in places])
    monitoring = _companions("nats-monitoring", settings.watch_nats_monitoring, "nats", named)
    for at, (name, (url, options)) in enumerate(zip(names, told, strict=True)):
        from hopwatch_collector.witness.nats import NatsWitness

        yield Watched(name, NatsWitness(url, monitoring.get(at, ""), **options))


def _named(text: str) -> _Named:
    found = _NAMED.fullmatch(text)
    return _Named(found[1], found[2]) if found else _Named("", text)


def _distinct(
    what: str, named: Sequence[_Named], shown: Sequence[str], places: Sequence[Sequence[str]]
) -> list[str]:
    """What each is called, if no two are called the same or are at the same place."""
    names = [one.name or address for one, address in zip(named, shown, strict=True)]
    taken: dict[str, str] = {}
    for name, at in zip(names, places, strict=True):
        for place in dict.fromkeys(at):
            if place in taken:
                twice = "is named twice" if taken[place] == name else f"is both {taken[place]} and {name}"
                raise SettingsError(f"--watch-{what}: {place} {twice}; a broker is watched once")
            taken[place] = name
    same = [name for name, count in Counter(names).items() if count > 1]
    if same:
        raise SettingsError(f"--watch-{what}: two brokers are called {same[0]}")
    return names


def _companions(what: str, texts: Sequence[str], kind: str, named: Sequence[_Named]) -> dict[int, str]:
    """Addresses that add to brokers of a kind, by which of them each is of: that of its name, or the only one."""
    found: dict[int, str] = {}
    for one in map(_named, texts):
        _address(what, one.address)
        if not named:
            raise SettingsError(f"--watch-{what} adds to --watch-{kind}; name that too")
        of = [at for at, broker in enumerate(named) if one.name in ("", broker.name)]
        if not of:
            raise SettingsError(f"--watch-{what} {one.name}=…: no --watch-{kind} has that name")
        if len(of) > 1:
            raise SettingsError(
                f"--watch-{what}: of which --watch-{kind}? Several are watched: name them, and this like its own, as in "
                f"--watch-{kind} orders={_FORMS[kind][1]} --watch-{what} orders={_FORMS[what][1]}"
            )
        if of[0] in found:
            raise SettingsError(f"--watch-{what}: two are of the same --watch-{kind}")
        found[of[0]] = one.address
    return found


def _shown(parts: SplitResult, port: int, vhost: str = "/") -> str:
    """An address without scheme and password."""
    server = f"{parts.hostname}:{parts.port or port}"
    return server if vhost == "/" else f"{server}/{vhost}"


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
