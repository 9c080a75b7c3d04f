"""JetStream: publish with its acknowledgement, push and pull consumers, ack, nak and term as settlement."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from nats.aio.msg import Msg
from nats.js import JetStreamContext, JetStreamManager
from nats.js.api import ConsumerInfo, PubAck

from hopwatch.conventions import PublishOutcome, SettleOutcome
from hopwatch.handover import Batch, handovers
from hopwatch.recorder import ProcessHop, Recorder, SendHop, StreamPosition
from hopwatch.transports.nats.consumers import Consumers
from hopwatch.transports.nats.places import (
    Schedule,
    begin_process,
    begin_send,
    failed_send,
    outcome_of,
    quietly,
)
from hopwatch.wrapping import Args, Kwargs, Wrapper, argument, guarded

_HEADERS_AT: Final = 4
T = TypeVar("T")
Call = Callable[..., Awaitable[T]]


class JetStream:
    """The wrappers around nats-py's JetStream contexts and subscriptions."""

    def __init__(self, recorder: Recorder, consumers: Consumers) -> None:
        self._recorder = recorder
        self._consumers = consumers

    async def publish(
        self, wrapped: Call[PubAck], js: JetStreamContext, args: Args, kwargs: Kwargs
    ) -> PubAck:
        """Record a publish with the stream's acknowledgement."""
        sending = begin_send(self._recorder, "publish", js._nc, args, kwargs, headers_at=_HEADERS_AT)
        if sending is None:
            return await wrapped(*args, **kwargs)
        hop, args, kwargs = sending
        try:
            with quietly():
                ack = await wrapped(*args, **kwargs)
        except BaseException as error:
            guarded(failed_send)(self._recorder, hop, js._nc, args, kwargs, error)
            raise
        _acknowledged(hop, ack, placed=not _scheduled(args, kwargs))
        return ack

    async def publish_async(
        self, wrapped: Call["asyncio.Future[PubAck]"], js: JetStreamContext, args: Args, kwargs: Kwargs
    ) -> "asyncio.Future[PubAck]":
        """Record a publish whose acknowledgement comes later."""
        sending = begin_send(self._recorder, "publish", js._nc, args, kwargs, headers_at=_HEADERS_AT)
        if sending is None:
            return await wrapped(*args, **kwargs)
        hop, args, kwargs = sending
        try:
            with quietly():
                future = await wrapped(*args, **kwargs)
        except BaseException as error:
            hop.end(outcome_of(error), error=error)
            raise
        placed = not _scheduled(args, kwargs)
        future.add_done_callback(lambda done: _resolved(hop, done, placed=placed))
        return future

    async def subscribe_bind(
        self, wrapped: Call[Any], js: JetStreamContext, args: Args, kwargs: Kwargs
    ) -> Any:
        """Report what a push consumer is owed; the subscription to its delivery subject is none of the user's."""
        with quietly():
            subscription = await wrapped(*args, **kwargs)
        config = argument(args, kwargs, 1, "config")
        self._bound(subscription, subscription._stream, subscription._consumer, config)
        return subscription

    async def pull_subscribe_bind(
        self, wrapped: Call[Any], js: JetStreamContext, args: Args, kwargs: Kwargs
    ) -> Any:
        """Report what a pull consumer is owed; the subscription to its inbox is none of the user's."""
        with quietly():
            subscription = await wrapped(*args, **kwargs)
        self._bound(subscription, subscription._stream, subscription._consumer, None)
        return subscription

    async def fetch(self, wrapped: Call[list[Msg]], pull: Any, args: Args, kwargs: Kwargs) -> list[Msg]:
        """Record every message of a fetch; a loop over several makes each the current one in turn."""
        handovers.back(pull)
        with quietly():
            messages = await wrapped(*args, **kwargs)
        return self._fetched(pull, messages) or messages

    async def unsubscribe(self, wrapped: Call[T], pull: Any, args: Args, kwargs: Kwargs) -> T:
        """End what a pull subscription handed out."""
        result = await wrapped(*args, **kwargs)
        handovers.closed(pull)
        return result

    async def learn(
        self, wrapped: Call[ConsumerInfo], manager: JetStreamManager, args: Args, kwargs: Kwargs
    ) -> ConsumerInfo:
        """Remember what the server says of a consumer."""
        info = await wrapped(*args, **kwargs)
        guarded(self._consumers.learn)(info)
        return info

    async def delete_consumer(
        self, wrapped: Call[T], manager: JetStreamManager, args: Args, kwargs: Kwargs
    ) -> T:
        """Report that a consumer is owed nothing more."""
        result = await wrapped(*args, **kwargs)
        stream, consumer = argument(args, kwargs, 0, "stream"), argument(args, kwargs, 1, "consumer")
        guarded(self._consumers.gone)(stream, consumer)
        return result

    async def api_request(self, wrapped: Call[T], manager: JetStreamManager, args: Args, kwargs: Kwargs) -> T:
        """Leave out requests to JetStream itself, under whatever prefix."""
        with quietly():
            return await wrapped(*args, **kwargs)

    @guarded
    def _bound(self, subscription: Any, stream: str, consumer: str, config: Any) -> None:
        self._consumers.note(stream, consumer, config)
        self._consumers.bound(subscription._sub, stream, consumer)

    @guarded
    def _fetched(self, pull: Any, messages: list[Msg]) -> list[Msg]:
        alone = len(messages) == 1
        begun: list[tuple[Msg, ProcessHop]] = []
        for message in messages:
            hop = begin_process(
                self._recorder, self._consumers, pull._nc, message, subject="", queue="", attach=alone
            )
            if hop is not None:
                begun.append((message, hop))
        batch = None if alone else Batch(messages, ends=False)
        handovers.gave(pull, begun, batch)
        return messages if batch is None else batch


def settles(outcome: SettleOutcome) -> Wrapper:
    """Return a wrapper that notes the settlement of a message once it is sent."""

    async def settle(wrapped: Call[T], message: Msg, args: Args, kwargs: Kwargs) -> T:
        result = await wrapped(*args, **kwargs)
        delay = argument(args, kwargs, 0, "delay") if outcome is SettleOutcome.NACK else None
        handovers.settled(message, outcome, f"again in {delay} s" if delay else "")
        return result

    return settle


def _scheduled(args: Args, kwargs: Kwargs) -> bool:
    """Whether what is acknowledged is not the message itself, but that it shall be sent."""
    return Schedule.of(args[_HEADERS_AT] if len(args) > _HEADERS_AT else kwargs.get("headers")) is not None


@guarded
def _acknowledged(hop: SendHop, ack: PubAck, *, placed: bool) -> None:
    outcome = PublishOutcome.DUPLICATE if ack.duplicate else PublishOutcome.CONFIRMED
    hop.end(outcome, position=StreamPosition(ack.stream, ack.seq) if placed else None)


def _resolved(hop: SendHop, future: "asyncio.Future[PubAck]", *, placed: bool) -> None:
    if future.cancelled():
        hop.end(PublishOutcome.UNCONFIRMED, reason="cancelled before the acknowledgement")
    elif (error := future._exception) is not None:  # reading `exception()` would silence "never retrieved"
        hop.end(outcome_of(error), error=error)
    else:
        _acknowledged(hop, future.result(), placed=placed)
