"""What is recorded only where it is asked for, because it may be private or is seldom worth its price; and by whom."""

import os
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

VARIABLE: Final = "HOPWATCH_RECORD"
"""Comma-separated: `message_key` (Kafka's record keys), `body_size` (bytes of every payload),
`graphql_document` (the text of GraphQL operations)."""

_WORDS: Final = ("body_size", "graphql_document", "message_key")
"""What it may say: the fields of `OptIn` of these names."""

ENVELOPE_VARIABLE: Final = "HOPWATCH_WEBSOCKET_ENVELOPE"
"""`true`: WebSocket messages carry their context in front of them, where the other end says so too."""

CALLS_VARIABLE: Final = "HOPWATCH_CALLS"
"""`native` or `contrib`: who records the calls of FastAPI, Starlette, ASGI applications and gRPC."""


class CallsPath(StrEnum):
    """Who records the calls of servers and of gRPC."""

    NATIVE = "native"
    """Wrappers of our own."""
    CONTRIB = "contrib"
    """OpenTelemetry's own instrumentation packages; ids come in through the propagator."""


LEDGER_VARIABLE: Final = "HOPWATCH_LEDGER"
"""`whole` or `sampled`: whether messages, commits and subscriptions are told whatever the sampler says of their traces."""

_LEDGERS: Final = ("whole", "sampled")

_chosen: CallsPath | None = None


def choose_calls(path: str | None) -> None:
    """Prefer a path to what the environment says; None leaves it to the environment.

    Raises:
        ValueError: there is no such path.
    """
    global _chosen
    _chosen = CallsPath(path) if path is not None else None


def calls_path() -> CallsPath:
    """Return the path chosen, in code or in the environment; a misspelt word there is as good as none."""
    if _chosen is not None:
        return _chosen
    said = _path_asked().lower()
    return CallsPath(said) if said in set(CallsPath) else CallsPath.NATIVE


def tells_whole_ledger() -> bool:
    """Whether hopwatch's own provider tells of all messages, as by default, or of those that are sampled."""
    return _ledger_asked().lower() != "sampled"


def misspelt() -> list[str]:
    """Return what the environment asks for and nobody knows, in words: it has no effect."""
    found: list[str] = []
    path = _path_asked()
    if path and path.lower() not in set(CallsPath):
        found.append(f"{CALLS_VARIABLE}={path!r} is neither {' nor '.join(CallsPath)}")
    ledger = _ledger_asked()
    if ledger and ledger.lower() not in _LEDGERS:
        found.append(f"{LEDGER_VARIABLE}={ledger!r} is neither {' nor '.join(_LEDGERS)}")
    odd = sorted(word for word in _words_asked() if word.lower() not in _WORDS)
    return found + [f"{VARIABLE}: {word!r} is none of {', '.join(_WORDS)}" for word in odd]


def _path_asked() -> str:
    return os.environ.get(CALLS_VARIABLE, "").strip()


def _ledger_asked() -> str:
    return os.environ.get(LEDGER_VARIABLE, "").strip()


def _words_asked() -> set[str]:
    return {word.strip() for word in os.environ.get(VARIABLE, "").split(",")} - {""}


@dataclass(frozen=True, slots=True)
class OptIn:
    """What the person running the process asked for."""

    message_key: bool = False
    body_size: bool = False
    graphql_document: bool = False
    envelope: bool = False

    @classmethod
    def from_environment(cls) -> Self:
        """Read the variable; what is not known here has no effect."""
        wanted = {word.lower() for word in _words_asked()}
        return cls(
            **{word: word in wanted for word in _WORDS},
            envelope=os.environ.get(ENVELOPE_VARIABLE, "").strip().lower() in ("1", "true", "yes"),
        )
