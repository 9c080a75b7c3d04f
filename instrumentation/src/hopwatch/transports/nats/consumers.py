"""What the JetStream API told of consumers: what they are owed, and whether they acknowledge."""

from collections import OrderedDict
from typing import Final
from weakref import WeakKeyDictionary

from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy

from hopwatch.holders import Holders
from hopwatch.recorder import Recorder
from hopwatch.transports.nats.places import Delivery, holding, is_system


class Consumers:
    """The last thousand consumers that the application created, looked up or bound to."""

    LIMIT: Final = 1_000

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._configs: OrderedDict[tuple[str, str], ConsumerConfig] = OrderedDict()
        self._holders = Holders(recorder)
        self._bound: WeakKeyDictionary[Subscription, tuple[str, str]] = WeakKeyDictionary()

    def learn(self, info: ConsumerInfo) -> None:
        """Remember what the server said of a consumer."""
        self.note(info.stream_name, info.name, info.config)

    def note(self, stream: str, consumer: str, config: ConsumerConfig | None) -> None:
        """Remember a consumer's configuration."""
        if config is None:
            return
        self._configs.pop((stream, consumer), None)
        self._configs[stream, consumer] = config
        if len(self._configs) > self.LIMIT:
            self._configs.popitem(last=False)

    def acknowledges(self, delivery: Delivery) -> bool:
        """Whether the receiver of a delivery has to acknowledge it; it usually has."""
        config = self._configs.get((delivery.stream, delivery.consumer))
        return config is None or config.ack_policy != AckPolicy.NONE

    def bound(self, subscription: Subscription, stream: str, consumer: str) -> None:
        """Report what a consumer is owed, if that is known; an ephemeral one only while it has its subscriber."""
        config = self._configs.get((stream, consumer))
        if config is None:
            return
        durable, client = bool(config.durable_name), subscription._conn
        self._bound[subscription] = stream, consumer
        self._holders.hold(
            subscription,
            [
                holding(pattern, f"{stream}/{consumer}", client, durable=durable)
                for pattern in _filters(config)
            ],
        )

    def reconnected(self, subscription: Subscription) -> None:
        """Report what a consumer is owed again: the server lists its subscriber by another number now."""
        bound = self._bound.get(subscription)
        if bound is not None:
            self.bound(subscription, *bound)

    def released(self, subscription: Subscription) -> None:
        """Report that a consumer lost a subscriber, the end of an ephemeral one with it."""
        bound = self._bound.pop(subscription, None)
        if bound is None:
            return
        self._holders.release(subscription)
        config = self._configs.get(bound)
        if config is not None and not config.durable_name:
            del self._configs[bound]

    def gone(self, stream: str, consumer: str) -> None:
        """Report that a consumer is owed nothing more."""
        config = self._configs.pop((stream, consumer), None)
        for pattern in _filters(config) if config is not None else ():
            self._recorder.unsubscribed(pattern, receiver=f"{stream}/{consumer}")


def _filters(config: ConsumerConfig) -> list[str]:
    """Return the subjects a consumer is owed, from where it starts; without a filter these are the stream's, not known here."""
    filters = list(config.filter_subjects or ()) or [config.filter_subject or ""]
    by_sequence = config.deliver_policy == DeliverPolicy.BY_START_SEQUENCE and config.opt_start_seq
    start = f"from {config.opt_start_seq}\x1f" if by_sequence else ""
    return [start + subject for subject in filters if subject and not is_system(subject)]
