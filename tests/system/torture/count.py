"""What the tables of a data directory hold, counted without the collector."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from hopwatch_demo.patience import scale_wait
from torture.senders import Book

# In a process of its own: an embedded engine keeps to one directory per process.
_COUNT = """
import json, sys, clickhouse_connect
with clickhouse_connect.get_client(dsn=f"chdb:///{sys.argv[1]}", database="hopwatch") as client:
    def rows(sql):
        return dict(client.query(sql).result_rows)
    print(json.dumps({
        "spans": rows("SELECT lower(hex(span_id)) AS id, count() FROM spans WHERE service = 'torture' GROUP BY id"),
        "links": rows("SELECT lower(hex(to_span)) AS id, count() FROM links GROUP BY id"),
        "calls": rows("SELECT 'all', sum(calls) FROM span_totals WHERE service = 'torture'"),
        "messages": rows("SELECT 'all', uniqExact(message) FROM ledger WHERE service = 'torture'"),
    }))
"""


@dataclass(frozen=True, slots=True)
class Counted:
    """How what is stored compares with what was acknowledged."""

    stored: int
    lost: int
    doubled: int
    invented: int

    @property
    def exact(self) -> bool:
        """Whether everything is there, once."""
        return not (self.lost or self.doubled or self.invented)


def count(engine: Path, book: Book) -> Counted:
    """Compare spans, links, totals and ledger with what was sent. A table that has too few or too many of anything counts."""
    done = subprocess.run(
        [sys.executable, "-c", _COUNT, str(engine)],
        capture_output=True,
        text=True,
        check=True,
        timeout=scale_wait(300),
    )
    found = json.loads(done.stdout)
    spans: Counter[str] = Counter(found["spans"])
    links: Counter[str] = Counter({span: rows for span, rows in found["links"].items() if span in spans})
    calls, messages = found["calls"]["all"], found["messages"]["all"]
    lost = len(book.acknowledged - spans.keys()) + len(spans.keys() - links.keys())
    doubled = sum(rows - 1 for table in (spans, links) for rows in table.values())
    return Counted(
        stored=len(spans),
        lost=lost + max(0, len(spans) - calls) + max(0, len(spans) - messages),
        doubled=doubled + max(0, calls - len(spans)) + max(0, messages - len(spans)),
        invented=len(spans.keys() - book.sent),
    )
