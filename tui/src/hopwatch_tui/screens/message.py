"""One message: its deliveries, attempts and evidence."""

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import Footer

from hopwatch_tui import format as fmt
from hopwatch_tui.actions import MESSAGE
from hopwatch_tui.answers import Message
from hopwatch_tui.client import ApiError
from hopwatch_tui.format import Tone
from hopwatch_tui.model import Filter
from hopwatch_tui.report import message_body
from hopwatch_tui.screens.base import BaseScreen, trouble_line, trouble_words
from hopwatch_tui.tables import Line
from hopwatch_tui.widgets.bars import Bar
from hopwatch_tui.widgets.filter import FilterLine
from hopwatch_tui.widgets.keys import bindings
from hopwatch_tui.widgets.page import Page


class MessageScreen(BaseScreen):
    """A message opened."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(MESSAGE)
    DEFAULT_CSS = """
    MessageScreen #trouble { display: none; }
    MessageScreen #trouble.shown { display: block; }
    """

    def __init__(self, message_id: str) -> None:
        super().__init__()
        self.message_id = message_id
        self.message: Message | None = None

    def compose(self) -> ComposeResult:
        """Title and page."""
        yield Bar(id="title")
        yield Bar(id="trouble")
        yield Page(id="page")
        yield FilterLine()
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Ask for the message."""
        self.query_one("#title", Bar).show(((f" message {self.message_id}", Tone.KEY),))
        self.query_one(Page).show("Asking the collector …")
        self.focus_content()
        self.load()

    @work(exclusive=True, group="message")
    async def load(self) -> None:
        """Ask for the message and show it."""
        try:
            answer: Message | ApiError = await self.hopwatch.client.message(self.message_id)
        except ApiError as error:
            answer = error
        if self.usable:
            self._show(answer)

    def _show(self, answer: Message | ApiError) -> None:
        bar = self.query_one("#trouble", Bar)
        bar.set_class(isinstance(answer, ApiError), "shown")
        if isinstance(answer, Message):
            self.message = answer
            self.query_one("#title", Bar).show(title_line(answer))
            self.query_one(Page).show(message_body(answer))
            return
        bar.show(trouble_line(answer))
        if self.message is None:
            self.query_one(Page).show("\n".join(trouble_words(answer)))

    def focus_content(self) -> None:
        """The page has the keyboard."""
        self.query_one(Page).focus()

    def narrow(self, filter: Filter) -> None:
        """Only lines that pass."""
        self.query_one(Page).narrow(filter)

    def copied(self) -> str:
        """The message's id."""
        return self.message.message_id if self.message else self.message_id

    def action_reload(self) -> None:
        """Ask again."""
        self.load()

    def action_open_flow(self) -> None:
        """Open the flow it belongs to."""
        if self.message and self.message.flow_id:
            self.hopwatch.open_flow(self.message.flow_id)


def title_line(message: Message) -> Line:
    """Id, where it went, how each of its deliveries stands."""
    signs = [fmt.verdict(delivery.verdict) for delivery in message.deliveries]
    return (
        (f" {message.system} {message.destination}", Tone.KEY),
        (f"  {message.message_id}", Tone.DIM),
        *((f"  {sign}", sign.tone) for sign in signs[:8]),
    )
