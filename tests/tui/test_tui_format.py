"""Numbers and words as people read them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from hopwatch_collector.api.models import UNDELIVERED, FlowState, Verdict
from hopwatch_tui import format as fmt

NOW = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0, "0ms"),
        (0.34, "340µs"),
        (0.9999, "1.0ms"),
        (12.4, "12ms"),
        (999.7, "1.0s"),
        (1400, "1.4s"),
        (59_700, "1m"),
        (125_000, "2m05s"),
        (7_200_000, "2h"),
        (12_000_000, "3h20m"),
        (200_000_000, "2d07h"),
        (-12, "-12ms"),
    ],
)
def test_durations(milliseconds: float | None, shown: str) -> None:
    """A duration has two or three digits and its unit."""
    assert fmt.duration(milliseconds) == shown


@given(st.floats(min_value=0, max_value=1e12))
def test_durations_fit_their_column(milliseconds: float) -> None:
    """No duration up to thirty years is wider than six cells."""
    assert len(fmt.duration(milliseconds)) <= 6


@pytest.mark.parametrize(
    ("seconds", "shown"), [(-3, "now"), (0.4, "now"), (12.9, "12s"), (250, "4m10s"), (12_000, "3h20m")]
)
def test_ages(seconds: float, shown: str) -> None:
    """An age counts whole units; the future, where clocks differ, is now."""
    assert fmt.age(NOW - timedelta(seconds=seconds), NOW) == shown


def test_every_verdict_and_state_of_the_api_has_a_sign() -> None:
    """Each verdict and flow state has its own glyph, a word and a tone: colour never stands alone."""
    assert set(fmt.VERDICTS) == set(Verdict)
    assert set(fmt.STATES) == set(FlowState.__args__)
    assert len({sign.glyph for sign in fmt.VERDICTS.values()}) == len(fmt.VERDICTS)
    assert all(cell_len(sign.glyph) == 1 and sign.word for sign in fmt.VERDICTS.values())


def test_delivered_means_what_the_api_means() -> None:
    """What we show as undelivered is what the API counts as undelivered."""
    assert set(Verdict) - fmt.DELIVERED == UNDELIVERED


def test_a_verdict_of_the_future_is_shown_by_its_name() -> None:
    """A verdict we do not know is shown, not hidden."""
    assert str(fmt.verdict("held_back")) == "? held back"


@pytest.mark.parametrize(("rate", "shown"), [(0, "0/s"), (0.42, "0.4/s"), (35.2, "35/s"), (1204, "1,204/s")])
def test_rates(rate: float, shown: str) -> None:
    """Small rates keep a digit after the point, large ones are grouped."""
    assert fmt.rate(rate) == shown
