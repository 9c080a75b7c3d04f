r"""RabbitMQ over AMQP: reads an exchange by a queue of our own, which nobody else sees and which ends with the connection.

Needs configure and write on `^amq\.gen-`, read on that and on the exchange.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection, ArgumentsType, DeliveredMessage
from aiormq.exceptions import AMQPError

from hopwatch_collector.witness.cancelled import strays_as_errors
from hopwatch_collector.witness.model import WitnessAway

LONGEST: Final = 50_000
LARGEST: Final = 128 << 20
"""Messages and bytes that may wait for us in the broker; beyond, it drops the oldest."""
_TIMEOUT_S: Final = 10.0
_PREFETCH: Final = 500
_ACK_EVERY: Final = 100


@dataclass(slots=True)
class _Read:
    """What was read since the last check."""

    messages: int = 0
    bytes: int = 0
    largest: int = 0

    def add(self, size: int) -> None:
        """Count one."""
        self.messages += 1
        self.bytes += size
        self.largest = max(self.largest, size)

    def all_there_was(self, waiting: int) -> bool:
        """Whether the queue cannot have been full since: what it held then was read, or still waits."""
        return self.messages + waiting < LONGEST and self.bytes + waiting * self.largest < LARGEST


@dataclass(frozen=True, slots=True)
class Heard:
    """How well was listened since the last check."""

    anew: bool = False
    """It begins here: what came before was not heard."""
    missed: bool = False
    """The broker may have dropped some because we read too slowly."""


class Listener:
    """Hears what is published to one exchange of one virtual host, in order."""

    def __init__(
        self, amqp_url: str, exchange: str, hear: Callable[[DeliveredMessage], None], full: Callable[[], bool]
    ) -> None:
        """`amqp_url`: `amqp://user:password@host:5672/vhost`. While `full` says so, no more messages are asked for."""
        parts = urlsplit(amqp_url)
        self.vhost = unquote(parts.path[1:]) or "/"
        server = f"{parts.hostname}:{parts.port or (5671 if parts.scheme == 'amqps' else 5672)}"
        self.broker = server if self.vhost == "/" else f"{server}/{self.vhost}"
        """Where it is, without a password."""
        self.channel: AbstractChannel | None = None
        self._url = parts._replace(path="/" + (parts.path[1:] or "%2F")).geturl()
        self._exchange = exchange
        self._take, self._full = hear, full
        self._connection: AbstractConnection | None = None
        self._queue = ""
        self._read = _Read()
        self._tag, self._unacked = 0, 0

    async def check(self) -> Heard:
        """Listen if we do not yet, ask for more, and say whether anything may have been missed.

        Raises:
            WitnessAway: we cannot listen now.
        """
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                anew = self.channel is None or self.channel.is_closed
                with strays_as_errors():
                    channel = await self._listening()
                    # It may have been deleted.
                    declared = await channel.queue_declare(self._queue, passive=True)
                read, self._read = self._read, _Read()
                await self._acknowledge()
        except (AMQPError, OSError, TimeoutError) as error:
            await self.close()
            raise WitnessAway(
                f"RabbitMQ at {self.broker}: {type(error).__name__}: {str(error) or 'no answer'}"
            ) from error
        return Heard(anew, missed=not read.all_there_was(declared.message_count or 0))

    async def close(self) -> None:
        """Disconnect."""
        connection, self._connection, self.channel = self._connection, None, None
        if connection is not None:
            with suppress(AMQPError, OSError, TimeoutError), strays_as_errors():
                await connection.close()

    async def _listening(self) -> AbstractChannel:
        if self.channel is not None and not self.channel.is_closed:
            return self.channel
        await self.close()
        self._connection = await aiormq.connect(self._url)
        self.channel = channel = await self._connection.channel(publisher_confirms=False)
        await channel.basic_qos(prefetch_count=_PREFETCH)
        limits: ArgumentsType = {"x-max-length": LONGEST, "x-max-length-bytes": LARGEST}
        declared = await channel.queue_declare(exclusive=True, auto_delete=True, arguments=limits)
        self._queue, self._read = declared.queue or "", _Read()
        self._tag, self._unacked = 0, 0
        await channel.queue_bind(self._queue, self._exchange, routing_key="#")
        await channel.basic_consume(self._queue, self._hear)
        return channel

    async def _hear(self, message: DeliveredMessage) -> None:
        self._take(message)
        self._read.add(len(message.body))
        self._tag, self._unacked = message.delivery.delivery_tag or 0, self._unacked + 1  # type: ignore[union-attr]
        if self._unacked >= _ACK_EVERY and not self._full():
            await self._acknowledge()

    async def _acknowledge(self) -> None:
        count, self._unacked = self._unacked, 0
        if count and self.channel is not None:
            with suppress(AMQPError, OSError):  # a broken channel is noticed by the next check
                await self.channel.basic_ack(self._tag, multiple=True, wait=False)
