"""The live screen: flows, causes of what was not delivered, and lag, under a header that says how things stand."""

import math
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widgets import ContentSwitcher, Footer

from hopwatch_tui import clocks
from hopwatch_tui import format as fmt
from hopwatch_tui.actions import LIVE
from hopwatch_tui.answers import Cause, CauseList, FlowSummary, LagRow, Loss
from hopwatch_tui.client import ApiError
from hopwatch_tui.format import Tone
from hopwatch_tui.model import Connection, Filter, LiveModel, View
from hopwatch_tui.report import one_line, reason_text
from hopwatch_tui.screens.base import BaseScreen, trouble_line, trouble_words
from hopwatch_tui.tables import CAUSES, FLOWS, LAG, Line, Piece, Table
from hopwatch_tui.widgets.bars import Bar, Tabs
from hopwatch_tui.widgets.filter import FilterLine
from hopwatch_tui.widgets.keys import bindings
from hopwatch_tui.widgets.lines import Heading, Lines

_TABLES: dict[View, Table[Any]] = {View.FLOWS: FLOWS, View.UNDELIVERED: CAUSES, View.LAG: LAG}
STALE_S = 5.0
"""Seconds without a snapshot, or without verdicts being judged anew, after which the header says so."""
CAUSES_EVERY_S = 2.0
"""Seconds between two questions for causes: each makes the collector judge the whole window."""
MOST_CAUSES = 1000
_TITLES = {View.FLOWS: "Flows", View.UNDELIVERED: "Undelivered", View.LAG: "Lag"}


class LiveScreen(BaseScreen):
    """What is happening now."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(LIVE)
    DEFAULT_CSS = """
    LiveScreen #trouble, LiveScreen #losses, LiveScreen #clocks { display: none; background: $surface; }
    LiveScreen #trouble.shown, LiveScreen #losses.shown, LiveScreen #clocks.shown { display: block; }
    LiveScreen ContentSwitcher { height: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.view = View.FLOWS
        self.filters = {view: Filter() for view in View}
        self._rested_until = 0.0

    def compose(self) -> ComposeResult:
        """Header, tabs, the three lists, filter, footer."""
        yield Bar(id="status")
        yield Bar(id="verdicts")
        yield Bar(id="trouble")
        yield Bar(id="losses")
        yield Bar(id="clocks")
        yield Tabs(tuple(_TITLES.values()))
        with ContentSwitcher(initial=self._place(View.FLOWS)):
            for view in View:
                with Vertical(id=self._place(view)):
                    yield Heading(_TABLES[view])
                    yield Lines(_TABLES[view], id=f"list-{view.name.lower()}")
                    if view is View.UNDELIVERED:
                        yield Bar(id="reason")
                        yield Bar(id="advice")
        yield FilterLine()
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Show what is known, which is nothing yet; from time to time, how old it is."""
        self.set_interval(1.0, self._tick)
        self.live_changed()
        self.focus_content()

    def _place(self, view: View) -> str:
        return f"view-{view.name.lower()}"

    def list_of(self, view: View) -> Lines[Any]:
        """The list of a view."""
        return self.query_one(f"#list-{view.name.lower()}", Lines)

    @property
    def model(self) -> LiveModel:
        """What is known."""
        return self.hopwatch.model

    def focus_content(self) -> None:
        """The list in sight has the keyboard."""
        self.list_of(self.view).focus()

    def live_changed(self) -> None:
        """Show the newest snapshot and how the connection is."""
        model = self.model
        items: dict[View, Sequence[Any]] = {
            View.FLOWS: model.flows,
            View.UNDELIVERED: model.causes,
            View.LAG: model.lag,
        }
        words = empty_words(model, self.hopwatch.window_s)
        for view in View:
            lines = self.list_of(view)
            lines.empty = words[view]
            lines.show(items[view], model.now)
        self.query_one(Tabs).titles = (
            f"Flows {fmt.count(len(model.flows))}{'+' if model.snapshot and model.snapshot.truncated else ''}",
            f"Undelivered {fmt.count(model.undelivered_count)}{'+' if model.caused and model.caused.truncated else ''}",
            f"Lag {fmt.count(len(model.lag))}",
        )
        self._show_reason(self.list_of(View.UNDELIVERED).current)
        self._show_status()
        self._want_causes()

    def _tick(self) -> None:
        if self.usable:
            self._show_status()
            self._want_causes()

    def _want_causes(self) -> None:
        """Ask for causes where they are in sight and older than the snapshot, one question at a time and not too often."""
        in_sight = self.view is View.UNDELIVERED and self.app.screen is self
        if in_sight and self.model.causes_wanted and time.monotonic() >= self._rested_until:
            self._rested_until = math.inf  # until it is answered
            self.load_causes(self.model.judged_at)

    @work(group="causes")
    async def load_causes(self, as_of: datetime | None) -> None:
        """Ask for the causes of what was not delivered, and show them."""
        try:
            answer: CauseList | ApiError = await self.hopwatch.client.undelivered(
                since=f"{math.ceil(self.hopwatch.window_s)}s", limit=MOST_CAUSES
            )
        except ApiError as error:
            answer = error
        self._rested_until = time.monotonic() + CAUSES_EVERY_S
        self.model.explain(answer, as_of)
        if self.usable:
            self.live_changed()

    def _show_status(self) -> None:
        model = self.model
        silent_s = self.hopwatch.silent_s
        self.query_one("#status", Bar).show(status_line(model, self.hopwatch.host, silent_s))
        glyphs = verdict_line(model, worded=frozenset())
        self.query_one("#verdicts", Bar).show(
            verdict_line(model),
            verdict_line(model, worded=frozenset(fmt.VERDICTS) - fmt.DELIVERED),
            (*glyphs, ("? says what they mean", Tone.DIM)),
            glyphs,
        )
        error = model.trouble or (model.causes_trouble if self.view is View.UNDELIVERED else None)
        trouble = self.query_one("#trouble", Bar)
        trouble.set_class(error is not None, "shown")
        if error is not None:
            trouble.show(trouble_line(error))
        off = clocks.banner(model.snapshot.clocks) if model.snapshot else ""
        bar = self.query_one("#clocks", Bar)
        bar.set_class(bool(off), "shown")
        bar.show(((f" {off}", Tone.WARN),))
        losses = model.snapshot.losses if model.snapshot else ()
        lost = self.query_one("#losses", Bar)
        lost.set_class(bool(losses), "shown")
        if losses:
            lost.show(*losses_lines(losses))

    def _show_reason(self, cause: Cause | None) -> None:
        """Below the causes: what the line under the cursor has no room for."""
        nothing: Line = ((" ", Tone.PLAIN),)
        line = reason_line(cause) if cause else nothing
        self.query_one("#reason", Bar).show(*(line[:end] for end in range(len(line), 0, -1)))
        advice = f" {one_line(cause.advice)}" if cause else " "
        self.query_one("#advice", Bar).show(((advice, Tone.DIM),))

    def on_lines_moved(self, event: Lines.Moved) -> None:
        """Another line is under the cursor."""
        if isinstance(event.item, Cause):
            self._show_reason(event.item)

    def narrow(self, filter: Filter) -> None:
        """Narrow the list in sight; each view keeps its own filter."""
        self.filters[self.view] = filter
        self.list_of(self.view).narrow(filter)

    def copied(self) -> str:
        """A flow's id, that of the newest message with a cause, a receiver's name."""
        item = self.list_of(self.view).current
        if isinstance(item, FlowSummary):
            return item.flow_id
        if isinstance(item, Cause):
            return next(iter(item.sample_message_ids), "")
        return item.receiver if isinstance(item, LagRow) else ""

    def action_view(self, index: int) -> None:
        """Show another view."""
        self.view = View(index)
        self.query_one(ContentSwitcher).current = self._place(self.view)
        self.query_one(Tabs).shown = index
        self.query_one(FilterLine).set(self.filters[self.view].text)
        self.focus_content()
        self._show_status()
        self._want_causes()

    def action_next_view(self, by: int) -> None:
        """Show the next view."""
        self.action_view((self.view + by) % len(View))

    def on_tabs_chosen(self, event: Tabs.Chosen) -> None:
        """A tab was clicked."""
        self.action_view(event.index)

    def action_pause(self) -> None:
        """Hold still, or catch up."""
        self.model.toggle_pause()
        self.live_changed()

    def action_retry(self) -> None:
        """Connect again now."""
        self.hopwatch.retry_now()

    def on_lines_opened(self, event: Lines.Opened) -> None:
        """Open a flow, the messages with a cause, or what waits behind a lag."""
        if isinstance(event.item, FlowSummary):
            self.hopwatch.open_flow(event.item.flow_id)
        elif isinstance(event.item, Cause):
            self.hopwatch.open_cause(event.item)
        elif isinstance(event.item, LagRow):
            self.hopwatch.open_lag(event.item)


def reason_line(cause: Cause) -> Line:
    """Why messages were not delivered, by what name programs know that, and one of them."""
    return (
        (f" {reason_text(cause)}", Tone.PLAIN),
        (f"  {cause.cause}", Tone.DIM),
        (f"  {next(iter(cause.sample_message_ids), '')}", Tone.DIM),
    )


def losses_lines(losses: Sequence[Loss]) -> list[Line]:
    """Which services lost spans on their way here and how many, the latest first; shorter lines for narrow screens."""

    def named(count: int) -> Line:
        told = ", ".join(f"{one_line(loss.service)} {fmt.count(loss.spans)}" for loss in losses[:count])
        more = f" and {len(losses) - count} more" if len(losses) > count else ""
        return (
            (f" ▲ spans lost on their way here: {told}{more}; their part of the ledger has gaps", Tone.WARN),
        )

    spans = sum(loss.spans for loss in losses)
    short: Line = ((f" ▲ {fmt.plural(spans, 'span')} lost: the ledger has gaps", Tone.WARN),)
    return [*(named(count) for count in range(min(len(losses), 3), 0, -1)), short]


def status_line(model: LiveModel, host: str, silent_s: float = 0.0) -> Line:
    """Name, state of the connection, where it goes, how much comes; and how old it is where that is not fresh."""
    pieces: list[Piece] = [(" hopwatch ", Tone.KEY), *_connection(model, silent_s), (f"  {host}", Tone.DIM)]
    if model.snapshot is not None:
        live = model.snapshot
        pieces += [
            (f"  {fmt.rate(live.spans_per_s).removesuffix('/s')}", Tone.STRONG),
            (" spans/s", Tone.DIM),
            (f"  last {fmt.duration(live.window_s * 1000)}", Tone.DIM),
        ]
        if live.at and live.judged_at and (live.at - live.judged_at).total_seconds() >= STALE_S:
            pieces.append((f"  verdicts of {fmt.age(live.judged_at, live.at)} ago", Tone.WARN))
    return tuple(pieces)


def _connection(model: LiveModel, silent_s: float) -> list[Piece]:
    if model.connection is Connection.LOST:
        return [(f"▲ no connection, next try in {fmt.duration(model.retry_in_s * 1000)} (r: now)", Tone.BAD)]
    if model.paused:
        newer = f", {fmt.plural(model.skipped, 'newer snapshot')}" if model.skipped else ""
        return [(f"‖ paused{newer} (Space: go on)", Tone.WARN)]
    if model.connection is Connection.CONNECTING:
        return [("◌ connecting", Tone.BUSY)]
    if silent_s >= STALE_S:
        return [(f"◌ live, last news {fmt.duration(silent_s * 1000)} ago", Tone.WARN)]
    return [("● live", Tone.GOOD)]


def verdict_line(model: LiveModel, *, worded: frozenset[str] = frozenset(fmt.VERDICTS)) -> Line:
    """Deliveries by verdict, in the order of the table of verdicts; those not `worded` by their glyphs only."""
    counts = {one.verdict: one.deliveries for one in model.snapshot.verdicts} if model.snapshot else {}
    order = [*fmt.VERDICTS, *(name for name in counts if name not in fmt.VERDICTS)]
    pieces: list[Piece] = [(" ", Tone.PLAIN)]
    for name in order:
        if counts.get(name):
            sign = fmt.verdict(name)
            word = f" {sign.word}" if name in worded or name not in fmt.VERDICTS else ""
            pieces.append((f"{sign.glyph} {fmt.count(counts[name])}{word}  ", sign.tone))
    return tuple(pieces) if len(pieces) > 1 else ((" no deliveries yet", Tone.DIM),)


def empty_words(model: LiveModel, window_s: float) -> dict[View, tuple[str, ...]]:
    """What stands in an empty list: what that means, and what to do next."""
    if model.snapshot is None:
        words = ("Connecting to the collector …",) if model.trouble is None else trouble_words(model.trouble)
        return dict.fromkeys(View, words)
    window = fmt.duration(window_s * 1000)
    return {
        View.FLOWS: (
            f"No flow in the last {window}.",
            "Run a service with hopwatch turned on: `hopwatch run -- python -m your_app`",
            "or look further back: `hopwatch live --window 3600`, or search with s.",
        ),
        View.UNDELIVERED: _no_causes(model, window),
        View.LAG: (
            "No receiver is known yet.",
            "Receivers appear when a service subscribes or receives a message.",
        ),
    }


def _no_causes(model: LiveModel, window: str) -> tuple[str, ...]:
    if model.undelivered_count and model.caused is not None:
        return ("Nothing is undelivered any more.", "The numbers above are of a moment ago.")
    if model.undelivered_count:
        return (
            ("Asking the collector …",)
            if model.causes_trouble is None
            else trouble_words(model.causes_trouble)
        )
    return (
        f"Nothing undelivered in the last {window}.",
        "Everything that was sent has arrived or is on its way."
        if model.snapshot and model.snapshot.verdicts
        else "No message was seen at all; see 1.",
    )
