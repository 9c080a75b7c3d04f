"""What a loop's turn shows of a record: that it was processed, that it failed, that it was handed on or never begun."""

import asyncio
from itertools import islice
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from transport_support import TIMEOUT_S, Consumers

import hopwatch
from hopwatch.conventions import KAFKA_OFFSET, REASON, SETTLE_OUTCOME, Ending


@pytest.fixture
async def ten(producer: AIOKafkaProducer, unique: str) -> None:
    """Ten records in this test's topic."""
    for number in range(10):
        await producer.send_and_wait(unique, b"record %d" % number)


@pytest.fixture
async def consumer(ten: None, consume: Consumers) -> AIOKafkaConsumer:
    """A consumer of the ten."""
    return await consume()


class Broken(Exception):
    """What a handler raises."""


def endings(hops: Any) -> dict[int, str]:
    """How each attempt ended, by offset: '' well, `Broken`, or the `Ending`."""
    found = {}
    for span in hops.processes():
        said = dict(span.attributes)
        found[said[KAFKA_OFFSET]] = said.get("error.type") or said.get(REASON, "")
    return dict(sorted(found.items()))


async def batch_of(consumer: AIOKafkaConsumer, count: int) -> Any:
    """Return the only partition's batch, once all the records are in it."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            for records in (await consumer.getmany(timeout_ms=1_000)).values():
                if len(records) == count:
                    return records
            await consumer.seek_to_beginning()


async def work(records: Any, *, told: bool, fails: int | None = None, stops: int | None = None) -> None:
    """Work through a batch; fail or stop at an index."""
    for record in records:
        if told:
            with hopwatch.processing(record):
                await handle(record, fails)
        else:
            await handle(record, fails)
        if record.offset == stops:
            break


async def handle(record: Any, fails: int | None) -> None:
    """Fail with one record."""
    await asyncio.sleep(0)
    if record.offset == fails:
        raise Broken


@pytest.mark.parametrize(("told", "at"), [(True, "Broken"), (False, Ending.LEFT.value)])
async def test_what_comes_after_the_record_that_failed_was_not_begun(
    consumer: AIOKafkaConsumer, hops: Any, told: bool, at: str
) -> None:
    """The failure is caught and the consumer goes on: the rest of the batch was fetched, and nobody looked at it."""
    records = await batch_of(consumer, 10)
    with pytest.raises(Broken):
        await work(records, told=told, fails=4)
    await consumer.getmany(timeout_ms=100)
    assert endings(hops) == {
        **dict.fromkeys(range(4), ""),
        4: at,
        **dict.fromkeys(range(5, 10), Ending.UNREAD.value),
    }


async def test_a_batch_in_another_order_is_told_apart_by_processing(
    consumer: AIOKafkaConsumer, hops: Any
) -> None:
    """The loop that sorted them saw them all; only what was begun with counts."""
    records = await batch_of(consumer, 10)
    with pytest.raises(Broken):
        await work(sorted(records, key=lambda record: -record.offset), told=True, fails=6)
    await consumer.getmany(timeout_ms=100)
    assert endings(hops) == {
        **dict.fromkeys(range(6), Ending.UNREAD.value),
        6: "Broken",
        **dict.fromkeys(range(7, 10), ""),
    }


@pytest.mark.parametrize("told", [True, False])
async def test_what_a_loop_stops_before_was_not_begun(
    consumer: AIOKafkaConsumer, hops: Any, told: bool
) -> None:
    """Nor is what it stopped at any the worse for it."""
    await work(await batch_of(consumer, 10), told=told, stops=6)
    await consumer.getmany(timeout_ms=100)
    assert endings(hops) == {
        **dict.fromkeys(range(7), ""),
        **dict.fromkeys(range(7, 10), Ending.UNREAD.value),
    }


async def test_a_batch_worked_through_is_processed_whatever_looks_at_it_first(
    consumer: AIOKafkaConsumer, hops: Any
) -> None:
    """A list made of it for the purpose belongs to the same code."""
    records = await batch_of(consumer, 10)
    in_order = [record for record in records if record.value]
    await work(in_order, told=False)
    await consumer.getmany(timeout_ms=100)
    assert endings(hops) == dict.fromkeys(range(10), "")


async def test_a_look_at_the_first_records_is_no_loop(consumer: AIOKafkaConsumer, hops: Any) -> None:
    """Whatever is done with the others is seen no better for it."""
    records = await batch_of(consumer, 10)
    assert next(iter(records)).offset == 0
    assert len(list(islice(records, 3))) == 3
    for number in range(10):
        await handle(records[number], None)
    await consumer.getmany(timeout_ms=100)
    assert endings(hops) == dict.fromkeys(range(10), "")


async def test_a_loop_over_the_first_records_leaves_the_others(consumer: AIOKafkaConsumer, hops: Any) -> None:
    """What it does not take was not begun."""
    for record in islice(await batch_of(consumer, 10), 4):
        await handle(record, None)
    await consumer.getmany(timeout_ms=100)
    assert endings(hops) == {
        **dict.fromkeys(range(4), ""),
        **dict.fromkeys(range(4, 10), Ending.UNREAD.value),
    }


async def test_an_exception_that_ends_the_consumer_is_the_failure_of_one_record(
    consumer: AIOKafkaConsumer, hops: Any
) -> None:
    """Of a batch that is the one the loop was at."""
    with pytest.raises(Broken):
        await work_and_stop(consumer)
    assert endings(hops) == {
        **dict.fromkeys(range(4), ""),
        4: "Broken",
        **dict.fromkeys(range(5, 10), Ending.UNREAD.value),
    }


async def work_and_stop(consumer: AIOKafkaConsumer) -> None:
    """Work through a batch, fail, and stop the consumer for all that."""
    try:
        await work(await batch_of(consumer, 10), told=False, fails=4)
    finally:
        await consumer.stop()


async def by_iteration(consumer: AIOKafkaConsumer, take: Any, count: int) -> None:
    """Give each record to a function, by `async for`."""
    async for record in consumer:
        await take(record)
        if record.offset == count - 1:
            break


async def by_getone(consumer: AIOKafkaConsumer, take: Any, count: int) -> None:
    """The same by `getone`, with a variable."""
    for _ in range(count):
        record = await consumer.getone()
        await take(record)


async def by_getone_at_once(consumer: AIOKafkaConsumer, take: Any, count: int) -> None:
    """The same by `getone`, without."""
    for _ in range(count):
        await take(await consumer.getone())


async def by_getmany(consumer: AIOKafkaConsumer, take: Any, count: int) -> None:
    """The same by `getmany`."""
    while count:
        batches = await consumer.getmany(timeout_ms=100)
        for records in batches.values():
            for record in records:
                await take(record)
                count -= 1
    await consumer.getmany(timeout_ms=10)


LOOPS = [by_iteration, by_getone, by_getone_at_once, by_getmany]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("blocks", [False, True])
async def test_a_loop_that_comes_back_with_nothing_left_elsewhere_has_processed(
    consumer: AIOKafkaConsumer, hops: Any, loop: Any, blocks: bool
) -> None:
    """Whether or not its body waits."""

    async def take(record: Any) -> None:
        payload = record.value
        if blocks:
            await asyncio.sleep(0.002)
        assert payload

    async with asyncio.timeout(TIMEOUT_S):
        await loop(consumer, take, 10)
    await consumer.stop()
    assert endings(hops) == dict.fromkeys(range(10), "")


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("part", ["record", "value"])
@pytest.mark.parametrize("blocks", [False, True])
async def test_what_lies_in_a_queue_when_the_loop_comes_back_was_handed_on(
    consumer: AIOKafkaConsumer, hops: Any, loop: Any, part: str, blocks: bool
) -> None:
    """The whole record or what was sent with it: somebody else will work on it, and may fail."""
    queue: asyncio.Queue[Any] = asyncio.Queue()

    async def take(record: Any) -> None:
        if blocks:
            await asyncio.sleep(0.002)
        queue.put_nowait(record if part == "record" else record.value)

    async with asyncio.timeout(TIMEOUT_S):
        await loop(consumer, take, 10)
    await consumer.stop()
    assert endings(hops) == dict.fromkeys(range(10), Ending.HELD.value)


async def test_a_worker_may_still_say_how_it_ended(consumer: AIOKafkaConsumer, hops: Any) -> None:
    """What was handed on and worked on later is told later, well or not; a worker that is at it when the loop comes back is waited for."""
    queue: asyncio.Queue[Any] = asyncio.Queue()

    async def worker() -> None:
        while True:
            record = await queue.get()
            try:
                with hopwatch.processing(record):
                    await handle(record, 3)
            except Broken:
                pass
            del record
            queue.task_done()

    async with asyncio.timeout(TIMEOUT_S):
        await by_getone_at_once(consumer, queue.put, 10)
        task = asyncio.create_task(worker())
        await queue.join()
    task.cancel()
    await consumer.stop()
    late = {
        dict(span.attributes)[KAFKA_OFFSET]: dict(span.attributes).get("error.type", "")
        for span in hops.settles()
        if dict(span.attributes).get(REASON) == Ending.LATE
    }
    in_time = {offset: how for offset, how in endings(hops).items() if how != Ending.HELD}
    assert {**in_time, **late} == {offset: "Broken" if offset == 3 else "" for offset in range(10)}
    assert len(late) >= 9


async def test_a_loop_left_by_an_exception_that_is_caught_elsewhere_processed_nothing(
    consumer: AIOKafkaConsumer, hops: Any
) -> None:
    """What it was at is neither processed nor seen to fail: who caught the exception knows."""

    async def fail(record: Any) -> None:
        await handle(record, 1)

    async with asyncio.timeout(TIMEOUT_S):
        try:
            await by_iteration(consumer, fail, 10)
        except Broken:
            await by_iteration(consumer, handle_any, 10)
    await consumer.stop()
    assert endings(hops) == {**dict.fromkeys(range(10), ""), 1: Ending.LEFT.value}


async def handle_any(record: Any) -> None:
    """Process a record."""
    await handle(record, None)


async def test_a_task_that_fails_fails_with_what_it_had_in_hand(
    consumer: AIOKafkaConsumer, hops: Any
) -> None:
    """Nobody asks its consumer for more, and nobody closes it."""

    async def fail(record: Any) -> None:
        await handle(record, 2)

    task = asyncio.create_task(by_getone(consumer, fail, 10))
    with pytest.raises(Broken):
        await asyncio.wait_for(task, TIMEOUT_S)
    assert endings(hops) == {0: "", 1: "", 2: "Broken"}


async def test_a_reader_without_a_group_claims_no_more(ten: None, consume: Consumers, hops: Any) -> None:
    """No acknowledgement is due, so nothing will ever be told but this."""
    consumer = await consume(group_id=None)
    kept: list[Any] = []
    await by_getone_at_once(consumer, append_to(kept), 2)
    await consumer.stop()
    said = [dict(span.attributes) for span in hops.processes()]
    assert {one[SETTLE_OUTCOME] for one in said} == {"none"}
    assert all(one[REASON].startswith(Ending.HELD) and one[REASON].endswith("is due") for one in said)


def append_to(kept: list[Any]) -> Any:
    """Return a handler that keeps what it gets."""

    async def keep(record: Any) -> None:
        kept.append(record)

    return keep
