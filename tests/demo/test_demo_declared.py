"""What the shop's team declares: the receivers that its catalogue names, and nobody else."""

import pytest

from hopwatch_collector.expects.config import read_config
from hopwatch_demo.catalogue import BILL, INVOICED, PLACED, Kind
from hopwatch_demo.collector import DECLARED


@pytest.mark.parametrize("system", ["kafka", "rabbitmq", "nats"])
@pytest.mark.parametrize("kind", [BILL, PLACED, INVOICED], ids=lambda kind: kind.name)
def test_every_receiver_of_the_catalogue_is_declared(system: str, kind: Kind) -> None:
    """On every broker, each by the name it has there."""
    declared = [
        one.receiver
        for one in read_config(DECLARED).expectations
        if one.system == system and one.pattern.text.endswith(f".{kind.name}")
    ]
    services = [
        receiver.partition(".")[0] if system != "nats" else receiver.partition(":")[0].rpartition("/")[2]
        for receiver in declared
    ]
    assert sorted(services) == sorted(kind.receivers)
