"""Request and reply over core NATS: two hops of one flow, and every way in which the second may be missing."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import nats
import nats.micro
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout
from nats.micro.service import ServiceError
from opentelemetry.trace import StatusCode
from transport_support import TIMEOUT_S, outcomes

from hopwatch.conventions import (
    DESTINATION,
    ERROR_TYPE,
    MESSAGE_ID,
    MESSAGE_ID_HEADER,
    MESSAGING_CONVERSATION_ID,
    MESSAGING_DESTINATION_TEMPORARY,
    PUBLISH_OUTCOME,
    REASON,
    RECEIVER,
)


async def test_a_request_and_its_reply_are_two_hops_of_one_flow(
    client: Client, unique: str, hops: Any
) -> None:
    """The reply goes to the one temporary destination `_INBOX`; the inbox's name ties the two together."""

    async def answer(message: Msg) -> None:
        await message.respond(b"42")

    await client.subscribe(unique, cb=answer)
    reply = await client.request(unique, b"?", timeout=TIMEOUT_S)
    assert reply.data == b"42"
    asked, answered = await hops.processed(2)
    replied, requested = hops.sends()
    assert requested.attributes[PUBLISH_OUTCOME] == "confirmed"
    assert (replied.attributes[PUBLISH_OUTCOME], replied.attributes[DESTINATION]) == ("sent", "_INBOX")
    assert replied.attributes[MESSAGING_DESTINATION_TEMPORARY] is True
    assert answered.attributes[RECEIVER] == "under-test:_INBOX"
    assert answered.attributes[MESSAGE_ID] == replied.attributes[MESSAGE_ID]
    assert (
        len({span.attributes[MESSAGING_CONVERSATION_ID] for span in (asked, answered, replied, requested)})
        == 1
    )
    assert len({span.context.trace_id for span in (asked, answered, replied, requested)}) == 1
    assert replied.parent.span_id == asked.context.span_id


async def test_a_request_with_nobody_there_is_returned(client: Client, unique: str, hops: Any) -> None:
    """No responders: the exception is the library's own, the outcome says why."""
    with pytest.raises(NoRespondersError):
        await client.request(unique, b"?")
    [send] = hops.sends()
    assert send.attributes[PUBLISH_OUTCOME] == "returned"
    assert "NoRespondersError" in send.attributes[REASON]
    assert send.status.status_code is StatusCode.ERROR


async def test_a_request_without_an_answer_is_unconfirmed(client: Client, unique: str, hops: Any) -> None:
    """A timeout says nothing of whether the request arrived."""
    await client.subscribe(unique)
    with pytest.raises(NatsTimeout):
        await client.request(unique, b"?", timeout=0.05)
    assert [send.attributes[PUBLISH_OUTCOME] for send in hops.sends()] == ["unconfirmed"]


async def test_a_cancelled_request_is_unconfirmed(client: Client, unique: str, hops: Any) -> None:
    """Cancellation goes through unchanged and ends the send."""
    await client.subscribe(unique)
    asking = asyncio.create_task(client.request(unique, b"?", timeout=TIMEOUT_S))
    await hops.until(lambda: client.stats["out_msgs"])
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert [send.attributes[PUBLISH_OUTCOME] for send in hops.sends()] == ["unconfirmed"]


async def test_a_reply_from_elsewhere_belongs_to_the_flow(client: Client, unique: str, hops: Any) -> None:
    """A responder may answer from a task that knows nothing of the request."""
    subscription = await client.subscribe(unique)
    inbox = client.new_inbox()
    replies = await client.subscribe(inbox)
    await client.publish(unique, b"?", reply=inbox)
    got = await asyncio.create_task(subscription.next_msg(timeout=TIMEOUT_S))
    await got.respond(b"!")
    await replies.next_msg(timeout=TIMEOUT_S)
    asked, replied = hops.sends()
    assert replied.context.trace_id == asked.context.trace_id
    assert replied.attributes[DESTINATION] == "_INBOX"
    assert (
        asked.attributes[MESSAGING_CONVERSATION_ID] == replied.attributes[MESSAGING_CONVERSATION_ID] == inbox
    )


async def test_an_old_style_request_is_recorded_alike(client: Client, unique: str, hops: Any) -> None:
    """It carries our ids, though nats-py gives it no headers of the caller's."""
    got: list[Msg] = []

    async def answer(message: Msg) -> None:
        got.append(message)
        await message.respond(b"42")

    await client.subscribe(unique, cb=answer)
    reply = await client.request(unique, b"?", TIMEOUT_S, True, {"mine": "dropped"})
    asked, answered = await hops.processed(2)
    replied, requested = hops.sends()
    assert reply.data == b"42"
    assert "mine" not in (got[0].headers or {})
    assert asked.attributes[MESSAGE_ID] == requested.attributes[MESSAGE_ID]
    assert answered.attributes[MESSAGE_ID] == replied.attributes[MESSAGE_ID]
    assert requested.name == f"request {unique}"
    assert (
        len({span.attributes[MESSAGING_CONVERSATION_ID] for span in (asked, answered, replied, requested)})
        == 1
    )
    assert outcomes(hops) == ["sent", "confirmed"]


async def test_an_old_style_request_fails_alike(client: Client, unique: str, hops: Any) -> None:
    """Nobody there, or nobody who answers in time."""
    with pytest.raises(NoRespondersError):
        await client.request(unique, b"?", old_style=True)
    await client.subscribe(unique)
    with pytest.raises(NatsTimeout):
        await client.request(unique, b"?", timeout=0.05, old_style=True)
    assert outcomes(hops) == ["returned", "unconfirmed"]


async def test_a_late_reply_is_seen_and_said_to_be_late(client: Client, unique: str, hops: Any) -> None:
    """The library drops it; the ledger would otherwise miss why its sender's message came to nothing."""
    release = asyncio.Event()

    async def answer(message: Msg) -> None:
        await release.wait()
        await message.respond(b"too late")

    await client.subscribe(unique, cb=answer)
    with pytest.raises(NatsTimeout):
        await client.request(unique, b"?", timeout=0.05)
    release.set()
    await hops.processed(2)
    late = next(span for span in hops.processes() if span.attributes[DESTINATION] == "_INBOX")
    requested, replied = hops.sends()
    assert outcomes(hops) == ["unconfirmed", "sent"]
    assert late.attributes[MESSAGE_ID] == replied.attributes[MESSAGE_ID]
    assert (late.status.status_code, late.attributes[ERROR_TYPE]) == (StatusCode.ERROR, "LateReply")
    assert late.attributes[MESSAGING_CONVERSATION_ID] == requested.attributes[MESSAGING_CONVERSATION_ID]


async def test_a_request_handled_without_a_reply_is_a_conversation_of_one(
    client: Client, unique: str, hops: Any
) -> None:
    """Handled well, and yet nothing came back: both are visible, under one conversation id."""

    async def forget(_: Msg) -> None: ...

    await client.subscribe(unique, cb=forget)
    with pytest.raises(NatsTimeout):
        await client.request(unique, b"?", timeout=0.05)
    [asked] = await hops.processed()
    [requested] = hops.sends()
    assert asked.attributes[MESSAGING_CONVERSATION_ID] == requested.attributes[MESSAGING_CONVERSATION_ID]
    assert (asked.status.status_code, outcomes(hops)) == (StatusCode.UNSET, ["unconfirmed"])


async def test_an_echo_of_the_requests_headers_is_no_hop(
    client: Client, nats_url: str, unique: str, hops: Any
) -> None:
    """A responder without hopwatch sends back the request's own id, as nats-py's `respond` does by itself."""
    address = urlsplit(nats_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(b'CONNECT {"headers":true,"verbose":false}\r\nSUB %s 1\r\nPING\r\n' % unique.encode())
    await asyncio.wait_for(reader.readuntil(b"PONG\r\n"), TIMEOUT_S)

    async def echo() -> None:
        _, _, reply, size, _ = (await reader.readuntil(b"\r\n")).split()[1:]
        headers = await reader.readexactly(int(size))
        writer.write(b"HPUB %s %d %d\r\n%s42\r\n" % (reply, len(headers), len(headers) + 2, headers))
        await writer.drain()

    answering = asyncio.create_task(asyncio.wait_for(echo(), TIMEOUT_S))
    reply = await client.request(unique, b"", timeout=TIMEOUT_S)
    await answering
    writer.close()
    [requested] = hops.sends()
    assert (reply.data, reply.headers[MESSAGE_ID_HEADER]) == (b"42", requested.attributes[MESSAGE_ID])
    assert (outcomes(hops), hops.processes()) == (["confirmed"], [])


@pytest.mark.filterwarnings(
    "ignore:datetime.datetime.utcnow:DeprecationWarning"
)  # nats-py's, since Python 3.12
async def test_a_micro_service_answers_within_the_flow(client: Client, unique: str, hops: Any) -> None:
    """`nats.micro` is core request-reply underneath; its errors are replies like others."""

    async def handle(request: Any) -> None:
        await request.respond(request.data.upper())

    async def fail(_: Any) -> None:
        raise ServiceError("418", "teapot")

    service = await nats.micro.add_service(client, name="svc", version="1.0.0")
    await service.add_endpoint(name="ok", subject=unique, handler=handle)
    await service.add_endpoint(name="bad", subject=f"{unique}.bad", handler=fail)
    assert (await client.request(unique, b"hi", timeout=TIMEOUT_S)).data == b"HI"
    failed = await client.request(f"{unique}.bad", b"hi", timeout=TIMEOUT_S)
    assert (failed.headers or {})["Nats-Service-Error-Code"] == "418"
    await service.stop()
    assert len({span.context.trace_id for span in (*await hops.processed(4), *hops.sends())}) == 2
    assert sorted(outcomes(hops)) == ["confirmed", "confirmed", "sent", "sent"]
