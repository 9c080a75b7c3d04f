"""Core NATS: publish, request and reply, subscriptions by callback, iterator and `next_msg`."""

import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import wraps
from inspect import iscoroutinefunction
from types import FrameType
from typing import Any, Final, TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from opentelemetry import context as otel_context
from opentelemetry import propagate

from hopwatch.conventions import (
    MESSAGE_ID_HEADER,
    MESSAGING_CONVERSATION_ID,
    Ending,
    PublishOutcome,
    SettleOutcome,
)
from hopwatch.handover import JUST_GOT, handovers
from hopwatch.holders import Holders
from hopwatch.instrumentor import recorded
from hopwatch.recorder import ProcessHop, Recorder
from hopwatch.transports.nats.consumers import Consumers
from hopwatch.transports.nats.places import (
    Asking,
    asking,
    begin_process,
    begin_send,
    holding,
    is_inbox,
    is_quiet,
    is_system,
    outcome_of,
    quiet_here,
    quietly,
    receiver,
    speak_up,
)
from hopwatch.wrapping import (
    Args,
    Kwargs,
    Patches,
    argument,
    guarded,
    header_getter,
    stale_fields,
    with_argument,
)

T = TypeVar("T")
Call = Callable[..., Awaitable[T]]


GIVEN_UP_LIMIT: Final = 1_000
"""Requests without an answer whose late replies are still recognised."""


class LateReply(Exception):
    """A reply came after its request had been given up; only ever recorded, never raised."""


class Core:
    """The wrappers around nats-py's client, subscriptions and messages."""

    def __init__(self, recorder: Recorder, patches: Patches, consumers: Consumers) -> None:
        self._recorder = recorder
        self._patches = patches
        self._consumers = consumers
        self._holders = Holders(recorder)
        self._given_up: OrderedDict[str, str] = OrderedDict()

    def publish(self, original: Call[T]) -> Call[T]:
        """Record a publish; core NATS says nothing of what becomes of it."""

        @wraps(original)
        async def publish(client: Client, *args: Any, **kwargs: Any) -> T:
            if not self._patches.active:
                return await original(client, *args, **kwargs)
            sending = begin_send(self._recorder, "publish", client, args, kwargs, headers_at=3)
            if sending is None:
                request = asking()
                if request is not None:
                    kwargs = _carried(request, args, kwargs) or kwargs
                return await original(client, *args, **kwargs)
            hop, args, kwargs = sending
            try:
                result = await original(client, *args, **kwargs)
            except BaseException as error:
                hop.end(outcome_of(error), error=error)
                raise
            hop.end(PublishOutcome.SENT)
            return result

        return publish

    async def request(self, wrapped: Call[Msg], client: Client, args: Args, kwargs: Kwargs) -> Msg:
        """Record a request and the reply to it, two hops of one flow."""
        sending = begin_send(self._recorder, "request", client, args, kwargs, headers_at=4)
        if sending is None:
            return await wrapped(*args, **kwargs)
        old_style = argument(args, kwargs, 3, "old_style", False)
        hop, args, kwargs = sending
        request = Asking(hop, _ids(args, kwargs) if old_style else None)
        try:
            with quietly(request):
                reply = await wrapped(*args, **kwargs)
        except BaseException as error:
            hop.end(outcome_of(error), error=error)
            self._gave_up(request)
            raise
        hop.end(PublishOutcome.CONFIRMED)
        self._replied(client, request, reply)
        return reply

    async def mux(self, wrapped: Call[T], client: Client, args: Args, kwargs: Kwargs) -> T:
        """Record a reply that comes after its request was given up; the library drops it."""
        self._late(client, argument(args, kwargs, 0, "msg"))
        return await wrapped(*args, **kwargs)

    async def respond(self, wrapped: Call[T], message: Msg, args: Args, kwargs: Kwargs) -> T:
        """Let a reply belong to the flow of its request, wherever it is sent from."""
        hop = handovers.of(message)
        if hop is None:
            return await wrapped(*args, **kwargs)
        token = otel_context.attach(hop.context)
        try:
            return await wrapped(*args, **kwargs)
        finally:
            otel_context.detach(token)

    async def subscribe(
        self, wrapped: Call[Subscription], client: Client, args: Args, kwargs: Kwargs
    ) -> Subscription:
        """Record what a callback gets, and report who is subscribed."""
        args, kwargs = self._with_callback(client, args, kwargs) or (args, kwargs)
        subscription = await wrapped(*args, **kwargs)
        self._subscribed(client, subscription)
        return subscription

    async def next_msg(
        self, wrapped: Call[Msg], subscription: Subscription, args: Args, kwargs: Kwargs
    ) -> Msg:
        """Record a message taken by hand."""
        if is_quiet():
            return await wrapped(*args, **kwargs)
        handovers.back(subscription)
        message = await wrapped(*args, **kwargs)
        references = sys.getrefcount(message) - JUST_GOT
        self._give(subscription, message)
        guarded(handovers.passed)(message, references)
        return message

    async def iterate(self, wrapped: Call[Msg], iterator: Any, args: Args, kwargs: Kwargs) -> Msg:
        """Record a message taken by `async for`."""
        subscription = iterator._sub
        handovers.back(subscription)
        message = await wrapped(*args, **kwargs)
        self._give(subscription, message)
        return message

    def slow(self, wrapped: Callable[..., T], error: Exception, args: Args, kwargs: Kwargs) -> T:
        """Note what the library drops as it makes this error: more is pending than the subscription may hold."""
        result = wrapped(*args, **kwargs)
        self._dropped(argument(args, kwargs, 3, "sub"), _dropped_by(sys._getframe()))
        return result

    @guarded
    def _dropped(self, subscription: Subscription, message: Msg | None) -> None:
        if message is None or not self._patches.active:
            return
        hop = begin_process(
            self._recorder, self._consumers, subscription._conn, message,
            subject=subscription._subject, queue=subscription._queue, attach=False,
        )  # fmt: skip
        if hop is not None:
            hop.let_go(Ending.DROPPED if hop.outcome is SettleOutcome.AUTO else Ending.UNREAD)

    def stop(self, wrapped: Callable[..., T], subscription: Subscription, args: Args, kwargs: Kwargs) -> T:
        """Report that a subscription ended."""
        result = wrapped(*args, **kwargs)
        self._unsubscribed(subscription)
        return result

    async def connected(self, wrapped: Call[T], client: Client, args: Args, kwargs: Kwargs) -> T:
        """Report all subscriptions of a connection again: another server may have them, under another number."""
        result = await wrapped(*args, **kwargs)
        self._reconnected(client)
        return result

    async def close(self, wrapped: Call[T], client: Client, args: Args, kwargs: Kwargs) -> T:
        """Report that all subscriptions of a connection ended."""
        subscriptions = list(client._subs.values())
        try:
            return await wrapped(*args, **kwargs)
        finally:
            for subscription in subscriptions:
                self._unsubscribed(subscription)

    @guarded
    def _replied(self, client: Client, request: Asking, reply: Msg) -> None:
        """Record the reply to a request, unless it says nothing of itself; its subject is the request's inbox."""
        hop = self._begin_reply(client, request.hop.message_id, reply)
        if hop is not None:
            hop.end()

    @guarded
    def _gave_up(self, request: Asking) -> None:
        if request.inbox is not None:
            self._given_up[request.inbox] = request.hop.message_id
            if len(self._given_up) > GIVEN_UP_LIMIT:
                self._given_up.popitem(last=False)

    @guarded
    def _late(self, client: Client, reply: Msg) -> None:
        asked = self._given_up.pop(reply.subject, None)
        hop = self._begin_reply(client, asked, reply) if asked is not None else None
        if hop is not None:
            hop.end(LateReply("nobody waits for this reply any more"))

    def _begin_reply(self, client: Client, asked: str, reply: Msg) -> ProcessHop | None:
        """Begin the hop of a reply that has ids of its own; responders without hopwatch may echo the request's."""
        headers = reply.headers
        told = [header_getter.get(headers, field) for field in propagate.get_global_textmap().fields]
        if not any(told) or header_getter.get(headers, MESSAGE_ID_HEADER) == [asked]:
            return None
        return begin_process(
            self._recorder, self._consumers, client, reply, subject=reply.subject, queue="", attach=False
        )

    @guarded
    def _with_callback(self, client: Client, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        callback = argument(args, kwargs, 2, "cb")
        internal = isinstance(getattr(callback, "__self__", None), Client | JetStreamContext)
        if internal or not _is_coroutine_function(callback):
            return args, kwargs
        subject, queue = argument(args, kwargs, 0, "subject", ""), argument(args, kwargs, 1, "queue", "")

        patches, recorder, consumers = self._patches, self._recorder, self._consumers

        def begin(message: Msg) -> ProcessHop | None:
            if quiet_here() is not False:
                speak_up()
            if not patches.active:
                return None
            hop = begin_process(recorder, consumers, client, message, subject=subject, queue=queue)
            if hop is not None and message.reply:  # else nobody can acknowledge or answer it
                handovers.called(message, hop)
            return hop

        return with_argument(args, kwargs, 2, "cb", recorded(callback, begin))

    def _begin(self, client: Client, message: Msg, subject: str, queue: str) -> ProcessHop | None:
        if not self._patches.active:
            return None
        return begin_process(self._recorder, self._consumers, client, message, subject=subject, queue=queue)

    @guarded
    def _give(self, subscription: Subscription, message: Msg) -> None:
        hop = self._begin(subscription._conn, message, subscription._subject, subscription._queue)
        if hop is not None:
            handovers.gave(subscription, [(message, hop)])

    @guarded
    def _subscribed(self, client: Client, subscription: Subscription) -> None:
        subject = subscription._subject
        if is_quiet() or subscription._future is not None or is_system(subject) or is_inbox(subject, client):
            return
        owed = receiver(subject, subscription._queue, client)
        self._holders.hold(subscription, [holding(subject, owed, client, durable=False)])

    @guarded
    def _reconnected(self, client: Client) -> None:
        for subscription in [*client._subs.values()]:
            self._consumers.reconnected(subscription)
            held = self._holders.of(subscription)
            self._holders.hold(
                subscription, [holding(one.pattern, one.receiver, client, durable=False) for one in held]
            )

    @guarded
    def _unsubscribed(self, subscription: Subscription) -> None:
        subscription = getattr(subscription, "_sub", subscription)  # JetStream's wrap one of these
        handovers.closed(subscription)
        self._consumers.released(subscription)
        self._holders.release(subscription)


def _dropped_by(frame: FrameType | None) -> Msg | None:
    """Return the message that the library was about to hand over: its error does not name it, so its own variable is read."""
    while frame is not None and frame.f_code.co_name != Client._process_msg.__name__:
        frame = frame.f_back
    message = frame.f_locals.get("msg") if frame is not None else None
    return message if isinstance(message, Msg) else None


def _ids(args: Args, kwargs: Kwargs) -> Kwargs:
    """Return our headers alone: nats-py publishes old-style requests without the caller's."""
    ours = stale_fields()
    headers = argument(args, kwargs, 4, "headers") or {}
    return {name: value for name, value in headers.items() if name.lower() in ours}


@guarded
def _carried(request: Asking, args: Args, kwargs: Kwargs) -> Kwargs:
    """Tie a request to its inbox when the library publishes it, and give it its ids if it has none yet."""
    request.inbox = argument(args, kwargs, 2, "reply")
    if request.inbox:
        request.hop.set({MESSAGING_CONVERSATION_ID: request.inbox})
    if request.headers is None or argument(args, kwargs, 3, "headers"):
        return kwargs
    return {**kwargs, "headers": request.headers}


def _is_coroutine_function(callback: Any) -> bool:
    """Whether nats-py accepts a callback: a coroutine function, or a partial of one."""
    return iscoroutinefunction(callback) or iscoroutinefunction(getattr(callback, "func", None))
