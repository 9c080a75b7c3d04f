"""What the store does from time to time besides taking spans: senders, edges, clocks, retention."""

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import structlog
from clickhouse_connect.driver.client import Client

from hopwatch_collector.engine import schema
from hopwatch_collector.engine.layout import Layout, OneServer
from hopwatch_collector.engine.nested import NestedSends
from hopwatch_collector.engine.senders import SenderSearch
from hopwatch_collector.engine.sqlfiles import sql_text, with_settings

_log = structlog.get_logger("hopwatch.engine")

_EDGES_EVERY_S: Final = 15.0
_EDGES_BACK: Final = timedelta(minutes=3)
"""Minutes are summed up again until they are this old; facts that come later than that are in no edge."""

_EDGES_DUTY: Final = 20.0
"""Edges rest for so many times as long as they took to sum up: under load they come later rather than cost much."""

OUR_HOST: Final = socket.gethostname()
"""Whose clock says when spans came in."""

_CLOCKS_EVERY_S: Final = 10.0
_CLOCKS_AT_FIRST: Final = timedelta(minutes=2)
_CLOCKS_FACTS: Final = 50_000
"""Facts that clocks are measured by at once; where more came in, every so-many-th message is looked at."""

_RETENTION_EVERY_S: Final = 600.0
_SETTINGS: Final = {
    "max_execution_time": 60,
    "optimize_and_compare_chain": 0,
    "optimize_extract_common_expressions": 0,
    "max_partitions_per_insert_block": 0,
}


_NAMED_AT_MOST: Final = 10


class RetentionSettings(Protocol):
    """Of the collector's settings, what decides which days go."""

    @property
    def retention_days(self) -> int: ...

    @property
    def drop_days(self) -> int: ...


class Upkeep:
    """Does what is due. One call at a time; the store sees to that. What it remembers is only when it did what."""

    def __init__(
        self,
        client: Client,
        settings: RetentionSettings,
        clock: Callable[[], float] = time.time,
        layout: Layout | None = None,
    ) -> None:
        """`clock`: seconds since 1970, by which senders are looked for; `layout`: where the tables are, by default on one server."""
        self._client = client
        self._layout = layout or OneServer()
        self._retention_days = settings.retention_days
        self._drop_days = settings.drop_days
        self.held_days: tuple[str, ...] = ()
        """Older than the retention and kept all the same: more than may go at once."""
        self._senders = SenderSearch(self, clock)
        self._nested = NestedSends(self, clock)
        self._edges_due = 0.0
        self._edges_until: datetime | None = None
        self._clocks_due = 0.0
        self._clocks_until: datetime | None = None
        self._retention_due = 0.0
        self._done_at: dict[str, int | None] = {}

    def run(self, written: int | None = None, complete_until: float | None = None) -> int:
        """Do what is due now; return whether (how many times) it changed what deliveries are judged by.

        `written`: how many times something was written so far, where nobody else can: what was done since the last time
        need not be done again; `complete_until`: the moment (s) up to which all of it can be read. None: somebody else may
        have written.
        """
        now = time.monotonic()
        moved = self._senders.run(self._news("senders", written), complete_until)
        self._done_at["senders"] = written
        if self._nested.due and self._news("nested", written):
            moved += self._nested.run()
            self._done_at["nested"] = written
        if now >= self._edges_due and self._news("edges", written):
            self.sum_edges()
            self._done_at["edges"] = written
            took = time.monotonic() - now
            self._edges_due = now + max(_EDGES_EVERY_S, _EDGES_DUTY * took)
        began = time.monotonic()
        if began >= self._clocks_due and self._news("clocks", written):
            self.pair_clocks()
            self._done_at["clocks"] = written
            self._clocks_due = began + max(_CLOCKS_EVERY_S, _EDGES_DUTY * (time.monotonic() - began))
        if now >= self._retention_due:
            self._retention_due = now + _RETENTION_EVERY_S
            self.drop_old()
        return moved

    def _news(self, job: str, written: int | None) -> bool:
        """Whether something was written since this was last done, to its end."""
        return written is None or written != self._done_at.get(job)

    def sum_edges(self) -> None:
        """Sum up who reached whom in the minutes that are still recent."""
        now = datetime.now(UTC)
        since = (self._edges_until or now) - _EDGES_BACK
        self._client.command(
            "INSERT INTO edges " + sql_text("edges_by_minute"),
            parameters={
                "now": now,
                "since": since.replace(second=0, microsecond=0),
            },
            settings=_SETTINGS,
        )
        self._edges_until = now

    def pair_clocks(self) -> None:
        """Sum up, for the minutes that are not over, what hops between hosts seemed to take."""
        now = datetime.now(UTC)
        since = (self._clocks_until or now - _CLOCKS_AT_FIRST).replace(second=0, microsecond=0)
        facts = self._client.query(
            _statement("facts_arrived"), parameters={"since": since - _CLOCKS_AT_FIRST}, settings=_SETTINGS
        ).result_rows[0][0]
        nth = 1 + facts // _CLOCKS_FACTS
        self.run_statement("pair_clocks", {"now": now, "since": since, "collector": OUR_HOST, "nth": nth})
        self._clocks_until = now

    def drop_old(self) -> None:
        """Drop the days before the retention from our tables, whole partitions; keep all of them where they are too many.

        More days at once than time has let pass are a clock that jumped, a retention that was shortened or a collector
        that was away: which of these, and whether the days may go, only somebody else knows.
        """
        touched = self._layout.stored("touched")
        for (day,) in self.rows("judged_days", {"touched": touched}):
            self._client.command(self._layout.alter(touched, _drop(day)))
        tables = [self._layout.stored(table) for table in schema.own_tables()]
        found = self.rows("old_days", {"tables": tables, "retention_days": self._retention_days})
        days = tuple(day for day, _, _ in found)
        if len(days) > self._drop_days:
            self._hold(days, found[0][2])
            return
        self.held_days = ()
        for day, tables, _ in found:
            for table in tables:
                self._client.command(self._layout.alter(table, _drop(day)))
        if days:
            _log.info("old days dropped", days=days)

    def _hold(self, days: tuple[str, ...], today: str) -> None:
        """Say that these days stay and what would let them go; again only when they have become others."""
        if days == self.held_days:
            return
        self.held_days = days
        _log.warning(
            "old days kept",
            days=days,
            today=today,
            retention_days=self._retention_days,
            drop_days=self._drop_days,
            reason=f"{len(days)} days are older than --retention-days {self._retention_days} and no more than --drop-days "
            f"{self._drop_days} are dropped at once: the collector was away, the retention was shortened, or the engine's "
            f"clock, by which it is {today}, is wrong",
            advice=f"if they may go, start the collector once with --drop-days {len(days)} or more "
            f"(HOPWATCH_DROP_DAYS={len(days)}); to keep them, raise --retention-days",
        )

    def name_foreign_tables(self) -> None:
        """Say which tables in our database are not ours: nothing here touches them, their owner may not know that."""
        found = self._client.query(
            _statement("foreign_tables"), parameters={"ours": list(schema.own_names(self._layout))}
        ).result_rows
        if found:
            _log.warning(
                "tables in the database are not hopwatch's",
                tables=[name for (name,) in found[:_NAMED_AT_MOST]],
                count=len(found),
                advice="they are left alone; better give hopwatch a database of its own: --engine-url http://…/database",
            )

    def rows(self, name: str, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """Return the rows of a statement of upkeep_sql; `{{parts}}` in it are those of the tables wherever they lie."""
        statement = with_settings(_statement(name).replace("{{parts}}", self._layout.parts), _SETTINGS)
        found: Sequence[Sequence[Any]] = self._client.query(
            statement, parameters=dict(parameters)
        ).result_rows
        return found

    def run_statement(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Run a statement of upkeep_sql that has no rows."""
        self._client.command(_statement(name), parameters=dict(parameters), settings=_SETTINGS)


def _statement(name: str) -> str:
    return sql_text(name, "hopwatch_collector.engine", "upkeep_sql")


def _drop(day: str) -> str:
    return f"DROP PARTITION '{day}'"
