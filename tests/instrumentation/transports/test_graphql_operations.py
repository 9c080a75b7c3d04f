"""GraphQL: Strawberry on FastAPI asked by gql over HTTP and WebSockets, and graphql-core by itself."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from typing import Any

import fastapi
import graphql
import pytest
import strawberry
from gql import Client, GraphQLRequest
from gql.client import AsyncClientSession
from gql.transport.exceptions import TransportQueryError
from gql.transport.httpx import HTTPXAsyncTransport, HTTPXTransport
from gql.transport.websockets import WebsocketsTransport
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from strawberry.fastapi import GraphQLRouter

from hopwatch.conventions import (
    ERROR_TYPE,
    GRAPHQL_DOCUMENT,
    GRAPHQL_ERROR_PATH,
    GRAPHQL_ERRORS,
    GRAPHQL_NAME,
    GRAPHQL_TYPE,
    MESSAGE_ID,
)
from hopwatch.transports.fastapi import FastAPIInstrumentor
from hopwatch.transports.gql import GqlInstrumentor
from hopwatch.transports.graphql import GraphQLInstrumentor
from hopwatch.transports.httpx import HTTPXClientInstrumentor
from hopwatch.transports.websockets import WebSocketsInstrumentor
from hopwatch_demo.patience import scale_wait

TIMEOUT_S = scale_wait(20.0)
ORDERS = 50


@strawberry.type
class Order:
    """An order."""

    id: int

    @strawberry.field
    async def total(self) -> int:
        """Its total; some have none."""
        if self.id < 10:
            return self.id
        raise ValueError(f"order {self.id} has no total")


@strawberry.type
class Query:
    """What can be asked."""

    @strawberry.field
    def orders(self, many: int) -> list[Order | None]:
        """The first orders."""
        with trace.get_tracer("app").start_as_current_span("look up"):
            return [Order(id=number) for number in range(many)]


@strawberry.type
class Subscription:
    """What can be followed."""

    @strawberry.subscription
    async def placed(self, many: int) -> AsyncGenerator[int, None]:
        """Orders as they are placed."""
        for number in range(many):
            yield number


@pytest.fixture
async def address(serve: Any, instrumented: Any, hops: Any) -> str:
    """The shop's GraphQL server; everything on the way is instrumented."""
    instrumented(
        FastAPIInstrumentor(),
        HTTPXClientInstrumentor(),
        WebSocketsInstrumentor(),
        GraphQLInstrumentor(),
        GqlInstrumentor(),
    )
    app = fastapi.FastAPI()
    app.include_router(GraphQLRouter(strawberry.Schema(Query, subscription=Subscription)), prefix="/graphql")
    return f"{await serve(app)}/graphql"


def operations(hops: Any) -> list[ReadableSpan]:
    """The spans of operations, in the order of their ends."""
    return [span for span in hops.of_kind(SpanKind.INTERNAL) if GRAPHQL_TYPE in span.attributes]


def request(text: str, many: int) -> GraphQLRequest:
    return GraphQLRequest(text, variable_values={"many": many})


QUERY = "query Recent($many: Int!) { orders(many: $many) { id total } }"


async def test_an_operation_is_one_span_on_either_side(address: str, hops: Any) -> None:
    """Fifty objects with two fields each make no span of their own; the call in between stays a call."""
    async with Client(transport=HTTPXAsyncTransport(f"http://{address}")) as session:
        answer = await session.execute(
            request("query Recent($many: Int!) { orders(many: $many) { id } }", ORDERS)
        )
    assert len(answer["orders"]) == ORDERS
    await hops.until(lambda: len(hops.all()) == 5)
    served, asked = operations(hops)
    assert served.name == asked.name == "query Recent"
    assert (served.attributes[GRAPHQL_NAME], served.attributes[GRAPHQL_TYPE]) == ("Recent", "query")
    [call], [answered] = hops.of_kind(SpanKind.CLIENT), hops.of_kind(SpanKind.SERVER)
    assert call.attributes[MESSAGE_ID] == answered.attributes[MESSAGE_ID]
    assert call.parent.span_id == asked.context.span_id
    assert served.parent.span_id == answered.context.span_id
    [looked_up] = [span for span in hops.all() if span.name == "look up"]
    assert looked_up.parent.span_id == served.context.span_id
    assert GRAPHQL_DOCUMENT not in served.attributes


async def test_failed_fields_are_told_by_path_up_to_a_bound(address: str, hops: Any) -> None:
    """The first few say where they are in the answer, the rest are counted."""
    async with Client(transport=HTTPXAsyncTransport(f"http://{address}")) as session:
        with pytest.raises(TransportQueryError):
            await session.execute(request(QUERY, ORDERS))
    await hops.until(lambda: len(operations(hops)) == 2)
    for span in operations(hops):
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes[GRAPHQL_ERRORS] == ORDERS - 10
        assert [event.attributes[GRAPHQL_ERROR_PATH] for event in span.events] == [
            f"orders.{number}.total" for number in range(10, 18)
        ]
    assert operations(hops)[0].attributes[ERROR_TYPE] == "ValueError"


async def wait_for_as_of_3_12(awaited: Awaitable[Any], timeout: float | None) -> Any:
    """Wait in the task that asks, as `asyncio.wait_for` does since Python 3.12; before, it took another one."""
    async with asyncio.timeout(timeout):
        return await awaited


@pytest.mark.parametrize("wait_for", [asyncio.wait_for, wait_for_as_of_3_12])
async def test_every_event_of_a_subscription_has_a_span(
    address: str, hops: Any, monkeypatch: pytest.MonkeyPatch, wait_for: Any
) -> None:
    """What is done with an event belongs to the message that brought it, whatever task it is done in."""
    monkeypatch.setattr(asyncio, "wait_for", wait_for)
    transport = WebsocketsTransport(f"ws://{address}", subprotocols=["graphql-transport-ws"])
    seen: list[int] = []
    handled: list[trace.SpanContext] = []
    async with asyncio.timeout(TIMEOUT_S), Client(transport=transport) as session:
        follow = request("subscription Placed($many: Int!) { placed(many: $many) }", 3)
        async for event in session.subscribe(follow):
            seen.append(event["placed"])
            handled.append(trace.get_current_span().get_span_context())
    assert seen == [0, 1, 2]
    await hops.until(lambda: len(operations(hops)) == 6)
    assert {span.name for span in operations(hops)} == {"subscription Placed"}
    processed = {span.context.span_id for span in hops.processes()}
    ours = [span for span in operations(hops) if span.context in handled]
    assert len({span.parent.span_id for span in ours} & processed) == 3
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_blocking_client_is_covered_too(hops: Any, instrumented: Any) -> None:
    """A server that cannot be reached ends the operation with the transport's exception."""
    instrumented(GqlInstrumentor())
    client = Client(transport=HTTPXTransport("http://no-such-host.invalid/"))
    with client as session, pytest.raises(Exception, match=r".+"):
        session.execute(GraphQLRequest("{ orders }"))
    [asked] = operations(hops)
    assert (asked.name, asked.status.status_code) == ("query", StatusCode.ERROR)


def core_schema() -> graphql.GraphQLSchema:
    return graphql.build_schema("type Query { greeting: String! } type Subscription { ticks: Int! }")


def test_graphql_core_by_itself(hops: Any, instrumented: Any) -> None:
    """Blocking execution too, named or not."""
    instrumented(GraphQLInstrumentor())
    result = graphql.graphql_sync(core_schema(), "query Hi { greeting }", {"greeting": "hello"})
    assert result.data == {"greeting": "hello"}
    assert graphql.graphql_sync(core_schema(), "{ greeting }", {"greeting": None}).errors
    good, bad = operations(hops)
    assert (good.name, good.status.status_code) == ("query Hi", StatusCode.UNSET)
    assert (bad.name, bad.attributes[GRAPHQL_ERRORS]) == ("query", 1)


async def test_graphql_core_subscriptions(hops: Any, instrumented: Any) -> None:
    """Each event is executed in a span."""
    instrumented(GraphQLInstrumentor())

    async def ticks(*_: Any) -> AsyncIterator[dict[str, int]]:
        for number in range(3):
            yield {"ticks": number}

    stream = graphql.subscribe(core_schema(), graphql.parse("subscription { ticks }"), {"ticks": ticks})
    assert [event.data["ticks"] async for event in stream] == [0, 1, 2]  # type: ignore[union-attr]
    assert [span.attributes[GRAPHQL_TYPE] for span in operations(hops)] == ["subscription"] * 3


def test_the_document_only_where_it_is_asked_for(
    hops: Any, instrumented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents may hold what is private."""
    monkeypatch.setenv("HOPWATCH_RECORD", "graphql_document")
    instrumented(GraphQLInstrumentor())
    graphql.graphql_sync(core_schema(), "{ greeting }", {"greeting": "hello"})
    assert [span.attributes[GRAPHQL_DOCUMENT] for span in operations(hops)] == ["{ greeting }"]


def test_uninstrument_puts_everything_back(hops: Any) -> None:
    """The libraries' own methods are back."""
    places = [(graphql.Executor, "execute_operation"), (AsyncClientSession, "_subscribe")]
    before = [vars(owner)[name] for owner, name in places]
    for instrumentor in (GraphQLInstrumentor(), GqlInstrumentor()):
        instrumentor.instrument()
        instrumentor.uninstrument()
    assert all(vars(owner)[name] is was for (owner, name), was in zip(places, before, strict=True))
    graphql.graphql_sync(core_schema(), "{ greeting }", {"greeting": "hello"})
    assert hops.all() == ()
