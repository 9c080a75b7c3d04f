"""Who sends to whom."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from hopwatch_collector.api.models import Topology
from hopwatch_collector.api.params import TopologyAsked
from hopwatch_collector.api.routes.base import PREFIX, Answering


def routes(answering: Answering) -> APIRouter:
    """Routes about the topology."""
    router = APIRouter(prefix=PREFIX, tags=["topology"])

    @router.get(
        "/topology", response_model=Topology, summary="Which service reaches which, through which destination"
    )
    async def topology(asked: Annotated[TopologyAsked, Query()]) -> Response:
        return await answering.answer("topology", lambda: answering.queries.topology(asked.window))

    return router
