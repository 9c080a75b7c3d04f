"""Telling the broker who is connected: its own list of consumers says then which of them are instrumented."""

from collections.abc import Callable
from typing import Any, Final

import aiormq

from hopwatch.beside import Beside
from hopwatch.instance import instance_id
from hopwatch.wrapping import Args, Kwargs, guarded

_PROPERTY: Final = "hopwatch"


class Marks:
    """The connections that the broker lists with our mark in their client properties."""

    def __init__(self) -> None:
        self._marks: Beside[str] = Beside()

    def of(self, link: Any) -> str:
        """Return the mark of a connection of aiormq, empty where it was opened without one."""
        return self._marks.get(link) or ""

    def mark(
        self, wrapped: Callable[..., dict[str, Any]], link: aiormq.Connection, args: Args, kwargs: Kwargs
    ) -> dict[str, Any]:
        """Put the mark into what a connection tells of its client; what the application says of it stays."""
        properties = wrapped(*args, **kwargs)
        return self._marked(link, properties) or properties

    @guarded
    def _marked(self, link: aiormq.Connection, properties: dict[str, Any]) -> dict[str, Any]:
        if _PROPERTY in properties:
            return properties
        return {**properties, _PROPERTY: {"instance": self._marks.put(link, instance_id())}}
