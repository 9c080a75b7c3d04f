"""The configuration file: what it comes to, and that every mistake in it is found, with its line and what to do."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopwatch_collector.errors import SettingsError
from hopwatch_collector.expects.config import read_config, seconds
from hopwatch_collector.expects.model import MAX_EXPECTATIONS

Write = Callable[..., Path]


def refusal(path: Path) -> str:
    """Why a file is refused."""
    with pytest.raises(SettingsError) as refused:
        read_config(path)
    return str(refused.value)


def test_every_receiver_is_expected_at_every_destination(write: Write) -> None:
    """Lists multiply; a service is spelled as the ledger spells plain subscribers; documents lie beside the file."""
    config = read_config(
        write("""
expects:
  - {system: kafka, destination: [orders, refunds], receiver: [billing, mail]}
  - system: nats
    destination: prices.*
    service: pricing
asyncapi: shop.yaml
""")
    )
    assert [(one.system, one.pattern.text, one.receiver) for one in config.expectations] == [
        ("kafka", "orders", "billing"), ("kafka", "orders", "mail"), ("kafka", "refunds", "billing"),
        ("kafka", "refunds", "mail"), ("nats", "prices.*", "pricing:prices.*"),
    ]  # fmt: skip
    assert {one.source for one in config.expectations} == {"expects in hopwatch.yaml"}
    assert config.asyncapi == (write("", "empty").parent / "shop.yaml",)


def test_an_empty_file_declares_nothing(write: Write) -> None:
    """So does one of comments only."""
    assert read_config(write("# nothing yet\n")) == read_config(write("expects: []"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("expect: []", "hopwatch.yaml, line 1: expect: unknown key; did you mean `expects`?"),
        ("watch: 1", "unknown key; known are expects, asyncapi, deadlines"),
        (
            "expects:\n  - system: kafka\n    destination: orders\n    recevier: billing",
            "hopwatch.yaml, line 4: expects.0.recevier: unknown key; did you mean `receiver`?",
        ),
        ("expects:\n- {destination: orders, receiver: a}", "line 2: expects.0.system: is missing"),
        ("expects:\n- {system: sqs, destination: orders, receiver: a}", "'kafka', 'nats' or 'rabbitmq'"),
        ("expects:\n- {system: kafka, destination: 7, receiver: a}", 'must be a list'),
        ("expects:\n- {system: kafka, destination: [7], receiver: a}", 'expects.0.destination.0: must be text: write "7" in quotes'),
        ("expects:\n- {system: kafka, destination: orders}", "name either `receiver` (the consumer group) or `service`"),
        ("expects:\n- {system: nats, destination: a, receiver: b, service: c}", "name either `receiver`"),
        ("expects:\n- {system: rabbitmq, destination: a, service: c}", "name the queue as `receiver`"),
        ("expects:\n- {system: kafka, destination: 'a-*', service: c}", "reads topics by their names"),
        ("expects:\n- {system: kafka, destination: a, receiver: b, \"\\e[31m\": c}", "expects.0.�[31m: unknown key"),
        ("expects:\n- {system: nats, destination: 'a.>.b', receiver: c}", "so it comes last"),
        ("expects:\n- {system: nats, destination: 'a.b*', receiver: c}", "`b*` is not a wildcard of NATS"),
        ("expects:\n- {system: nats, destination: 'a..b', receiver: c}", "has an empty word"),
        ("expects:\n- {system: rabbitmq, destination: 'order.*', receiver: c}", "stand behind the exchange"),
        ("expects:\n- {system: rabbitmq, destination: 'e:a.b*', receiver: c}", "are whole words of a binding key"),
        ("expects:\n- {system: kafka, destination: '', receiver: c}", "must not be empty"),
        ("expects:\n- {system: kafka, destination: a, receiver: ' c'}", "has blanks around it"),
        ("expects:\n- {system: kafka, destination: a, receiver: \"c\\0\"}", "has unprintable characters"),
        ("expects: orders", "line 1: expects: must be a list"),
        ("- expects", "hopwatch.yaml, line 1: must be a mapping"),
        ("deadlines:\n- {after: soon}", "line 2: deadlines.0.after: 'soon' is no time: write 30 (seconds), 500ms, 90s, 5m, 2h or 1d"),
        ("deadlines:\n- {after: 0}", "not between 1 ms and 30 days"),
        ("deadlines:\n- {destination: 'a.*', after: 5m}", "name the `system` of 'a.*'"),
        ("deadlines:\n- {receiver: a, within: 5m, after: 5m}", "unknown key; known are system, destination, receiver, after"),
        ("expects: []\nexpects: []", "line 2: 'expects' is there twice"),
        ("expects: [", "line 1"),
        ("expects:\n\t- a", "line 2"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_their_line_and_what_to_write(write: Write, text: str, said: str) -> None:
    """Unknown keys, bad patterns and bad values are refused, not passed over."""
    assert said in refusal(write(text))


def test_all_mistakes_are_told_at_once(write: Write) -> None:
    """One start tells them all, up to a limit that says so."""
    said = refusal(write("deadlines:\n" + "- {after: soon}\n" * 30))
    assert said.count("is no time") == 20
    assert "and 10 more mistakes" in said


HOSTILE = {
    "too large": "#" * (3 << 20),
    "deep": "expects: " + "[" * 100_000,
    "deep in JSON": '{"expects": ' + "[" * 100_000,
    "deep by blocks": "".join(" " * depth + "a:\n" for depth in range(500)),
    "aliases that multiply": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "merges that multiply": "a: &a {x: 1}\nb: {<<: [*a, *a]}",
    "an alias of itself": "expects: &a [*a]",
    "a Python object": "expects: !!python/object/apply:os.system ['true']",
    "two documents": "expects: []\n---\nexpects: []",
    "not UTF-8": b"expects: \xff\xfe",
    "a key that is a list": "? [a]\n: b",
    "a key twice in JSON": '{"expects": [], "expects": []}',
    "an endless number": '{"expects": ' + "9" * 5_000 + "}",
    "too many receivers": "expects: [" + "{system: kafka, destination: a, receiver: b}," * (MAX_EXPECTATIONS + 1) + "]",
}  # fmt: skip


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in HOSTILE.items()])
def test_hostile_files_are_refused(write: Write, text: str | bytes) -> None:
    """Size, depth, aliases and tags have bounds: the answer is a short sentence, whatever the file holds."""
    said = refusal(write(text))
    assert said.startswith("hopwatch.yaml")
    assert len(said) < 5_000


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With the path that was asked for."""
    assert str(tmp_path / "none.yaml") in refusal(tmp_path / "none.yaml")


@given(st.text(alphabet=st.sampled_from("expcts:[]{}&*!<>|-#'\"\n \t\\%@`,?\0\u2028é7"), max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing that a file may hold raises anything but a refusal that names the file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "any.yaml"
        path.write_text(text, "utf-8")
        with suppress(SettingsError):
            read_config(path)


@pytest.mark.parametrize(
    ("told", "expected"),
    [(30, 30.0), (0.5, 0.5), ("500ms", 0.5), ("90s", 90.0), ("5m", 300.0), ("1.5h", 5400.0), ("2 d", 172_800.0)],
)  # fmt: skip
def test_times(told: object, expected: float) -> None:
    """Seconds, or a number with its unit."""
    assert seconds(told) == expected


@pytest.mark.parametrize("told", [True, None, "5", "-5m", "5 weeks", "1e9s", "31d", [], float("nan")])
def test_what_is_no_time(told: object) -> None:
    """Everything else is refused."""
    with pytest.raises(ValueError, match=r"write 30|not between"):
        seconds(told)
