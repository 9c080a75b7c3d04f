"""Reading the whole ledger through an API that gives a thousand rows at a time."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from hopwatch_demo.ledger import Ledger, TooManyRows

START = 1_767_225_600.0


def delivery(number: int, at: float) -> dict[str, Any]:
    """What the API says of one delivery, as far as the demo reads it, and when it was sent."""
    return {
        "at": at,
        "keys": {"event": f"e{number}"},
        "receiver": "r",
        "verdict": "settled",
        "attempts": 1,
        "flow_id": "f",
        "message_id": f"m{number}",
        "destination": "d",
        "reason": "",
    }


@contextmanager
def serving(deliveries: list[dict[str, Any]]) -> Iterator[str]:
    """Serve /deliveries over HTTP as the collector does: by time, with a limit, saying what was cut off."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            since, until = (datetime.fromisoformat(asked[name][0]).timestamp() for name in ("since", "until"))
            found = [one for one in deliveries if since <= one["at"] <= until]
            limit = int(asked["limit"][0])
            body = json.dumps({"deliveries": found[:limit], "truncated": len(found) > limit}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *said: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_more_rows_than_the_limit_are_all_read_once() -> None:
    """A cut-off answer is asked for again in halves, and what lies on their border is counted once."""
    deliveries = [delivery(number, START + number / 100) for number in range(2_500)]
    with serving(deliveries) as url, Ledger(url) as ledger:
        rows = ledger.deliveries(START, START + 25)
    assert sorted(row.event for row in rows) == sorted(f"e{number}" for number in range(2_500))


def test_too_many_rows_in_one_moment_are_an_error() -> None:
    """Rows that cannot be read are never left out in silence."""
    deliveries = [delivery(number, START) for number in range(1_001)]
    with serving(deliveries) as url, Ledger(url) as ledger, pytest.raises(TooManyRows):
        ledger.deliveries(START - 1, START + 1)
