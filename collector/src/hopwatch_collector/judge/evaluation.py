"""Judges some messages as everything stands at a moment; writes nothing."""

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from hopwatch_collector.judge import judging
from hopwatch_collector.judge.kept import Kept
from hopwatch_collector.judge.reading import EvidenceReader, Session

Offsets = Callable[[int], Mapping[int, int]]
"""µs to take off the times of processes, by their key into `resources`, as known around a moment (µs)."""


def evaluate(
    session: Session,
    messages: Sequence[bytes],
    offsets: Offsets,
    now: int,
    deadline_s: float,
    grace_s: float,
    kept: Kept | None = None,
) -> pl.DataFrame:
    """Return the deliveries of the messages at the moment `now` (µs), by judging.DELIVERY_COLUMNS; `kept` as for reading."""
    reader = EvidenceReader(session, kept)
    evidence = reader.of_messages(messages, offsets)
    pairs = judging.paired(evidence)
    evidence = reader.of_brokers(evidence, pairs, now)
    return judging.decide(pairs, evidence, now, deadline_s, grace_s)
