"""Lists that are asked for: what a search finds, and the messages behind a lag or a cause."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Input

from hopwatch_tui import format as fmt
from hopwatch_tui.actions import FOUND
from hopwatch_tui.answers import Cause, Delivery, DeliveryList, LagRow, SearchHit, SearchResult
from hopwatch_tui.client import ApiError
from hopwatch_tui.format import Tone
from hopwatch_tui.model import Filter
from hopwatch_tui.report import reason_text
from hopwatch_tui.screens.base import BaseScreen, trouble_line, trouble_words
from hopwatch_tui.tables import DELIVERIES, HITS, MESSAGES, Line, Piece, Table
from hopwatch_tui.widgets.bars import Bar
from hopwatch_tui.widgets.filter import FilterLine
from hopwatch_tui.widgets.keys import bindings
from hopwatch_tui.widgets.lines import Heading, Lines

_HINTS = (
    "Type an id, a business key or its value.",
    "order_id=4711 · a message id · a trace id · an alias the broker uses",
    "Enter or ↓ goes to the results, Esc back.",
)
MOST = 1000
"""Deliveries asked for at once; the collector gives no more."""
_TYPING_PAUSE_S = 0.25
"""Seconds without a key after which what is typed is asked for."""


class FoundScreen(BaseScreen):
    """A list with a title."""

    table: ClassVar[Table[Any]]

    def compose(self) -> ComposeResult:
        """Title, list, filter, footer."""
        yield Bar(id="title")
        yield Heading(self.table)
        yield Lines(self.table)
        yield FilterLine()
        yield Footer(compact=True, show_command_palette=False)

    @property
    def lines(self) -> Lines[Any]:
        """The list."""
        return self.query_one(Lines)

    def focus_content(self) -> None:
        """The list has the keyboard."""
        self.lines.focus()

    def narrow(self, filter: Filter) -> None:
        """Narrow the list."""
        self.lines.narrow(filter)

    def on_lines_opened(self, event: Lines.Opened) -> None:
        """Open a message or a flow."""
        item = event.item
        if isinstance(item, SearchHit) and item.kind == "flow":
            self.hopwatch.open_flow(item.id)
        else:
            self.hopwatch.open_message(item.id if isinstance(item, SearchHit) else item.message_id)

    def copied(self) -> str:
        """The id under the cursor."""
        item = self.lines.current
        if isinstance(item, SearchHit):
            return item.id
        return item.message_id if isinstance(item, Delivery) else ""


class SearchScreen(FoundScreen):
    """Finds messages and flows while one types."""

    table = HITS
    BINDINGS: ClassVar[list[BindingType]] = [Binding("down", "results", "Results", show=False)]
    DEFAULT_CSS = """
    SearchScreen #query { border: none; height: 1; padding: 0 1; background: $boost; }
    """

    def compose(self) -> ComposeResult:
        """The search box over the list."""
        yield Bar(id="title")
        yield Input(placeholder="search: id, key=value, name …", id="query", compact=True)
        yield from list(super().compose())[1:]

    def on_mount(self) -> None:
        """Wait for somebody to type."""
        self.query_one("#title", Bar).show(((" search ", Tone.KEY), ("the last hour", Tone.DIM)))
        self.lines.empty = _HINTS
        self.query_one("#query", Input).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Ask after a short rest."""
        self.find(event.value.strip(), rest_s=_TYPING_PAUSE_S)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Ask at once and go to the results."""
        self.find(event.value.strip(), rest_s=0.0)
        self.focus_content()

    def action_search(self) -> None:
        """Back to the box."""
        self.query_one("#query", Input).focus()

    def action_results(self) -> None:
        """From the box to the results."""
        self.focus_content()

    @work(exclusive=True, group="search")
    async def find(self, query: str, rest_s: float) -> None:
        """Ask and show what was found; only the newest question is answered."""
        if not query:
            self.lines.empty = _HINTS
            self.lines.show((), None)
            return
        await asyncio.sleep(rest_s)
        try:
            answer: SearchResult | ApiError = await self.hopwatch.client.search(query)
        except ApiError as error:
            answer = error
        if self.usable:
            self._show(query, answer)

    def _show(self, query: str, answer: SearchResult | ApiError) -> None:
        if isinstance(answer, ApiError):
            self.lines.empty = trouble_words(answer)
            self.lines.show((), None)
            return
        self.lines.empty = (
            f"Nothing found for “{query}” in the last hour.",
            "`hopwatch find --since 7d` looks further.",
        )
        times = [moment for moment in (self.hopwatch.model.now, *(hit.at for hit in answer.hits)) if moment]
        self.lines.show(answer.hits, max(times, default=None))
        more = ", and more" if answer.truncated else ""
        found = f"{fmt.plural(len(answer.hits), 'result')}{more} in the last hour"
        self.query_one("#title", Bar).show(((" search ", Tone.KEY), (found, Tone.DIM)))


class DeliveriesScreen(FoundScreen):
    """The messages behind a number. Subclasses say what is asked for, which of the answer belongs to it, and in what words."""

    table = DELIVERIES
    gone: ClassVar[str]
    """What stands there where nothing is left of it."""
    BINDINGS: ClassVar[list[BindingType]] = bindings(FOUND)

    def on_mount(self) -> None:
        """Ask for them."""
        self.query_one("#title", Bar).show(*self.title_lines())
        self.lines.empty = ("Asking the collector …",)
        self.focus_content()
        self.load()

    def title_lines(self) -> Sequence[Line]:
        """What they are, the longest way first."""
        raise NotImplementedError

    def filters(self) -> Mapping[str, str | int | Sequence[str]]:
        """Which deliveries the collector is asked for."""
        raise NotImplementedError

    def belongs(self, delivery: Delivery) -> bool:
        """Whether a delivery of the answer is one of them."""
        return True

    def action_reload(self) -> None:
        """Ask again."""
        self.load()

    @work(exclusive=True, group="deliveries")
    async def load(self) -> None:
        """Ask for them and show them."""
        try:
            answer: DeliveryList | ApiError = await self.hopwatch.client.deliveries(
                **self.filters(), limit=MOST
            )
        except ApiError as error:
            answer = error
        if self.usable:
            self._show(answer)

    def _show(self, answer: DeliveryList | ApiError) -> None:
        if isinstance(answer, ApiError):
            self.lines.empty = trouble_words(answer)
            self.query_one("#title", Bar).show(
                *((trouble_line(answer),) if self.lines.all else self.title_lines())
            )
            return
        mine = [delivery for delivery in answer.deliveries if self.belongs(delivery)]
        self.lines.empty = (self.gone, "Esc goes back.")
        self.lines.show(mine, self.hopwatch.model.now)
        more: Piece = (f"  the newest {fmt.count(len(mine))}" if answer.truncated else "", Tone.WARN)
        self.query_one("#title", Bar).show(*((*line, more) for line in self.title_lines()))


class LagScreen(DeliveriesScreen):
    """The messages behind a number in the lag table."""

    gone = "Nothing waits here any more."

    def __init__(self, row: LagRow) -> None:
        super().__init__()
        self.row = row

    def title_lines(self) -> Sequence[Line]:
        """Where, and how many."""
        row = self.row
        counts = f" {fmt.count(row.waiting)} waiting, {fmt.count(row.in_flight)} in flight"
        return (((f" {row.destination} → {row.receiver} ", Tone.KEY), (counts, Tone.DIM)),)

    def filters(self) -> Mapping[str, str | int | Sequence[str]]:
        """Those that wait or are in flight."""
        verdicts = ["waiting", "overdue", "in_flight", "stuck"]
        return {"verdict": verdicts, "destination": self.row.destination, "receiver": self.row.receiver}


class CauseScreen(DeliveriesScreen):
    """The messages that one receiver did not get for one cause."""

    table = MESSAGES
    gone = "Nothing is undelivered for this cause any more."

    def __init__(self, cause: Cause) -> None:
        super().__init__()
        self.cause = cause

    def title_lines(self) -> Sequence[Line]:
        """The verdict, where, and why."""
        cause, sign = self.cause, fmt.verdict(self.cause.verdict)
        head: Line = (
            (f" {sign}", sign.tone),
            (f"  {cause.destination} → {cause.receiver or 'nobody'}", Tone.KEY),
        )
        return (*head, (f"  {reason_text(cause)}", Tone.DIM)), head

    def filters(self) -> Mapping[str, str | int | Sequence[str]]:
        """Those of the window that the live view looks at."""
        cause = self.cause
        since = f"{math.ceil(self.hopwatch.window_s)}s"
        return {
            "verdict": [cause.verdict],
            "cause": [cause.cause],
            "destination": cause.destination,
            "receiver": cause.receiver,
            "since": since,
        }

    def belongs(self, delivery: Delivery) -> bool:
        """The API takes an empty name for any."""
        cause = self.cause
        asked = (cause.cause, cause.system, cause.destination, cause.receiver)
        return asked == (delivery.cause, delivery.system, delivery.destination, delivery.receiver)
