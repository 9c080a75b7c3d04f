"""The collector's configuration file: `expects`, `asyncapi` and `deadlines`, checked as a whole."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from hopwatch_collector.errors import SettingsError
from hopwatch_collector.expects import patterns
from hopwatch_collector.expects.documents import Document, read
from hopwatch_collector.expects.model import MAX_EXPECTATIONS, MAX_NAME, MAX_RULES, Expectation, Pattern, Rule

_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?) ?(ms|s|m|h|d)", re.ASCII)
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_S: Final = 30 * 86400.0
_SHOWN: Final = 20
"""Mistakes told at once."""


@dataclass(frozen=True, slots=True)
class Config:
    """What a configuration file declares."""

    expectations: tuple[Expectation, ...] = ()
    rules: tuple[Rule, ...] = ()
    asyncapi: tuple[Path, ...] = ()
    """Absolute; in the file they may be relative to its own directory."""


def read_config(path: Path) -> Config:
    """Read a configuration file.

    Raises:
        SettingsError: it cannot be read or used as it is; every mistake is told with its line and what to write instead.
    """
    document = read(path)
    try:
        told = _File.model_validate(document.value if document.value is not None else {})
    except ValidationError as error:
        raise SettingsError(_explained(document, error)) from None
    return Config(
        tuple(one for expects in told.expects for one in expects.expectations(f"expects in {path.name}")),
        tuple(rule.rule() for rule in told.deadlines),
        tuple(path.absolute().parent / document_path for document_path in told.asyncapi),
    )


def seconds(value: object) -> float:
    """Return how many seconds `30`, `90s`, `5m`, `2h` or `1d` are.

    Raises:
        ValueError: it is none of these, or not between a millisecond and thirty days.
    """
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is not None:
        told = float(found[1]) * _SECONDS[found[2]]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        told = float(value)
    else:
        raise ValueError(f"{value!r} is no time: write 30 (seconds), 500ms, 90s, 5m, 2h or 1d")
    if not 0.001 <= told <= _LONGEST_S:
        raise ValueError(f"{value!r} is not between 1 ms and 30 days")
    return told


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Name = Annotated[str, Field(max_length=MAX_NAME)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_listed), Field(min_length=1, max_length=1_000)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Expects(_Model):
    """Receivers that are to get everything sent to these destinations."""

    system: Literal["kafka", "nats", "rabbitmq"]
    destination: Names
    receiver: Names = ()
    service: Names = ()

    @model_validator(mode="after")
    def _sensible(self) -> "_Expects":
        if bool(self.receiver) == bool(self.service):
            raise ValueError(f"name either `receiver` ({_RECEIVERS[self.system]}) or `service`")
        if self.service and self.system == "rabbitmq":
            raise ValueError("on RabbitMQ queues receive: name the queue as `receiver`, not a `service`")
        if self.service and self.system == "kafka" and any("*" in one for one in self.destination):
            raise ValueError(
                "a service without a group reads topics by their names: write them out, without wildcards"
            )
        for one in (*self.receiver, *self.service):
            patterns.name(one)
        for one in self.destination:
            patterns.destination(self.system, one)
        return self

    def expectations(self, source: str) -> Iterator[Expectation]:
        for text in self.destination:
            pattern = patterns.destination(self.system, text)
            for receiver in self.receiver or (f"{service}:{text}" for service in self.service):
                yield Expectation(self.system, pattern, receiver, source)


class _Deadline(_Model):
    """How long these receivers may take."""

    system: Annotated[str, Field(pattern=r"^[a-z0-9_.-]{1,64}$")] | None = None
    destination: Name | None = None
    receiver: Name | None = None
    after: Annotated[float, BeforeValidator(seconds)]

    @model_validator(mode="after")
    def _sensible(self) -> "_Deadline":
        if self.destination is not None and self.system is None and re.search(r"[*#>]", self.destination):
            raise ValueError(
                f"name the `system` of {self.destination!r}: brokers differ in what their wildcards mean"
            )
        if self.receiver is not None:
            patterns.glob(self.receiver)
        self._destination()
        return self

    def _destination(self) -> Pattern | None:
        return None if self.destination is None else patterns.destination(self.system or "", self.destination)

    def rule(self) -> Rule:
        receiver = "" if self.receiver is None else patterns.glob(self.receiver)
        return Rule(self.system or "", self._destination(), receiver, self.after, self.receiver or "")


class _File(_Model):
    expects: Annotated[tuple[_Expects, ...], Field(max_length=MAX_EXPECTATIONS)] = ()
    asyncapi: Annotated[Names, Field(min_length=0)] = ()
    deadlines: Annotated[tuple[_Deadline, ...], Field(max_length=MAX_RULES)] = ()


_RECEIVERS: Final = {
    "kafka": "the consumer group",
    "nats": "a queue group, or stream/consumer",
    "rabbitmq": "the queue",
}


def _explained(document: Document, error: ValidationError) -> str:
    problems = error.errors()
    told = [f"{document.where(problem['loc'])}: {_words(problem)}" for problem in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        told.append(f"and {len(problems) - _SHOWN} more mistakes")
    return "\n  ".join(told)


def _words(problem: ErrorDetails) -> str:
    explain = _EXPLAINED.get(problem["type"])
    return explain(problem) if explain else problem["msg"].removeprefix("Value error, ")


def _unknown(problem: ErrorDetails) -> str:
    models: dict[str | int, type[BaseModel]] = {"expects": _Expects, "deadlines": _Deadline}
    *within, key = problem["loc"]
    known = models[within[0]].model_fields if within else _File.model_fields
    near = get_close_matches(str(key), known, n=1)
    return f"unknown key; did you mean `{near[0]}`?" if near else f"unknown key; known are {', '.join(known)}"


def _not_text(problem: ErrorDetails) -> str:
    value: Any = problem["input"]
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return f'must be text: write "{value}" in quotes' if plain else "must be text"


_EXPLAINED: Final[dict[str, Callable[[ErrorDetails], str]]] = {
    "extra_forbidden": _unknown,
    "missing": lambda _: "is missing",
    "string_type": _not_text,
    "tuple_type": lambda _: "must be a list",
    "model_type": lambda _: "must be a mapping of keys to values",
}
