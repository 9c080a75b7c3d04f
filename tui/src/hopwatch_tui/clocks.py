"""Times as they would have been told if all clocks agreed, and what is said of clocks that do not.

The collector says by how much a clock is known to be off; whatever is shown beside times of other clocks is corrected
by it and bears a `~`. Answers keep the times as they were told.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from hopwatch_tui import format as fmt
from hopwatch_tui.answers import Attempt, Clock, ClockList, Delivery, Flow, Message, Span

MARK: Final = "~"
_NAMED: Final = 3


def _moved(moment: datetime | None, off_s: float) -> datetime | None:
    return None if moment is None else moment - timedelta(seconds=off_s)


def sent(hop: Delivery | Message) -> datetime | None:
    """When it was sent, corrected."""
    return _moved(hop.sent_at, hop.sender_clock_offset_s)


def received(hop: Delivery) -> datetime | None:
    """When it was first received, corrected; never before it was sent, whatever the correction leaves."""
    at, before = _moved(hop.received_at, hop.receiver_clock_offset_s), sent(hop)
    return at if at is None or before is None else max(at, before)


def began(span: Span) -> datetime | None:
    """When a span began, corrected."""
    return _moved(span.started_at, span.clock_offset_s)


def taken(attempt: Attempt) -> datetime | None:
    """When an attempt began, corrected."""
    return _moved(attempt.received_at, attempt.clock_offset_s)


def mark(*offsets_s: float) -> str:
    """The mark of what is corrected; nothing where no clock is off."""
    return MARK if any(offsets_s) else ""


def latency(hop: Delivery) -> str:
    """How long a hop took, marked where clocks were corrected for it; empty where that is unknown."""
    if hop.latency_ms is None:
        return ""
    return mark(hop.sender_clock_offset_s, hop.receiver_clock_offset_s) + fmt.duration(hop.latency_ms)


def stamp(moment: datetime | None, told: datetime | None, off_s: float) -> str:
    """A corrected date and time, and what its clock told where that is another."""
    if not off_s:
        return fmt.stamp(moment)
    return f"{MARK}{fmt.stamp(moment)}  (its clock, {drift(off_s)}, told {fmt.clock(told)})"


def drift(off_s: float) -> str:
    """`5m00s ahead`, `12ms behind`."""
    return f"{fmt.duration(abs(off_s) * 1000)} {'ahead' if off_s > 0 else 'behind'}"


def legend(flow: Flow) -> str:
    """What the mark means in this flow: whose clocks were corrected; empty where none was."""
    off: dict[str, float] = {}
    for span in flow.spans:
        off.setdefault(span.service, span.clock_offset_s)
        if span.clock_offset_s:
            off[span.service] = span.clock_offset_s
    for hop in flow.hops:
        for service, seconds in (
            (hop.producer, hop.sender_clock_offset_s),
            (hop.consumer, hop.receiver_clock_offset_s),
        ):
            if seconds:
                off[service] = seconds
    told = [f"{service} {drift(seconds)}" for service, seconds in off.items() if seconds]
    return f"{MARK} clocks corrected: {_listed(told)}" if told else ""


def banner(clocks: Sequence[Clock]) -> str:
    """One line about the clocks that are off, the furthest first; empty where none is."""
    told = [f"{clock.host} {drift(clock.corrected_s)}" for clock in clocks if clock.corrected_s]
    return f"▲ clocks are off: {_listed(told)}; times are corrected (`hopwatch clocks`)" if told else ""


def _listed(told: Sequence[str]) -> str:
    more = len(told) - _NAMED
    return ", ".join(told[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def verdict(clock: Clock, known: ClockList) -> str:
    """What is made of a clock, in words."""
    if clock.host == known.collector:
        return "the collector's"
    if clock.corrected_s:
        return f"off: {drift(clock.corrected_s)}"
    if clock.host == known.reference:
        return "taken to be right"
    return "may be right" if clock.uncertainty_s is not None else "may be right, seen from one side"


def cells(clock: Clock) -> tuple[str, ...]:
    """A clock's columns in a pipe, in seconds; empty where something is not bounded."""
    numbers: Iterable[float | None] = (
        clock.offset_s,
        clock.uncertainty_s,
        clock.at_least_s,
        clock.at_most_s,
        clock.corrected_s,
    )
    return (
        clock.host,
        *("" if number is None else f"{number:.6f}" for number in numbers),
        str(clock.hops),
    )
