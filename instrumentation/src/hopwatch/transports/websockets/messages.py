"""Messages of a connection: sent, received, and in whose hands they are."""

from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from contextvars import ContextVar
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from websockets.exceptions import ConnectionClosed, InvalidState

from hopwatch.sockets import Conversation, Sending
from hopwatch.wrapping import Args, Kwargs, argument, guarded, with_argument

T = TypeVar("T")
Data = str | bytes

_sending: ContextVar[bool] = ContextVar("hopwatch_websocket_sending", default=False)
"""Whether what goes out is a message that has been counted."""


class Messages:
    """The wrappers around sending and receiving, and the conversations they belong to."""

    def __init__(self) -> None:
        self._conversations: WeakKeyDictionary[Any, Conversation] = WeakKeyDictionary()
        self._protocols: WeakKeyDictionary[Any, Conversation] = WeakKeyDictionary()

    def begin(self, connection: Any, conversation: Conversation) -> None:
        """Follow the messages of a connection that has just been opened."""
        self._conversations[connection] = self._protocols[connection.protocol] = conversation

    def push(self, wrapped: Callable[..., T], protocol: Any, args: Args, kwargs: Kwargs) -> T:
        """Record a message that goes out past `send`, as those of `broadcast` do: the other end will count it."""
        pushing = None if _sending.get() else self._pushing(protocol, args, kwargs)
        if pushing is None:
            return wrapped(*args, **kwargs)
        sending, args, kwargs = pushing
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            guarded(sending.failed)(error, closed=isinstance(error, InvalidState))
            raise
        sending.done()
        return result

    async def send(
        self, wrapped: Callable[..., Awaitable[T]], connection: Any, args: Args, kwargs: Kwargs
    ) -> T:
        """Record a message that goes out."""
        outgoing = self._outgoing(connection, args, kwargs)
        if outgoing is None:
            return await wrapped(*args, **kwargs)
        token = _sending.set(True)
        try:
            result = await wrapped(*outgoing.args, **outgoing.kwargs)
        except BaseException as error:
            outgoing.failed(error)
            raise
        finally:
            _sending.reset(token)
        outgoing.done()
        return result

    def send_blocking(self, wrapped: Callable[..., T], connection: Any, args: Args, kwargs: Kwargs) -> T:
        """Record a message that goes out."""
        outgoing = self._outgoing(connection, args, kwargs)
        if outgoing is None:
            return wrapped(*args, **kwargs)
        token = _sending.set(True)
        try:
            result = wrapped(*outgoing.args, **outgoing.kwargs)
        except BaseException as error:
            outgoing.failed(error)
            raise
        finally:
            _sending.reset(token)
        outgoing.done()
        return result

    async def recv(
        self, wrapped: Callable[..., Awaitable[Data]], connection: Any, args: Args, kwargs: Kwargs
    ) -> Data:
        """Record a message that came in; it is in hand until the next is asked for."""
        conversation = self._conversations.get(connection)
        if conversation is None:
            return await wrapped(*args, **kwargs)
        conversation.back()
        return conversation.received(await wrapped(*args, **kwargs))

    def recv_blocking(
        self, wrapped: Callable[..., Data], connection: Any, args: Args, kwargs: Kwargs
    ) -> Data:
        """Record a message that came in; it is in hand until the next is asked for."""
        conversation = self._conversations.get(connection)
        if conversation is None:
            return wrapped(*args, **kwargs)
        conversation.back()
        return conversation.received(wrapped(*args, **kwargs))

    def recv_streaming(
        self, wrapped: Callable[..., AsyncIterator[Data]], connection: Any, args: Args, kwargs: Kwargs
    ) -> AsyncIterator[Data]:
        """Record a message that comes in frame by frame, from its first frame on."""
        frames, conversation = wrapped(*args, **kwargs), self._conversations.get(connection)
        return frames if conversation is None else _frames(frames, conversation)

    def recv_streaming_blocking(
        self, wrapped: Callable[..., Iterator[Data]], connection: Any, args: Args, kwargs: Kwargs
    ) -> Iterator[Data]:
        """Record a message that comes in frame by frame, from its first frame on."""
        frames, conversation = wrapped(*args, **kwargs), self._conversations.get(connection)
        return frames if conversation is None else _frames_blocking(frames, conversation)

    def lost(self, wrapped: Callable[..., T], connection: Any, args: Args, kwargs: Kwargs) -> T:
        """Note that a connection is over, when the library does."""
        result = wrapped(*args, **kwargs)
        self._lost(connection)
        return result

    def closing(self, wrapped: Callable[..., T], connection: Any, args: Args, kwargs: Kwargs) -> T:
        """Note the exception because of which the application closes a connection, or its handler is over."""
        conversation = self._conversations.get(connection)
        if conversation is not None:
            conversation.closing()
        return wrapped(*args, **kwargs)

    @guarded
    def _pushing(self, protocol: Any, args: Args, kwargs: Kwargs) -> tuple[Sending, Args, Kwargs] | None:
        conversation = self._protocols.get(protocol)
        sending = conversation.sending() if conversation is not None else None
        if sending is None:
            return None
        if sending.in_envelope:
            data = sending.wrapped(bytes(argument(args, kwargs, 0, "data")))
            args, kwargs = with_argument(args, kwargs, 0, "data", data)
        return sending, args, kwargs

    @guarded
    def _lost(self, connection: Any) -> None:
        conversation = self._conversations.get(connection)
        if conversation is not None:
            conversation.closed(connection.close_code, connection.close_reason or "")

    @guarded
    def _outgoing(self, connection: Any, args: Args, kwargs: Kwargs) -> "Outgoing | None":
        conversation = self._conversations.get(connection)
        sending = conversation.sending() if conversation is not None else None
        return None if conversation is None or sending is None else Outgoing(sending, args, kwargs)


class Outgoing:
    """A message on its way out: what the library is given to send, and whether it was a message at all."""

    def __init__(self, sending: Sending, args: Args, kwargs: Kwargs) -> None:
        self._sending = sending
        self._fragments = 0
        self._fragmented = False
        message = self._prepared(argument(args, kwargs, 0, "message"))
        self.args, self.kwargs = with_argument(args, kwargs, 0, "message", message)

    def done(self) -> None:
        """Note that the message went out; one without a single fragment did not."""
        if self._fragmented and not self._fragments:
            self.failed(ValueError("no fragments"))
        else:
            self._sending.done()

    @guarded
    def failed(self, error: BaseException) -> None:
        """Note that it did not go out."""
        self._sending.failed(error, closed=isinstance(error, ConnectionClosed))

    def _prepared(self, message: Any) -> Any:
        if isinstance(message, str | bytes | bytearray | memoryview):
            return self._first(message) if self._sending.in_envelope else message
        if isinstance(message, Mapping):
            return message  # the library says what is wrong with it
        if isinstance(message, Iterable):
            self._fragmented = True
            return self._chunks(message)
        if isinstance(message, AsyncIterable):
            self._fragmented = True
            return self._async_chunks(message)
        return message

    def _first(self, chunk: Any) -> Any:
        self._fragments += 1
        if not self._sending.in_envelope or not isinstance(chunk, str | bytes | bytearray | memoryview):
            return chunk
        return self._sending.wrapped(chunk if isinstance(chunk, str | bytes) else bytes(chunk))

    def _chunks(self, message: Iterable[Any]) -> Iterator[Any]:
        for chunk in message:
            yield chunk if self._fragments else self._first(chunk)

    async def _async_chunks(self, message: AsyncIterable[Any]) -> AsyncIterator[Any]:
        async for chunk in message:
            yield chunk if self._fragments else self._first(chunk)


async def _frames(frames: AsyncIterator[Data], conversation: Conversation) -> AsyncIterator[Data]:
    conversation.back()
    first = True
    async for frame in frames:
        yield conversation.received(frame) if first else frame
        first = False


def _frames_blocking(frames: Iterator[Data], conversation: Conversation) -> Iterator[Data]:
    conversation.back()
    first = True
    for frame in frames:
        yield conversation.received(frame) if first else frame
        first = False
