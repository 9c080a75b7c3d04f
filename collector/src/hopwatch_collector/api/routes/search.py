"""Finding messages and flows by whatever is known of them."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from hopwatch_collector.api.models import SearchResult
from hopwatch_collector.api.params import SearchAsked
from hopwatch_collector.api.routes.base import PREFIX, Answering
from hopwatch_collector.query.window import SearchQuery


def routes(answering: Answering) -> APIRouter:
    """Routes about search."""
    router = APIRouter(prefix=PREFIX, tags=["search"])

    @router.get(
        "/search",
        response_model=SearchResult,
        summary="Messages and flows by id, alias, business key or filter",
    )
    async def search(asked: Annotated[SearchAsked, Query()]) -> Response:
        query = SearchQuery(
            q=asked.q,
            service=asked.service,
            destination=asked.destination,
            receiver=asked.receiver,
            verdicts=asked.verdicts,
            window=asked.window,
            limit=asked.limit,
        )
        return await answering.answer("search", lambda: answering.queries.search(query))

    return router
