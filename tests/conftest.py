"""Real brokers for the tests that ask for them: started once per run, all at the same time.

A test asks by fixture (`nats_url`, `rabbitmq_url`, `kafka_bootstrap`) or by marker (`nats`, `rabbitmq`, `kafka`)
together with `brokers`. Missing means skipped with the reason; named in HOPWATCH_REQUIRE_BROKERS (or `all`), failed.

HOPWATCH_TEST_PATIENCE is by how much longer everything is waited for, a test as a whole too.
"""

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import scenario_table
from hypothesis import HealthCheck, settings

from hopwatch_demo.brokers import NAMES, Broker, Brokers, State
from hopwatch_demo.patience import BadPatience, read_factor, scale_wait

# How long an example takes depends on what else the machine does: no test fails on speed.
settings.register_profile("hopwatch", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hopwatch")

FIXTURES = {"nats_url": "nats", "rabbitmq_url": "rabbitmq", "kafka_bootstrap": "kafka"}
running = pytest.StashKey[Brokers]()
missing = pytest.StashKey[dict[str, str]]()
closing = pytest.StashKey[list[str]]()
_WITHIN = "WITHIN_TESTS_OF_HOPWATCH"
_LONGEST = ("test_scenario_many.py", "system", "dashboards", "demo")


def pytest_configure(config: pytest.Config) -> None:
    """With several workers (`pytest -n 2`) the process that starts them has the brokers, all three."""
    _check_patience()
    config.stash[closing] = []
    config.stash[missing] = {}
    # Once per run: tests that run pytest themselves are within one.
    if not _is_worker(config) and _WITHIN not in os.environ:
        os.environ[_WITHIN] = "1"
        scenario_table.forget()
    if getattr(config.option, "numprocesses", None) and not _is_worker(config):
        config.pluginmanager.register(_Shared(config))


def _check_patience() -> None:
    try:
        read_factor()
    except BadPatience as error:
        raise pytest.UsageError(str(error)) from None


class _Shared:
    """Gives every worker the same brokers, and hears what it has to say at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._closing = config.stash[closing]
        config.stash[running] = self._brokers = Brokers.start(background=True)

    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker, before it starts, where they are."""
        node.workerinput["brokers"] = self._brokers.environ()
        node.workerinput["missing"] = {b.name: b.reason for b in self._brokers.all() if not b.available}

    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take over a worker's closing lines."""
        self._closing.extend(getattr(node, "workeroutput", {}).get("closing", ()))


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what asks by fixture, so that `-m "not kafka"` means what it says; put the files that take longest first."""
    for item in items:
        _scale_timeout(item)
        for fixture, name in FIXTURES.items():
            if fixture in getattr(item, "fixturenames", ()) and item.get_closest_marker(name) is None:
                item.add_marker(name)
    _leave_out_nightly(config, items)
    items.sort(key=_place)


def _leave_out_nightly(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what takes too long for every day, and say so at the end, unless `-m` is about it."""
    if "nightly" in (config.option.markexpr or ""):
        return
    nightly = [item for item in items if item.get_closest_marker("nightly")]
    if nightly:
        config.hook.pytest_deselected(items=nightly)
        items[:] = [item for item in items if item not in nightly]
        config.stash[closing].append(
            f"nightly: {len(nightly)} left out, which take too long for every day: make test-nightly"
        )


def _scale_timeout(item: pytest.Item) -> None:
    """Give a test the time of its mark, or that of all tests, times the patience; a time said on the command line stays."""
    said = item.get_closest_marker("timeout")
    if said is not None:
        item.add_marker(pytest.mark.timeout(scale_wait(said.args[0]), **said.kwargs), append=False)
    elif item.config.getoption("timeout") is None and "PYTEST_TIMEOUT" not in os.environ:
        item.add_marker(pytest.mark.timeout(scale_wait(float(item.config.getini("timeout")))))


def _place(item: pytest.Item) -> int:
    parts = item.path.relative_to(Path(__file__).parent).parts
    return next((place for place, name in enumerate(_LONGEST) if name in parts), len(_LONGEST))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start what the chosen tests need: they boot while the first tests run."""
    config = session.config
    if config.option.collectonly:
        return
    if _is_worker(config):
        config.stash[missing] = config.workerinput["missing"]
        there = [name for name in NAMES if name not in config.stash[missing]]
        config.stash[running] = Brokers.start(there, environ=config.workerinput["brokers"])
        return
    needed = [name for name in NAMES if any(item.get_closest_marker(name) for item in session.items)]
    brokers = Brokers.start(needed, background=True)
    config.stash[running] = brokers
    brokers.provided()  # installing on a fresh machine may outlast a test's timeout; here none is ticking


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_report_to_serializable() -> Generator[None, object, object]:
    """What a test logs may be no UTF-8, as hostile input is: sent as it is, it would end the worker."""
    return _in_utf8((yield))


def _in_utf8(data: Any) -> Any:
    match data:
        case str():
            return data.encode(errors="backslashreplace").decode()
        case dict():
            return {_in_utf8(key): _in_utf8(value) for key, value in data.items()}
        case list() | tuple():
            return type(data)(map(_in_utf8, data))
    return data


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand a worker's closing lines to the process that prints."""
    if _is_worker(session.config):
        session.config.workeroutput["closing"] = session.config.stash[closing]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the run with what each broker was, below the figures, and end them, however it went."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    brokers = config.stash.get(running, None)
    if not _is_worker(config):
        scenario_table.write()
    if terminal and not _is_worker(config):
        for line in (*dict.fromkeys(config.stash[closing]), *([brokers.closing_line()] if brokers else ())):
            terminal.write_line(line)
    if brokers:
        brokers.close()


@pytest.fixture(scope="session")
def closing_lines(request: pytest.FixtureRequest) -> list[str]:
    """What is to be said below the figures; add to it."""
    return request.config.stash[closing]


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
            insist(_asked(request.config, name))


def _asked(config: pytest.Config, name: str) -> Broker:
    reason = config.stash[missing].get(name)
    return Broker(name, State.MISSING, reason=reason) if reason else config.stash[running][name]


def insist(broker: Broker) -> None:
    """Go on only with a broker there."""
    if broker.available:
        return
    required = os.environ.get("HOPWATCH_REQUIRE_BROKERS", "").replace(",", " ").split()
    if "all" in required or broker.name in required:
        pytest.fail(f"{broker}, and HOPWATCH_REQUIRE_BROKERS names it", pytrace=False)
    pytest.skip(f"{broker.name} MISSING: {broker.reason}")
