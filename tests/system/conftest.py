"""Fixtures of the system tests: real collectors, as processes of their own on free ports."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.collector import Collector

from hopwatch_demo.brokers import Brokers

StartCollector = Callable[..., Collector]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in here, so that `-m "not system"` means what it says."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A collector shared by the tests of one file: keep destinations apart."""
    with Collector(tmp_path_factory.mktemp("collector")) as running:
        yield running


@pytest.fixture
def start_collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartCollector]:
    """Starts collectors of this test's own, which may be killed and restarted; what still runs is stopped."""
    with ExitStack() as started:

        def start(*arguments: str, **options: object) -> Collector:
            running = Collector(tmp_path_factory.mktemp("collector"), *arguments, **options)  # type: ignore[arg-type]
            started.callback(running.stop)
            return running

        yield start


@pytest.fixture(scope="session")
def wires(brokers: Brokers) -> dict[str, str]:
    """Where services find the brokers that this run has, as environment variables; empty where there is none."""
    return {"NATS": brokers.nats.url, "RABBITMQ": brokers.rabbitmq.url, "KAFKA": brokers.kafka.url}
