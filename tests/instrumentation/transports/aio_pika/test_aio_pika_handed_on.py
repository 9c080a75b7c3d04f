"""What a loop's turn shows of a message that needs no acknowledgement: that it was processed, failed or handed on."""

import asyncio
from typing import Any

import pytest
from aio_pika import Message
from transport_support import TIMEOUT_S

from hopwatch.conventions import ERROR_TYPE, NOTHING_DUE, REASON, SETTLE_OUTCOME, Ending

COUNT = 4
HELD, LEFT = (f"{ending.value}{NOTHING_DUE}" for ending in (Ending.HELD, Ending.LEFT))


class Broken(Exception):
    """What a handler raises."""


def endings(hops: Any) -> list[str]:
    """How each attempt ended: by an error, in which way let go of, or else how it was settled."""
    said = [dict(span.attributes) for span in hops.processes()]
    return [str(one.get(ERROR_TYPE) or one.get(REASON) or one[SETTLE_OUTCOME]) for one in said]


@pytest.fixture
async def queue(channel: Any, unique: str) -> Any:
    """A queue with messages in it."""
    queue = await channel.declare_queue(unique, auto_delete=False)
    for number in range(COUNT):
        await channel.default_exchange.publish(Message(b"message %d" % number), unique)
    yield queue
    await queue.delete(if_unused=False, if_empty=False)


async def by_iteration(queue: Any, take: Any) -> None:
    """Give each message to a function, by iterator."""
    seen = 0
    async with asyncio.timeout(TIMEOUT_S), queue.iterator(no_ack=True) as messages:
        async for message in messages:
            await take(message)
            seen += 1
            if seen == COUNT:
                break


async def by_get(queue: Any, take: Any) -> None:
    """The same by `get`."""
    for _ in range(COUNT):
        message = await queue.get(no_ack=True, timeout=TIMEOUT_S)
        await take(message)
    await queue.get(no_ack=True, fail=False)


LOOPS = [by_iteration, by_get]


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_loop_that_comes_back_with_nothing_left_elsewhere_has_processed(
    queue: Any, hops: Any, loop: Any
) -> None:
    """As far as can be seen."""

    async def take(message: Any) -> None:
        await asyncio.sleep(0)
        assert message.body

    await loop(queue, take)
    await hops.until(lambda: len(hops.processes()) == COUNT)
    assert endings(hops) == ["auto"] * COUNT


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("blocks", [False, True])
async def test_what_lies_in_a_queue_when_the_loop_comes_back_was_handed_on(
    queue: Any, hops: Any, loop: Any, blocks: bool
) -> None:
    """Somebody else will work on it, and may fail."""
    others: asyncio.Queue[Any] = asyncio.Queue()

    async def take(message: Any) -> None:
        if blocks:
            await asyncio.sleep(0)
        others.put_nowait(message)

    await loop(queue, take)
    await hops.until(lambda: len(hops.processes()) == COUNT)
    assert endings(hops) == [HELD] * COUNT


async def test_what_a_callback_hands_on_is_not_processed(queue: Any, hops: Any) -> None:
    """Its return says no more."""
    others: asyncio.Queue[Any] = asyncio.Queue()
    tag = await queue.consume(others.put, no_ack=True)
    await hops.until(lambda: len(hops.processes()) == COUNT)
    await queue.cancel(tag)
    assert endings(hops) == [HELD] * COUNT


async def test_an_exception_that_leaves_the_iterator_is_a_failure(queue: Any, hops: Any) -> None:
    """Of the message it was at."""

    async def fail(message: Any) -> None:
        if message.body == b"message 1":
            raise Broken

    with pytest.raises(Broken):
        await by_iteration(queue, fail)
    assert endings(hops) == ["auto", "Broken"]
