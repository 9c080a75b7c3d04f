"""The one place where untrusted text becomes fit for a terminal: every string of an answer passes through it.

Service, span, header and error texts come from outside. Left alone they could move the cursor, set the clipboard,
reverse the reading direction or hide characters.
"""

import unicodedata
from typing import Final

from rich.cells import cell_len, set_cell_size

MAX_LENGTH: Final = 4096
"""Characters kept of one string; longer ones end in an ellipsis."""

ELLIPSIS: Final = "…"
REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"

_MAX_MARKS = 3
"""Combining marks kept per character; real scripts need no more, stacks of them paint over other lines."""

_INVISIBLE = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5")
"""Letters and signs that draw nothing: fillers that would make two names look the same."""

_REGIONAL_A, _REGIONAL_Z = 0x1F1E6, 0x1F1FF
"""Flag letters: terminals disagree on how wide a pair is, so they are spelled as plain letters."""


def clean(value: str, *, lines: bool = False, limit: int = MAX_LENGTH) -> str:
    """Make untrusted text safe to print: nothing in it can act on the terminal, hide, or reorder its surroundings.

    Control characters become visible pictures (ESC becomes `␛`), bidirectional, zero-width and unassigned characters
    the replacement character. With `lines`, newlines stay; otherwise they become `␊`. At most `limit` characters.
    """
    if len(value) > limit:
        value = value[: limit - 1] + ELLIPSIS
    if value.isascii() and value.isprintable():
        return value
    out: list[str] = []
    marks = _MAX_MARKS  # a mark with nothing before it would attach to what was printed last
    for char in value:
        if lines and char == "\n":
            out.append(char)
            marks = _MAX_MARKS
        elif unicodedata.category(char)[0] == "M":
            if marks < _MAX_MARKS and not _is_variation_selector(char):
                out.append(char)
                marks += 1
        else:
            out.append(_replace(char))
            marks = 0
    return "".join(out)


def _is_variation_selector(char: str) -> bool:
    return "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef" or char in _INVISIBLE


def _replace(char: str) -> str:
    point = ord(char)
    if char == "\t":
        return " "
    if point < 0x20:
        return chr(0x2400 + point)
    if point == 0x7F:
        return "␡"
    if _REGIONAL_A <= point <= _REGIONAL_Z:
        return chr(ord("A") + point - _REGIONAL_A)
    if char in _INVISIBLE:
        return REPLACEMENT
    category = unicodedata.category(char)
    if category == "Zs":
        return " "
    if category[0] == "C" or category in {"Zl", "Zp"}:
        return REPLACEMENT
    return char


def fit(value: str, width: int, *, pad: bool = True, right: bool = False) -> str:
    """One line of exactly `width` terminal cells (at most, without `pad`), cut with an ellipsis where longer.

    `value` may be untrusted: it is cleaned. `right` puts the padding in front.
    """
    if width <= 0:
        return ""
    if value.isascii() and value.isprintable():  # most cells are: clean as they are, a character a cell
        taken = len(value)
    else:
        value = clean(value)
        taken = cell_len(value)
    if taken > width:
        value = set_cell_size(value, width - 1).rstrip() + ELLIPSIS
        taken = cell_len(value)
    if not pad or taken >= width:
        return value
    space = " " * (width - taken)
    return space + value if right else value + space


def fit_middle(value: str, width: int) -> str:
    """At most `width` cells, cut in the middle: ids and destinations differ at their ends."""
    value = clean(value)
    if cell_len(value) <= width:
        return value
    if width < 5:
        return fit(value, width, pad=False)
    tail = (width - 1) // 2
    ending = ""
    for char in reversed(value):
        if cell_len(char + ending) > tail:
            break
        ending = char + ending
    return set_cell_size(value, width - 1 - cell_len(ending)).rstrip() + ELLIPSIS + ending


def escaped(json: bytes) -> bytes:
    """Spell, in a JSON text, what a terminal would obey, reorder or not show as `\\u…`: to whoever reads it the same JSON.

    Raises nothing: what is not UTF-8 stays as it is.
    """
    try:
        text = json.decode()
    except UnicodeDecodeError:
        return json
    if text.isascii() and "\x7f" not in text:
        return json
    return "".join(_spelled(char) if _acts(char) else char for char in text).encode()


def _acts(char: str) -> bool:
    """Whether a character acts rather than shows. Line ends between values are not meant: they are as JSON has them."""
    if char.isascii():
        return char == "\x7f"
    return unicodedata.category(char) in ("Cc", "Cf", "Cn", "Co", "Zl", "Zp") or char in _INVISIBLE


def _spelled(char: str) -> str:
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))
