"""How commands end where something breaks: never with a traceback, never with the exit code of `nothing found`."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hopwatch_tui import commands, printing
from hopwatch_tui.app import HopwatchApp
from hopwatch_tui.screens.live import LiveScreen

Run = Callable[..., Any]
HOPWATCH = Path(sys.executable).with_name("hopwatch")
FLOW = f"{1:032x}"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii:strict", "utf-8"])
@pytest.mark.parametrize("arguments", [("show", FLOW), ("show", "alias-1"), ("flows",), ("undelivered",)])
def test_any_encoding_gets_an_answer(api: Any, make: Any, encoding: str, arguments: tuple[str, ...]) -> None:
    """Characters that the encoding of the output lacks are replaced; the rest is there."""
    api.flows[FLOW] = make.shop_flow()
    api.messages["m"] = make.message(1, [make.delivery_detail(1, receiver="caf\u00e9 \u20ac")])
    api.summaries = [make.flow_summary(1, name="orders → billing €")]
    api.causes = [make.cause(receiver="billing €")]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "HOPWATCH_COLLECTOR": api.url}
    done = subprocess.run([HOPWATCH, *arguments], env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode(encoding.partition(":")[0])
    assert "orders" in text
    assert ("→" in text or "€" in text) is (encoding == "utf-8")


def test_an_error_of_its_own_is_one_sentence(api: Any, make: Any, hopwatch: Run, monkeypatch: Any) -> None:
    """It names what broke and where, without a traceback, under an exit code of its own."""
    api.lag = [make.lag_row()]
    monkeypatch.setattr(printing, "clean", lambda _: 1 / 0)
    done = hopwatch("lag")
    assert done.returncode == 70
    told = done.stderr.decode()
    assert told.startswith("hopwatch: an error of its own, ZeroDivisionError: division by zero (")
    assert "Traceback" not in told


def test_an_answer_that_cannot_be_written_is_said_so(api: Any, make: Any) -> None:
    """A full disk is no success."""
    api.lag = [make.lag_row()]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [HOPWATCH, "lag", "--collector", api.url], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 70
    assert b"No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


def test_a_reader_that_has_read_enough_is_no_error(api: Any, make: Any) -> None:
    """`| head` ends a command as it ends others, without a word."""
    api.lag = [make.lag_row(receiver=f"receiver-{number}") for number in range(5_000)]
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "wb") as closed:
        done = subprocess.run(
            [HOPWATCH, "lag", "--collector", api.url], stdout=closed, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_live_view_that_breaks_prints_no_traceback(
    api: Any, capfd: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """It is left as it broke, for the command to say so in a sentence; local variables stay unprinted."""

    def break_down(_: LiveScreen) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(LiveScreen, "live_changed", break_down)
    app = HopwatchApp(api.url, token="secret")
    app.run(headless=True)
    assert isinstance(app.broken, ZeroDivisionError)
    told = "".join(capfd.readouterr())
    assert "secret" not in told
    assert "Traceback" not in told


def test_a_live_view_that_broke_ends_as_other_commands_do(hopwatch: Run, monkeypatch: Any) -> None:
    """One sentence and the exit code of hopwatch's own errors."""

    def run(app: HopwatchApp) -> None:
        app.broken = ZeroDivisionError("so it is")

    monkeypatch.setattr(HopwatchApp, "run", run)
    monkeypatch.setattr(commands, "_on_a_terminal", lambda: True)
    done = hopwatch("live")
    assert done.returncode == 70
    assert b"an error of its own, ZeroDivisionError: so it is" in done.stderr
