"""Turning hopwatch on: `instrument`, `hopwatch run`, in processes of their own, against a real OTLP receiver."""

import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.sink import Sink
from support.sink import run_code as run

from hopwatch_demo.patience import scale_wait

EXCHANGE = """
import asyncio, fastapi, httpx, uvicorn
app = fastapi.FastAPI()
@app.get("/orders/{order}")
async def read(order: int): return {"order": order}
async def main():
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started: await asyncio.sleep(0)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient() as client:
        print((await client.get(f"http://127.0.0.1:{port}/orders/7")).json())
    server.should_exit = True
    await serving
asyncio.run(main())
"""


AT_LAST = "import time; print(time.monotonic())"
"""What a program does last; the clock is the same in all processes."""

HELD_UP_S = 4.0 + scale_wait(11.0)
"""The four seconds that an exit may take, with room for a busy machine."""

HTTPX = "opentelemetry.instrumentation.httpx"
FASTAPI = "hopwatch.fastapi"


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A running OTLP receiver."""
    running = Sink()
    yield running
    running.close()


HOPWATCH_RUN = (str(Path(sys.executable).with_name("hopwatch")), "run", "--service", "orders", "--")


def test_one_line_instruments_a_service(sink: Sink) -> None:
    """After `instrument(service=…)` a call arrives at the collector as two halves of one message."""
    done = run("import hopwatch\nhopwatch.instrument(service='orders')\n" + EXCHANGE, endpoint=sink.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{'order': 7}\n", "")
    found = sink.spans()
    assert {service for service, _ in found} == {"orders"}
    ids = {
        a.value.string_value for _, span in found for a in span.attributes if a.key == "hopwatch.message.id"
    }
    assert (len(found), len(ids)) == (2, 1)


def test_hopwatch_run_needs_no_change_to_the_code(sink: Sink) -> None:
    """`hopwatch run -- python …` records the same without touching the program."""
    done = run(EXCHANGE, *HOPWATCH_RUN, endpoint=sink.url)
    assert (done.returncode, done.stdout) == (0, "{'order': 7}\n"), done.stderr
    assert [service for service, _ in sink.spans()] == ["orders", "orders"]


def test_a_hidden_sitecustomize_still_runs(sink: Sink, tmp_path: Path) -> None:
    """`hopwatch run` makes way for the sitecustomize the environment already had."""
    (tmp_path / "sitecustomize.py").write_text("print('theirs')\n")
    done = run("print('app')", *HOPWATCH_RUN, endpoint=sink.url, PYTHONPATH=str(tmp_path))
    # once in the `hopwatch` command itself, which Python starts with it too, and once in the program
    assert done.stdout == "theirs\ntheirs\napp\n"


def test_an_unknown_program_is_a_clear_error() -> None:
    """A program that does not exist exits 127 and says so."""
    done = subprocess.run([*HOPWATCH_RUN, "no-such-program"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (127, "hopwatch run: no such program: no-such-program\n")


def test_otel_service_name_wins(sink: Sink) -> None:
    """The standard variable names the service, whatever the code says."""
    code = "import hopwatch\nhopwatch.instrument(service='code')\n" + EXCHANGE
    run(code, endpoint=sink.url, OTEL_SERVICE_NAME="environment")
    assert {service for service, _ in sink.spans()} == {"environment"}


def test_transports_are_chosen_by_name(sink: Sink) -> None:
    """`only` instruments nothing else."""
    code = "import hopwatch\nhopwatch.instrument(service='orders', only=['httpx'])\n" + EXCHANGE
    run(code, endpoint=sink.url)
    assert HTTPX in sink.scopes()
    assert FASTAPI not in sink.scopes()


def test_an_unknown_transport_is_an_error(sink: Sink) -> None:
    """A misspelt transport is said where it was written."""
    done = run("import hopwatch\nhopwatch.instrument(only=['kafka'])", endpoint=sink.url)
    assert "no such transport: kafka; there are: aio_pika, aiohttp" in done.stderr


def test_a_library_that_could_not_be_instrumented_is_told(sink: Sink) -> None:
    """On stderr, and to the collector: that this process says nothing of such messages is no evidence then."""
    code = (
        "import hopwatch, nats.aio.client\n"
        "del nats.aio.client.Client.publish\n"
        "hopwatch.instrument(service='orders')"
    )
    done = run(code, endpoint=sink.url)
    assert "nats is not instrumented" in done.stderr
    [(service, span)] = sink.spans()
    said = {a.key: a.value.string_value for a in span.attributes}
    assert service == "orders"
    assert (said["hopwatch.report"], said["messaging.system"], said["hopwatch.receiver"]) == (
        "subscribe",
        "nats",
        "*",
    )
    assert said["hopwatch.ledger"] == "sampled"


def test_the_sdk_can_be_switched_off(sink: Sink) -> None:
    """OTEL_SDK_DISABLED leaves the process as it was."""
    code = "import hopwatch\nhopwatch.instrument(service='orders')\n" + EXCHANGE
    done = run(code, endpoint=sink.url, OTEL_SDK_DISABLED="true")
    assert (done.returncode, sink.requests) == (0, [])


def test_an_application_with_its_own_provider_keeps_it(sink: Sink) -> None:
    """Our ids ride on the application's spans and nothing is exported twice."""
    code = """
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    own = TracerProvider(resource=Resource({"service.name": "theirs"}))
    own.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(own)
    import hopwatch
    hopwatch.instrument(service="ours")
    """
    done = run(textwrap.dedent(code) + EXCHANGE, endpoint=sink.url)
    assert done.returncode == 0, done.stderr
    found = sink.spans()
    assert [service for service, _ in found] == ["theirs", "theirs"]
    assert all(any(a.key == "hopwatch.message.id" for a in span.attributes) for _, span in found)


def test_uninstrument_restores_the_libraries(sink: Sink) -> None:
    """After `uninstrument` the libraries leave no spans but FastAPI's own, and no call carries an id of ours."""
    code = "import hopwatch\nhopwatch.instrument(service='orders')\nimport httpx, fastapi\nhopwatch.uninstrument()\n"
    done = run(code + EXCHANGE, endpoint=sink.url)
    assert done.returncode == 0
    assert not {HTTPX, FASTAPI} & sink.scopes()
    assert not [a for _, span in sink.spans() for a in span.attributes if a.key == "hopwatch.message.id"]


@pytest.mark.parametrize("status", [429, 500, 503, 400])
def test_a_refusing_collector_does_not_change_the_program(status: int) -> None:
    """Whatever the collector answers, output and exit code stay the same and the exit is not held up."""
    refusing = Sink(status)
    done = run(
        "import hopwatch\nhopwatch.instrument(service='orders')\n" + EXCHANGE + AT_LAST, endpoint=refusing.url
    )
    over = time.monotonic()
    refusing.close()
    said, at_last = done.stdout.splitlines()
    assert (done.returncode, said) == (0, "{'order': 7}")
    assert over - float(at_last) < HELD_UP_S


def test_an_absent_collector_does_not_change_the_program() -> None:
    """With nobody listening the program does its work, exits in time and is not flooded with log lines."""
    code = "import hopwatch\nhopwatch.instrument(service='orders')\n" + EXCHANGE + AT_LAST
    done = run(code, endpoint="http://127.0.0.1:9")
    over = time.monotonic()
    said, at_last = done.stdout.splitlines()
    assert (done.returncode, said) == (0, "{'order': 7}")
    assert over - float(at_last) < HELD_UP_S
    assert len(done.stderr.splitlines()) <= 4, done.stderr


@pytest.mark.parametrize(
    "said",
    [
        {"OTEL_PROPAGATORS": "tracecontext,no-such"},
        {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"},
        {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "-4"},
        {"OTEL_PYTHON_TRACER_PROVIDER": "no-such"},
    ],
    ids=lambda said: next(iter(said)),
)
def test_an_environment_that_cannot_be_followed_does_not_change_the_program(said: dict[str, str]) -> None:
    """Where OpenTelemetry raises over a variable the program runs as without us, and is told, by every way in."""
    code = """
        import hopwatch
        hopwatch.instrument(service="orders")
        from hopwatch.nats import connect
        with hopwatch.tag(order=7):
            print(connect.__module__, hopwatch.stats())
        hopwatch.uninstrument()
    """
    done = run(textwrap.dedent(code), endpoint="http://127.0.0.1:9", **said)
    assert (done.returncode, done.stdout) == (0, "nats None\n")
    told = [line for line in done.stderr.splitlines() if line.startswith("hopwatch: ")]
    assert len(told) == 2, done.stderr  # `instrument`, and the import that turns it on
    assert all(line.startswith("hopwatch: this process is not instrumented: ") for line in told)


def test_a_misspelt_word_is_told(sink: Sink) -> None:
    """A word of ours in the environment that nobody knows has no effect, which is said; the rest holds."""
    code = "import hopwatch\nhopwatch.instrument()\nhopwatch.instrument()"
    said = {"HOPWATCH_CALLS": "contribb", "HOPWATCH_RECORD": "body_size, message-key"}
    done = run(code, endpoint=sink.url, **said)
    assert (done.returncode, done.stderr.splitlines()) == (
        0,
        [
            "hopwatch: HOPWATCH_CALLS='contribb' is neither native nor contrib",
            "hopwatch: HOPWATCH_RECORD: 'message-key' is none of body_size, graphql_document, message_key",
        ],
    )
    right = {"HOPWATCH_CALLS": " Contrib", "HOPWATCH_RECORD": "BODY_SIZE,"}
    assert run(code, endpoint=sink.url, **right).stderr == ""


def test_a_light_install_says_how_to_get_the_rest() -> None:
    """`hopwatch --help` lists the subcommands there are."""
    done = subprocess.run([HOPWATCH_RUN[0], "--help"], capture_output=True, text=True, check=True)
    assert "run" in done.stdout


def test_attribute_names_cost_no_start_up() -> None:
    """Importing the names alone, as the collector does, loads neither OpenTelemetry nor any library."""
    code = "import sys, hopwatch.conventions\nprint([n for n in sys.modules if n.startswith(('opentelemetry', 'wrapt'))])"
    assert run(code, endpoint="http://127.0.0.1:9").stdout == "[]\n"


def test_a_hook_where_none_is_asked_is_told(sink: Sink) -> None:
    """A hook for calls, which have none, is said on standard error; the calls are recorded as ever."""
    done = run(
        "import hopwatch, httpx\nhopwatch.instrument(hooks={'httpx': hopwatch.Hook()})", endpoint=sink.url
    )
    assert done.returncode == 0
    assert "httpx takes no hook" in done.stderr
