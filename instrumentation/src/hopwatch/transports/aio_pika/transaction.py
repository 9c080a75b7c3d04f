"""Transactions of a channel: what is published and settled in one counts only once it is committed."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from aio_pika.message import IncomingMessage
from aio_pika.transaction import Transaction

from hopwatch.conventions import PublishOutcome
from hopwatch.recorder import SendHop
from hopwatch.wrapping import Args, Kwargs, guarded

T = TypeVar("T")
Call = Callable[..., Awaitable[T]]

LIMIT: Final = 10_000
"""Messages of one transaction that are followed to its end; of those beyond, the end is not known."""


@dataclass(slots=True)
class Open:
    """What a channel has published and settled since its last commit."""

    published: list[SendHop] = field(default_factory=list)
    settled: list[Callable[[], object]] = field(default_factory=list)

    def publish(self, hop: SendHop) -> None:
        """Keep a publish until the transaction ends."""
        if len(self.published) < LIMIT:
            self.published.append(hop)
        else:
            hop.end(PublishOutcome.UNCONFIRMED, reason="the transaction is too large to be followed")

    def end(self, outcome: PublishOutcome, reason: str = "") -> None:
        """Say of everything published what became of it, and forget what was settled."""
        published, self.published, self.settled = self.published, [], []
        for hop in published:
            hop.end(outcome, reason=reason)


class Transactions:
    """The channels in transaction mode, which they never leave; found by the channel of aiormq."""

    def __init__(self) -> None:
        self._open: WeakKeyDictionary[Any, Open] = WeakKeyDictionary()
        self.any = False
        """Whether there has been one: most processes have none, and need not look."""

    def of(self, channel: Any) -> Open | None:
        """Return the transaction of a channel, None where there is none."""
        return self._open.get(underlay(channel)) if self.any else None

    def under(self, channel: Any) -> Open | None:
        """Return the transaction of a channel of aiormq, None where there is none."""
        return self._open.get(channel) if self.any else None

    def on(self, message: IncomingMessage) -> Open | None:
        """Return the transaction that the settlement of a message is part of."""
        return self._open.get(message.channel) if self.any else None

    async def select(self, wrapped: Call[T], transaction: Transaction, args: Args, kwargs: Kwargs) -> T:
        """Follow a channel from here to its end: after a commit it is in the next transaction."""
        result = await wrapped(*args, **kwargs)
        self._selected(transaction)
        return result

    async def commit(self, wrapped: Call[T], transaction: Transaction, args: Args, kwargs: Kwargs) -> T:
        """Confirm what the transaction holds; not waited for, it may come to pass or not."""
        under_way = _found(self, transaction)
        try:
            result = await wrapped(*args, **kwargs)
        except asyncio.CancelledError:
            _end(under_way, PublishOutcome.UNCONFIRMED, "the transaction's end was not waited for")
            raise
        _committed(under_way)
        return result

    async def rollback(self, wrapped: Call[T], transaction: Transaction, args: Args, kwargs: Kwargs) -> T:
        """Refuse what the transaction holds."""
        under_way = _found(self, transaction)
        result = await wrapped(*args, **kwargs)
        _end(under_way, PublishOutcome.REFUSED, "the transaction was rolled back")
        return result

    @guarded
    def _selected(self, transaction: Transaction) -> None:
        channel = underlay(transaction.channel)
        if channel is None or channel in self._open:
            return
        opened = self._open[channel] = Open()
        self.any = True
        reason = "the channel closed before the transaction was committed"
        channel.closing.add_done_callback(lambda _: _end(opened, PublishOutcome.REFUSED, reason))


def underlay(channel: Any) -> Any:
    """Return aiormq's channel under one of aio-pika, None if it has none at the moment."""
    inner = channel._channel
    return inner.channel if inner is not None else None


@guarded
def _found(transactions: Transactions, transaction: Transaction) -> Open | None:
    return transactions.of(transaction.channel)


@guarded
def _end(under_way: Open | None, outcome: PublishOutcome, reason: str) -> None:
    if under_way is not None:
        under_way.end(outcome, reason)


@guarded
def _committed(under_way: Open | None) -> None:
    if under_way is None:
        return
    settled = list(under_way.settled)
    under_way.end(PublishOutcome.CONFIRMED)
    for settle in settled:
        settle()
