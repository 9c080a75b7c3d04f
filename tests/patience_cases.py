"""What test_conftest runs in a pytest of its own: each needs two seconds and is given one, times the patience.

Not named `test_…`, so that no other run takes them for tests.
"""

import threading
import time

import pytest
from scenario_support import until
from support.waiting import eventually

never = threading.Event()


@pytest.mark.timeout(1)
def test_a_time_by_mark() -> None:
    """A test whose mark says how long it may take."""
    never.wait(2)


def test_the_time_of_all() -> None:
    """A test without a mark: what the configuration says holds."""
    never.wait(2)


@pytest.mark.timeout(60)
def test_a_condition() -> None:
    """What system tests wait for."""
    began = time.monotonic()
    eventually(lambda: time.monotonic() - began, lambda passed: passed > 2, within=1)


@pytest.mark.timeout(60)
async def test_a_condition_of_a_scenario() -> None:
    """What scenarios wait for."""
    began = time.monotonic()
    await until(lambda: time.monotonic() - began > 2, "two seconds", within_s=1)
