"""How far receivers are behind."""

from fastapi import APIRouter
from fastapi.responses import Response

from hopwatch_collector.api.models import LagList
from hopwatch_collector.api.routes.base import PREFIX, Answering


def routes(answering: Answering) -> APIRouter:
    """Routes about lag."""
    router = APIRouter(prefix=PREFIX, tags=["lag"])

    @router.get(
        "/lag", response_model=LagList, summary="Per destination and receiver: what waits, and for how long"
    )
    async def lag() -> Response:
        return await answering.answer("lag", answering.queries.lag)

    return router
