"""Whose work is whose: loops, batches, task groups, cancellation, request-reply, against the handlers' own records."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode
from transport_adapters import Adapter, Pulled
from transport_suite import OnBroker, OnKafka, OnNats, OnRabbitMQ
from transport_support import TIMEOUT_S, outcomes

from hopwatch.conventions import (
    ATTEMPT,
    DESTINATION,
    KAFKA_OFFSET,
    MESSAGE_ID,
    MESSAGE_ID_HEADER,
    MESSAGING_CONVERSATION_ID,
    RECEIVER,
    SETTLE_OUTCOME,
)

Record = tuple[str, str, str]
"""What a handler writes down for itself: receiver, message id, what it did with it."""


def own_id(pulled: Pulled) -> str:
    """Return the id a message carries."""
    [message_id] = pulled.message.header(MESSAGE_ID_HEADER)
    return message_id


class ScopeSuite(OnBroker):
    """What holds for every broker."""

    async def test_hops_are_what_the_services_wrote_down(
        self, broker: Adapter, unique: str, hops: Any
    ) -> None:
        """Every send, every handling and every settlement, by two receivers, and nothing else."""
        await broker.receivers(unique, "a", "b")
        bodies = [str(number).encode() for number in range(8)]
        records: list[Record] = []
        async with broker.pull(unique, "a", 8) as first, broker.pull(unique, "b", 8) as second:
            for body in bodies:
                await broker.send(unique, body)
            for name, messages in (("a", first), ("b", second)):
                receiver = broker.pull_receiver(unique, name)
                async for pulled in messages:
                    await pulled.settle()
                    records.append((receiver, own_id(pulled), "ack"))
        attempts = await hops.processed(16)
        sent = {send.attributes[MESSAGE_ID] for send in hops.sends()}
        assert (len(sent), outcomes(hops)) == (8, ["confirmed"] * 8)
        assert {message_id for _, message_id, _ in records} == sent
        seen = Counter((span.attributes[RECEIVER], span.attributes[MESSAGE_ID]) for span in attempts)
        assert seen == Counter((receiver, message_id) for receiver, message_id, _ in records)
        assert {span.attributes[ATTEMPT] for span in attempts} == {1}
        if broker.system == "kafka":
            committed = Counter(
                (span.attributes[RECEIVER], span.attributes[KAFKA_OFFSET]) for span in hops.settles()
            )
            assert committed == Counter(
                (broker.pull_receiver(unique, name), offset) for name in "ab" for offset in range(1, 9)
            )
        else:
            assert [span.attributes[SETTLE_OUTCOME] for span in attempts] == ["ack"] * 16

    async def test_a_loop_works_for_the_message_at_hand(
        self, broker: Adapter, unique: str, hops: Any
    ) -> None:
        """What its body sends is caused by that message alone; after the loop nothing is current."""
        await broker.receivers(unique, "a")
        await broker.receivers(f"{unique}-out", "b")
        async with broker.pull(unique, "a", 3) as messages:
            for body in (b"1", b"2", b"3"):
                await broker.send(unique, body)
            async for pulled in messages:
                await broker.send(f"{unique}-out", own_id(pulled).encode())
                await pulled.settle()
        assert not trace.get_current_span().get_span_context().is_valid
        attempts = {span.attributes[MESSAGE_ID]: span for span in await hops.processed(3)}
        sent = hops.sends()
        for send in sent[:3]:
            assert attempts[send.attributes[MESSAGE_ID]].parent.span_id == send.context.span_id
        causes = [send.parent.span_id for send in sent[3:]]
        assert causes == [attempts[send.attributes[MESSAGE_ID]].context.span_id for send in sent[:3]]

    async def test_tasks_of_a_group_keep_their_message(self, broker: Adapter, unique: str, hops: Any) -> None:
        """Worked on side by side, each task's sends belong to the message it was started for."""
        await broker.receivers(unique, "a")
        await broker.receivers(f"{unique}-out", "b")
        together = asyncio.Barrier(3)
        caused: dict[str, str] = {}

        async def work(pulled: Pulled) -> None:
            await together.wait()
            caused[own_id(pulled)] = f"{trace.get_current_span().get_span_context().span_id:016x}"
            await broker.send(f"{unique}-out", own_id(pulled).encode())
            await pulled.settle()

        async with broker.pull(unique, "a", 3) as messages:
            for body in (b"1", b"2", b"3"):
                await broker.send(unique, body)
            async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as group:
                async for pulled in messages:
                    group.create_task(work(pulled))
        attempts = {span.attributes[MESSAGE_ID]: span for span in await hops.processed(3)}
        assert caused == {message_id: f"{span.context.span_id:016x}" for message_id, span in attempts.items()}
        assert len({send.parent.span_id for send in hops.sends()[3:]}) == 3

    async def test_a_loop_may_go_from_task_to_task(
        self, broker: Adapter, unique: str, hops: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Taken in one task and ended in another: no context is detached where it was not attached."""
        await broker.receivers(unique, "a")
        async with broker.pull(unique, "a", 3) as messages:
            for body in (b"1", b"2", b"3"):
                await broker.send(unique, body)
            for _ in range(3):
                pulled = await asyncio.create_task(asyncio.wait_for(anext(messages), TIMEOUT_S))
                await asyncio.create_task(pulled.settle())
        assert len(await hops.processed(3)) == 3
        assert not trace.get_current_span().get_span_context().is_valid
        assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []

    async def test_a_cancelled_loop_ends_its_attempt(self, broker: Adapter, unique: str, hops: Any) -> None:
        """Cancellation arrives where it was sent, and the message was not settled."""
        await broker.receivers(unique, "a")
        began = asyncio.Event()
        at_the_end: list[bool] = []

        async def run() -> None:
            try:
                async with broker.pull(unique, "a", 1) as messages:
                    await broker.send(unique, b"1")
                    async for _ in messages:
                        began.set()
                        await asyncio.Event().wait()
            finally:
                at_the_end.append(trace.get_current_span().get_span_context().is_valid)

        running = asyncio.create_task(run())
        await asyncio.wait_for(began.wait(), TIMEOUT_S)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        [process] = await hops.processed()
        assert process.attributes[SETTLE_OUTCOME] == "none"
        assert (hops.settles(), at_the_end) == ([], [False])

    async def test_an_error_that_leaves_a_loop_detaches_its_message(
        self, broker: Adapter, unique: str, hops: Any
    ) -> None:
        """The exception is the application's own, and what comes after it belongs to nobody."""
        await broker.receivers(unique, "a")

        async def run() -> None:
            async with broker.pull(unique, "a", 1) as messages:
                await broker.send(unique, b"1")
                async for _ in messages:
                    raise ValueError("broken")

        with pytest.raises(ValueError, match="broken"):
            await run()
        assert not trace.get_current_span().get_span_context().is_valid
        await hops.processed()

    async def test_a_request_and_its_reply_are_two_hops_of_one_flow(
        self, broker: Adapter, unique: str, hops: Any
    ) -> None:
        """One conversation, two messages, each with its sender and its receiver, whatever the broker."""

        async def double(body: bytes) -> bytes:
            return body * 2

        async with broker.answering(unique, double):
            assert await broker.ask(unique, b"ab", TIMEOUT_S) == b"abab"
        attempts, sends = await hops.processed(2), hops.sends()
        assert len(sends) == len(attempts) == 2
        assert len({span.attributes[MESSAGING_CONVERSATION_ID] for span in (*sends, *attempts)}) == 1
        assert len({span.context.trace_id for span in (*sends, *attempts)}) == 1
        by_message = Counter(span.attributes[MESSAGE_ID] for span in (*sends, *attempts))
        assert sorted(by_message.values()) == [2, 2]
        asked = next(span for span in attempts if span.attributes[DESTINATION] == f"ask-{unique}")
        reply = next(send for send in sends if send.attributes[DESTINATION] != f"ask-{unique}")
        assert reply.parent.span_id == asked.context.span_id

    async def test_a_reply_that_comes_too_late_is_visible(
        self, broker: Adapter, unique: str, hops: Any
    ) -> None:
        """Who asked has given up; what was answered is in the same conversation, after that."""
        release = asyncio.Event()

        async def slowly(body: bytes) -> bytes:
            await release.wait()
            return body

        async with broker.answering(unique, slowly):
            with pytest.raises(TimeoutError):
                await broker.ask(unique, b"1", 1.0)
            given_up = len(hops.sends())
            release.set()
            await hops.until(lambda: len(hops.sends()) == 2)
        asked, reply = hops.sends()
        assert given_up == 1
        assert reply.attributes[MESSAGING_CONVERSATION_ID] == asked.attributes[MESSAGING_CONVERSATION_ID]
        assert reply.start_time > asked.end_time

    async def test_a_reply_that_never_comes_is_visible(self, broker: Adapter, unique: str, hops: Any) -> None:
        """The request was handled, badly, and its conversation has no second message."""

        async def fail(_: bytes) -> bytes:
            raise ValueError("broken")

        try:
            async with broker.answering(unique, fail):
                with pytest.raises(TimeoutError):
                    await broker.ask(unique, b"1", 1.0)
        except ValueError:
            assert broker.system == "kafka"  # its answerer is a loop of its own, which the error ended
        [asked], [process] = hops.sends(), await hops.processed()
        assert process.attributes[MESSAGE_ID] == asked.attributes[MESSAGE_ID]
        assert process.attributes[MESSAGING_CONVERSATION_ID] == asked.attributes[MESSAGING_CONVERSATION_ID]
        assert process.status.status_code is StatusCode.ERROR


class TestNats(OnNats, ScopeSuite):
    """The suite on NATS."""


class TestRabbitMQ(OnRabbitMQ, ScopeSuite):
    """The suite on RabbitMQ."""


class TestKafka(OnKafka, ScopeSuite):
    """The suite on Kafka."""
