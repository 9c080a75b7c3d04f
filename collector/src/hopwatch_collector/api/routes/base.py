"""What every route module is given, and how a query becomes an answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from fastapi.responses import Response
from pydantic import BaseModel

from hopwatch_collector.api.gate import Gate
from hopwatch_collector.api.ports import QueryPort
from hopwatch_collector.api.problems import NotFound, shown

M = TypeVar("M", bound=BaseModel)
PREFIX = "/api/v1"


@dataclass(frozen=True, slots=True)
class Answering:
    """Where questions go, and where they run."""

    queries: QueryPort
    gate: Gate

    async def answer(self, route: str, query: Callable[[], BaseModel]) -> Response:
        """The answer to `query` as JSON, asked and written in a thread: a thousand rows would hold up the loop."""
        return json_response(await self.gate.run(route, lambda: query().model_dump_json().encode()))

    async def answer_one(self, route: str, query: Callable[[], BaseModel | None], asked: str) -> Response:
        """The same for one thing, which may not be there: NotFound then, naming what was `asked`."""

        def ask() -> bytes | None:
            found = query()
            return None if found is None else found.model_dump_json().encode()

        body = await self.gate.run(route, ask)
        if body is None:
            raise NotFound(
                f"Nothing is known of {shown(asked)!r}; it may be older than what is kept, or not here yet"
            )
        return json_response(body)


def json_response(body: bytes) -> Response:
    """JSON that no cache keeps: the next moment the answer is another."""
    return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})
