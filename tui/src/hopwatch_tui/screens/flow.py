"""One flow: the waterfall of its spans and the sequence of its hops."""

from collections.abc import Sequence
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widgets import ContentSwitcher, Footer

from hopwatch_tui import clocks
from hopwatch_tui import format as fmt
from hopwatch_tui.actions import FLOW
from hopwatch_tui.answers import Delivery, Flow, FlowSummary, Span
from hopwatch_tui.client import ApiError
from hopwatch_tui.drawings import HopSequence, Waterfall
from hopwatch_tui.format import Tone
from hopwatch_tui.hops import SpanRow, in_order, waterfall
from hopwatch_tui.model import Filter
from hopwatch_tui.report import facts, keys_text, reason_text, styled
from hopwatch_tui.screens.base import BaseScreen, trouble_line, trouble_words
from hopwatch_tui.tables import Line, Painter
from hopwatch_tui.widgets.bars import Bar, Tabs
from hopwatch_tui.widgets.filter import FilterLine
from hopwatch_tui.widgets.keys import bindings
from hopwatch_tui.widgets.lines import Heading, Lines
from hopwatch_tui.widgets.page import Page

_VIEWS = ("waterfall", "sequence")
_BLANK = Flow(
    FlowSummary("", "", "", "", None, None, 0.0, 0, 0, 0, 0, (), {}),
    hops=(),
    spans=(),
    linked=(),
    truncated=False,
)


class FlowScreen(BaseScreen):
    """A flow opened; it is asked for again when its line in the live view changes."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(FLOW)
    DEFAULT_CSS = """
    FlowScreen ContentSwitcher { height: 1fr; }
    FlowScreen #trouble { display: none; }
    FlowScreen #trouble.shown { display: block; }
    FlowScreen Page { height: 35%; min-height: 5; max-height: 14; background: $surface; border-top: solid $panel; }
    """

    def __init__(self, flow_id: str) -> None:
        super().__init__()
        self.flow_id = flow_id
        self.flow: Flow | None = None
        self.view = 0
        self.filters = [Filter(), Filter()]
        self._summary: FlowSummary | None = None
        self._zoomed: Span | None = None

    def compose(self) -> ComposeResult:
        """Title, tabs, the two drawings, what is under the cursor in full."""
        yield Bar(id="title")
        yield Bar(id="about")
        yield Bar(id="trouble")
        yield Tabs(("Waterfall", "Sequence"))
        painters: tuple[Painter[Any], ...] = (Waterfall.of(_BLANK), HopSequence.of(_BLANK))
        with ContentSwitcher(initial="view-waterfall"):
            for name, painter in zip(_VIEWS, painters, strict=True):
                with Vertical(id=f"view-{name}"):
                    yield Heading(painter)
                    yield Lines(painter, id=f"list-{name}")
        yield Page(id="detail")
        yield FilterLine()
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Ask for the flow."""
        self.query_one("#title", Bar).show(((f" flow {self.flow_id} ", Tone.KEY), ("  asking …", Tone.DIM)))
        for name in _VIEWS:
            self.list_of(name).empty = ("Asking the collector …",)
        self.focus_content()
        self.load()

    def list_of(self, name: str) -> Lines[Any]:
        """The list of a view: `waterfall` or `sequence`."""
        return self.query_one(f"#list-{name}", Lines)

    @work(exclusive=True, group="flow")
    async def load(self) -> None:
        """Ask for the flow and show it; an error leaves what is shown and says what happened."""
        try:
            answer: Flow | ApiError = await self.hopwatch.client.flow(self.flow_id)
        except ApiError as error:
            answer = error
        if not self.usable:
            return
        if isinstance(answer, ApiError):
            self._fail(answer)
        else:
            self.flow = answer
            self._show(answer)

    def _fail(self, error: ApiError) -> None:
        bar = self.query_one("#trouble", Bar)
        bar.add_class("shown")
        bar.show(trouble_line(error))
        for name in _VIEWS:
            self.list_of(name).empty = trouble_words(error)

    def _show(self, flow: Flow) -> None:
        self.query_one("#trouble", Bar).remove_class("shown")
        self.query_one("#title", Bar).show(title_line(flow))
        self.query_one("#about", Bar).show(about_line(flow))
        rows, hops = waterfall(flow.spans), in_order(flow.hops)
        self._fill("waterfall", Waterfall.of(flow, self._zoomed), rows, "No span of this flow is stored.")
        self._fill("sequence", HopSequence.of(flow), hops, "No message was seen in this flow.")
        more = "+" if flow.truncated else ""
        self.query_one(Tabs).titles = (f"Waterfall {len(rows)}{more}", f"Sequence {len(hops)}{more}")
        self._show_detail(self._current())

    def _fill(self, name: str, painter: Any, items: Sequence[Any], nothing: str) -> None:
        lines = self.list_of(name)
        heading = self.query_one(f"#view-{name} Heading", Heading)
        heading.show(painter)
        lines.repaint(painter)
        lines.empty = (nothing,)
        lines.show(items, self.hopwatch.model.now)

    def live_changed(self) -> None:
        """Ask again when the flow's line in the live view says that something happened."""
        model = self.hopwatch.model
        found = next((one for one in model.flows if one.flow_id == self.flow_id), None)
        if found is not None and found != self._summary and not model.paused:
            first, self._summary = self._summary is None, found
            if not first or self.flow is not None:
                self.load()

    def focus_content(self) -> None:
        """The drawing in sight has the keyboard."""
        self.list_of(_VIEWS[self.view]).focus()

    def narrow(self, filter: Filter) -> None:
        """Narrow the drawing in sight."""
        self.filters[self.view] = filter
        self.list_of(_VIEWS[self.view]).narrow(filter)

    def _current(self) -> SpanRow | Delivery | None:
        current: SpanRow | Delivery | None = self.list_of(_VIEWS[self.view]).current
        return current

    def copied(self) -> str:
        """The message's id under the cursor; without one the flow's."""
        current = self._current()
        message = (
            current.span.message_id if isinstance(current, SpanRow) else current.message_id if current else ""
        )
        return message or self.flow_id

    def action_view(self, index: int) -> None:
        """Show the other drawing."""
        self.view = index
        self.query_one(ContentSwitcher).current = f"view-{_VIEWS[index]}"
        self.query_one(Tabs).shown = index
        self.query_one(FilterLine).set(self.filters[index].text)
        self._show_detail(self._current())
        self.focus_content()

    def action_next_view(self, by: int) -> None:
        """Show the other drawing."""
        self.action_view((self.view + by) % len(_VIEWS))

    def on_tabs_chosen(self, event: Tabs.Chosen) -> None:
        """A tab was clicked."""
        self.action_view(event.index)

    def action_zoom(self) -> None:
        """Stretch the waterfall to the span under the cursor, or back to the whole flow."""
        current = self.list_of("waterfall").current
        if self.flow is not None and current is not None:
            self._zoomed = None if self._zoomed is not None else current.span
            self._show(self.flow)

    def action_reload(self) -> None:
        """Ask again."""
        self.load()

    def on_lines_moved(self, event: Lines.Moved) -> None:
        """Show what is under the cursor in full."""
        if event.lines is self.list_of(_VIEWS[self.view]):
            self._show_detail(event.item)

    def _show_detail(self, item: SpanRow | Delivery | None) -> None:
        page = self.query_one("#detail", Page)
        if isinstance(item, SpanRow):
            page.show(span_detail(item.span))
        elif item is not None:
            page.show(hop_detail(item))
        else:
            page.show("")

    def on_lines_opened(self, event: Lines.Opened) -> None:
        """Open the message of a span or hop."""
        item = event.item
        message_id = item.span.message_id if isinstance(item, SpanRow) else item.message_id
        if message_id:
            self.hopwatch.open_message(message_id)
        else:
            self.notify(
                "This span sent or received no message; its facts stand below", markup=False, timeout=3
            )


def title_line(flow: Flow) -> Line:
    """The flow's name, state and length."""
    summary = flow.summary
    sign = fmt.state(summary.state)
    return (
        (f" {summary.name or 'flow'}", Tone.KEY),
        (f"  {summary.service}  ", Tone.DIM),
        (str(sign), sign.tone),
        (f"  {fmt.duration(summary.duration_ms)}", Tone.STRONG),
        (f"  {fmt.plural(summary.hops, 'hop')}", Tone.PLAIN),
        (f"  {summary.undelivered} undelivered" if summary.undelivered else "", Tone.BAD),
        (f"  {keys_text(summary.keys)}", Tone.DIM),
    )


def about_line(flow: Flow) -> Line:
    """Its id, when it began, its neighbours, whether something is cut off."""
    summary = flow.summary
    neighbours = "".join(
        f"  {'caused by' if link.direction == 'upstream' else 'caused'} {fmt.short_id(link.flow_id)}"
        for link in flow.linked[:4]
    )
    return (
        (f" {summary.flow_id}  {fmt.clock(summary.started_at)}", Tone.DIM),
        (neighbours, Tone.PLAIN),
        (f"  {legend}" if (legend := clocks.legend(flow)) else "", Tone.WARN),
        ("  ▲ cut off at the collector's limit" if flow.truncated else "", Tone.WARN),
    )


def span_detail(span: Span) -> Any:
    """Everything known of a span."""
    failed = styled((span.status_message or "error", Tone.BAD)) if span.status == "error" else ""
    events = ((f"at {fmt.clock(one.at)}", f"{one.name}  {keys_text(one.attributes)}") for one in span.events)
    return facts(
        (
            ("error", failed),
            (
                "span",
                styled((span.name, Tone.STRONG), f"  {span.service}  {span.instance}"),
            ),
            ("kind", f"{span.kind}  {span.system}  {span.operation}".strip()),
            ("destination", span.destination),
            ("receiver", span.receiver),
            ("message", span.message_id),
            (
                "started",
                f"{clocks.stamp(clocks.began(span), span.started_at, span.clock_offset_s)}, took {fmt.duration(span.duration_ms)}",
            ),
            ("span id", f"{span.span_id} in trace {span.trace_id}"),
            *events,
            *(("link", f"{link.span_id} in trace {link.trace_id}") for link in span.links),
            *sorted(span.attributes.items()),
        )
    )


def hop_detail(hop: Delivery) -> Any:
    """A hop with its verdict, and on whose word."""
    sign = fmt.verdict(hop.verdict)
    return facts(
        (
            ("verdict", styled((str(sign), sign.tone), (f"  {sign.meaning}", Tone.DIM))),
            ("why", reason_text(hop)),
            ("evidence", ", ".join(hop.witnesses) or "none"),
            (
                "sent",
                f"{clocks.mark(hop.sender_clock_offset_s)}{fmt.clock(clocks.sent(hop))} by {hop.producer or 'nobody seen'} to {hop.system} {hop.destination}",
            ),
            ("receiver", f"{hop.receiver or 'nobody'}  {hop.consumer}"),
            (
                "received",
                f"{clocks.mark(hop.receiver_clock_offset_s)}{fmt.clock(clocks.received(hop))}, {clocks.latency(hop)} after"
                if hop.received_at
                else "",
            ),
            ("settled", fmt.clock(hop.settled_at) if hop.settled_at else ""),
            ("attempts", str(hop.attempts) if hop.attempts else "none"),
            ("keys", keys_text(hop.keys)),
            ("message", hop.message_id),
        )
    )
