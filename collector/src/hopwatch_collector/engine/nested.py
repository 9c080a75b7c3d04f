"""Sends within sends: a framework's own spans around those of the client it uses, one message for all of them.

`create` around `publish`, a helper's `publish` around the library's own: each is a send to whoever reads spans one by one. The
inner one travels with the message, or the outer one does; both are told of receivers under their own keys. All of it is given
to the id the message has, else to the key of the outermost send.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from hopwatch_collector.engine.senders import Engine

_BACK_S: Final = 3_600
"""For so long what belongs to a nested send is looked for; whatever comes later is told of as a message of its own."""
_DUTY: Final = 20.0
"""Looks rest for so many times as long as they take."""
_US: Final = 1_000_000


class NestedSends:
    """Finds them. One call at a time; what it remembers is only when it is due again."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        """`clock`: seconds since 1970."""
        self._engine = engine
        self._clock = clock
        self._due = 0.0

    @property
    def due(self) -> bool:
        """Whether it has rested long enough."""
        return time.monotonic() >= self._due

    def run(self) -> int:
        """Give all that is told of nested sends to the one message it is about; return how many keys it had been told under."""
        began = time.monotonic()
        until = int(self._clock() * _US)
        found: Any = self._engine.rows("nested_found", {"after": until - _BACK_S * _US, "until": until})
        given = self._give(dict(found)) if found else 0
        self._due = began + _DUTY * (time.monotonic() - began)
        return given

    def _give(self, known_as: Mapping[str, str]) -> int:
        due = [message for (message,) in self._engine.rows("nested_due", {"messages": list(known_as)})]
        if due:
            ends = [_end(message, known_as) for message in due]
            self._engine.run_statement("move_messages", {"messages": due, "known_as": ends})
        return len(due)


def _end(message: str, known_as: Mapping[str, str]) -> str:
    """Follow a key to what it is known as in the end; spans that are said to lie within each other lead nowhere further."""
    passed = {message}
    while (then := known_as.get(message)) is not None and then not in passed:
        message = then
        passed.add(message)
    return message
