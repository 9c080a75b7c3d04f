"""A service that has more to tell than fits while its collector is away.

Orders are JSON lines, answered by JSON lines: {"do": "work", "count": N} ends so many spans, {"do": "stats"} tells what
became of all spans so far.
"""

import json
import sys

from opentelemetry import trace

import hopwatch


def stats() -> dict[str, object]:
    """What became of this process's spans."""
    told = hopwatch.stats()
    assert told is not None
    return {"delivered": told.delivered, "waiting": told.waiting, "dropped": told.dropped}


def main() -> None:
    """Carry out orders until stdin ends."""
    hopwatch.instrument(service=sys.argv[1], only=[])
    tracer = trace.get_tracer("hoarder")
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "work":
            for _ in range(order["count"]):
                tracer.start_span("work").end()
        print(json.dumps(stats()))


if __name__ == "__main__":
    main()
