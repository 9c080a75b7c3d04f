"""A flow drawn two ways, as painters of lines: the waterfall of its spans, and the sequence of its hops."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from rich.cells import cell_len

from hopwatch_tui import clocks
from hopwatch_tui import format as fmt
from hopwatch_tui.answers import Delivery, Flow, Span
from hopwatch_tui.format import Tone
from hopwatch_tui.hops import SpanRow, ends, lanes
from hopwatch_tui.report import keys_text
from hopwatch_tui.tables import DELIVERIES, Line, Piece
from hopwatch_tui.text import fit

_KINDS: Final = {"producer": "→", "consumer": "←", "client": "⇢", "server": "⇠", "internal": "·"}
_MAX_INDENT = 16


@dataclass(frozen=True, slots=True)
class Waterfall:
    """Draws spans as bars over the time of their flow, indented under their parents."""

    start: datetime
    length_ms: float
    offset_ms: float = 0.0
    """Where the drawing begins, counted from the flow's start."""

    @classmethod
    def of(cls, flow: Flow, over: Span | None = None) -> "Waterfall":
        """A waterfall as long as the flow's spans are, or as the span `over` is."""
        starts = [at for span in flow.spans if (at := clocks.began(span))]
        start = min(starts, default=flow.summary.started_at or datetime.fromtimestamp(0).astimezone())
        stops = [_after(span, start) + span.duration_ms for span in flow.spans]
        if over is not None and over.duration_ms > 0:
            return cls(start, over.duration_ms, _after(over, start))
        return cls(start, max(stops, default=0.0) or 1.0)

    def key(self, item: SpanRow) -> str:
        """A span's id."""
        return item.span.span_id

    def haystack(self, item: SpanRow) -> str:
        """Names, ids and attributes."""
        span = item.span
        return " ".join(
            (
                span.service,
                span.name,
                span.kind,
                span.destination,
                span.receiver,
                span.status,
                span.message_id,
                *tuple(f"{name}={value}" for name, value in span.attributes.items()),
            )
        )

    def heading(self, width: int) -> Sequence[Line]:
        """The time scale."""
        names, bars = self._widths(width)
        end = fmt.duration(self.offset_ms + self.length_ms)
        middle = fmt.duration(self.offset_ms + self.length_ms / 2) if bars >= 24 else ""
        beginning = fmt.duration(self.offset_ms) if self.offset_ms else "0"
        scale = fit(beginning, bars // 2 - len(middle) // 2) + middle
        scale = fit(scale, bars - len(end)) + end
        title = ((fit("SERVICE  SPAN", names), Tone.DIM), ("  ", Tone.DIM))
        return ((*title, (scale, Tone.DIM), ("     TOOK", Tone.DIM)),)

    def line(self, item: SpanRow, width: int, now: datetime | None) -> Line:
        """Name, bar and duration."""
        span = item.span
        names, bars = self._widths(width)
        tone = _span_tone(span)
        indent = "  " * min(item.depth, _MAX_INDENT // 2)
        glyph = "✗" if span.status == "error" else _KINDS.get(span.kind, "·")
        label = fit(f"{indent}{glyph} ", min(len(indent) + 2, names))
        service = fit(span.service + "  ", max(0, names - len(label)), pad=False)
        name = fit(span.name, max(0, names - len(label) - cell_len(service)))
        before, bar = self._bar(span, bars)
        return (
            (label, tone),
            (service, Tone.STRONG),
            (name, Tone.PLAIN if span.message_id else Tone.DIM),
            (fit(clocks.mark(span.clock_offset_s), 2), Tone.WARN),
            (" " * before, Tone.PLAIN),
            (bar, tone),
            (" " * (bars - before - len(bar)), Tone.PLAIN),
            (fit(fmt.duration(span.duration_ms), 9, right=True), Tone.PLAIN),
        )

    def _widths(self, width: int) -> tuple[int, int]:
        names = max(24, min(70, width * 45 // 100))
        return names, max(4, width - names - 2 - 9)

    def _bar(self, span: Span, cells: int) -> tuple[int, str]:
        """Cells before the bar and the bar; at least one cell, at the edge a mark where it lies outside."""
        begin = (_after(span, self.start) - self.offset_ms) / self.length_ms * cells
        end = begin + max(0.0, span.duration_ms) / self.length_ms * cells
        if end < 0:
            return 0, "‹"
        if begin > cells:
            return cells - 1, "›"
        before = min(cells - 1, max(0, int(begin)))
        return before, "━" * max(1, min(cells, round(end)) - before)


def _after(span: Span, start: datetime) -> float:
    at = clocks.began(span)
    return (at - start) / timedelta(milliseconds=1) if at else 0.0


def _span_tone(span: Span) -> Tone:
    if span.status == "error":
        return Tone.BAD
    return {"producer": Tone.KEY, "consumer": Tone.GOOD, "client": Tone.BUSY, "server": Tone.BUSY}.get(
        span.kind, Tone.DIM
    )


_TIME = 8
_MIN_LANE = 7


@dataclass(frozen=True, slots=True)
class HopSequence:
    """Draws hops as arrows between the lanes of services, in the order they were sent."""

    start: datetime | None
    lanes: Sequence[str]
    _places: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, flow: Flow) -> "HopSequence":
        """Lanes for the services of a flow."""
        names = lanes(flow.hops)
        sent = [at for hop in flow.hops if (at := clocks.sent(hop))]
        if flow.summary.started_at:
            sent.append(flow.summary.started_at)
        return cls(min(sent, default=None), names, {name: place for place, name in enumerate(names)})

    def key(self, item: Delivery) -> str:
        """Message and receiver."""
        return DELIVERIES.key(item)

    def haystack(self, item: Delivery) -> str:
        """Names, ids, verdict, reason and keys."""
        return DELIVERIES.haystack(item) + keys_text(item.keys)

    def heading(self, width: int) -> Sequence[Line]:
        """Names of the lanes, by turns on two lines where they are longer than a lane; without lanes, of the columns."""
        lane, verdict = self._widths(width)
        head = fit("AFTER", _TIME, right=True) + "  "
        space = width - len(head) - verdict
        end: Piece = (fit("VERDICT", verdict), Tone.DIM)
        if not lane:
            return (((head + fit("FROM → DESTINATION → RECEIVER", space), Tone.DIM), end),)
        if all(cell_len(name) < lane for name in self.lanes):
            names = "".join(fit(name, lane) for name in self.lanes)
            return (((head, Tone.DIM), (fit(names, space), Tone.STRONG), end),)
        rows = []
        for turn in (0, 1):
            names = " " * lane * turn
            for name in self.lanes[turn::2]:
                names += fit(fit(name, 2 * lane - 1, pad=False), 2 * lane)
            rows.append(fit(names.rstrip(), space))
        blank = " " * len(head)
        return (
            ((blank, Tone.DIM), (rows[0], Tone.STRONG), (" " * verdict, Tone.DIM)),
            ((head, Tone.DIM), (rows[1], Tone.STRONG), end),
        )

    def line(self, item: Delivery, width: int, now: datetime | None) -> Line:
        """Time since the flow began, an arrow, what became of it."""
        lane, verdict = self._widths(width)
        after = None
        if self.start and (moment := clocks.sent(item) or clocks.received(item)):
            after = (moment - self.start) / timedelta(milliseconds=1)
        head: Piece = (fit(fmt.duration(after), _TIME, right=True) + "  ", Tone.DIM)
        space = width - _TIME - 2 - verdict
        sign = fmt.verdict(item.verdict)
        middle = self._arrow(item, lane, space) if lane else self._words(item, space)
        end = str(sign) if verdict < 22 else f"{sign!s:15}{clocks.latency(item):>7}"
        return (head, *middle, (fit(end, verdict), sign.tone))

    def _widths(self, width: int) -> tuple[int, int]:
        """Cells of a lane (0: too narrow, use words) and of the verdict."""
        verdict = 22 if width >= 100 else 15
        lane = min(24, (width - _TIME - 2 - verdict) // max(1, len(self.lanes)))
        return lane if lane >= _MIN_LANE else 0, verdict

    def _words(self, item: Delivery, space: int) -> Line:
        start, end = ends(item)
        return ((fit(f"{start} → {item.destination} → {end or 'nobody'}", space), Tone.PLAIN),)

    def _arrow(self, item: Delivery, lane: int, space: int) -> Line:
        """Lifelines with an arrow across them; what was sent stands on the arrow, or beside it where it is too short."""
        start, end = ends(item)
        here = self._places.get(start, 0)
        there = self._places.get(end, here)
        tone = fmt.verdict(item.verdict).tone
        left, right = min(here, there) * lane, max(here, there) * lane
        if not end:
            arrow = "├──∅"
        elif here == there:
            arrow = "├─↩"
        else:
            arrow = _shaft(item.destination, right - left, backwards=there < here)
        before = _lifelines(0, left, lane)
        room = space - left - len(arrow)
        beside = ""
        if item.destination not in arrow:
            beside = " " + fit(item.destination, max(0, room - 1), pad=False) + " "
            beside = fit(beside, min(room, cell_len(beside)), pad=False)
        column = left + cell_len(arrow) + cell_len(beside)
        rest = _lifelines(column, len(self.lanes) * lane, lane)
        return (
            (before, Tone.DIM),
            (arrow, tone),
            (beside, tone),
            (fit(rest, space - column), Tone.DIM),
        )


def _shaft(label: str, length: int, *, backwards: bool) -> str:
    """An arrow of `length` cells and its last lifeline, with the label on it where it fits."""
    body = length - 1
    text = f" {label} " if cell_len(label) + 4 <= body else ""
    shaft = "─" * ((body - cell_len(text)) // 2) + text
    shaft += "─" * (body - cell_len(shaft))
    return f"◀{shaft}┤" if backwards else f"├{shaft}▶"


def _lifelines(start: int, stop: int, lane: int) -> str:
    return "".join("│" if column % lane == 0 else " " for column in range(start, stop))
