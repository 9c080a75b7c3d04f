"""Whatever happens to a queue read by consumers that tell nothing, nothing is claimed of a message that is not so."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from hopwatch_collector.judge.evidence import Evidence
from hopwatch_collector.judge.frames import FACTS, POLLS, SECOND, STATES, SUBSCRIPTIONS, empty
from hopwatch_collector.judge.judging import judge
from hopwatch_collector.judge.messages import OUTCOMES
from hopwatch_collector.judge.standing import Standing

BEGIN = 1_800_000_000 * SECOND
SAMPLED_S = 5
"""Seconds after which a node's statistics are taken, of each channel and queue at a moment of its own."""
LAGS_S = 20
"""What is told of a queue in motion is of so many seconds ago at most."""

SETTLED, DROPPED, WAITING, IN_HAND = "settled", "dropped", "waiting", "in hand"
CLAIMS = {
    "settled.uninstrumented": SETTLED, "lost.dropped": DROPPED, "waiting.held": WAITING, "overdue.held": WAITING,
    "stuck.uninstrumented": IN_HAND, "in_flight.uninstrumented": IN_HAND,
}  # fmt: skip
"""What is so if a delivery is judged like this."""


@dataclass
class Queue:
    """A queue, second by second."""

    unordered: bool
    sent: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    in_hand: list[int] = field(default_factory=list)
    handed: int = 0
    acked: int = 0
    states: dict[int, str] = field(default_factory=dict)
    passed: set[tuple[int, str]] = field(default_factory=set)
    """What was so of messages since the last second ended."""
    history: list[set[tuple[int, str]]] = field(default_factory=list)
    """What was so of messages in each second."""
    counts: list[dict[str, int]] = field(default_factory=list)

    def pass_second(self) -> None:
        """Note how all stands when a second is over."""
        self.history.append(self.passed | set(self.states.items()))
        self.passed = set()
        self.counts.append(
            {
                "published": len(self.sent), "handed": self.handed, "acked": self.acked,
                "waiting": len(self.waiting), "in_hand": len(self.in_hand),
            }
        )  # fmt: skip

    def do(self, action: str, which: int) -> None:
        """Let something happen, if it can."""
        if action == "send":
            self._put(self.waiting, len(self.sent), WAITING)
            self.sent.append(len(self.counts))
        elif action == "take" and self.waiting:
            self._put(
                self.in_hand, self.waiting.pop(which % len(self.waiting) if self.unordered else 0), IN_HAND
            )
            self.handed += 1
        elif action == "purge":
            self.states |= dict.fromkeys(self.waiting, DROPPED)
            self.waiting.clear()
        elif self.in_hand and action in ("ack", "reject", "requeue"):
            message = self.in_hand.pop(which % len(self.in_hand))
            if action == "requeue":
                self._put(self.waiting, message, WAITING)
                self.waiting.sort()
            else:
                self.states[message] = SETTLED if action == "ack" else DROPPED
                self.acked += action == "ack"

    def _put(self, place: list[int], message: int, state: str) -> None:
        place.append(message)
        self.states[message] = state
        self.passed.add((message, state))

    def seen(self, second: int, phases: tuple[int, int, int]) -> dict[str, int]:
        """What the management API tells in a second: every kind of figure as of when it was last taken."""
        told = {}
        for names, phase in zip(
            (("published",), ("handed", "acked"), ("waiting", "in_hand")), phases, strict=True
        ):
            taken = second - (second - phase) % SAMPLED_S
            figures = self.counts[taken] if taken >= 0 else dict.fromkeys(names, 0)
            told |= {name: figures[name] for name in names}
        return told


def rows_of(queue: Queue, phases: tuple[int, int, int]) -> Iterator[dict[str, Any]]:
    """What a witness writes down that looks every second."""
    before: dict[str, int] | None = None
    for second in range(len(queue.counts)):
        told = queue.seen(second, phases)
        if told != before:
            row: dict[str, Any] = {name: -1 if kind == pl.Int64 else "" for name, kind in STATES.items()}
            yield row | told | {
                "system": "rabbitmq", "receiver": "q", "at": BEGIN + second * SECOND, "dead_letters": 0, "uncounted": 0,
                "consumers": 1, "unchanged_until": BEGIN + (second - 1) * SECOND if before else 0,
                "kind": "unordered" if queue.unordered else "",
            }  # fmt: skip
        before = told


def evidence_of(queue: Queue, phases: tuple[int, int, int], now: int) -> Evidence:
    """What there is of all messages at the end."""
    facts = [
        {
            **{name: "" if kind == pl.String else 0 for name, kind in FACTS.items()},
            "message": number.to_bytes(16, "big"), "hop": b"", "trace_id": bytes(16), "flow": bytes(16), "keys": [],
            "call": False, "failed": False, "dead": False, "day": None, "system": "rabbitmq", "destination": "q",
            "service": "shop", "outcome": OUTCOMES.index("confirmed"), "offset": -1, "pending": -1,
            # In the middle of its second.
            "started_at": BEGIN + second * SECOND - SECOND // 2, "ended_at": BEGIN + second * SECOND - SECOND // 2 + 1000,
        }
        for number, second in enumerate(queue.sent)
    ]  # fmt: skip
    owed = {
        "system": "rabbitmq", "broker": "", "pattern": "q", "receiver": "q", "durable": True, "resource": 1,
        "first_at": BEGIN - 60 * SECOND, "last_at": BEGIN, "unsubscribed_at": 0,
    }  # fmt: skip
    states = pl.DataFrame(list(rows_of(queue, phases)), schema=dict(STATES))
    return Evidence(
        facts=pl.DataFrame(facts, schema=dict(FACTS)),
        durable=pl.DataFrame([owed], schema=dict(SUBSCRIPTIONS)),
        standing=Standing.of(states, empty(STATES)),
        polls=pl.DataFrame(
            [{"system": "rabbitmq", "broker": "b", "ok_at": now, "trouble": "", "blind": ""}],
            schema=dict(POLLS),
        ),
    )


ACTIONS = st.lists(
    st.tuples(
        st.integers(0, 9),
        st.sampled_from(["send"] * 4 + ["take"] * 3 + ["ack"] * 3 + ["requeue", "reject", "purge"]),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(ACTIONS, st.booleans(), st.tuples(*[st.integers(0, SAMPLED_S - 1)] * 3), st.integers(0, 20))
def test_nothing_is_claimed_that_is_not_so(
    actions: list[tuple[int, str, int]], unordered: bool, phases: tuple[int, int, int], quiet_s: int
) -> None:
    """A claim on what became of a message is true; what waits or is in hand was so when it was last counted."""
    queue = Queue(unordered)
    queue.pass_second()
    for pause, action, which in actions:
        for _ in range(pause):
            queue.pass_second()
        queue.do(action, which)
    for _ in range(quiet_s + 1):
        queue.pass_second()
    if not queue.sent:
        return
    now = BEGIN + (len(queue.counts) - 1) * SECOND
    for row in judge(evidence_of(queue, phases, now), now, 0.0, 2.0).iter_rows(named=True):
        claim = CLAIMS.get(row["cause"])
        message = int.from_bytes(row["message"], "big")
        recently = (
            [set(queue.states.items())] if claim in (SETTLED, DROPPED) else queue.history[-LAGS_S - 1 :]
        )
        assert claim is None or (message, claim) in set().union(*recently), row["cause"]
