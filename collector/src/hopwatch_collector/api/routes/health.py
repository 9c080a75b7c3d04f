"""Whether the collector lives, and whether it is ready."""

from fastapi import APIRouter
from fastapi.responses import Response

from hopwatch_collector.api.models import Health
from hopwatch_collector.api.ports import HealthCheck


def routes(check: HealthCheck) -> APIRouter:
    """Routes about health; neither needs a token."""
    router = APIRouter(tags=["health"])

    @router.get(
        "/healthz", response_model=Health, summary="Alive: 200, unless restarting it would help (503)"
    )
    async def healthz() -> Response:
        health = check()
        return _answer(health, good=health.status != "failing")

    @router.get("/readyz", response_model=Health, summary="Ready to take and answer: 200, else 503")
    async def readyz() -> Response:
        health = check()
        return _answer(health, good=health.status == "ok")

    return router


def _answer(health: Health, *, good: bool) -> Response:
    return Response(
        health.model_dump_json(),
        status_code=200 if good else 503,
        media_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
