"""Hops between hosts whose clocks are off, as both told them."""

from collections.abc import Mapping
from datetime import UTC, datetime

from ledger_support import CLIENT, REMOTE, SERVER, T0, S, new_message, processed, sent

SCOPE = "hopwatch.nats"


def ago(seconds: float) -> float:
    """That moment, in seconds into the story."""
    return (datetime.now(UTC) - T0).total_seconds() - seconds


def message(source: str, target: str, start: float, latency: float, off: Mapping[str, float]) -> tuple[S, S]:
    """A message from one host to another, as both told it by their clocks."""
    send = sent(start=start + off.get(source, 0.0), service=f"on {source}", host=source, scope=SCOPE)
    received = start + latency + off.get(target, 0.0)
    return send, processed(send, start=received, took=0.001, service=f"on {target}", host=target, scope=SCOPE)


def call(
    source: str, target: str, start: float, latency: float, took: float, off: Mapping[str, float]
) -> tuple[S, S]:
    """A call, likewise; the answer takes as long as the question did."""
    here, there = off.get(source, 0.0), off.get(target, 0.0)
    named = {"http.request.method": "GET", "hopwatch.message.id": new_message(start)}
    asks = S(
        kind=CLIENT, service=f"on {source}", host=source, scope=SCOPE, attributes=named,
        start=start + here, end=start + 2 * latency + took + here,
    )  # fmt: skip
    return asks, S(
        kind=SERVER, service=f"on {target}", host=target, scope=SCOPE, attributes=named, trace=asks.trace,
        parent=asks.id, flags=REMOTE, start=start + latency + there, end=start + latency + took + there,
    )  # fmt: skip
