"""What the JetStream API told of consumers: what they are owed, and whether they acknowledge."""

from collections import OrderedDict
from typing import Final
from weakref import WeakKeyDictionary

from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo

from hopwatch.recorder import Recorder
from hopwatch.transports.nats.places import Delivery, is_system


class Consumers:
    """The last thousand consumers that the application created, looked up or bound to."""

    LIMIT: Final = 1_000

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._configs: OrderedDict[tuple[str, str], ConsumerConfig] = OrderedDict()
        self._ephemeral: WeakKeyDictionary[Subscription, tuple[str, str]] = WeakKeyDictionary()

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
        durable = bool(config.durable_name)
        for pattern in _filters(config):
            self._recorder.subscribed(pattern, receiver=f"{stream}/{consumer}", durable=durable)
        if not durable:
            self._ephemeral[subscription] = (stream, consumer)

    def released(self, subscription: Subscription) -> None:
        """Report the end of an ephemeral consumer with its subscription."""
        bound = self._ephemeral.pop(subscription, None)
        if bound is not None:
            self.gone(*bound)

    def gone(self, stream: str, consumer: str) -> None:
        """Report that a consumer is owed nothing more."""
        config = self._configs.pop((stream, consumer), None)
        for pattern in _filters(config) if config is not None else ():
            self._recorder.unsubscribed(pattern, receiver=f"{stream}/{consumer}")


def _filters(config: ConsumerConfig) -> list[str]:
    """Return the subjects a consumer is owed; without a filter these are the stream's, not known here."""
    filters = list(config.filter_subjects or ()) or [config.filter_subject or ""]
    return [subject for subject in filters if subject and not is_system(subject)]
