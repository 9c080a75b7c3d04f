"""hopwatch: give every call and message an id, a flow and an outcome.

import hopwatch
hopwatch.instrument(service="orders")
"""

from hopwatch.setup import instrument, uninstrument
from hopwatch.tags import tag

__all__ = ["instrument", "tag", "uninstrument"]
