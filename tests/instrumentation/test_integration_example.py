"""The README's example of an integration is a real one: it runs, and it is the same text."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hopwatch_parcels import ParcelsInstrumentor
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from parcels import Box

from hopwatch.conventions import (
    MESSAGE_ID,
    MESSAGE_ID_HEADER,
    MESSAGING_SYSTEM,
    PUBLISH_OUTCOME,
    SETTLE_OUTCOME,
)

EXAMPLE = Path(__file__).parent / "example"
README = Path(__file__).parents[2] / "instrumentation" / "README.md"


@pytest.fixture
def instrumented(spans: InMemorySpanExporter) -> Iterator[InMemorySpanExporter]:
    """The toy library with the example around it; the toy is no installed distribution."""
    ParcelsInstrumentor().instrument(skip_dep_check=True)
    yield spans
    ParcelsInstrumentor().uninstrument()


def of_kind(spans: InMemorySpanExporter, kind: SpanKind) -> list[ReadableSpan]:
    """Return the ended spans of one kind."""
    return [span for span in spans.get_finished_spans() if span.kind is kind]


def test_the_readme_shows_the_example_that_runs() -> None:
    """Text and code are equal, to the letter."""
    assert f"```python\n{(EXAMPLE / 'hopwatch_parcels.py').read_text()}```" in README.read_text()


async def test_the_example_records_messages(instrumented: InMemorySpanExporter) -> None:
    """Sent, taken, given back and taken again: one message, two attempts, in one trace."""
    box, label = Box("orders"), {"mine": "kept", MESSAGE_ID_HEADER: "stale"}
    await box.put(b"1", label)
    (await box.take()).refuse()
    parcel = await box.take()
    parcel.accept()
    assert label == {"mine": "kept", MESSAGE_ID_HEADER: "stale"}
    [send], [first, second] = (
        of_kind(instrumented, SpanKind.PRODUCER),
        of_kind(instrumented, SpanKind.CONSUMER),
    )
    message_id = (send.attributes or {})[MESSAGE_ID]
    assert parcel.label["mine"] == "kept"
    assert parcel.label[MESSAGE_ID_HEADER] == message_id
    assert [(span.attributes or {})[SETTLE_OUTCOME] for span in (first, second)] == ["requeue", "ack"]
    for span in (first, second):
        assert (span.attributes or {})[MESSAGE_ID] == message_id
        assert (span.attributes or {})[MESSAGING_SYSTEM] == "parcels"
        assert span.parent is not None
        assert span.parent.span_id == send.context.span_id


async def test_the_example_lets_errors_through(instrumented: InMemorySpanExporter) -> None:
    """A box without room raises what it always raised, and the send says so."""
    box = Box("orders", room=1)
    await box.put(b"1")
    with pytest.raises(asyncio.QueueFull):
        await box.put(b"2")
    outcomes = [(span.attributes or {})[PUBLISH_OUTCOME] for span in of_kind(instrumented, SpanKind.PRODUCER)]
    assert outcomes == ["confirmed", "refused"]


def test_an_integration_of_another_package_is_found(tmp_path: Path) -> None:
    """An installed package's entry point is enough, and a version it was not written for is said aloud."""
    for version, wrapped, said in (("1.2", True, ""), ("2.0", False, "parcels is not instrumented")):
        metadata = tmp_path / f"parcels-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: parcels\nVersion: {version}\n")
        (metadata / "entry_points.txt").write_text(
            "[hopwatch.transports]\nparcels = hopwatch_parcels:ParcelsInstrumentor\n"
        )
        code = (
            f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(EXAMPLE)!r}]\n"
            "import hopwatch; hopwatch.instrument(service='x', only=['parcels'])\n"
            "import parcels; print(hasattr(vars(parcels.Box)['put'], '__wrapped__'))"
        )
        environ = {"OTEL_TRACES_EXPORTER": "none", "PATH": ""}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
        )
        assert (done.stdout.strip(), said in done.stderr) == (str(wrapped), True), done.stderr
        for file in metadata.iterdir():
            file.unlink()
        metadata.rmdir()
