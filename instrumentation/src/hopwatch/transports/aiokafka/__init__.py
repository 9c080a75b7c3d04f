"""aiokafka: send with its true outcome; consuming one by one and in batches; commits, manual and automatic.

`processing` is for loops that want a failing body seen: an exception that leaves the body of an `async for`
cannot be seen from here.
"""

from collections.abc import Collection
from importlib.metadata import version
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.consumer.group_coordinator import GroupCoordinator
from opentelemetry import trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from hopwatch.conventions import System
from hopwatch.handover import processing
from hopwatch.recorder import Recorder
from hopwatch.transports.aiokafka.commit import Committing
from hopwatch.transports.aiokafka.consume import Consuming
from hopwatch.transports.aiokafka.produce import Producing
from hopwatch.wrapping import Patches

__all__ = ["AioKafkaInstrumentor", "processing"]


class AioKafkaInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # untyped base
    """Wraps the classes of aiokafka; producers and consumers made before and after are covered alike."""

    _patches: Patches | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the versions of aiokafka this was written for."""
        return ["aiokafka >= 0.12, < 1"]

    def _instrument(self, **kwargs: Any) -> None:
        tracer = trace.get_tracer("hopwatch.aiokafka", version("hopwatch"), kwargs.get("tracer_provider"))
        recorder = Recorder(System.KAFKA, tracer)
        patches = Patches()
        try:
            _wrap(patches, recorder)
        except BaseException:
            patches.undo()
            raise
        self._patches = patches

    def _uninstrument(self, **kwargs: Any) -> None:
        if self._patches is not None:
            self._patches.undo()
            self._patches = None


def _wrap(patches: Patches, recorder: Recorder) -> None:
    patches.wrap(AIOKafkaProducer, "send", Producing(recorder).send)

    consuming = Consuming(recorder)
    patches.wrap(AIOKafkaConsumer, "start", consuming.start)
    patches.wrap(AIOKafkaConsumer, "subscribe", consuming.subscribe)
    patches.wrap(AIOKafkaConsumer, "assign", consuming.subscribe)
    patches.wrap(AIOKafkaConsumer, "getone", consuming.getone)
    patches.wrap(AIOKafkaConsumer, "getmany", consuming.getmany)
    patches.wrap(AIOKafkaConsumer, "commit", consuming.commit)
    patches.wrap(AIOKafkaConsumer, "stop", consuming.stop)

    patches.wrap(GroupCoordinator, "_do_commit_offsets", Committing(recorder).commit)
