"""`hopwatch live` as it is, in a process of its own, that also says on stdout when each snapshot came and what was new in it.

Lines of JSON: `asked`, when the collector began to make it; `came`, when the view's model had it, decoded (both in seconds
since 1970); `new`, the `order_id` of each flow that no snapshot before had.
"""

import json
import sys
import time

from hopwatch_tui import feed
from hopwatch_tui.answers import Live
from hopwatch_tui.app import HopwatchApp


class Noting(HopwatchApp):
    """The view, taking notes."""

    def __init__(self, collector: str) -> None:
        super().__init__(collector)
        self._known: set[str] = set()
        self._notes = sys.__stdout__

    def _deliver(self, event: feed.Event) -> None:
        super()._deliver(event)
        if isinstance(event, Live) and event.at is not None and self._notes is not None:
            came = time.time()
            orders = {flow.keys["order_id"] for flow in event.flows if "order_id" in flow.keys}
            note = {"asked": event.at.timestamp(), "came": came, "new": sorted(orders - self._known)}
            self._known |= orders
            print(json.dumps(note), file=self._notes, flush=True)


if __name__ == "__main__":
    Noting(sys.argv[1]).run()
