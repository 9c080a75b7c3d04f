"""Everything that is declared, from all files; and how the engine comes to know what of it is new and what has ended."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from hopwatch_collector.errors import SettingsError
from hopwatch_collector.expects.asyncapi import read_asyncapi
from hopwatch_collector.expects.config import Config, read_config
from hopwatch_collector.expects.model import MAX_EXPECTATIONS, Expectation, Pattern, Rule

_log = structlog.get_logger("hopwatch.expects")


class Files(Protocol):
    """Of the collector's settings, which files declare something."""

    @property
    def config(self) -> Path | None: ...

    @property
    def asyncapi(self) -> tuple[Path, ...]: ...


class Writes(Protocol):
    """Of the engine's client, what a declaration calls; blocks."""

    def write(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows. Raises EngineUnavailable."""

    def standing_declarations(self) -> list[Mapping[str, Any]]:
        """Return the expectations that hold, by the columns of `declared`."""

    def standing_deadlines(self) -> list[Mapping[str, Any]]:
        """Return the deadlines that hold, in their order, by the columns of `deadline_rules`."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What the team declares."""

    expectations: tuple[Expectation, ...] = ()
    rules: tuple[Rule, ...] = ()
    left_out: tuple[str, ...] = ()
    """What of the documents could not be used, in words, with what to add."""

    def summary(self) -> str:
        """What was understood, in one line."""
        return f"{len(self.expectations)} expected receivers, {len(self.rules)} deadlines"

    def listed(self) -> dict[str, list[Any]]:
        """What was understood, for programs: each part as the file or document has it, None for any, times in seconds."""
        return {
            "expectations": [
                {
                    "system": one.system,
                    "destination": one.pattern.text,
                    "receiver": one.receiver,
                    "source": one.source,
                }
                for one in self.expectations
            ],
            "deadlines": [
                {
                    "system": rule.system or None,
                    "destination": rule.destination.text if rule.destination else None,
                    "receiver": rule.named or None,
                    "after_s": rule.seconds,
                }
                for rule in self.rules
            ],
            "left_out": list(self.left_out),
        }


def load(files: Files) -> Declared:
    """Read all files that the settings name.

    Raises:
        SettingsError: one cannot be used as it is.
    """
    config = read_config(files.config) if files.config else Config()
    documents = [read_asyncapi(path) for path in dict.fromkeys((*config.asyncapi, *files.asyncapi))]
    found = [*config.expectations, *(one for document in documents for one in document.expectations)]
    # Declared twice is declared once: what is written by hand counts before what a document says.
    expectations = {_key(one): one for one in reversed(found)}
    if len(expectations) > MAX_EXPECTATIONS:
        raise SettingsError(
            f"{len(expectations):,} receivers are declared, and at most {MAX_EXPECTATIONS:,} can be: "
            "say more with wildcards"
        )
    left_out = tuple(why for document in documents for why in document.left_out)
    return Declared(tuple(reversed(expectations.values())), config.rules, left_out)


def declare(store: Writes, declared: Declared, at: datetime | None = None) -> None:
    """Tell the engine what is declared from now on: what it knows already goes on, what is no longer there ends.

    Raises:
        EngineUnavailable: it could not be told.
    """
    now = at or datetime.now(UTC)
    standing = [(_expectation(row), row["from_at"]) for row in store.standing_declarations()]
    known, wanted = {one for one, _ in standing}, set(declared.expectations)
    begun = [one for one in declared.expectations if one not in known]
    ended = [(one, began) for one, began in standing if one not in wanted]
    rows = [*(_row(one, began, now) for one, began in ended), *(_row(one, now, _FAR) for one in begun)]
    if rows:
        store.write("declared", _COLUMNS, rows)
    rules = _rule_rows(declared.rules, now)
    if [row[1:] for row in rules] != [
        [row[name] for name in _RULE_COLUMNS[1:]] for row in store.standing_deadlines()
    ]:
        store.write("deadline_rules", _RULE_COLUMNS, rules or [[now, 0, "", "", "", "", "", 0.0]])
    _log.info(
        "declared",
        expectations=len(wanted),
        begun=len(begun),
        ended=len(ended),
        deadlines=len(rules),
    )
    for why in declared.left_out:
        _log.warning("left out", why=why)


def _key(one: Expectation) -> tuple[str, str, str]:
    return one.system, one.pattern.text, one.receiver


def _expectation(row: Mapping[str, Any]) -> Expectation:
    pattern = Pattern(row["pattern"], row["prefix"], row["expression"])
    return Expectation(row["system"], pattern, row["receiver"], row["source"])


def _row(one: Expectation, began: datetime, until: datetime) -> list[Any]:
    pattern = one.pattern
    return [
        one.system, one.receiver, pattern.text, began, until, pattern.prefix, pattern.expression, one.source,
    ]  # fmt: skip


def _rule_rows(rules: Iterable[Rule], at: datetime) -> list[list[Any]]:
    return [
        [
            at, number, rule.system, destination.text, destination.prefix, destination.expression, rule.receiver,
            rule.seconds,
        ]
        for number, rule in enumerate(rules, start=1)
        for destination in [rule.destination or Pattern("")]
    ]  # fmt: skip


_FAR: Final = datetime(2299, 1, 1, tzinfo=UTC)
_COLUMNS: Final = ("system", "receiver", "pattern", "from_at", "until_at", "prefix", "expression", "source")
_RULE_COLUMNS: Final = (
    "declared_at", "number", "system", "destination", "prefix", "expression", "receiver", "seconds",
)  # fmt: skip
