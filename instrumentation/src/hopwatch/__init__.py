"""hopwatch: give every call and message an id, a flow and an outcome.

import hopwatch
hopwatch.instrument(service="orders")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hopwatch.handover import processing
    from hopwatch.hooks import Hook
    from hopwatch.setup import instrument, stats, uninstrument
    from hopwatch.tags import tag

__all__ = ["Hook", "instrument", "processing", "stats", "tag", "uninstrument"]

_HOMES = {
    "instrument": "hopwatch.setup",
    "uninstrument": "hopwatch.setup",
    "processing": "hopwatch.handover",
    "tag": "hopwatch.tags",
    "Hook": "hopwatch.hooks",
    "stats": "hopwatch.setup",
}


def __getattr__(name: str) -> Any:
    """Load on first use: commands and the collector need names from here, but not OpenTelemetry behind them."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'hopwatch' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value
