"""What happens now: one snapshot, or a stream of them."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse

from hopwatch_collector.api.live import Broadcast, View
from hopwatch_collector.api.models import Live
from hopwatch_collector.api.params import LiveAsked, LiveStreamAsked
from hopwatch_collector.api.routes.base import PREFIX, Answering

EVENT_STREAM = "text/event-stream"
STREAM_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events: `snapshot` with a Live as data, `problem` with a Problem where one "
        "snapshot failed, and comments as heartbeats. A snapshot comes where something new has come in, at least one per "
        "interval; its verdicts are as of `judged_at`, since judging takes longer. A slow reader skips snapshots.",
        "content": {
            EVENT_STREAM: {"schema": {"type": "string"}, "example": "event: snapshot\ndata: {…}\n\n"}
        },
    }
}


def routes(answering: Answering, broadcast: Broadcast) -> APIRouter:
    """Routes about the present."""
    router = APIRouter(prefix=PREFIX, tags=["live"])

    @router.get(
        "/live",
        response_class=StreamingResponse,
        responses=STREAM_ANSWER,
        summary="A stream of snapshots, shared by all who watch the same view",
    )
    async def live(asked: Annotated[LiveStreamAsked, Query()]) -> StreamingResponse:
        return StreamingResponse(
            broadcast.watch(View(window_s=asked.window, interval_s=asked.interval)),
            media_type=EVENT_STREAM,
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    @router.get("/live/snapshot", response_model=Live, summary="One snapshot")
    async def snapshot(asked: Annotated[LiveAsked, Query()]) -> Response:
        return await answering.answer("live", lambda: answering.queries.live(asked.window))

    return router
