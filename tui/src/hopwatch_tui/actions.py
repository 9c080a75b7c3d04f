"""Every action a person can take in the live view, with its keys: bindings, help and palette are all made from this.

The ids are stable, so a keymap may give other keys to them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Action:
    """One action: stable id, keys as Textual spells them, the method `action_<name>` it calls, and its words."""

    id: str
    keys: str
    name: str
    title: str
    help: str
    shown: bool = False
    keys_in_help: str = ""


GENERAL: Final = (
    Action(
        "filter",
        "slash",
        "filter",
        "Filter",
        "show only lines holding these words; -word leaves lines out",
        True,
        "/",
    ),
    Action(
        "search",
        "s,ctrl+f",
        "search",
        "Search",
        "find any message or flow by id, business key or name",
        True,
        "s ctrl+f",
    ),
    Action(
        "copy", "y", "copy", "Copy id", "copy the id under the cursor to the clipboard (OSC 52)", True, "y"
    ),
    Action("help", "question_mark,f1", "help", "Help", "this page", True, "? F1"),
    Action("back", "escape,backspace", "back", "Back", "clear the filter, or go back", False, "Esc"),
    Action("quit", "q", "quit", "Quit", "leave", True, "q"),
)
"""Everywhere."""

LIVE: Final = (
    Action("pause", "space", "pause", "Pause", "hold the screen still; again: catch up", True, "Space"),
    Action("retry", "r", "retry", "Retry", "connect again now", False, "r"),
    Action("view.1", "1", "view(0)", "Flows", "what is happening: one line per flow", False, "1"),
    Action("view.2", "2", "view(1)", "Undelivered", "what did not arrive, by cause", False, "2"),
    Action("view.3", "3", "view(2)", "Lag", "who is behind, and by how much", False, "3"),
    Action("view.next", "tab,right_square_bracket", "next_view(1)", "Next view", "next view", False, "Tab ]"),
    Action(
        "view.previous",
        "shift+tab,left_square_bracket",
        "next_view(-1)",
        "Previous view",
        "previous view",
        False,
        "⇧Tab [",
    ),
)
"""On the live screen."""

FLOW: Final = (
    Action("flow.waterfall", "1", "view(0)", "Waterfall", "the flow's spans over time", False, "1"),
    Action("flow.sequence", "2", "view(1)", "Sequence", "the flow's messages between services", False, "2"),
    Action("flow.next", "tab,right_square_bracket", "next_view(1)", "Next view", "next view", False, "Tab ]"),
    Action(
        "flow.previous",
        "shift+tab,left_square_bracket",
        "next_view(-1)",
        "Previous view",
        "previous view",
        False,
        "⇧Tab [",
    ),
    Action(
        "flow.zoom",
        "z",
        "zoom",
        "Zoom",
        "stretch the waterfall to the span under the cursor; again: the whole flow",
        True,
        "z",
    ),
    Action("flow.reload", "r", "reload", "Reload", "ask the collector again", False, "r"),
)
"""On an opened flow."""

FOUND: Final = (Action("found.reload", "r", "reload", "Reload", "ask the collector again", False, "r"),)
"""On the messages behind a cause or a lag."""

MESSAGE: Final = (
    Action("message.flow", "f", "open_flow", "Its flow", "open the flow this message belongs to", True, "f"),
    Action("message.reload", "r", "reload", "Reload", "ask the collector again", False, "r"),
)
"""On an opened message."""

MOTIONS: Final = (
    Action("list.open", "enter,l,right", "open", "Open", "open what is under the cursor", True, "Enter l →"),
    Action("list.down", "j,down", "move(1)", "Down", "down", False, "j ↓"),
    Action("list.up", "k,up", "move(-1)", "Up", "up", False, "k ↑"),
    Action("list.page_down", "pagedown,ctrl+d", "page(1)", "Page down", "a page down", False, "PgDn ctrl+d"),
    Action("list.page_up", "pageup,ctrl+u", "page(-1)", "Page up", "a page up", False, "PgUp ctrl+u"),
    Action("list.top", "g,home", "top", "Top", "the top; new flows then stay in sight", False, "g Home"),
    Action("list.bottom", "G,end", "bottom", "Bottom", "the bottom", False, "G End"),
    Action("list.back", "h,left", "leave", "Back", "go back", False, "h ←"),
)
"""In every list."""

PAGE: Final = (
    Action("page.down", "j,down", "scroll_down", "Down", "down", False, "j ↓"),
    Action("page.up", "k,up", "scroll_up", "Up", "up", False, "k ↑"),
    Action(
        "page.page_down", "pagedown,ctrl+d", "page_down", "Page down", "a page down", False, "PgDn ctrl+d"
    ),
    Action("page.page_up", "pageup,ctrl+u", "page_up", "Page up", "a page up", False, "PgUp ctrl+u"),
    Action("page.top", "g,home", "scroll_home", "Top", "the top", False, "g Home"),
    Action("page.bottom", "G,end", "scroll_end", "Bottom", "the bottom", False, "G End"),
)
"""On pages of text."""

GROUPS: Final[dict[str, tuple[Action, ...]]] = {
    "Everywhere": GENERAL,
    "Live screen": LIVE,
    "A flow": FLOW,
    "A message": MESSAGE,
    "Behind a number": FOUND,
    "Lists": MOTIONS,
}


def all_actions() -> Iterable[Action]:
    """Every action there is."""
    for group in GROUPS.values():
        yield from group
