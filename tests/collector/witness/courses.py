"""Courses of events that are the same on every broker: it restarts; the collector is away for a while."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from scenario_support import Stage, until, watching

from hopwatch_collector.witness.model import Witness


@dataclass(frozen=True, slots=True)
class Course:
    """What a course of events needs of a broker: all of it goes over connections of its own."""

    stage: Stage
    send: Callable[[str], Awaitable[None]]
    """Sends one message per letter, each kept by the broker."""
    read: Callable[[str, int], Awaitable[list[str]]]
    """Has a receiver take so many messages and settle them; its own record of them."""


async def restarted(
    course: Course, receiver: str, stop: Callable[[], None], restart: Callable[[], object]
) -> None:
    """What the broker kept over its restart still waits; while it is down the witness says so, then it looks again."""
    stage = course.stage
    await course.send("abc")
    assert await course.read(receiver, 1) == ["a"]
    before = {("a", receiver): "settled", ("b", receiver): "waiting", ("c", receiver): "waiting"}
    await stage.judged(before, broker=[("b", receiver)])
    await asyncio.to_thread(stop)
    await stage.observe()
    assert f" at {stage.watch.broker}: " in (stage.watch.trouble or "")
    assert {(stage.name_of(one), one.receiver): str(one.verdict) for one in stage.ledger()} == before
    await asyncio.to_thread(restart)

    async def back() -> bool:
        await stage.observe()
        return stage.watch.trouble is None

    await until(back, "the witness to see again")
    assert await course.read(receiver, 1) == ["b"]
    # (RabbitMQ calls `b` redelivered, as after a crash it does not remember what it had handed out.)
    await stage.judged({**before, ("b", receiver): "settled"}, broker=[("c", receiver)])


@dataclass(frozen=True, slots=True)
class Receivers:
    """Who is owed every message, and what becomes of each while the collector is away."""

    behind: str
    """Its instrumented consumer takes one message."""
    silent: str
    """Consumers that nobody instrumented take all."""
    deleted: str
    """It is deleted unread."""


async def collector_away(
    course: Course,
    receivers: Receivers,
    delete: Callable[[], Awaitable[None]],
    anew: Callable[[], Witness],
    *,
    silent: str = "settled",
) -> None:
    """A collector that comes back learns what happened meanwhile: what was read, what was not, and who is gone.

    `silent`: what the broker shows afterwards of messages that were acknowledged unseen.
    """
    stage = course.stage
    await course.send("ab")
    pairs = [(name, one) for name in "ab" for one in (receivers.behind, receivers.silent, receivers.deleted)]
    await stage.judged(dict.fromkeys(pairs, "waiting"), broker=pairs)
    await stage.watch._witness.close()
    # Nobody watches, and spans wait at their senders.
    assert await course.read(receivers.behind, 1) == ["a"]
    with stage.unseen():
        assert await course.read(receivers.silent, 2) == ["a", "b"]
        await delete()
    stage.watch = watching(anew(), stage.store)
    try:
        expected = {
            ("a", receivers.behind): "settled", ("b", receivers.behind): "waiting",
            ("a", receivers.silent): silent, ("b", receivers.silent): silent,
            ("a", receivers.deleted): "lost", ("b", receivers.deleted): "lost",
        }  # fmt: skip
        await stage.judged(expected, broker=[pair for pair in expected if pair != ("a", receivers.behind)])
    finally:
        await stage.watch._witness.close()
