"""Rows of the live view as lines of toned text of an exact width: which columns, how wide, what is in them.

No screen here: a widget asks for the lines it shows, so ten thousand rows cost no more than the forty in sight.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Generic, Protocol, TypeVar

from rich.cells import cell_len, set_cell_size

from hopwatch_tui import clocks
from hopwatch_tui import format as fmt
from hopwatch_tui.answers import Cause, Delivery, FlowSummary, LagRow, SearchHit
from hopwatch_tui.format import Sign, Tone
from hopwatch_tui.report import keys_text, reason_text
from hopwatch_tui.text import ELLIPSIS, fit, fit_middle

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

Piece = tuple[str, Tone]
Line = tuple[Piece, ...]
"""One line of a list: pieces of clean text, each in a tone."""


class Painter(Protocol[T_contra]):
    """Draws the items of a list, one line each."""

    def key(self, item: T_contra) -> str:
        """What stays the same about an item while it changes."""

    def haystack(self, item: T_contra) -> str:
        """The text a filter looks in."""

    def heading(self, width: int) -> Sequence[Line]:
        """The lines above the list."""

    def line(self, item: T_contra, width: int, now: datetime | None) -> Line:
        """The item on one line of at most `width` cells."""


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """A column of fixed width, or of a share of what is left over; `wide_from` is the table width it first appears at."""

    title: str
    cell: Callable[[T, datetime | None], Piece]
    width: int = 0
    share: int = 0
    right: bool = False
    middle: bool = False
    wide_from: int = 0


@dataclass(slots=True)
class Table(Generic[T]):
    """A painter of columns."""

    columns: Sequence[Column[T]]
    key_of: Callable[[T], str]
    text_of: Callable[[T], str]
    _layouts: dict[int, list[tuple[Column[T], int]]] = field(default_factory=dict)

    def key(self, item: T) -> str:
        """What stays the same about an item while it changes."""
        return self.key_of(item)

    def haystack(self, item: T) -> str:
        """The text a filter looks in."""
        return self.text_of(item)

    def heading(self, width: int) -> Sequence[Line]:
        """Column titles."""
        return (self._join([(fit(c.title, w, right=c.right), Tone.DIM) for c, w in self._layout(width)]),)

    def line(self, item: T, width: int, now: datetime | None) -> Line:
        """The item's cells."""
        pieces = []
        for column, cells in self._layout(width):
            value, tone = column.cell(item, now)
            value = fit_middle(value, cells) if column.middle else value
            pieces.append((fit(value, cells, right=column.right), tone))
        return self._join(pieces)

    def _join(self, pieces: Sequence[Piece]) -> Line:
        """Cells two apart, neighbours of one tone in one piece: what a line costs to draw goes by its pieces."""
        joined: list[Piece] = []
        for text, tone in pieces:
            if not joined:
                joined.append((text, tone))
                continue
            before, its_tone = joined[-1]
            if its_tone is tone:
                joined[-1] = (f"{before}  {text}", tone)
            else:
                joined[-1] = (before + "  ", its_tone)  # no tone shows in spaces
                joined.append((text, tone))
        return tuple(joined)

    def _layout(self, width: int) -> list[tuple[Column[T], int]]:
        found = self._layouts.get(width)
        if found is None:
            found = self._layouts[width] = self._divide(width)
        return found

    def _divide(self, width: int) -> list[tuple[Column[T], int]]:
        shown = [column for column in self.columns if width >= column.wide_from]
        spare = max(0, width - sum(column.width for column in shown) - 2 * (len(shown) - 1))
        shares = sum(column.share for column in shown)
        layout = []
        for column in shown:
            if column.share:
                part = spare * column.share // shares
                spare, shares = spare - part, shares - column.share
                layout.append((column, column.width + part))
            else:
                layout.append((column, column.width))
        return _within(layout, width)


def _within(layout: Sequence[tuple[Column[T], int]], width: int) -> list[tuple[Column[T], int]]:
    """What of the columns there is room for: a cell that is too long for the last of them ends in an ellipsis."""
    within = []
    for column, cells in layout:
        if min(cells, width) > 0:
            within.append((column, min(cells, width)))
            width -= cells + 2
    return within


def cut(line: Line, width: int) -> Line:
    """A line of at most `width` cells; where something is missing, an ellipsis says so."""
    if sum(cell_len(text) for text, _ in line) <= width:
        return line
    kept: list[Piece] = []
    left = width - 1
    for text, tone in line:
        size = min(cell_len(text), left)
        left -= size
        kept.append((set_cell_size(text, size), tone))
        if not left:
            break
    text, tone = kept.pop()
    return (*kept, (text.rstrip() + ELLIPSIS, tone))


def _sign(sign: Sign) -> Piece:
    return str(sign), sign.tone


def _plain(text: str) -> Piece:
    return text, Tone.PLAIN


def _dim(text: str) -> Piece:
    return text, Tone.DIM


def _number(number: int, tone: Tone) -> Piece:
    return (fmt.count(number), tone) if number else ("·", Tone.DIM)


_CALM: Final = frozenset({"done", "active"})
"""States of a flow that need nobody's eye."""

FLOWS: Final = Table[FlowSummary](
    columns=(
        Column("STATE", lambda flow, _: _sign(fmt.state(flow.state)), width=13),
        Column(
            "FLOW", lambda flow, _: (flow.name, Tone.PLAIN if flow.state in _CALM else Tone.STRONG), share=3
        ),
        Column("SERVICE", lambda flow, _: _dim(flow.service), share=2),
        Column("KEYS", lambda flow, _: _plain(keys_text(flow.keys)), share=3, wide_from=96),
        Column("HOPS", lambda flow, _: _plain(fmt.count(flow.hops)), width=4, right=True),
        Column("UNDELIV", lambda flow, _: _number(flow.undelivered, Tone.BAD), width=7, right=True),
        Column("ERR", lambda flow, _: _number(flow.errors, Tone.BAD), width=3, right=True, wide_from=96),
        Column("AGE", lambda flow, now: _plain(fmt.age(flow.started_at, now)), width=6, right=True),
        Column("LATENCY", lambda flow, _: _plain(fmt.duration(flow.duration_ms)), width=7, right=True),
        Column("ID", lambda flow, _: _dim(fmt.short_id(flow.flow_id)), width=9, wide_from=130),
    ),
    key_of=lambda flow: flow.flow_id,
    text_of=lambda flow: " ".join(
        (
            flow.name,
            flow.service,
            fmt.state(flow.state).word,
            flow.flow_id,
            *flow.services,
            keys_text(flow.keys),
        )
    ),
)

CAUSES: Final = Table[Cause](
    columns=(
        Column("COUNT", lambda one, _: (fmt.count(one.deliveries), Tone.STRONG), width=7, right=True),
        Column("VERDICT", lambda one, _: _sign(fmt.verdict(one.verdict)), width=15),
        Column("DESTINATION", lambda one, _: _plain(one.destination), share=2, middle=True),
        Column(
            "RECEIVER",
            lambda one, _: _plain(one.receiver) if one.receiver else _dim("nobody"),
            share=2,
            middle=True,
        ),
        Column("REASON", lambda one, _: _dim(reason_text(one)), share=4, wide_from=92),
        Column("OLDEST", lambda one, now: _plain(fmt.age(one.first_at, now)), width=6, right=True),
        Column(
            "NEWEST", lambda one, now: _plain(fmt.age(one.last_at, now)), width=6, right=True, wide_from=64
        ),
    ),
    key_of=lambda one: "\n".join((one.verdict, one.cause, one.system, one.destination, one.receiver)),
    text_of=lambda one: " ".join(
        (
            fmt.verdict(one.verdict).word,
            one.cause,
            one.destination,
            one.receiver or "nobody",
            one.reason,
            one.advice,
            one.system,
            *one.sample_message_ids,
        )
    ),
)

DELIVERIES: Final = Table[Delivery](
    columns=(
        Column("VERDICT", lambda one, _: _sign(fmt.verdict(one.verdict)), width=15),
        Column("DESTINATION", lambda one, _: _plain(one.destination), share=2, middle=True),
        Column("RECEIVER", lambda one, _: _receiver(one), share=2, middle=True),
        Column("REASON", lambda one, _: _dim(reason_text(one)), share=3, wide_from=92),
        Column("FROM", lambda one, _: _plain(one.producer), share=1, wide_from=120),
        Column("TRIES", lambda one, _: _number(one.attempts, Tone.PLAIN), width=5, right=True, wide_from=90),
        Column(
            "AGE", lambda one, now: _plain(fmt.age(clocks.sent(one) or one.since, now)), width=6, right=True
        ),
        Column("MESSAGE", lambda one, _: _dim(fmt.short_id(one.message_id)), width=9, wide_from=130),
    ),
    key_of=lambda one: f"{one.message_id}\n{one.receiver}",
    text_of=lambda one: " ".join(
        (
            fmt.verdict(one.verdict).word,
            one.destination,
            one.receiver,
            one.reason,
            one.producer,
            one.consumer,
            one.message_id,
            one.flow_id,
            one.system,
            keys_text(one.keys),
        )
    ),
)


MESSAGES: Final = Table[Delivery](
    columns=(
        Column("MESSAGE", lambda one, _: _plain(one.message_id), share=3, middle=True),
        Column("FROM", lambda one, _: _dim(one.producer), share=1),
        Column("KEYS", lambda one, _: _plain(keys_text(one.keys)), share=3, wide_from=80),
        Column("REASON", lambda one, _: _dim(reason_text(one)), share=3, wide_from=120),
        Column("TRIES", lambda one, _: _number(one.attempts, Tone.PLAIN), width=5, right=True),
        Column(
            "AGE", lambda one, now: _plain(fmt.age(clocks.sent(one) or one.since, now)), width=6, right=True
        ),
    ),
    key_of=DELIVERIES.key_of,
    text_of=DELIVERIES.text_of,
)
"""Deliveries that have verdict, destination and receiver in common: what tells them apart."""


def _receiver(delivery: Delivery) -> Piece:
    return (
        _plain(delivery.receiver or delivery.consumer)
        if delivery.receiver or delivery.consumer
        else _dim("nobody")
    )


LAG: Final = Table[LagRow](
    columns=(
        Column("SYSTEM", lambda row, _: _dim(row.system), width=8),
        Column(
            "DESTINATION",
            lambda row, _: (row.destination, Tone.STRONG if row.waiting else Tone.PLAIN),
            share=1,
            middle=True,
        ),
        Column("RECEIVER", lambda row, _: _plain(row.receiver), share=1, middle=True),
        Column("WAITING", lambda row, _: _number(row.waiting, Tone.WARN), width=7, right=True),
        Column("IN FLIGHT", lambda row, _: _number(row.in_flight, Tone.PLAIN), width=9, right=True),
        Column("OLDEST", lambda row, _: _oldest(row), width=6, right=True),
        Column(
            "LAST GOT",
            lambda row, now: _dim(fmt.age(row.last_received_at, now)),
            width=8,
            right=True,
            wide_from=90,
        ),
    ),
    key_of=lambda row: f"{row.system}\n{row.destination}\n{row.receiver}",
    text_of=lambda row: f"{row.system} {row.destination} {row.receiver}",
)


def _oldest(row: LagRow) -> Piece:
    return (fmt.duration(row.oldest_s * 1000), Tone.WARN) if row.waiting else _dim("–")


HITS: Final = Table[SearchHit](
    columns=(
        Column("FOUND", lambda hit, _: _dim(hit.kind), width=7, wide_from=90),
        Column("STATE", lambda hit, _: _sign(fmt.state(hit.state)), width=15),
        Column("WHAT", lambda hit, _: _plain(hit.title), share=4),
        Column("MATCHED", lambda hit, _: _dim(hit.why), share=2),
        Column("ID", lambda hit, _: _plain(hit.id), share=3, middle=True),
        Column("AGE", lambda hit, now: _plain(fmt.age(hit.at, now)), width=6, right=True),
    ),
    key_of=lambda hit: f"{hit.kind}\n{hit.id}",
    text_of=lambda hit: f"{hit.kind} {hit.title} {hit.why} {hit.state} {hit.id}",
)
