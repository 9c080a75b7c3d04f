"""How far the clocks of hosts are apart."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from hopwatch_collector.api.models import ClockList
from hopwatch_collector.api.params import ClocksAsked
from hopwatch_collector.api.routes.base import PREFIX, Answering


def routes(answering: Answering) -> APIRouter:
    """Routes about clocks."""
    router = APIRouter(prefix=PREFIX, tags=["clocks"])

    @router.get(
        "/clocks",
        response_model=ClockList,
        summary="How far each host's clock is off, from what causality allows",
    )
    async def clocks(asked: Annotated[ClocksAsked, Query()]) -> Response:
        return await answering.answer("clocks", lambda: answering.queries.clocks(asked.at))

    return router
