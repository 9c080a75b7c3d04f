"""RabbitMQ's firehose: where the broker routed each message, and from which queue it handed it out.

While tracing is on (`rabbitmqctl trace_on`), the exchange `amq.rabbitmq.trace` gets a copy of every message, payload and all,
when it is published and whenever it is handed out. No payload is kept.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

from aiormq.abc import DeliveredMessage

from hopwatch.conventions import MESSAGE_ID_HEADER
from hopwatch_collector.witness.model import Look, Place, Told
from hopwatch_collector.witness.rabbitmq_answers import is_name, table
from hopwatch_collector.witness.rabbitmq_listen import Listener
from hopwatch_collector.witness.rabbitmq_management import Management

_MOST_FACTS: Final = 100_000
"""Facts kept between two looks; while there are more, no more are asked for."""
_MOST_QUEUES: Final = 1_000
"""Queues of one message that are noted."""
_REPLY_TO: Final = "amq.rabbitmq.reply-to"


class RabbitMQFirehose:
    """Listens to one virtual host's firehose; a look is what was heard since the last one."""

    system = "rabbitmq-firehose"

    def __init__(self, amqp_url: str, management_url: str) -> None:
        """`amqp_url`: `amqp://user:password@host:5672/vhost`. The management API says whether tracing is on."""
        self._listener = Listener(
            amqp_url, "amq.rabbitmq.trace", self._hear, lambda: len(self._facts) >= _MOST_FACTS
        )
        self.broker = self._listener.broker
        self._management = Management(management_url, self._listener.vhost)
        self._facts: list[Told] = []

    async def look(self) -> Look:
        """Hand over what was heard, and say what was not."""
        tracing = await self._tracing()
        identity = await self._management.identity()
        heard = await self._listener.check()
        blind = []
        if heard.missed:
            blind.append(
                f"RabbitMQ at {self.broker}: the firehose was faster than it could be read; some may be missing"
            )
        if not tracing:
            blind.append(
                f"RabbitMQ at {self.broker}: tracing is off; turn it on: rabbitmqctl trace_on -p {self._management.vhost}"
            )
        if heard.anew or blind:
            # All is heard again from here on; before, something may be missing.
            self._facts.append(Told(bytes(16), "gap", datetime.now(UTC)))
        facts, self._facts = self._facts, []
        return Look(
            told=tuple(facts),
            blind=tuple(blind),
            partial=True,
            requests=3,
            identities=(identity,) if identity else (),
        )

    async def hidden(self, missing: Collection[Place]) -> Mapping[Place, str]:
        """Return nothing: the firehose tells of no place."""
        return {}

    async def close(self) -> None:
        """Disconnect."""
        await self._listener.close()
        await self._management.close()

    async def _tracing(self) -> bool:
        vhosts = await self._management.all("vhosts", ("name",), columns="name,tracing")
        return any(
            vhost["name"] == self._management.vhost and vhost.get("tracing") is True for vhost in vhosts
        )

    def _hear(self, message: DeliveredMessage) -> None:
        self._facts += facts(message.routing_key or "", message.header.properties.headers, datetime.now(UTC))


def facts(routing_key: str, headers: object, at: datetime) -> Iterator[Told]:
    """What one message of the firehose tells; nothing where it tells of no message that has an identity."""
    kind, _, name = routing_key.partition(".")
    told = table(headers)
    properties = table(told.get("properties"))
    key, alias = _identity(properties)
    if key is None or not is_name(name) or name.startswith("amq.rabbitmq."):
        return
    if kind == "deliver":
        yield Told(key, "handed", at, name, int(told.get("redelivered") == 1))
    elif kind == "publish":
        yield from _published(key, alias, name, told, properties, at)


def _published(
    key: bytes,
    alias: str,
    exchange: str,
    told: Mapping[str, Any],
    properties: Mapping[str, Any],
    at: datetime,
) -> Iterator[Told]:
    routing_key, *_ = [*_texts(told.get("routing_keys")), ""]
    if routing_key.startswith(_REPLY_TO):
        return  # goes to no queue, but to whoever asked
    destination = f"{exchange}:{routing_key}" if exchange else routing_key
    yield Told(key, "published", at, words=alias and destination, alias=alias)
    for queue in _texts(told.get("routed_queues"))[:_MOST_QUEUES]:
        yield Told(key, "routed", at, queue)
    lives = properties.get("expiration")
    if isinstance(lives, str) and lives.isdecimal() and len(lives) < 13:
        yield Told(key, "ttl", at, number=int(lives))


def _identity(properties: Mapping[str, Any]) -> tuple[bytes | None, str]:
    """The message id that travels with a message; without one, a key made of the application's own, and that."""
    ours = table(properties.get("headers")).get(MESSAGE_ID_HEADER)
    if isinstance(ours, str):
        with suppress(ValueError):
            return UUID(ours).bytes, ""
    own = properties.get("message_id")
    if isinstance(own, str) and own and is_name(own):
        return blake2b(own.encode(), digest_size=16).digest(), own
    return None, ""


def _texts(value: object) -> list[str]:
    return [one for one in value if is_name(one)] if isinstance(value, list) else []
