"""One suite that every broker's transport must pass, each on its real broker through its adapter."""

import asyncio
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode
from transport_adapters import Adapter, Incoming, Oops
from transport_suite import OnBroker, OnKafka, OnNats, OnRabbitMQ, failing, nothing
from transport_support import TIMEOUT_S

import hopwatch
from hopwatch.conventions import (
    ATTEMPT,
    DESTINATION,
    ERROR_TYPE,
    KAFKA_OFFSET,
    KEY_PREFIX,
    MESSAGE_ID,
    MESSAGE_ID_HEADER,
    MESSAGING_SYSTEM,
    PUBLISH_OUTCOME,
    RECEIVER,
    SETTLE_OUTCOME,
    SUBSCRIPTION_DURABLE,
    SUBSCRIPTION_PATTERN,
)


@pytest.fixture(params=["sdk", "lean"])
def provider_kind(request: pytest.FixtureRequest) -> str:
    """All of it holds for an application's own provider and for ours."""
    return str(request.param)


class TransportSuite(OnBroker):
    """What holds for every broker."""

    async def test_a_message_carries_its_id_and_flow(self, broker: Adapter, unique: str, hops: Any) -> None:
        """The receiver's attempt has the sender's message id, is its child, and knows the business keys."""
        await broker.receivers(unique, "a")
        with hopwatch.tag(order_id=7):
            await broker.send(unique, b"hello", {"mine": "kept"})
        seen: list[Incoming] = []

        async def handler(message: Incoming) -> None:
            seen.append(message)

        await broker.handle(unique, "a", handler)
        [process] = await hops.processed()
        [send] = hops.sends()
        told = dict(process.attributes)
        assert seen[0].header("mine") == ["kept"]
        assert seen[0].header(MESSAGE_ID_HEADER) == [told[MESSAGE_ID]] == [send.attributes[MESSAGE_ID]]
        assert process.parent.span_id == send.context.span_id
        assert process.context.trace_id == send.context.trace_id
        assert told[f"{KEY_PREFIX}order_id"] == "7"
        assert told[DESTINATION] == send.attributes[DESTINATION] == broker.address(unique)
        assert told[RECEIVER] == broker.receiver(unique, "a")
        assert told[MESSAGING_SYSTEM] == send.attributes[MESSAGING_SYSTEM] == broker.system
        assert told[ATTEMPT] == 1

    async def test_an_accepted_message_is_confirmed(self, broker: Adapter, unique: str, hops: Any) -> None:
        """A send the broker answered says so."""
        await broker.receivers(unique, "a")
        await broker.send(unique, b"hello")
        assert [send.attributes[PUBLISH_OUTCOME] for send in hops.sends()] == ["confirmed"]
        assert hops.sends()[0].status.status_code is StatusCode.UNSET

    async def test_a_handled_message_is_settled(self, broker: Adapter, unique: str, hops: Any) -> None:
        """An acknowledgement is on the attempt; Kafka's commit is a span of its own with the next offset."""
        await broker.receivers(unique, "a")
        await broker.send(unique, b"hello")
        await broker.handle(unique, "a", nothing)
        [process] = await hops.processed()
        assert process.attributes[SETTLE_OUTCOME] == broker.settled
        assert process.status.status_code is StatusCode.UNSET
        for commit in hops.settles():
            assert commit.attributes[RECEIVER] == broker.receiver(unique, "a")
            assert commit.attributes[KAFKA_OFFSET] == process.attributes[KAFKA_OFFSET] + 1
        assert len(hops.settles()) == (1 if broker.system == "kafka" else 0)

    async def test_a_failing_handler_is_seen_and_comes_again(
        self, broker: Adapter, unique: str, hops: Any
    ) -> None:
        """The first attempt carries the error, the second is numbered two and belongs to the same message."""
        await broker.receivers(unique, "a")
        await broker.send(unique, b"hello")
        await broker.handle(unique, "a", failing)
        await hops.processed(1)
        await broker.handle(unique, "a", nothing)
        first, second = await hops.processed(2)
        assert first.status.status_code is StatusCode.ERROR
        assert first.attributes[ERROR_TYPE] == "Oops"
        assert (first.attributes[ATTEMPT], second.attributes[ATTEMPT]) == (1, 2)
        assert first.attributes[MESSAGE_ID] == second.attributes[MESSAGE_ID]
        assert second.status.status_code is StatusCode.UNSET

    async def test_a_forwarded_message_is_a_new_one_of_the_same_flow(
        self, broker: Adapter, unique: str, hops: Any
    ) -> None:
        """What the first hop put into the headers is replaced, once, and the application's own is kept."""
        onward = f"{unique}-onward"
        await broker.receivers(unique, "a")
        await broker.receivers(onward, "b")
        await broker.send(unique, b"hello", {"mine": "kept"})
        arrived: list[Incoming] = []
        headers: dict[str, str] = {}

        async def forward(message: Incoming) -> None:
            headers.update(message.headers)
            await broker.send(onward, message.body, headers)

        async def arrive(message: Incoming) -> None:
            arrived.append(message)

        await broker.handle(unique, "a", forward)
        as_forwarded = dict(headers)
        await broker.handle(onward, "b", arrive)
        first, second = await hops.processed(2)
        one, two = hops.sends()
        assert headers == as_forwarded
        assert arrived[0].header(MESSAGE_ID_HEADER) == [two.attributes[MESSAGE_ID]]
        assert len(arrived[0].header("traceparent")) == 1
        assert arrived[0].header("mine") == ["kept"]
        assert two.attributes[MESSAGE_ID] != one.attributes[MESSAGE_ID]
        assert two.parent.span_id == first.context.span_id
        assert second.parent.span_id == two.context.span_id
        assert second.context.trace_id == one.context.trace_id

    async def test_every_receiver_gets_its_own_copy(self, broker: Adapter, unique: str, hops: Any) -> None:
        """One message, two receivers, two attempts."""
        await broker.receivers(unique, "a", "b")
        await broker.send(unique, b"hello")
        await broker.handle(unique, "a", nothing)
        await broker.handle(unique, "b", nothing)
        attempts = await hops.processed(2)
        assert {process.attributes[RECEIVER] for process in attempts} == {
            broker.receiver(unique, "a"),
            broker.receiver(unique, "b"),
        }
        assert len({process.attributes[MESSAGE_ID] for process in attempts}) == 1

    async def test_who_is_owed_what_is_reported(self, broker: Adapter, unique: str, hops: Any) -> None:
        """A receiver's title to a destination is reported by the time it reads."""
        await broker.receivers(unique, "a")
        await broker.send(unique, b"hello")
        await broker.handle(unique, "a", nothing)
        titles = [
            (report[SUBSCRIPTION_PATTERN], report[SUBSCRIPTION_DURABLE])
            for report in hops.reports("subscribe")
            if report[RECEIVER] == broker.receiver(unique, "a")
        ]
        expected = {
            "nats": [(broker.address(unique), True)],
            "rabbitmq": [(f"{unique}-a", False), (f"{unique}-exchange:#", False)],
            "kafka": [(unique, True)],
        }
        assert titles == expected[broker.system]

    async def test_sending_touches_nothing_of_the_callers(self, broker: Adapter, unique: str) -> None:
        """Headers given to a send are copied, and no hop stays current after it or after a handler."""
        await broker.receivers(unique, "a")
        headers = {"mine": "kept"}
        await broker.send(unique, b"hello", headers)
        await broker.send(unique, b"hello", headers)
        assert headers == {"mine": "kept"}
        assert not trace.get_current_span().get_span_context().is_valid

    async def test_a_cancelled_handler_ends_its_attempt(
        self, broker: Adapter, unique: str, hops: Any
    ) -> None:
        """Cancellation reaches the handler's caller unchanged, and the attempt ends with it."""
        await broker.receivers(unique, "a")
        await broker.send(unique, b"hello")
        began = asyncio.Event()

        async def hang(message: Incoming) -> None:
            began.set()
            await asyncio.Event().wait()

        async def cancelling(message: Incoming) -> None:
            task = asyncio.ensure_future(hang(message))
            await asyncio.wait_for(began.wait(), TIMEOUT_S)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                raise Oops from None

        await broker.handle(unique, "a", cancelling)
        [process] = await hops.processed()
        assert process.status.status_code is StatusCode.ERROR

    async def test_uninstrument_puts_everything_back(self, broker: Adapter, unique: str, hops: Any) -> None:
        """The library's own methods are back, and nothing is recorded any more."""
        await broker.receivers(unique, "a")
        assert all(hasattr(vars(owner)[name], "__wrapped__") for owner, name in broker.touched)
        self.adapter.instrumentor().uninstrument()
        try:
            assert not any(hasattr(vars(owner)[name], "__wrapped__") for owner, name in broker.touched)
            await broker.send(unique, b"hello")
            await broker.handle(unique, "a", nothing)
            assert hops.sends() == hops.processes() == []
        finally:
            self.adapter.instrumentor().instrument(skip_dep_check=True)


class TestNats(OnNats, TransportSuite):
    """The suite on NATS."""


class TestRabbitMQ(OnRabbitMQ, TransportSuite):
    """The suite on RabbitMQ."""


class TestKafka(OnKafka, TransportSuite):
    """The suite on Kafka."""
