"""Ways of using AMQP beyond publish and consume: RPC, workers, streams, exchanges bound to others."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.patterns import RPC, JsonMaster, NackMessage
from opentelemetry import trace
from opentelemetry.trace import StatusCode
from transport_support import TIMEOUT_S, outcomes, publish

from hopwatch.conventions import (
    ATTEMPT,
    DEAD_LETTER_REASON,
    DESTINATION,
    ERROR_TYPE,
    MESSAGE_ID,
    MESSAGING_BODY_SIZE,
    MESSAGING_CONVERSATION_ID,
    RECEIVER,
    SEQUENCE,
    SERVER_ADDRESS,
    SERVER_PORT,
    SETTLE_OUTCOME,
    STREAM,
    SUBSCRIPTION_PATTERN,
)
from hopwatch.transports.aio_pika import AioPikaInstrumentor
from hopwatch.transports.aio_pika.bindings import both
from hopwatch_demo.patience import scale_wait


async def test_a_queue_with_nothing_in_it_gives_no_hop(channel: Any, unique: str, hops: Any) -> None:
    """Empty is an exception or None, as the caller wants it; `no_ack` settles at once."""
    queue = await channel.declare_queue(unique, exclusive=True)
    assert await queue.get(fail=False) is None
    with pytest.raises(aio_pika.exceptions.QueueEmpty):
        await queue.get()
    assert hops.processes() == []
    await publish(channel, unique)
    assert (await queue.get(no_ack=True, fail=False)).body == b"1"
    await queue.get(fail=False)
    [process] = hops.processes()
    assert process.attributes[SETTLE_OUTCOME] == "auto"


async def test_a_remote_call_and_its_result_are_two_hops_of_one_flow(
    channel: Any, unique: str, hops: Any
) -> None:
    """`aio_pika.patterns.RPC`: the correlation id ties them, the call's handler is the parent of the result."""
    rpc = await RPC.create(channel)

    async def double(*, number: int) -> int:
        return number * 2

    await rpc.register(unique, double, auto_delete=True)
    assert await rpc.call(unique, {"number": 21}) == 42
    called, returned = hops.sends()
    asked, answered = sorted(await hops.processed(2), key=lambda span: span.start_time)
    await rpc.close()
    spans = (called, returned, asked, answered)
    assert outcomes(hops) == ["confirmed", "confirmed"]
    assert len({span.attributes[MESSAGING_CONVERSATION_ID] for span in spans}) == 1
    assert len({span.context.trace_id for span in spans}) == 1
    assert returned.parent.span_id == asked.context.span_id
    assert answered.attributes[MESSAGE_ID] == returned.attributes[MESSAGE_ID] != called.attributes[MESSAGE_ID]
    assert [asked.attributes[SETTLE_OUTCOME], answered.attributes[SETTLE_OUTCOME]] == ["ack", "auto"]


async def test_a_remote_call_nobody_takes_comes_back_dead(channel: Any, unique: str, hops: Any) -> None:
    """Expired in its queue, it reaches the caller's own as a dead letter of the same conversation."""
    rpc = await RPC.create(channel)
    queue = f"{unique}-idle"
    await channel.declare_queue(queue, auto_delete=True, arguments={"x-dead-letter-exchange": RPC.DLX_NAME})
    with pytest.raises(asyncio.TimeoutError):
        await rpc.call(queue, {}, expiration=0.1)
    [called] = hops.sends()
    [dead] = await hops.processed()
    await channel.queue_delete(queue)
    await rpc.close()
    assert dead.attributes[DEAD_LETTER_REASON] == "expired"
    assert dead.attributes[MESSAGE_ID] == called.attributes[MESSAGE_ID]
    assert dead.attributes[MESSAGING_CONVERSATION_ID] == called.attributes[MESSAGING_CONVERSATION_ID]


async def test_a_late_result_is_a_hop_though_its_caller_is_gone(channel: Any, unique: str, hops: Any) -> None:
    """The caller has given up; that its result came and was dropped is visible all the same."""
    rpc = await RPC.create(channel)
    release = asyncio.Event()

    async def slow() -> str:
        await release.wait()
        return "too late"

    await rpc.register(unique, slow, auto_delete=True)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(rpc.call(unique), scale_wait(1.0))
    assert (len(hops.sends()), hops.processes()) == (1, [])
    release.set()
    await hops.processed(2)
    await rpc.close()
    called, returned = hops.sends()
    [result] = [
        span for span in hops.processes() if span.attributes[MESSAGE_ID] == returned.attributes[MESSAGE_ID]
    ]
    assert result.attributes[MESSAGING_CONVERSATION_ID] == called.attributes[MESSAGING_CONVERSATION_ID]
    assert result.start_time > called.end_time


async def test_direct_reply_to_is_one_destination(channel: Any, unique: str, hops: Any) -> None:
    """Replies without a queue: whoever asked, both sides spell the destination alike."""
    server = await channel.declare_queue(unique, exclusive=True)
    replies = await channel.get_queue("amq.rabbitmq.reply-to", ensure=False)
    answered = asyncio.Event()

    async def answer(message: AbstractIncomingMessage) -> None:
        async with message.process():
            reply = aio_pika.Message(b"!", correlation_id=message.correlation_id)
            await channel.default_exchange.publish(reply, str(message.reply_to))

    async def take(_: AbstractIncomingMessage) -> None:
        answered.set()

    await replies.consume(take, no_ack=True)
    await server.consume(answer)
    await publish(channel, unique, b"?", reply_to="amq.rabbitmq.reply-to", correlation_id="c-1")
    await asyncio.wait_for(answered.wait(), TIMEOUT_S)
    attempts, sends = await hops.processed(2), hops.sends()
    spans = (*attempts, *sends)
    assert sorted(span.attributes[DESTINATION] for span in spans) == sorted(
        [unique, unique, "amq.rabbitmq.reply-to", "amq.rabbitmq.reply-to"]
    )
    assert {span.attributes[MESSAGING_CONVERSATION_ID] for span in spans} == {"c-1"}
    assert len({span.context.trace_id for span in spans}) == 1


async def test_a_worker_settles_as_its_exceptions_say(channel: Any, unique: str, hops: Any) -> None:
    """`aio_pika.patterns.Master`: done, given back and failing tasks."""
    master = JsonMaster(channel, requeue=False)
    seen: list[str] = []

    async def work(*, what: str) -> None:
        seen.append(what)
        if what == "again" and seen.count("again") == 1:
            raise NackMessage(requeue=True)
        if what == "bad":
            raise ValueError("broken")

    worker = await master.create_worker(unique, work, auto_delete=True)
    for what in ("good", "again", "bad"):
        await master.create_task(unique, {"what": what})
    attempts = await hops.processed(4)
    await worker.close()
    assert sorted(span.attributes[SETTLE_OUTCOME] for span in attempts) == ["ack", "ack", "reject", "requeue"]
    [failed] = [span for span in attempts if span.status.status_code is StatusCode.ERROR]
    assert (failed.attributes[ERROR_TYPE], failed.attributes[SETTLE_OUTCOME]) == ("ValueError", "reject")
    assert sorted(span.attributes[ATTEMPT] for span in attempts) == [1, 1, 1, 2]


async def test_a_stream_says_where_a_message_lies(channel: Any, unique: str, hops: Any) -> None:
    """A stream queue keeps what was read; each message's offset is its position."""
    queue = await channel.declare_queue(unique, durable=True, arguments={"x-queue-type": "stream"})
    for body in (b"1", b"2"):
        await publish(channel, unique, body)
    await channel.set_qos(prefetch_count=10)

    async def read() -> None:
        got: list[bytes] = []
        done = asyncio.Event()

        async def take(message: AbstractIncomingMessage) -> None:
            got.append(message.body)
            await message.ack()
            if len(got) == 2:
                done.set()

        tag = await queue.consume(take, arguments={"x-stream-offset": "first"})
        await asyncio.wait_for(done.wait(), TIMEOUT_S)
        await queue.cancel(tag)
        assert got == [b"1", b"2"]

    await read()
    await read()
    attempts = await hops.processed(4)
    await queue.delete(if_unused=False, if_empty=False)
    assert [(span.attributes[STREAM], span.attributes[SEQUENCE]) for span in attempts] == [
        (unique, 0),
        (unique, 1),
    ] * 2
    assert {span.attributes[RECEIVER] for span in attempts} == {unique}


async def test_a_queue_is_owed_what_comes_through_other_exchanges(
    connection: Any, unique: str, hops: Any
) -> None:
    """What passes both bindings, as far as a pattern can tell, for as long as both are there."""
    channel = await connection.channel()
    queue = await channel.declare_queue(unique, exclusive=True)
    outer = await channel.declare_exchange(f"{unique}-outer", "topic", auto_delete=True)
    middle = await channel.declare_exchange(f"{unique}-middle", "fanout", auto_delete=True)
    inner = await channel.declare_exchange(f"{unique}-inner", "topic", auto_delete=True)
    await queue.bind(inner, "order.#")
    await inner.bind(middle, "")
    await middle.bind(outer, "order.*")
    patterns = [report[SUBSCRIPTION_PATTERN] for report in hops.reports("subscribe")]
    assert patterns == [
        unique,
        f"{inner}:order.#",
        f"{middle}:order.#",
    ]  # order.# and order.* make no pattern
    await middle.bind(outer.name, "order.new")
    assert hops.reports("subscribe")[-1][SUBSCRIPTION_PATTERN] == f"{outer}:order.new"
    await outer.publish(aio_pika.Message(b"1"), "order.new")
    assert (await queue.get(no_ack=True)).routing_key == "order.new"
    await middle.unbind(outer, "order.new")
    assert [report[SUBSCRIPTION_PATTERN] for report in hops.reports("unsubscribe")] == [f"{outer}:order.new"]
    await inner.delete()
    assert {report[SUBSCRIPTION_PATTERN] for report in hops.reports("unsubscribe")} == set(patterns[1:]) | {
        f"{outer}:order.new"
    }


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("#", "a.b", "a.b"),
        ("a.*", "#", "a.*"),
        ("a.*", "a.*", "a.*"),
        ("a.*", "a.b", "a.b"),
        ("a.b.c", "a.#", "a.b.c"),
        ("a", "a.#", "a"),
        ("a.*", "b.c", None),
        ("a.b", "a.c", None),
        ("a.*", "*.b", None),
        (None, "#", None),
    ],
)
def test_two_bindings_let_through_what_passes_both(
    one: str | None, other: str | None, together: str | None
) -> None:
    """Never more than that; where no pattern tells it, nothing is claimed."""
    assert both(one, other) == together


async def test_a_consumer_restored_after_a_reconnect_is_recorded_once(
    connection: Any, unique: str, hops: Any
) -> None:
    """A robust queue consumes again with the application's own callback."""
    channel = await connection.channel()
    queue = await channel.declare_queue(unique, auto_delete=False)
    got: list[bytes] = []

    async def take(message: AbstractIncomingMessage) -> None:
        async with message.process():
            got.append(message.body)

    await queue.consume(take)
    await publish(channel, unique, b"before")
    await hops.processed(1)
    await connection.reconnect()
    await asyncio.wait_for(channel.ready(), TIMEOUT_S)
    await publish(channel, unique, b"after")
    await hops.processed(2)
    await queue.delete(if_unused=False, if_empty=False)
    assert got == [b"before", b"after"]
    assert [span.attributes[SETTLE_OUTCOME] for span in hops.processes()] == ["ack", "ack"]


async def test_a_copy_published_later_links_to_the_original(channel: Any, unique: str, hops: Any) -> None:
    """A dead letter sent on by a task that knows nothing of it still tells which message it is a copy of."""
    dead = await channel.declare_queue(f"{unique}-dead", exclusive=True)
    to_dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead.name}
    queue = await channel.declare_queue(unique, exclusive=True, arguments=to_dead)
    await publish(channel, unique)
    await (await asyncio.create_task(queue.get())).reject()
    async with asyncio.timeout(TIMEOUT_S):
        letter = None
        while letter is None:
            letter = await asyncio.create_task(dead.get(fail=False))
    assert not trace.get_current_span().get_span_context().is_valid
    await channel.default_exchange.publish(letter, f"{unique}-onward")
    original, copy = hops.sends()
    [link] = copy.links
    assert link.context.span_id == original.context.span_id
    assert link.attributes[MESSAGE_ID] == original.attributes[MESSAGE_ID] != copy.attributes[MESSAGE_ID]


async def test_every_hop_names_its_server(channel: Any, rabbitmq_url: str, unique: str, hops: Any) -> None:
    """As the connection was configured, on both sides; the size only on request."""
    queue = await channel.declare_queue(unique, exclusive=True)
    await publish(channel, unique)
    await (await queue.get()).ack()
    url = urlsplit(rabbitmq_url)
    for span in (*hops.sends(), *await hops.processed()):
        assert (span.attributes[SERVER_ADDRESS], span.attributes[SERVER_PORT]) == (url.hostname, url.port)
        assert MESSAGING_BODY_SIZE not in span.attributes


async def test_sizes_are_recorded_on_request(
    channel: Any, unique: str, hops: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`HOPWATCH_RECORD` is read when the library is instrumented."""
    AioPikaInstrumentor().uninstrument()
    monkeypatch.setenv("HOPWATCH_RECORD", "body_size")
    AioPikaInstrumentor().instrument(skip_dep_check=True)
    queue = await channel.declare_queue(unique, exclusive=True)
    await publish(channel, unique, b"12345")
    await (await queue.get()).ack()
    sizes = [span.attributes[MESSAGING_BODY_SIZE] for span in (*hops.sends(), *await hops.processed())]
    assert sizes == [5, 5]
