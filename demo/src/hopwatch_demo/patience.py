"""How long anything here and in the tests waits at most: seconds of a quiet machine, times `HOPWATCH_TEST_PATIENCE`."""

import math
import os
from typing import Final

VARIABLE: Final = "HOPWATCH_TEST_PATIENCE"


class BadPatience(ValueError):
    """`HOPWATCH_TEST_PATIENCE` is no factor; the message says what it has to be."""


def read_factor() -> float:
    """Return by how much longer than on a quiet machine to wait, 1 where nothing is said.

    Raises:
        BadPatience: what is said is not a number above 0.
    """
    text = os.environ.get(VARIABLE) or "1"
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not (math.isfinite(factor) and factor > 0):
        raise BadPatience(
            f"{VARIABLE} is by how much longer tests wait, a number above 0 such as 1 or 4, not {text!r}"
        )
    return factor


def scale_wait(seconds: float) -> float:
    """Return how long to wait for what a quiet machine does within `seconds`.

    It is for bounds on waiting only: what is claimed to be fast, or to take its time, is not scaled.
    """
    return seconds * read_factor()
