"""The stage of a scenario, with the scenario's number and name for the table in the README."""

import uuid
from collections.abc import AsyncIterator, Callable, Generator

import pytest
from ledger_support import engine, store
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
from scenario_support import Stage, watching
from scenario_table import leave

from hopwatch_collector.engine import Store
from hopwatch_collector.witness.model import Witness

__all__ = ["engine", "store"]

BROKERS = {"kafka": "Kafka", "rabbitmq": "RabbitMQ", "nats": "NATS"}

OpenStage = Callable[[Witness, BaseInstrumentor], Stage]


@pytest.fixture
async def stage(request: pytest.FixtureRequest, store: Store) -> AsyncIterator[OpenStage]:
    """Opens a stage: `stage(witness, instrumentor)`. Its services are instrumented until the test ends."""
    opened: list[tuple[Stage, Witness]] = []
    running = []

    def open_stage(witness: Witness, instrumentor: BaseInstrumentor) -> Stage:
        one = Stage(store, watching(witness, store), instrumentor, f"t{uuid.uuid4().hex[:12]}")
        opened.append((one, witness))
        context = one.instrumented()
        context.__enter__()
        running.append(context)
        return one

    yield open_stage
    for context in reversed(running):
        context.__exit__(None, None, None)
    for one, witness in opened:
        await witness.close()
        _note(request, one)


def _note(request: pytest.FixtureRequest, stage: Stage) -> None:
    """Leave what was judged for the README's table, if the scenario passed."""
    marker = request.node.get_closest_marker("scenario")
    if marker is not None and stage.told and getattr(request.node, "passed", False):
        number, name = marker.args
        leave(
            number,
            name.replace("Any: ", f"{BROKERS[stage.watch.system]}: "),
            [(str(one.verdict), _words(one.reason), ", ".join(one.witnesses)) for one in stage.told],
        )


def _words(reason: str) -> str:
    """The reason without what differs from run to run."""
    return reason.partition(":")[0].replace("|", "/")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let fixtures know, when they end, whether their test passed."""
    report = yield
    if call.when == "call":
        item.passed = report.passed  # type: ignore[attr-defined]  # for _note
    return report
