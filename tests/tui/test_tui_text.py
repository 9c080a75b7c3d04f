"""Untrusted text cannot act on a terminal, hide or reorder anything."""

import json
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from hopwatch_tui.text import clean, escaped, fit, fit_middle

ANYTHING = st.text(st.characters(codec=None), max_size=200)  # lone surrogates too: JSON can spell them


@given(ANYTHING)
@example("\x1b]52;c;ZXZpbA==\x07")
@example("\u202egnp.exe")
@example("a\u0300" + "\u0300" * 90)
def test_nothing_that_acts_or_hides_survives(value: str) -> None:
    """Whatever comes in, no control, bidi, zero-width, surrogate or unassigned character comes out."""
    cleaned = clean(value)
    assert all(unicodedata.category(char)[0] != "C" for char in cleaned)
    assert all(unicodedata.category(char) not in {"Zl", "Zp"} for char in cleaned)
    cleaned.encode()


@given(ANYTHING)
def test_newlines_stay_only_where_asked(value: str) -> None:
    """With `lines`, newlines are the only control characters left."""
    assert {char for char in clean(value, lines=True) if unicodedata.category(char)[0] == "C"} <= {"\n"}


@given(ANYTHING)
def test_cleaning_twice_changes_nothing(value: str) -> None:
    """Text that is clean stays as it is."""
    assert clean(clean(value)) == clean(value)


@given(ANYTHING, st.integers(min_value=0, max_value=60))
def test_fitted_text_is_exactly_as_wide_as_asked(value: str, width: int) -> None:
    """Padded or cut, wide characters or not, a cell has its width."""
    assert cell_len(fit(value, width)) == width
    assert cell_len(fit(value, width, right=True)) == width
    assert cell_len(fit(value, width, pad=False)) <= width


@given(ANYTHING, st.integers(min_value=1, max_value=60))
def test_text_cut_in_the_middle_is_no_wider_than_asked(value: str, width: int) -> None:
    """Cutting in the middle keeps to the width."""
    assert cell_len(fit_middle(value, width)) <= width


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("orders.placed", "orders.placed"),
        ("größe 你好", "größe 你好"),
        ("\x1b[2J", "␛[2J"),
        ("\x9b31m", "�31m"),
        ("a\nb\tc", "a␊b c"),
        ("pay\u200bments", "pay�ments"),
        ("\u202eevil", "�evil"),
        ("[red]not markup[/]", "[red]not markup[/]"),
        ("\N{REGIONAL INDICATOR SYMBOL LETTER D}\N{REGIONAL INDICATOR SYMBOL LETTER E}", "DE"),
        ("\u0301x", "x"),
        ("\u3164", "�"),
        ("\ud800", "�"),
    ],
)
def test_what_is_shown_instead(value: str, shown: str) -> None:
    """Ordinary names stay, the rest becomes visible."""
    assert clean(value) == shown


def test_long_text_is_bounded() -> None:
    """A name of a megabyte is cut with an ellipsis."""
    cleaned = clean("x" * 1_000_000)
    assert len(cleaned) == 4096
    assert cleaned.endswith("…")


def test_ids_keep_their_ends() -> None:
    """Cut in the middle, both ends of an id stay readable."""
    assert fit_middle("0199c1f2-7f7e-7c3a-9d53-5a1f0c7be001", 13) == "0199c1…7be001"


@given(st.text(max_size=200))
def test_json_is_the_same_and_acts_on_no_terminal(text: str) -> None:
    """Controls, bidirectional and zero-width characters are spelled `\\u…`; whoever parses the JSON reads what was there."""
    given_ = json.dumps({"name": text, text: [text]}, ensure_ascii=False).encode()
    shown = escaped(given_)
    assert json.loads(shown) == json.loads(given_)
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp") for char in shown.decode())


def test_json_keeps_what_shows() -> None:
    """Letters of any script and line ends between values stay; the characters seen in the wild do not."""
    kept = '{\n  "köln": "日本 😀"\n}'.encode()
    assert escaped(kept) == kept
    assert (
        escaped('"\x9b\x9d\u202e\u200b\x7f\U000e0041"'.encode())
        == rb'"\u009b\u009d\u202e\u200b\u007f\udb40\udc41"'
    )
    assert escaped(b"\xff") == b"\xff"
