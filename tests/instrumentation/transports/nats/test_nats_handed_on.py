"""What a loop's turn shows of a message: that it was processed, handed on or never begun."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from transport_support import TIMEOUT_S

import hopwatch
from hopwatch.conventions import ERROR_TYPE, MESSAGE_ID, REASON, SETTLE_OUTCOME, Ending

COUNT = 5


class Broken(Exception):
    """What a handler raises."""


def endings(hops: Any) -> list[str]:
    """How each attempt ended: by an error, in which way let go of, or else how it was settled."""
    said = [dict(span.attributes) for span in hops.processes()]
    return [str(one.get(ERROR_TYPE) or one.get(REASON) or one[SETTLE_OUTCOME]) for one in said]


async def by_iteration(subscription: Any, take: Any) -> None:
    """Give each message to a function, by `async for`."""
    seen = 0
    async for message in subscription.messages:
        await take(message)
        seen += 1
        if seen == COUNT:
            break


async def by_next_msg(subscription: Any, take: Any) -> None:
    """The same by `next_msg`, with a variable."""
    for _ in range(COUNT):
        message = await subscription.next_msg(timeout=TIMEOUT_S)
        await take(message)


async def by_next_msg_at_once(subscription: Any, take: Any) -> None:
    """The same by `next_msg`, without."""
    for _ in range(COUNT):
        await take(await subscription.next_msg(timeout=TIMEOUT_S))


LOOPS = [by_iteration, by_next_msg, by_next_msg_at_once]
HELD = f"{Ending.HELD.value}; no acknowledgement is due"
LEFT = f"{Ending.LEFT.value}; no acknowledgement is due"


async def ready(client: Client, unique: str) -> Any:
    """A subscription with messages in it."""
    subscription = await client.subscribe(unique)
    for number in range(COUNT):
        await client.publish(unique, b"message %d" % number)
    await client.flush()
    return subscription


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("blocks", [False, True])
async def test_a_loop_that_comes_back_with_nothing_left_elsewhere_has_processed(
    client: Client, unique: str, hops: Any, loop: Any, blocks: bool
) -> None:
    """Whether or not its body waits."""

    async def take(message: Msg) -> None:
        data = message.data
        if blocks:
            await asyncio.sleep(0.001)
        assert data

    subscription = await ready(client, unique)
    await loop(subscription, take)
    await subscription.unsubscribe()
    await hops.until(lambda: len(hops.processes()) == COUNT)
    assert endings(hops) == ["auto"] * COUNT


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("blocks", [False, True])
async def test_what_lies_in_a_queue_when_the_loop_comes_back_was_handed_on(
    client: Client, unique: str, hops: Any, loop: Any, blocks: bool
) -> None:
    """Somebody else will work on it, and may fail."""
    queue: asyncio.Queue[Msg] = asyncio.Queue()

    async def take(message: Msg) -> None:
        if blocks:
            await asyncio.sleep(0.001)
        queue.put_nowait(message)

    subscription = await ready(client, unique)
    await loop(subscription, take)
    await subscription.unsubscribe()
    assert endings(hops) == [HELD] * COUNT


async def test_a_callback_that_hands_on_has_not_processed(client: Client, unique: str, hops: Any) -> None:
    """The worker that it hands on to may say how that ended."""
    queue: asyncio.Queue[Msg] = asyncio.Queue()

    async def put(message: Msg) -> None:
        queue.put_nowait(message)

    subscription = await client.subscribe(unique, cb=put)
    for number in range(2):
        await client.publish(unique, b"message %d" % number)
    await hops.until(lambda: len(hops.processes()) == 2)
    with hopwatch.processing(await queue.get()):
        pass
    with pytest.raises(Broken), hopwatch.processing(await queue.get()):
        raise Broken
    await subscription.unsubscribe()
    assert endings(hops) == [HELD] * 2
    late = [dict(span.attributes) for span in hops.settles()]
    assert [(one[SETTLE_OUTCOME], one.get(ERROR_TYPE)) for one in late] == [
        ("auto", None),
        ("auto", "Broken"),
    ]


async def test_a_loop_left_by_an_exception_that_is_caught_elsewhere_processed_nothing(
    client: Client, unique: str, hops: Any
) -> None:
    """Who caught it knows; the next loop begins with the next message."""

    async def fail(message: Msg) -> None:
        if message.data == b"message 1":
            raise Broken

    subscription = await ready(client, unique)
    with pytest.raises(Broken):
        await by_iteration(subscription, fail)
    async with asyncio.timeout(TIMEOUT_S):
        async for message in subscription.messages:
            if message.data == b"message 4":
                break
    await subscription.unsubscribe()
    await hops.until(lambda: len(hops.processes()) == COUNT)
    assert Counter(endings(hops)) == {"auto": COUNT - 1, LEFT: 1}


@pytest.mark.parametrize("told", [True, False])
async def test_what_comes_after_the_message_that_failed_was_not_begun(
    js: Any, unique: str, hops: Any, told: bool
) -> None:
    """Of a fetch; the server gives it again."""
    for number in range(COUNT):
        await js.publish(f"{unique}.x", b"message %d" % number)
    pull = await js.pull_subscribe(f"{unique}.>", durable="d")
    messages = await pull.fetch(COUNT, timeout=TIMEOUT_S)
    with pytest.raises(Broken):
        await work(messages, told=told)
    await pull.unsubscribe()
    assert (
        endings(hops) == ["ack"] * 2 + ["Broken" if told else Ending.LEFT.value] + [Ending.UNREAD.value] * 2
    )


async def work(messages: list[Msg], *, told: bool) -> None:
    """Acknowledge two messages, and fail with the third."""
    for number, message in enumerate(messages):
        if told:
            with hopwatch.processing(message):
                await acknowledge(number, message)
        else:
            await acknowledge(number, message)


async def acknowledge(number: int, message: Msg) -> None:
    """Acknowledge a message, or fail."""
    if number == 2:
        raise Broken
    await message.ack()


async def test_what_the_client_drops_is_told(
    client: Client, unique: str, hops: Any, errors: list[Exception]
) -> None:
    """More is pending than the subscription may hold: what comes on top is lost, and what was held is not."""
    release = asyncio.Event()

    async def slow(_: Msg) -> None:
        await release.wait()

    subscription = await client.subscribe(unique, cb=slow, pending_msgs_limit=2)
    for number in range(COUNT):
        await client.publish(unique, b"message %d" % number)
    await client.flush()
    await hops.until(lambda: errors)
    release.set()
    await hops.until(lambda: len(hops.processes()) == COUNT)
    await subscription.unsubscribe()
    lost = Counter(endings(hops))[f"{Ending.DROPPED.value}; no acknowledgement is due"]
    assert lost == len(errors) > 0
    assert Counter(endings(hops))["auto"] == COUNT - lost
    ids = {dict(span.attributes)[MESSAGE_ID] for span in hops.processes()}
    assert ids == {dict(span.attributes)[MESSAGE_ID] for span in hops.sends()}
