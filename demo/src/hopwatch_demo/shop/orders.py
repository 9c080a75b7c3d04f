"""orders: has each order paid over gRPC, then tells the rest of the shop on every broker that runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from fastapi import FastAPI

import hopwatch
from hopwatch_demo import faults
from hopwatch_demo.catalogue import (
    BILL,
    PLACED,
    QUOTE,
    QUOTED,
    REWARD,
    Broker,
    call_event,
)
from hopwatch_demo.shop.messaging import Bus
from hopwatch_demo.shop.messaging.bus import Done, Incoming
from hopwatch_demo.shop.order import Order
from hopwatch_demo.shop.payments_pb2 import ChargeReply, ChargeRequest
from hopwatch_demo.shop.service import Service, opened
from hopwatch_demo.shop.web import serve
from hopwatch_demo.truth import Act

NAME = "orders"
CHARGE = "/hopwatch.demo.Payments/Charge"


class Orders:
    """What orders does with one order."""

    def __init__(self, service: Service, channel: grpc.aio.Channel) -> None:
        self._service = service
        self._charge = channel.unary_unary(
            CHARGE,
            request_serializer=ChargeRequest.SerializeToString,
            response_deserializer=ChargeReply.FromString,
        )

    async def handle(self, order: Order) -> None:
        """Have it paid, then send what it causes on all brokers at the same time."""
        record = self._service.record
        record.write(Act.RECEIVED, event=order.event, kind="call", receiver=NAME)
        await self._pay(order)
        async with asyncio.TaskGroup() as tasks:
            for bus in self._service.buses.values():
                tasks.create_task(self._tell(bus, order))
        record.write(Act.SETTLED, event=order.event, kind="call", receiver=NAME, how="answered")

    async def _pay(self, order: Order) -> None:
        record, event = self._service.record, call_event(order.order, "payments")
        with hopwatch.tag(event=event):
            record.write(Act.SENDING, event=event, kind="call", receiver="payments")
            await self._charge(ChargeRequest(event=event, order=order.order, cents=order.cents), timeout=30)
            record.write(Act.SENT, event=event, kind="call", how="answered")

    async def _tell(self, bus: Bus, order: Order) -> None:
        await bus.send(PLACED, order.order, self._fault(faults.CRASH, order))
        await bus.send(BILL, order.order, self._fault(faults.POISON, order))
        await bus.ask(QUOTE, QUOTED, order.order)
        if bus.broker in REWARD.brokers:
            await bus.send(REWARD, order.order)
        for fault in (faults.NOBODY, faults.UNROUTABLE, faults.HANG):
            if self._fault(fault, order) and bus.broker in fault.kind.brokers:
                await bus.send(fault.kind, order.order, fault.name)

    def _fault(self, fault: faults.Fault, order: Order) -> str:
        """Return the fault's name if it is switched on and strikes this order."""
        on = fault.name in self._service.settings.faults and fault.strikes(order.number)
        return fault.name if on else ""


async def take_quote(incoming: Incoming) -> Done:
    """Take the answer to a request for a quote; the record of it is all that is needed."""
    return Done.WELL


def build(service: Service) -> FastAPI:
    """Return the application; its lifespan holds what needs a running loop."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        answers = [
            asyncio.ensure_future(await bus.listen(QUOTED, take_quote))
            for broker, bus in service.buses.items()
            if broker is not Broker.NATS  # there the answer comes to the request itself
        ]
        async with grpc.aio.insecure_channel(service.settings.payments) as channel:
            app.state.orders = Orders(service, channel)
            service.ready()
            yield
        for answer in answers:
            answer.cancel()
        await asyncio.gather(*answers, return_exceptions=True)

    app = FastAPI(title="orders", lifespan=lifespan)

    @app.post("/orders", status_code=201)
    async def place(order: Order) -> dict[str, str]:
        await app.state.orders.handle(order)
        return {"order": order.order}

    return app


async def main() -> None:
    """Serve gateway."""
    async with opened(NAME) as service:
        await serve(build(service), service.settings.orders)


if __name__ == "__main__":
    asyncio.run(main())
