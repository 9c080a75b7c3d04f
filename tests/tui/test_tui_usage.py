"""What a command answers to a question that makes no sense: exit code 2, and a sentence that names what would make some."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import typer

from hopwatch_collector.api import models, params
from hopwatch_tui import options

Run = Callable[..., Any]

COMMANDS_WITH_TIMES = [("find", "x"), ("undelivered",), ("lag",), ("flows",), ("topology",)]


@pytest.mark.parametrize("command", COMMANDS_WITH_TIMES, ids=lambda command: command[0])
def test_a_wrong_time_is_a_usage_error(api: Any, hopwatch: Run, command: tuple[str, ...]) -> None:
    """It names the option and what a time looks like, and nobody is asked."""
    done = hopwatch(*command, "--since", "2x")
    assert (done.returncode, done.stdout, api.asked) == (2, b"", [])
    assert b"'--since': '2x' is no time" in done.stderr
    assert b"15m, 2h, 7d" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("find", "x", "--until", "soon"), "'--until': 'soon' is no time"),
        (("clocks", "--at", "2x"), "'--at': '2x' is no time"),
        (("find", "--verdict", "nonsense"), "'--verdict': 'nonsense' is no verdict: it is one of undelivered, settled"),
        (("undelivered", "--verdict", "settled"), "'settled' is no verdict that counts as undelivered"),
        (("undelivered", "--each", "--verdict", "x"), "it is one of undelivered, stuck"),
        (("flows", "--state", "foo"), "'--state': 'foo' is no state: it is one of active, done, failed, undelivered"),
        (("find", "x", "--limit", "-1"), "'--limit': '-1' is no whole number from 1 to 1000"),
        (("flows", "--limit", "1001"), "'--limit': '1001' is no whole number from 1 to 1000"),
        (("undelivered", "--limit", "all"), "'--limit': 'all' is no whole number"),
        (("live", "--window", "0"), "'--window': '0' is no whole number from 1 to 86400"),
        (("find", "x" * 513), "it has 513 characters; a name or id has at most 512"),
        (("show", "x" * 513), "at most 512"),
        (("why", "x" * 513), "at most 512"),
        (("flows", "--service", "x" * 513), "'--service': it has 513 characters"),
        (("find", "caf\udce9"), "is not text in UTF-8"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_a_usage_error(
    api: Any, hopwatch: Run, arguments: tuple[str, ...], words: str
) -> None:
    """It names the option and the values there are, and nobody is asked."""
    done = hopwatch(*arguments)
    assert (done.returncode, done.stdout, api.asked) == (2, b"", [])
    assert words in done.stderr.decode()


def test_what_only_the_collector_finds_wrong_is_a_usage_error_too(api: Any, hopwatch: Run) -> None:
    """Parameters that it refuses are told by the names they have on the command line."""
    api.invalid = [
        models.InvalidParameter(parameter="until", detail="until must be after since"),
        models.InvalidParameter(parameter="q", detail="a NUL character is never part of a name"),
    ]
    done = hopwatch("find", "x", "--since", "1m", "--until", "2m")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode() == (
        "hopwatch: --until: until must be after since; QUERY: a NUL character is never part of a name\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "now", "30s", "999999w", "2026-01-31T08:00:00Z", "2026-01-31t08:00:00.123456789z", "2026-01-31 09:00:00+01:00",
        "1", "1y", "-5m", "5 m", "1.5h", "yesterday", "2026-01-31", "2026-01-31T08:00:00", "2026-02-30T00:00:00Z",
        "2026-01-01T24:01:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "٣m", "9999999d",
    ],
)  # fmt: skip
def test_commands_and_collector_take_the_same_times(text: str) -> None:
    """A time that the command line lets through is one that the collector understands, and the other way round."""

    def accepted(check: Callable[[], object]) -> bool:
        try:
            check()
        except (typer.BadParameter, ValueError):
            return False
        return True

    here = accepted(lambda: options.check_time(text))
    assert here == accepted(lambda: params.parse_time(text, datetime.now(UTC)))


def test_commands_and_collector_know_the_same_words() -> None:
    """Verdicts, states and lengths of names are those of the API."""
    assert set(options.UNDELIVERED) == models.UNDELIVERED
    options.check_verdicts(list(params.VERDICTS_ASKED))
    assert options.MAX_TEXT == params.MAX_TEXT
