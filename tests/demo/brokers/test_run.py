"""How a test run treats its brokers: skip loudly, fail where required, start only what is asked for."""

import subprocess
import sys
from pathlib import Path

from support.process import inherited_environment

from hopwatch_demo.patience import scale_wait

TESTS = Path(__file__).with_name("test_brokers.py")
NOWHERE = "nats://someone:secret@127.0.0.1:1"


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A test run of its own over the broker tests."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(TESTS), *arguments],
        env=inherited_environment() | variables,
        cwd=TESTS.parents[3],
        capture_output=True,
        text=True,
        timeout=scale_wait(120),
        check=False,
    )


def test_a_missing_broker_skips_its_tests_loudly() -> None:
    """The reason is in the skip and in the closing line; the login is in neither."""
    done = run("-k", "nats_gives_back", HOPWATCH_NATS_URL=NOWHERE)
    assert done.returncode == 0, done.stdout
    assert "nats MISSING: HOPWATCH_NATS_URL=nats://127.0.0.1:1" in done.stdout
    closing = done.stdout.splitlines()[-1]
    assert closing.startswith("brokers: nats missing (HOPWATCH_NATS_URL=nats://127.0.0.1:1: ")
    assert closing.endswith("), rabbitmq unused, kafka unused")
    assert "secret" not in done.stdout + done.stderr


def test_a_missing_broker_fails_where_it_is_required() -> None:
    """With HOPWATCH_REQUIRE_BROKERS=all a missing broker is a failure."""
    done = run("-k", "nats_gives_back", HOPWATCH_NATS_URL=NOWHERE, HOPWATCH_REQUIRE_BROKERS="all")
    assert done.returncode == 1
    assert "and HOPWATCH_REQUIRE_BROKERS names it" in done.stdout


def test_only_brokers_asked_for_are_started() -> None:
    """Deselected tests start nothing, and asking by fixture counts as the marker."""
    done = run("-k", "gives_back", "-m", "not rabbitmq and not kafka")
    assert done.returncode == 0, done.stdout
    assert "1 passed, " in done.stdout
    assert done.stdout.splitlines()[-1].startswith("brokers: nats real ")
    assert done.stdout.splitlines()[-1].endswith(", rabbitmq unused, kafka unused")
