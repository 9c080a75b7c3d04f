"""Textual bindings made from the action registry."""

from collections.abc import Iterable

from textual.binding import Binding, BindingType

from hopwatch_tui.actions import Action


def bindings(*groups: Iterable[Action]) -> list[BindingType]:
    """A binding per key of each action; all keys of an action share its id, so a keymap replaces them together."""
    return [
        Binding(
            action.keys,
            action.name,
            action.title,
            show=action.shown,
            id=action.id,
            key_display=action.keys_in_help.split()[0],
            tooltip=action.help,
        )
        for group in groups
        for action in group
    ]
