"""Where the judge's CPU goes: by statement, by table written, by step over frames. For `make bench-judge ARGS=--profile`."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from hopwatch_collector.engine.session import FrameSession
from hopwatch_collector.judge import (
    broker_word,
    changes,
    evaluation,
    judging,
    ledger,
    loop,
    messages,
    pairs,
    reading,
)

_STEPS: Final[tuple[tuple[Any, tuple[str, ...]], ...]] = (
    (changes.Changes, ("touched", "concerned", "skewed", "due", "next_due")),
    (reading.EvidenceReader, ("of_messages", "of_brokers")),
    (messages, ("sides", "messages", "keys")),
    (judging, ("entitlements", "pairs", "paired", "weighed", "_with_deadlines", "with_broker_evidence", "with_signals", "_in_full", "_with_keys")),
    (pairs, ("_with_events", "_titles", "_unseen", "_with_titles")),
    (
        broker_word,
        ("_with_states", "_with_counters_then", "_with_log_history", "_with_commits", "_with_seek", "_with_advisory", "_with_polls"),
    ),
    (ledger, ("changes", "write", "_fingerprint", "_timed", "messages_of")),
    (evaluation, ("evaluate",)),
    (loop.Judge, ("tick", "_begin")),
)  # fmt: skip
"""Each by its own time, without that of steps and statements inside it."""


@dataclass(slots=True)
class Profile:
    """CPU seconds and calls by what was done."""

    cpu_s: dict[str, float] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    _inside: list[float] = field(default_factory=list)

    @contextmanager
    def counted(self, what: str) -> Iterator[None]:
        """Count what happens inside, but for what is counted inside it."""
        self._inside.append(0.0)
        began = time.process_time()
        try:
            yield
        finally:
            took = time.process_time() - began
            own = took - self._inside.pop()
            if self._inside:
                self._inside[-1] += took
            self.cpu_s[what] = self.cpu_s.get(what, 0.0) + own
            self.calls[what] = self.calls.get(what, 0) + 1

    def clear(self) -> None:
        """Begin anew."""
        self.cpu_s.clear()
        self.calls.clear()
        self.rows.clear()

    def show(self, title: str, least: float = 0.004) -> None:
        """A table for people, the greatest first, where anything was counted; what is less than a share of all is left out."""
        if not self.cpu_s:
            return
        whole = sum(self.cpu_s.values()) or 1.0
        print(
            f"\n{title}: {whole:.2f} CPU s\n{'':<40}{'CPU s':>9}{'share':>8}{'calls':>8}{'ms each':>9}{'rows':>13}"
        )
        for what, used in sorted(self.cpu_s.items(), key=lambda item: -item[1]):
            if used >= least * whole:
                calls = self.calls[what]
                rows = f"{self.rows[what]:,}" if what in self.rows else ""
                print(
                    f"{what:<40}{used:>9.2f}{used / whole:>8.1%}{calls:>8}{used / calls * 1e3:>9.1f}{rows:>13}"
                )


@contextmanager
def profiled(*, on: bool) -> Iterator[Profile]:
    """Count all judging meanwhile, or nothing."""
    profile = Profile()
    if not on:
        yield profile
        return
    with _replaced(profile):
        yield profile


@contextmanager
def _replaced(profile: Profile) -> Iterator[None]:
    former: list[tuple[Any, str, Any]] = []

    def replace(owner: Any, name: str, by: Callable[..., Any]) -> None:
        former.append((owner, name, getattr(owner, name)))
        setattr(owner, name, by)

    for owner, names in _STEPS:
        for name in names:
            if hasattr(owner, name):
                replace(
                    owner,
                    name,
                    _step(profile, getattr(owner, name), f"{owner.__name__.rpartition('.')[2]}.{name}"),
                )
    for name, words in (("frame", "fetch"), ("write", "write"), ("pick", "pick")):
        replace(FrameSession, name, _statement(profile, getattr(FrameSession, name), words))
    try:
        yield
    finally:
        for owner, name, was in reversed(former):
            setattr(owner, name, was)


def _step(profile: Profile, inner: Callable[..., Any], what: str) -> Callable[..., Any]:
    def run(*arguments: Any, **named: Any) -> Any:
        with profile.counted(what):
            return inner(*arguments, **named)

    return run


def _statement(profile: Profile, inner: Callable[..., Any], words: str) -> Callable[..., Any]:
    def run(session: Any, first: Any, *arguments: Any, **named: Any) -> Any:
        what = f"{words} {first}" if isinstance(first, str) else words
        with profile.counted(what):
            found = inner(session, first, *arguments, **named)
        rows = len(found) if found is not None else len(arguments[0]) if arguments else len(first)
        profile.rows[what] = profile.rows.get(what, 0) + rows
        return found

    return run
