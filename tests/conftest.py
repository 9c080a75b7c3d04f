"""Real brokers for the tests that ask for them: started once per run, only those needed, all at the same time.

A test asks by fixture (`nats_url`, `rabbitmq_url`, `kafka_bootstrap`) or by marker (`nats`, `rabbitmq`, `kafka`)
together with `brokers`. Missing means skipped with the reason; named in HOPWATCH_REQUIRE_BROKERS (or `all`), failed.
"""

import os

import pytest

from hopwatch_demo.brokers import NAMES, Broker, Brokers

FIXTURES = {"nats_url": "nats", "rabbitmq_url": "rabbitmq", "kafka_bootstrap": "kafka"}
running = pytest.StashKey[Brokers]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what asks by fixture, so that `-m "not kafka"` means what it says."""
    for item in items:
        for fixture, name in FIXTURES.items():
            if fixture in getattr(item, "fixturenames", ()) and item.get_closest_marker(name) is None:
                item.add_marker(name)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start what the chosen tests need: they boot while the first tests run."""
    if session.config.option.collectonly:
        return
    needed = [name for name in NAMES if any(item.get_closest_marker(name) for item in session.items)]
    brokers = Brokers.start(needed, background=True)
    session.config.stash[running] = brokers
    brokers.provided()  # installing on a fresh machine may outlast a test's timeout; here none is ticking


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the run with what each broker was, below the figures, and end them, however it went."""
    if brokers := config.stash.get(running, None):
        if terminal := config.pluginmanager.get_plugin("terminalreporter"):
            terminal.write_line(brokers.closing_line())
        brokers.close()


@pytest.fixture(scope="session")
def brokers(request: pytest.FixtureRequest) -> Brokers:
    """The run's brokers; ask by marker too, so that the one you need is started."""
    return request.config.stash[running]


@pytest.fixture
def nats_url(brokers: Brokers) -> str:
    """Where NATS with JetStream is."""
    return brokers.nats.url


@pytest.fixture
def rabbitmq_url(brokers: Brokers) -> str:
    """Where RabbitMQ is, login included."""
    return brokers.rabbitmq.url


@pytest.fixture
def kafka_bootstrap(brokers: Brokers) -> str:
    """Where Kafka is: host:port."""
    return brokers.kafka.url


@pytest.fixture(autouse=True)
def _needed_brokers(request: pytest.FixtureRequest) -> None:
    """Skip, or fail where it is required, a test whose broker is missing."""
    for name in NAMES:
        if request.node.get_closest_marker(name):
            insist(request.config.stash[running][name])


def insist(broker: Broker) -> None:
    """Go on only with a broker there."""
    if broker.available:
        return
    required = os.environ.get("HOPWATCH_REQUIRE_BROKERS", "").replace(",", " ").split()
    if "all" in required or broker.name in required:
        pytest.fail(f"{broker}, and HOPWATCH_REQUIRE_BROKERS names it", pytrace=False)
    pytest.skip(f"{broker.name} MISSING: {broker.reason}")
