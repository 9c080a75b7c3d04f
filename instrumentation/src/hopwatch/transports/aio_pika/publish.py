"""Publishing: ids on a copy of the message, the outcome from the broker's answer."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from aio_pika.abc import AbstractMessage
from aio_pika.exchange import Exchange

from hopwatch.conventions import DEATHS_HEADER
from hopwatch.recorder import Recorder, SendHop
from hopwatch.transports.aio_pika.places import (
    Outgoing,
    conversation,
    deaths,
    outcome_of_error,
    outcome_of_result,
    own_message_id,
    sent_to,
    total,
)
from hopwatch.wrapping import Args, Kwargs, argument, fresh_headers, guarded, with_argument

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Sending:
    hop: SendHop
    args: Args
    kwargs: Kwargs


class Publishing:
    """The wrapper around `Exchange.publish`, which every way to publish goes through."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def publish(
        self, wrapped: Callable[..., Awaitable[T]], exchange: Exchange, args: Args, kwargs: Kwargs
    ) -> T:
        """Record a publish with what the broker answered."""
        sending = self._begin(exchange, args, kwargs)
        if sending is None:
            return await wrapped(*args, **kwargs)
        try:
            result = await wrapped(*sending.args, **sending.kwargs)
        except BaseException as error:
            sending.hop.end(outcome_of_error(error), error=error)
            raise
        outcome, reason = outcome_of_result(result)
        sending.hop.end(outcome, reason=reason)
        return result

    @guarded
    def _begin(self, exchange: Exchange, args: Args, kwargs: Kwargs) -> _Sending | None:
        message: AbstractMessage = argument(args, kwargs, 0, "message")
        routing_key = argument(args, kwargs, 1, "routing_key")
        headers = fresh_headers(message.headers)
        headers.pop(DEATHS_HEADER, None)
        died = deaths(headers)
        if died:
            headers[DEATHS_HEADER] = total(died)
        alias = own_message_id(message)
        hop = self._recorder.send(
            "publish",
            sent_to(exchange.name, routing_key),
            carrier=headers,
            attributes=conversation(message),
            aliases=[alias] if alias is not None else (),
        )
        outgoing = Outgoing(message, headers, alias or hop.message_id)
        return _Sending(hop, *with_argument(args, kwargs, 0, "message", outgoing))
