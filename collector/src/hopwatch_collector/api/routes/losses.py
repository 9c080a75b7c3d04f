"""What services lost before it could reach the collector."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from hopwatch_collector.api.models import LossList
from hopwatch_collector.api.params import LossesAsked
from hopwatch_collector.api.routes.base import PREFIX, Answering


def routes(answering: Answering) -> APIRouter:
    """Routes about losses."""
    router = APIRouter(prefix=PREFIX, tags=["losses"])

    @router.get(
        "/losses",
        response_model=LossList,
        summary="Spans that services lost before they reached the collector: where the ledger has gaps",
    )
    async def losses(asked: Annotated[LossesAsked, Query()]) -> Response:
        return await answering.answer(
            "losses", lambda: answering.queries.losses(asked.since, limit=asked.limit)
        )

    return router
