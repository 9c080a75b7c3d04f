"""Flows: the list, and one of them whole."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from hopwatch_collector.api.models import Flow, FlowList
from hopwatch_collector.api.params import MAX_TEXT, FlowsAsked
from hopwatch_collector.api.routes.base import PREFIX, Answering

FlowId = Annotated[
    str,
    Path(
        max_length=MAX_TEXT,
        description="Trace id of the flow's root",
        examples=["0af7651916cd43dd8448eb211c80319c"],
    ),
]


def routes(answering: Answering) -> APIRouter:
    """Routes about flows."""
    router = APIRouter(prefix=PREFIX, tags=["flows"])
    queries = answering.queries

    @router.get("/flows", response_model=FlowList, summary="Flows of a stretch of time, newest first")
    async def flows(asked: Annotated[FlowsAsked, Query()]) -> Response:
        return await answering.answer(
            "flows",
            lambda: queries.flows(
                asked.window,
                service=asked.service,
                destination=asked.destination,
                state=asked.state,
                limit=asked.limit,
            ),
        )

    @router.get("/flows/{flow_id}", response_model=Flow, summary="One flow: its hops, spans and linked flows")
    async def flow(flow_id: FlowId) -> Response:
        return await answering.answer_one("flow", lambda: queries.flow(flow_id), flow_id)

    return router
