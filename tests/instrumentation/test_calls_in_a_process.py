"""All transports of calls in one process, turned on by one line, on hopwatch's own provider, as a collector gets them."""

from collections import Counter
from collections.abc import Iterator

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from support.sink import Sink
from support.sink import run_code as run

CONVERSATION = """
import asyncio
from hopwatch import faults
import fastapi, gql, grpc, grpc.aio, httpx, requests, aiohttp, strawberry, uvicorn
from gql.transport.httpx import HTTPXAsyncTransport
from hopwatch_demo.patience import scale_wait
from strawberry.fastapi import GraphQLRouter
from websockets.asyncio.client import connect

@strawberry.type
class Query:
    @strawberry.field
    def broken(self) -> int | None: raise ValueError("broken")

app = fastapi.FastAPI()
app.include_router(GraphQLRouter(strawberry.Schema(Query)), prefix="/graphql")

@app.get("/fail")
async def fail(): raise ValueError("broken")

@app.websocket("/room")
async def room(socket: fastapi.WebSocket):
    await socket.accept()
    await socket.send_text(await socket.receive_text())
    await socket.close()

async def numbers(request, context):
    for number in (b"1", b"2"): yield number

async def main():
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started: await asyncio.sleep(0)
    place = f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    async with httpx.AsyncClient(timeout=scale_wait(20)) as client:
        assert (await client.get(f"http://{place}/fail")).status_code == 500
    async with aiohttp.ClientSession() as session:
        assert (await session.get(f"http://{place}/fail")).status == 500
    assert (await asyncio.to_thread(requests.get, f"http://{place}/fail")).status_code == 500
    async with gql.Client(transport=HTTPXAsyncTransport(f"http://{place}/graphql")) as session:
        try: await session.execute(gql.gql("query Q { broken }"))
        except Exception as error: print(type(error).__name__)
    async with connect(f"ws://{place}/room") as connection:
        await connection.send("hello")
        print(await connection.recv())
    handler = grpc.unary_stream_rpc_method_handler(numbers)
    rpc = grpc.aio.server(handlers=(grpc.method_handlers_generic_handler("shop.Till", {"Count": handler}),))
    port = rpc.add_insecure_port("127.0.0.1:0")
    await rpc.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        print([n async for n in channel.unary_stream("/shop.Till/Count")(b"")])
    await rpc.stop(None)
    server.should_exit = True
    await serving

asyncio.run(main())
print(faults.counts())
"""


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A running OTLP receiver."""
    running = Sink()
    yield running
    running.close()


def test_every_transport_arrives(sink: Sink) -> None:
    """Nothing doubled, nothing missing, no fault of ours, and the program's output as without us."""
    done = run("import hopwatch\nhopwatch.instrument(service='shop')\n" + CONVERSATION, endpoint=sink.url)
    assert done.stdout.splitlines() == ["TransportQueryError", "hello", "[b'1', b'2']", "{}"], done.stderr
    found = Counter((span.name, span.kind) for _, span in sink.spans())
    assert found == {
        ("GET", Span.SPAN_KIND_CLIENT): 4,
        ("GET /fail", Span.SPAN_KIND_SERVER): 3,
        ("POST", Span.SPAN_KIND_CLIENT): 1,
        ("POST /graphql", Span.SPAN_KIND_SERVER): 1,
        ("query Q", Span.SPAN_KIND_INTERNAL): 2,
        ("GET /room", Span.SPAN_KIND_SERVER): 1,
        ("send /room", Span.SPAN_KIND_PRODUCER): 2,
        ("process /room", Span.SPAN_KIND_CONSUMER): 2,
        ("close /room", Span.SPAN_KIND_INTERNAL): 2,
        ("shop.Till/Count", Span.SPAN_KIND_CLIENT): 1,
        ("shop.Till/Count", Span.SPAN_KIND_SERVER): 1,
    }
    failed = [span for _, span in sink.spans() if span.status.code == Status.STATUS_CODE_ERROR]
    assert Counter(span.name for span in failed) == {"GET": 3, "GET /fail": 3, "query Q": 2}
    assert all(span.events for span in failed if span.name == "GET /fail")


@pytest.mark.parametrize("chosen", ["only=['grpc']", "exclude=['httpx', 'fastapi', 'gql']"])
def test_transports_are_chosen_by_name(sink: Sink, chosen: str) -> None:
    """What is left out records nothing."""
    run(f"import hopwatch\nhopwatch.instrument(service='shop', {chosen})\n" + CONVERSATION, endpoint=sink.url)
    scopes = {scope for scope in sink.scopes() if "hopwatch" in scope or "instrumentation" in scope}
    if "only" in chosen:
        assert scopes == {"hopwatch.grpc"}
    else:
        assert {"hopwatch.grpc", "hopwatch.websockets", "hopwatch.graphql"} <= scopes
        assert not {"hopwatch.fastapi", "hopwatch.gql", "opentelemetry.instrumentation.httpx"} & scopes


def test_an_unsupported_version_is_said_aloud(sink: Sink) -> None:
    """One library that is too new is named, and the others are recorded all the same."""
    code = (
        "import hopwatch\n"
        "from hopwatch.transports.websockets import WebSocketsInstrumentor\n"
        "WebSocketsInstrumentor.requires = 'websockets < 14'\n"
        "hopwatch.instrument(service='shop')\n"
    )
    done = run(code + CONVERSATION, endpoint=sink.url)
    assert "hopwatch: websockets is not instrumented" in done.stderr
    assert done.stdout.splitlines()[-1] == "{}"
    assert {"hopwatch.grpc", "hopwatch.fastapi"} <= sink.scopes()
    assert "hopwatch.websockets" not in sink.scopes()
