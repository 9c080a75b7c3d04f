"""The shop over NATS: commands and orders in JetStream, follow-up events and requests over core NATS."""

import contextlib
from collections.abc import Coroutine
from typing import Any, ClassVar, Final, Self

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig
from nats.js.errors import NoStreamResponseError, NotFoundError

import hopwatch
from hopwatch_demo.catalogue import BILL, GIFT, INSPECT, INVOICED, NOWHERE, PLACED, QUOTE, Broker, Kind
from hopwatch_demo.patience import scale_wait
from hopwatch_demo.shop.messaging.bus import Bus, Desk, Done, Handler, Incoming, Letter, Sent, forever

SUBJECTS: Final = {
    BILL: "shop.commands.bill",
    INSPECT: "shop.commands.inspect",
    PLACED: "shop.events.placed",
    INVOICED: "shop.news.invoiced",
    GIFT: "shop.news.gift",
    QUOTE: "shop.quotes",
    NOWHERE: "shop.nowhere",
}
STREAMS: Final = {BILL: "COMMANDS", INSPECT: "COMMANDS", PLACED: "EVENTS"}
STREAM_SUBJECTS: Final = {"COMMANDS": ["shop.commands.>"], "EVENTS": ["shop.events.>"]}
QUEUE_GROUPS: Final = frozenset({"pricing", "notifications"})
"""Services whose instances share core NATS messages; the others subscribe plainly."""

ACK_WAIT_S: Final = 6.0
"""Seconds after which JetStream hands an unacknowledged message over again."""

HANG_ACK_WAIT_S: Final = 600.0
"""The same for inspection, so that the message it hangs on is not handed over again within the demo."""

CONNECT_S: Final = 20
FETCH_S: Final = 1.0
REQUEST_S: Final = 15.0


async def prepare(url: str) -> None:
    """Create the streams, empty; those of an earlier run go, with their consumers."""
    client = await nats.connect(url, connect_timeout=scale_wait(CONNECT_S))
    try:
        for name, subjects in STREAM_SUBJECTS.items():
            with contextlib.suppress(NotFoundError):
                await client.jetstream().delete_stream(name)
            await client.jetstream().add_stream(name=name, subjects=subjects)
    finally:
        await client.close()


class NatsBus(Bus):
    """A connection to NATS."""

    broker: ClassVar[Broker] = Broker.NATS

    def __init__(self, desk: Desk, client: Client) -> None:
        super().__init__(desk)
        self._client = client
        self._stream = client.jetstream()

    @classmethod
    async def connect(cls, url: str, desk: Desk) -> Self:
        """Connect; a busy machine, on which everything starts at once, gets time for it."""
        return cls(desk, await nats.connect(url, name=desk.service, connect_timeout=scale_wait(CONNECT_S)))

    async def publish(self, kind: Kind, letter: Letter) -> Sent:
        """Publish into a stream and await its acknowledgement, or, for what no stream keeps, just publish."""
        if kind in STREAMS or kind is NOWHERE:
            try:
                await self._stream.publish(SUBJECTS[kind], letter.encode())
            except NoStreamResponseError:
                return Sent("returned")
            return Sent("confirmed")
        await self._client.publish(SUBJECTS[kind], letter.encode())
        return Sent("sent")

    async def reply(self, kind: Kind, letter: Letter, incoming: Incoming) -> Sent:
        """Publish to the inbox the request named."""
        await self._client.publish(incoming.reply_to, letter.encode())
        return Sent("sent")

    async def ask(self, question: Kind, answer: Kind, order: str) -> None:
        """Request and await the answer in this client's inbox."""
        letter = self.letter(question, order)
        with hopwatch.tag(event=letter.event):
            self.sending(question, letter)
            message = await self._client.request(
                SUBJECTS[question], letter.encode(), timeout=scale_wait(REQUEST_S)
            )
            self.sent(question, letter, Sent("sent"))
        receiver = f"{self.desk.service}:_INBOX"
        reply = Letter.decode(message.data)
        self.received(answer, reply, receiver)
        self.settling(answer, reply, receiver, "auto")

    async def listen(self, kind: Kind, handler: Handler) -> Coroutine[Any, Any, None]:
        """Subscribe: notifications to a stream by push, others by pulling; audit, and all outside streams, over core."""
        if kind not in STREAMS or self.desk.service == "audit":
            return await self._subscribe(kind, handler)
        if self.desk.service == "notifications":
            return await self._push(kind, handler)
        return await self._pull(kind, handler)

    async def close(self) -> None:
        """Disconnect without waiting for anything."""
        await self._client.close()

    async def _subscribe(self, kind: Kind, handler: Handler) -> Coroutine[Any, Any, None]:
        service = self.desk.service
        shared = service in QUEUE_GROUPS
        receiver = service if shared else f"{service}:{SUBJECTS[kind]}"

        async def handle(message: Msg) -> None:
            letter = Letter.decode(message.data)
            self.received(kind, letter, receiver)
            await handler(Incoming(self.broker, letter, reply_to=message.reply))
            self.settling(kind, letter, receiver, "auto")

        await self._client.subscribe(SUBJECTS[kind], queue=service if shared else "", cb=handle)
        await self._client.flush()
        self.listening(kind, receiver)
        return forever()

    async def _push(self, kind: Kind, handler: Handler) -> Coroutine[Any, Any, None]:
        service, stream = self.desk.service, STREAMS[kind]
        receiver = f"{stream}/{service}"

        async def handle(message: Msg) -> None:
            await self._attempt(kind, message, receiver, handler)

        await self._stream.subscribe(
            SUBJECTS[kind],
            stream=stream,
            durable=service,
            cb=handle,
            manual_ack=True,
            config=ConsumerConfig(ack_wait=ACK_WAIT_S),
        )
        self.listening(kind, receiver)
        return forever()

    async def _pull(self, kind: Kind, handler: Handler) -> Coroutine[Any, Any, None]:
        service, stream = self.desk.service, STREAMS[kind]
        ack_wait = HANG_ACK_WAIT_S if kind is INSPECT else ACK_WAIT_S
        subscription = await self._stream.pull_subscribe(
            SUBJECTS[kind], durable=service, stream=stream, config=ConsumerConfig(ack_wait=ack_wait)
        )
        receiver = f"{stream}/{service}"
        self.listening(kind, receiver)
        return self._keep_pulling(subscription, kind, receiver, handler)

    async def _keep_pulling(
        self, subscription: JetStreamContext.PullSubscription, kind: Kind, receiver: str, handler: Handler
    ) -> None:
        while True:
            await self.desk.gate.passed()
            try:
                messages = await subscription.fetch(1, timeout=FETCH_S)
            except TimeoutError:
                continue
            for message in messages:
                await self._attempt(kind, message, receiver, handler)

    async def _attempt(self, kind: Kind, message: Msg, receiver: str, handler: Handler) -> None:
        letter = Letter.decode(message.data)
        self.received(kind, letter, receiver)
        done = await handler(Incoming(self.broker, letter))
        self.settling(kind, letter, receiver, "term" if done is Done.POISON else "ack")
        if done is Done.POISON:
            await message.term()
        else:
            await message.ack()
