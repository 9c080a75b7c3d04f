"""The page Prometheus scrapes."""

import asyncio
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Header
from fastapi.responses import Response
from prometheus_client import CollectorRegistry

from hopwatch_collector.api.exposition import QueryDerived, render
from hopwatch_collector.api.routes.base import Answering

PATIENCE_S = 2.0
"""How long a scrape waits for query-derived numbers: less than any scrape's time limit."""

log = structlog.get_logger(__name__)
PAGE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Prometheus text or OpenMetrics",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}


def routes(answering: Answering, registry: CollectorRegistry, derived: QueryDerived) -> APIRouter:
    """Routes about metrics."""
    router = APIRouter(tags=["metrics"])

    refreshing: asyncio.Task[None] | None = None

    async def refresh() -> None:
        try:
            failed = await answering.gate.run("metrics", lambda: derived.replace(answering.queries.metrics()))
            if failed:
                log.warning("metrics not renewed", groups=failed)
        except Exception as error:  # noqa: BLE001  the collector's own numbers matter most when queries fail
            log.warning("no newer query-derived metrics", reason=str(error))

    @router.get(
        "/metrics",
        response_class=Response,
        responses=PAGE,
        summary="The collector's own metrics, and rates, errors, duration and lag of what it watches",
    )
    async def metrics(accept: Annotated[str, Header(max_length=1000)] = "") -> Response:
        nonlocal refreshing
        if not derived.fresh():
            # One refresh at a time. A slow one goes on, and this scrape shows what there is: a scrape that waited
            # for it would fail, and take the collector's own numbers with it.
            if refreshing is None or refreshing.done():
                refreshing = asyncio.create_task(refresh())
            await asyncio.wait({refreshing}, timeout=PATIENCE_S)
        page, content_type = await asyncio.to_thread(render, accept, registry, derived)
        return Response(page, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    return router
