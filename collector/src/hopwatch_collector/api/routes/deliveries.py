"""Deliveries by verdict, destination, receiver and service."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from hopwatch_collector.api.models import CauseList, DeliveryList
from hopwatch_collector.api.params import DeliveryPageAsked, UndeliveredAsked
from hopwatch_collector.api.routes.base import PREFIX, Answering


def routes(answering: Answering) -> APIRouter:
    """Routes about deliveries."""
    router = APIRouter(prefix=PREFIX, tags=["deliveries"])

    @router.get(
        "/deliveries",
        response_model=DeliveryList,
        summary="What became of messages, receiver by receiver, newest first",
    )
    async def deliveries(asked: Annotated[DeliveryPageAsked, Query()]) -> Response:
        return await answering.answer(
            "deliveries",
            lambda: answering.queries.deliveries(
                asked.window,
                verdicts=asked.verdicts,
                destination=asked.destination,
                receiver=asked.receiver,
                service=asked.service,
                limit=asked.limit,
                causes=asked.causes,
                cursor=asked.cursor,
            ),
        )

    @router.get(
        "/undelivered",
        response_model=CauseList,
        summary="What was not delivered, by cause, destination and receiver, with what to do about it",
    )
    async def undelivered(asked: Annotated[UndeliveredAsked, Query()]) -> Response:
        return await answering.answer(
            "undelivered",
            lambda: answering.queries.undelivered(
                asked.window,
                verdicts=asked.verdicts,
                destination=asked.destination,
                receiver=asked.receiver,
                service=asked.service,
                limit=asked.limit,
            ),
        )

    return router
