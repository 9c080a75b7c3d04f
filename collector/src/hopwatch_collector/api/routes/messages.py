"""One message with everything known of it."""

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import Response

from hopwatch_collector.api.models import Message, Why
from hopwatch_collector.api.params import MAX_TEXT
from hopwatch_collector.api.routes.base import PREFIX, Answering

MessageId = Annotated[
    str,
    Path(
        max_length=MAX_TEXT,
        description="Message id, or an id the application or the broker knows it by",
        examples=["01890a5d-ac96-774b-bcce-b302099a8057"],
    ),
]


def routes(answering: Answering) -> APIRouter:
    """Routes about messages."""
    router = APIRouter(prefix=PREFIX, tags=["messages"])

    # An alias is the application's own text and may hold slashes.
    @router.get(
        "/messages/{message_id:path}",
        response_model=Message,
        summary="One message: its deliveries with attempts and witnesses",
    )
    async def message(message_id: MessageId) -> Response:
        return await answering.answer_one(
            "message", lambda: answering.queries.message(message_id), message_id
        )

    @router.get(
        "/why/{message_id:path}",
        response_model=Why,
        summary="Why every delivery of a message stands as it does: the evidence, what is missing, what to do",
    )
    async def why(message_id: MessageId) -> Response:
        return await answering.answer_one("why", lambda: answering.queries.why(message_id), message_id)

    return router
