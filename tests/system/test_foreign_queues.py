"""Queues of a watched broker that are read by a service which another instrumentation watches: one receiver, not two."""

from collections.abc import Callable
from contextlib import ExitStack

import pytest
from support.collector import Collector
from support.waiting import eventually
from test_third_party import CONTRIB, FIRST, HOPWATCH, Hop, Parties

from hopwatch_collector.api.models import Verdict
from hopwatch_demo.brokers import Brokers

pytestmark = [pytest.mark.timeout(300), pytest.mark.rabbitmq]


@pytest.mark.parametrize("first", FIRST)
def test_a_queue_and_its_consumer_are_one_receiver(
    start_collector: Callable[..., Collector], brokers: Brokers, wires: dict[str, str], first: str
) -> None:
    """Whoever sent it, through whatever exchange, and whosever spans come first: each message is the queue's, and settled."""
    collector = start_collector(f"--watch-rabbitmq={brokers.rabbitmq.management_url}")
    hops = [
        Hop(kind, sender, CONTRIB, texts=["one", "two", "three"])
        for kind in ("rabbitmq", "rabbitmq-exchange")
        for sender in (HOPWATCH, CONTRIB)
    ]
    with ExitStack() as stack:
        parties = Parties(collector.environment(**wires), stack)
        for hop in hops:
            parties.travel(hop)
        parties.export(first)
        parties.export("receiver" if first == "sender" else "sender")
        names = {hop.name for hop in hops}
        expected = sorted((hop.destination, hop.name, hop.consumer) for hop in hops for _ in hop.texts)

        def seen() -> list[tuple[str, str, str]]:
            found = collector.api.deliveries(limit=1000)
            ours = [one for one in found if any(name in one.destination for name in names)]
            if any(one.verdict is not Verdict.SETTLED or len(one.witnesses) < 2 for one in ours):
                return []
            return sorted((one.destination, one.receiver, one.consumer) for one in ours)

        eventually(
            seen, lambda them: them == expected, what="one settled delivery to its queue for each message"
        )
