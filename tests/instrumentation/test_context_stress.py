"""Many tasks at once: what one handles, sends and tags is never seen in another, however they take turns."""

import asyncio
import random

import pytest
from opentelemetry import baggage, trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import hopwatch
from hopwatch import faults
from hopwatch.context import flow_id, get_current, incoming_message_id
from hopwatch.conventions import MESSAGE_ID_HEADER, PublishOutcome, SettleOutcome, System
from hopwatch.handover import Batch, Handovers, handovers
from hopwatch.recorder import Destination, Recorder
from hopwatch.wrapping import header_getter

PLACE = Destination("orders", "orders")


class Message:
    """What a client library hands out."""

    def __init__(self, number: int, headers: dict[str, str]) -> None:
        self.number = number
        self.headers = headers


class Client:
    """A library with one queue that many tasks take from, wrapped as transports wrap theirs."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.handovers = Handovers()
        self.waiting: list[Message] = []
        for number in range(300):
            headers: dict[str, str] = {}
            with hopwatch.tag(number=number):
                recorder.send("send", PLACE, carrier=headers).end(PublishOutcome.SENT)
            self.waiting.append(Message(number, headers))

    async def take(self) -> Message | None:
        """Hand out one message to the current task, which is done with the one before."""
        self.handovers.back(self)
        await pause()
        if not self.waiting:
            return None
        message = self.waiting.pop()
        hop = self.recorder.process(
            "process", PLACE, receiver="r", carrier=message.headers, getter=header_getter
        )
        self.handovers.gave(self, [(message, hop)])
        return message


async def pause() -> None:
    """Let other tasks run, for as many turns as chance will have it."""
    for _ in range(random.randrange(4)):
        await asyncio.sleep(0)


def check(message: Message) -> None:
    """What is current here is the handling of this message and nothing else."""
    assert incoming_message_id() == message.headers[MESSAGE_ID_HEADER]
    assert baggage.get_baggage("hopwatch.key.number") == str(message.number)
    assert flow_id() == message.headers["traceparent"].split("-")[1]


async def handle(client: Client, message: Message, sent: dict[int, str]) -> None:
    """Work on a message as handlers do: send, start tasks, settle in the middle, with others in between."""
    check(message)
    await pause()
    headers: dict[str, str] = {}
    client.recorder.send("send", PLACE, carrier=headers).end(PublishOutcome.SENT)
    sent[message.number] = headers["traceparent"]
    await asyncio.create_task(inner(message))
    check(message)
    if message.number % 3 == 0:
        client.handovers.settled(message, SettleOutcome.ACK)
    await pause()
    check(message)


async def inner(message: Message) -> None:
    """A task that a handler starts belongs to its message."""
    await pause()
    check(message)


@pytest.mark.parametrize("tasks", [2, 100])
async def test_tasks_that_take_turns_never_see_each_other(tasks: int, spans: InMemorySpanExporter) -> None:
    """Every send and every inner task is in the flow of the message its own task was handling."""
    before = faults.counts()
    client = Client(Recorder(System.KAFKA, trace.get_tracer("hopwatch.test")))
    sent: dict[int, str] = {}
    messages = {message.number: message for message in client.waiting}

    async def work() -> None:
        outside = get_current()
        while (message := await client.take()) is not None:
            await handle(client, message, sent)
        assert get_current() is outside

    await asyncio.gather(*(work() for _ in range(tasks)))
    assert sorted(sent) == sorted(messages)
    for number, traceparent in sent.items():
        assert traceparent.split("-")[1] == messages[number].headers["traceparent"].split("-")[1]
    assert faults.counts() == before


async def test_batches_side_by_side_never_see_each_other(spans: InMemorySpanExporter) -> None:
    """Ten tasks, each in a loop over a batch of its own, are each in the flow of the message they are at."""
    client = Client(Recorder(System.KAFKA, trace.get_tracer("hopwatch.test")))
    sent: dict[int, str] = {}

    async def work(messages: list[Message]) -> None:
        begun = [
            (m, client.recorder.process("process", PLACE, receiver="r", carrier=m.headers, attach=False))
            for m in messages
        ]
        handovers.gave(client, begun)
        for message in Batch(messages, ends=False):
            await handle(client, message, sent)

    await asyncio.gather(*(work(client.waiting[start::10]) for start in range(10)))
    assert len(sent) == 300
