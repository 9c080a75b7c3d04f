"""nats-py: core publish, subscribe and request-reply; JetStream publish, push and pull consumers.

Key-value and object stores, JetStream's own API and acknowledgements are not messages of the application.
"""

from collections.abc import Collection
from importlib.metadata import version
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription, _SubscriptionMessageIterator
from nats.js import JetStreamContext, JetStreamManager
from opentelemetry import trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from hopwatch.conventions import SettleOutcome, System
from hopwatch.recorder import Recorder
from hopwatch.transports.nats.consumers import Consumers
from hopwatch.transports.nats.core import Core
from hopwatch.transports.nats.jetstream import JetStream, settles
from hopwatch.wrapping import Patches

__all__ = ["NatsInstrumentor"]


class NatsInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # untyped base
    """Wraps the classes of nats-py; connections made before and after are covered alike."""

    _patches: Patches | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the versions of nats-py this was written for."""
        return ["nats-py >= 2.11, < 3"]

    def _instrument(self, **kwargs: Any) -> None:
        tracer = trace.get_tracer("hopwatch.nats", version("hopwatch"), kwargs.get("tracer_provider"))
        recorder = Recorder(System.NATS, tracer)
        patches = Patches()
        consumers = Consumers(recorder)
        core, jetstream = Core(recorder, patches, consumers), JetStream(recorder, consumers)
        try:
            _wrap(patches, core, jetstream)
        except BaseException:
            patches.undo()
            raise
        self._patches = patches

    def _uninstrument(self, **kwargs: Any) -> None:
        if self._patches is not None:
            self._patches.undo()
            self._patches = None


def _wrap(patches: Patches, core: Core, jetstream: JetStream) -> None:
    patches.wrap(Client, "publish", core.publish)
    patches.wrap(Client, "request", core.request)
    patches.wrap(Client, "subscribe", core.subscribe)
    patches.wrap(Client, "_close", core.close)
    patches.wrap(Subscription, "next_msg", core.next_msg)
    patches.wrap(Subscription, "_stop_processing", core.stop)
    patches.wrap(_SubscriptionMessageIterator, "__anext__", core.iterate)
    patches.wrap(Msg, "respond", core.respond)

    patches.wrap(Msg, "ack", settles(SettleOutcome.ACK))
    patches.wrap(Msg, "ack_sync", settles(SettleOutcome.ACK))
    patches.wrap(Msg, "nak", settles(SettleOutcome.NACK))
    patches.wrap(Msg, "term", settles(SettleOutcome.TERM))
    patches.wrap(JetStreamContext, "publish", jetstream.publish)
    patches.wrap(JetStreamContext, "publish_async", jetstream.publish_async)
    patches.wrap(JetStreamContext, "subscribe_bind", jetstream.subscribe_bind)
    patches.wrap(JetStreamContext, "pull_subscribe_bind", jetstream.pull_subscribe_bind)
    patches.wrap(JetStreamContext.PullSubscription, "fetch", jetstream.fetch)
    patches.wrap(JetStreamContext.PullSubscription, "unsubscribe", jetstream.unsubscribe)
    patches.wrap(JetStreamManager, "add_consumer", jetstream.learn)
    patches.wrap(JetStreamManager, "consumer_info", jetstream.learn)
    patches.wrap(JetStreamManager, "delete_consumer", jetstream.delete_consumer)
    patches.wrap(JetStreamManager, "_api_request", jetstream.api_request)
