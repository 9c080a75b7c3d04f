"""Colours that people with any colour vision tell apart (after Okabe and Ito): blue is well, orange is not."""

from rich.terminal_theme import TerminalTheme
from textual.theme import Theme

DARK = Theme(
    name="hopwatch",
    primary="#3d8fd1",
    secondary="#7cc4f0",
    success="#56b4e9",
    warning="#f0b429",
    error="#f2733d",
    accent="#d58fc0",
    foreground="#d8dee4",
    background="#0f1419",
    surface="#161c23",
    panel="#1e2731",
    dark=True,
)

LIGHT = Theme(
    name="hopwatch-light",
    primary="#0072b2",
    secondary="#005a8c",
    success="#0072b2",
    warning="#9a6700",
    error="#b34700",
    accent="#8f3f73",
    foreground="#1b2733",
    background="#fbfcfd",
    surface="#f0f3f6",
    panel="#e3e9ef",
    dark=False,
)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def ansi(theme: Theme) -> TerminalTheme:
    """The sixteen colours of printed reports, for when they are shown inside the view."""
    background, foreground = _rgb(theme.background or "#000000"), _rgb(theme.foreground or "#ffffff")
    good, warn, bad = (_rgb(theme.success or ""), _rgb(theme.warning or ""), _rgb(theme.error or ""))
    odd, busy = _rgb(theme.accent or ""), _rgb(theme.primary)
    colours = [background, bad, good, warn, busy, odd, good, foreground]
    return TerminalTheme(background, foreground, colours, colours)
