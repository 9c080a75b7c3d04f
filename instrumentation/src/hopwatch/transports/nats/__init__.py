"""nats-py: core publish, subscribe and request-reply; JetStream publish, push and pull consumers.

Key-value and object stores, JetStream's own API and acknowledgements are not messages of the application.
"""

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription, _SubscriptionMessageIterator
from nats.errors import SlowConsumerError
from nats.js import JetStreamContext, JetStreamManager

from hopwatch.conventions import SettleOutcome, System
from hopwatch.handover import looping, processing
from hopwatch.instrumentor import TransportInstrumentor
from hopwatch.recorder import Recorder
from hopwatch.transports.nats.consumers import Consumers
from hopwatch.transports.nats.core import Core
from hopwatch.transports.nats.jetstream import JetStream, settles
from hopwatch.wrapping import Patches

__all__ = ["NatsInstrumentor", "processing"]


class NatsInstrumentor(TransportInstrumentor):
    """Wraps the classes of nats-py; connections made before and after are covered alike."""

    system = System.NATS
    library = "nats"
    requires = "nats-py >= 2.11, < 3"

    def wrap(self, patches: Patches, recorder: Recorder) -> None:
        """Put the wrappers around client, subscriptions, messages and JetStream."""
        consumers = Consumers(recorder)
        core, jetstream = Core(recorder, patches, consumers), JetStream(recorder, consumers)
        patches.around(Client, "publish", core.publish)
        patches.wrap(Client, "request", core.request)
        patches.wrap(Client, "subscribe", core.subscribe)
        patches.wrap(Client, "_request_sub_callback", core.mux)
        patches.wrap(Client, "_process_connect_init", core.connected)
        patches.wrap(Client, "_close", core.close)
        patches.wrap(Subscription, "next_msg", core.next_msg)
        patches.wrap(Subscription, "_stop_processing", core.stop)
        patches.wrap(SlowConsumerError, "__init__", core.slow)
        patches.around(
            _SubscriptionMessageIterator, "__aiter__", looping(patches, lambda iterator: iterator._sub)
        )
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
