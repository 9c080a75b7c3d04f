"""Whatever of hopwatch and the libraries is imported first, the libraries are instrumented."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

MODULES = {point.name: point.value.partition(":")[0] for point in entry_points(group="hopwatch.transports")}

STATE = """
import sys
from hopwatch.setup import _state, transports
loaded = {one.name for one in transports() if one.name in sys.modules}
assert {name} in loaded
assert loaded == set(_state.active), (loaded, set(_state.active))
"""


def run(*lines: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, with no collector to tell anything."""
    program = "\n".join(("import hopwatch", *lines))
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "PATH": ""},
        check=False,
    )


ORDERS = {
    "ours first": ("hopwatch.instrument()", "import {module}", "import {name}"),
    "theirs first": ("hopwatch.instrument()", "import {name}", "import {module}"),
    "before": ("import {module}", "hopwatch.instrument()"),
    "helper first": ("from hopwatch.handover import processing", "hopwatch.instrument()", "import {module}"),
    "drop-in": ("hopwatch.instrument()", "import hopwatch.{name}"),
}
NO_DROP_IN = ("gql", "graphql")
"""Libraries whose names are imported from them: hopwatch has no module to import them from instead."""


@pytest.mark.parametrize(
    ("name", "order"),
    [
        pytest.param(name, order, id=f"{title}-{name}")
        for title, order in ORDERS.items()
        for name in MODULES
        if not (title == "drop-in" and name in NO_DROP_IN)
    ],
)
def test_any_order_works(name: str, order: tuple[str, ...]) -> None:
    """Nothing is said on stderr, and every library that was imported is instrumented."""
    done = run(
        *(line.format(name=name, module=MODULES[name]) for line in order), STATE.replace("{name}", repr(name))
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "module", ["hopwatch.asgi", "hopwatch.sockets_asgi", "hopwatch.servers", "hopwatch.transports.nats.core"]
)
def test_a_part_of_ours_may_come_first(module: str) -> None:
    """It imports what it needs of the libraries, and of ours what is still being imported."""
    done = run(
        "hopwatch.instrument()",
        f"import {module}",
        "import sys",
        "from hopwatch.setup import _state, transports",
        "assert {one.name for one in transports() if one.name in sys.modules} == set(_state.active)",
    )
    assert (done.returncode, done.stderr) == (0, "")
