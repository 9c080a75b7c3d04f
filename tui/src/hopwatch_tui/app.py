"""`hopwatch live`: the app that joins the stream of snapshots, what is known of them, and the screens."""

import asyncio
import time
from collections.abc import Iterable
from functools import partial
from typing import ClassVar

from textual import work
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen

from hopwatch_tui import feed, themes
from hopwatch_tui.actions import MOTIONS, PAGE, all_actions
from hopwatch_tui.answers import Cause, LagRow
from hopwatch_tui.client import DEFAULT_COLLECTOR, ApiError, AsyncClient
from hopwatch_tui.model import LiveModel
from hopwatch_tui.screens.base import BaseScreen
from hopwatch_tui.screens.flow import FlowScreen
from hopwatch_tui.screens.found import CauseScreen, LagScreen, SearchScreen
from hopwatch_tui.screens.help import HelpScreen
from hopwatch_tui.screens.live import LiveScreen
from hopwatch_tui.screens.message import MessageScreen


class HopwatchApp(App[None]):
    """The live view of one collector. Raises `ApiError` where `collector` is no address."""

    TITLE = "hopwatch"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+c", "quit", "Quit", show=False, priority=True)]
    CSS = """
    Footer { background: $panel; }
    Toast { width: auto; max-width: 70%; }
    """

    class LiveChanged(Message):
        """Something came from the collector; the model knows what."""

    def __init__(self, collector: str = DEFAULT_COLLECTOR, *, token: str = "", window_s: float = 300) -> None:
        super().__init__()
        self.client = AsyncClient(collector, token)
        self.window_s = window_s
        self.model = LiveModel()
        self._wake = asyncio.Event()
        self._announced = False
        self._heard = time.monotonic()
        self.broken: Exception | None = None
        for theme in (themes.DARK, themes.LIGHT):
            self.register_theme(theme)
        self.ansi_theme_dark = themes.ansi(themes.DARK)
        self.ansi_theme_light = themes.ansi(themes.LIGHT)
        self.theme = themes.DARK.name

    def _handle_exception(self, error: Exception) -> None:
        """Note what broke. Textual would print a traceback with local variables, a token among them."""
        self.broken = self.broken or error
        super()._handle_exception(error)
        self._exit_renderables.clear()

    @property
    def host(self) -> str:
        """Host and port of the collector."""
        return self.client.host

    def on_mount(self) -> None:
        """Show the live screen and start listening."""
        self.push_screen(LiveScreen())
        self.follow()

    async def on_unmount(self) -> None:
        """Close the connections."""
        await self.client.aclose()

    @work(exclusive=True, group="feed")
    async def follow(self) -> None:
        """Take in the stream until the app ends."""
        await feed.follow(self.client, self.window_s, self._deliver, self._wake)

    @property
    def silent_s(self) -> float:
        """Seconds since the collector last said anything."""
        return time.monotonic() - self._heard

    def _deliver(self, event: feed.Event) -> None:
        """Note an event in the model. However many come before the screen looks, it is told once."""
        self._heard = time.monotonic()
        if isinstance(event, feed.Lost):
            self.model.lose(event.error, event.retry_in_s)
        elif isinstance(event, ApiError):
            self.model.fail(event)
        else:
            self.model.receive(event)
        if not self._announced:
            self._announced = True
            self.post_message(self.LiveChanged())

    def on_hopwatch_app_live_changed(self, _: LiveChanged) -> None:
        """Let every screen look, the hidden ones too: going back shows the present."""
        self._announced = False
        for screen in self.screen_stack:
            if isinstance(screen, BaseScreen) and screen.usable:
                screen.live_changed()

    def retry_now(self) -> None:
        """Do not wait for the next try."""
        self._wake.set()

    def open_flow(self, flow_id: str) -> None:
        """Show a flow; if it is the one in sight, nothing happens."""
        if not (isinstance(self.screen, FlowScreen) and self.screen.flow_id == flow_id):
            self.push_screen(FlowScreen(flow_id))

    def open_message(self, message_id: str) -> None:
        """Show a message."""
        self.push_screen(MessageScreen(message_id))

    def open_lag(self, row: LagRow) -> None:
        """Show what waits behind a lag."""
        self.push_screen(LagScreen(row))

    def open_cause(self, cause: Cause) -> None:
        """Show the deliveries that a cause stands for."""
        self.push_screen(CauseScreen(cause))

    def open_search(self) -> None:
        """Search, anew."""
        self.push_screen(SearchScreen())

    def open_help(self) -> None:
        """Show the help page."""
        self.push_screen(HelpScreen())

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette: our actions first, those that the screen in sight has, then Textual's own."""
        if isinstance(screen, BaseScreen):
            for action in all_actions():
                if (
                    getattr(screen, f"action_{action.name.partition('(')[0]}", None)
                    and action not in MOTIONS + PAGE
                ):
                    yield SystemCommand(action.title, action.help, partial(screen.run_action, action.name))
        yield from super().get_system_commands(screen)
