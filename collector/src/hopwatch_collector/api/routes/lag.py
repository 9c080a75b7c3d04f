"""How far receivers are behind."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from hopwatch_collector.api.models import LagList
from hopwatch_collector.api.params import LagAsked
from hopwatch_collector.api.routes.base import PREFIX, Answering


def routes(answering: Answering) -> APIRouter:
    """Routes about lag."""
    router = APIRouter(prefix=PREFIX, tags=["lag"])

    @router.get(
        "/lag", response_model=LagList, summary="Per destination and receiver: what waits, and for how long"
    )
    async def lag(asked: Annotated[LagAsked, Query()]) -> Response:
        return await answering.answer("lag", lambda: answering.queries.lag(asked.since))

    return router
