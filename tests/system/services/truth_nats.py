"""The NATS side of a client of the judge's judge: plain subjects, and JetStream."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import nats
from nats.js.errors import NoStreamResponseError
from truth_spec import Client

from hopwatch_demo.patience import scale_wait


class Broken(Exception):
    """A handler that fails."""


async def _ignore(_: Exception) -> None:
    """A handler that fails is meant."""


async def _connect() -> Any:
    return await nats.connect(os.environ["NATS"], connect_timeout=scale_wait(30), error_cb=_ignore)


class Wire:
    """A publisher; the route is the last token of the subject."""

    def __init__(self, source: str, client: Any) -> None:
        self._source, self._client = source, client
        self._jetstream = client.jetstream(timeout=scale_wait(60))

    async def publish(self, route: str, event: str) -> tuple[str, int, int]:
        """Send: `plain` and `nobody` without a stream, all else with the stream's answer."""
        if route in ("plain", "nobody"):
            await self._client.publish(f"{self._source}-{route}", event.encode())
            await self._client.flush()
            return "sent", -1, -1
        try:
            subject = f"{self._source}-nowhere" if route == "nowhere" else f"{self._source}.{route}"
            ack = await self._jetstream.publish(subject, event.encode())
        except NoStreamResponseError:
            return "returned", -1, -1
        return "confirmed", -1, ack.seq


async def connect(client: Client) -> Wire:
    """Return a publisher."""
    return Wire(client.source, await _connect())


async def receive(desk: Any) -> Callable[[], Awaitable[None]]:
    """Receive as a subscriber, or as a member of a durable consumer; return what ends that in order."""
    return await {"plain": _subscribe, "push": _be_pushed, "pull": _pull}[desk.client.settings["way"]](desk)


async def _subscribe(desk: Any) -> Callable[[], Awaitable[None]]:
    client = await _connect()

    async def handle(message: Any) -> None:
        event, fate = desk.take(message.data)
        await desk.open.wait()
        desk.settle(event, fate)
        if fate == "fail":
            raise Broken

    settings = desk.client.settings
    await client.subscribe(desk.client.source, queue=settings["group"], cb=handle)
    await client.flush()
    return client.drain  # type: ignore[no-any-return]


async def _be_pushed(desk: Any) -> Callable[[], Awaitable[None]]:
    client = await _connect()
    jetstream = client.jetstream(timeout=scale_wait(60))
    stream, _, durable = desk.client.receiver.partition("/")
    info = await jetstream.consumer_info(stream, durable)

    async def handle(message: Any) -> None:
        event, fate = desk.take(message.data)
        await desk.open.wait()
        if not desk.left.is_set():
            await _settle(desk, message, event, fate)

    await jetstream.subscribe_bind(stream, info.config, durable, cb=handle, manual_ack=True)
    await client.flush()
    return client.close  # type: ignore[no-any-return]


async def _pull(desk: Any) -> Callable[[], Awaitable[None]]:
    client = await _connect()
    jetstream = client.jetstream(timeout=scale_wait(60))
    stream, _, durable = desk.client.receiver.partition("/")
    pulling = await jetstream.pull_subscribe_bind(durable, stream=stream)

    async def pull() -> None:
        while not desk.left.is_set():
            await desk.open.wait()
            try:
                messages = await pulling.fetch(desk.client.settings["at_most"], timeout=1)
            except (TimeoutError, nats.errors.Error):
                continue
            for message in messages:
                event, fate = desk.take(message.data)
                await _settle(desk, message, event, fate)

    work = asyncio.create_task(pull())
    work.add_done_callback(_end_with)

    async def end() -> None:
        await work
        await client.close()

    return end


def _end_with(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        sys.stderr.write(f"a member ended: {error!r}\n")
        os._exit(1)


async def _settle(desk: Any, message: Any, event: str, fate: str) -> None:
    if fate == "hold":
        return
    if fate == "again":
        fate = "ack" if message.metadata.num_delivered > 1 else "again"
    desk.settle(event, fate)
    if fate in ("again", "give_up"):
        await message.nak()
    elif fate == "term":
        await message.term()
    else:
        await message.ack()
        if fate == "acked_failed":
            raise Broken
