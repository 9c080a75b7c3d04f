"""Who else in the process has a message, when the task that took it comes back for more.

Told by how many references there are to it, less those of the code that came back: its variables, which still bear the message,
and the batch it lies in. What is left over is a queue, a task, a list: somebody who may still work on it.
"""

import inspect
import sys
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, Final

_FRAMES: Final = 32
"""Frames of the code that came back in which the message is looked for."""

_FIELDS: Final = 16
"""Dicts that are smaller are taken for one thing with its fields."""

_COUNTED: Final = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether references are counted in one place; elsewhere nothing is said."""

_COPIED: Final = sys.version_info < (3, 13)
"""Whether to look at the variables of a running function leaves a copy behind, which keeps alive what they bore."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A place in the code at which what it came back from was borne by one variable, and nobody else had it."""

    depth: int
    code: CodeType
    at: int


def is_held(
    message: Any,
    known: Variable | None,
    *,
    kept: int = 0,
    beside: int = 0,
    lists: bool = False,
    ours: int = 1,
) -> tuple[bool, Variable | None]:
    """Return whether anybody has a message besides the code that came back, and where that bears it.

    `known`: where it was seen to bear the one before; `kept`: how many references the library keeps to what was sent with it
    (`kept_payloads`); `beside`: how many there are to it of those who do not work on it, such as its batch; `lists`: whether the code may have it in lists of its own; `ours`: variables of the caller's that bear it.
    """
    if not _COUNTED:
        return False, known
    others = sys.getrefcount(message) - 2 - ours - beside  # less this parameter, and the call's
    # A frame must not be borne by a variable of its own: it would stay, with all that is behind it, until the garbage is collected.
    if others > 0 and not (others == 1 and known is not None and _is_at(known, 1 + known.depth)):
        found, known = _scan(message, sys._getframe(), lists=lists)
        if others > found:
            return True, None
    # Besides those that the library keeps there are what the message has, and the variable of whoever works on it.
    return is_payload_held(payload_of(message), beside=kept + 1, lists=lists), known


def _is_at(known: Variable, depth: int) -> bool:
    """Whether the code that runs so many calls up is where it was."""
    try:
        frame = sys._getframe(depth)
    except ValueError:  # fewer calls led here this time
        return False
    return frame.f_code is known.code and frame.f_lasti == known.at


def payload_of(message: Any) -> Any:
    """Return what was sent with a message, as far as its library has a name for it."""
    payload = getattr(message, "value", None)
    return payload if payload is not None else getattr(message, "data", None)


def kept_payloads(message: Any) -> int:
    """Return how many references there are to what was sent with a message that was just got: those that the library keeps."""
    payload = payload_of(message)
    return sys.getrefcount(payload) - 3  # less this variable, the call's, and what the message has


def is_payload_held(payload: Any, *, beside: int = 1, lists: bool = False) -> bool:
    """Return whether anybody has what was sent besides the code that came back.

    `beside`: how many references there are that are nobody's who works on it, besides a variable of the caller's.
    """
    if not _COUNTED or type(payload) not in (bytes, bytearray, str, dict, list) or len(payload) < 2:
        return False  # small ones are shared
    others = sys.getrefcount(payload) - 2 - beside  # less this parameter, and the call's
    return others > 0 and others > _scan(payload, sys._getframe(), lists=lists)[0]


def _scan(thing: Any, here: FrameType, *, lists: bool) -> tuple[int, Variable | None]:
    """Return how often the variables of the running code bear something, or lists they bear hold it; and where, if once."""
    found, place, depth = 0, None, 0
    frame: FrameType | None = here
    while frame is not None and depth < _FRAMES:
        if not _is_ours(frame):
            count = _count(thing, frame, lists=lists)
            found += count
            if count:
                place = Variable(depth, frame.f_code, frame.f_lasti)
        frame, depth = frame.f_back, depth + 1
    return found, place if found == 1 else None


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith("hopwatch.")


def _count(thing: Any, frame: FrameType, *, lists: bool) -> int:
    borne = frame.f_locals
    count = sum(value is thing for value in borne.values())
    # An event of a server, a few fields in a dict, is as good as a variable.
    count += sum(
        one is thing
        for value in borne.values()
        if type(value) is dict and len(value) < _FIELDS
        for one in value.values()
    )
    if lists:
        count += sum(
            one is thing for value in borne.values() if type(value) in (list, tuple) for one in value
        )
    # Of a function, what nobody else has is a copy made for us; a later look makes it anew.
    if _COPIED and frame.f_code.co_flags & inspect.CO_OPTIMIZED and sys.getrefcount(borne) <= _FRAMES_OWN:
        borne.clear()
    return count


_FRAMES_OWN: Final = 3
"""References to a copy of variables that only its frame has: the frame's, ours, and the call's that counts them."""
