"""gateway: takes orders from customers over HTTP and passes them on to orders."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI

import hopwatch
from hopwatch_demo.catalogue import call_event
from hopwatch_demo.shop.order import Order
from hopwatch_demo.shop.settings import Settings
from hopwatch_demo.shop.web import serve
from hopwatch_demo.truth import Act, Record

NAME = "gateway"


def build(settings: Settings, record: Record) -> FastAPI:
    """Return the application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with httpx.AsyncClient(base_url=f"http://{settings.orders}", timeout=30.0) as client:
            app.state.client = client
            record.write(Act.READY)
            yield

    app = FastAPI(title="gateway", lifespan=lifespan)

    @app.post("/orders", status_code=201)
    async def place(order: Order) -> dict[str, str]:
        record.write(Act.RECEIVED, event=order.event, kind="call", receiver=NAME)
        event = call_event(order.order, "orders")
        passed_on = order.model_copy(update={"event": event})
        with hopwatch.tag(event=event):
            record.write(Act.SENDING, event=event, kind="call", receiver="orders")
            answer = await app.state.client.post("/orders", json=passed_on.model_dump())
            record.write(
                Act.SENT, event=event, kind="call", how="answered" if answer.is_success else "failed"
            )
        answer.raise_for_status()
        record.write(Act.SETTLED, event=order.event, kind="call", receiver=NAME, how="answered")
        return {"order": order.order}

    return app


async def main() -> None:
    """Serve customers."""
    settings = Settings.from_environment()
    await serve(build(settings, Record.of_process(settings.records, NAME)), settings.gateway)


if __name__ == "__main__":
    asyncio.run(main())
