"""The help page: every key, made from the action registry, and what the verdicts mean."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.widgets import Footer

from hopwatch_tui import format as fmt
from hopwatch_tui.actions import GROUPS
from hopwatch_tui.format import ANSI, Tone
from hopwatch_tui.model import Filter
from hopwatch_tui.report import sign_text
from hopwatch_tui.screens.base import BaseScreen
from hopwatch_tui.widgets.bars import Bar
from hopwatch_tui.widgets.filter import FilterLine
from hopwatch_tui.widgets.page import Page


class HelpScreen(BaseScreen):
    """Keys and verdicts."""

    def compose(self) -> ComposeResult:
        """One page."""
        yield Bar(id="title")
        yield Page()
        yield FilterLine()
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Show it."""
        self.query_one("#title", Bar).show(((" help", Tone.KEY), ("  / filters, Esc goes back", Tone.DIM)))
        self.query_one(Page).show(help_page())
        self.focus_content()

    def focus_content(self) -> None:
        """The page has the keyboard."""
        self.query_one(Page).focus()

    def narrow(self, filter: Filter) -> None:
        """Only lines that pass."""
        self.query_one(Page).narrow(filter)

    def action_help(self) -> None:
        """The same key closes it."""
        self.leave()


def help_page() -> RenderableType:
    """All keys and all verdicts."""
    keys = Table.grid(padding=(0, 2, 0, 0))
    for name, actions in GROUPS.items():
        keys.add_row(Text(name, ANSI[Tone.STRONG]))
        for action in actions:
            keys.add_row(Text("  " + action.keys_in_help, ANSI[Tone.KEY]), Text(action.help))
        keys.add_row()
    verdicts = Table.grid(padding=(0, 2, 0, 0))
    for title, signs in (("What became of a message", fmt.VERDICTS), ("How a flow stands", fmt.STATES)):
        verdicts.add_row(Text(title, ANSI[Tone.STRONG]))
        for sign in signs.values():
            verdicts.add_row(Text("  ") + sign_text(sign), Text(sign.meaning))
        verdicts.add_row()
    return Group(keys, verdicts)
