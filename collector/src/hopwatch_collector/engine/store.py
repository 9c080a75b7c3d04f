"""The store: the one thing that talks to ClickHouse, be it embedded in this process or served elsewhere."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC
from importlib import resources
from pathlib import Path
from typing import Any, Final, Protocol

import clickhouse_connect
import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError

from hopwatch_collector.engine import schema
from hopwatch_collector.engine.layout import Layout, OneServer, layout_of
from hopwatch_collector.engine.leases import Alone, Leases, SharedLeases
from hopwatch_collector.engine.session import FrameSession
from hopwatch_collector.engine.sqlfiles import sql_text, with_settings
from hopwatch_collector.engine.upkeep import RetentionSettings, Upkeep
from hopwatch_collector.errors import EngineRefusal, EngineUnavailable, QueryLimit

_log = structlog.get_logger("hopwatch.engine")

Row = Mapping[str, Any]

_READERS: Final = 4
"""Queries that run at once; more wait their turn."""

_LIMIT_CODES: Final = frozenset({158, 159, 160, 241, 307, 396, 473})
"""TOO_MANY_ROWS, TIMEOUT_EXCEEDED, TOO_SLOW, MEMORY_LIMIT_EXCEEDED, TOO_MANY_BYTES, TOO_MANY_ROWS_OR_BYTES, DEADLOCK_AVOIDED."""

_PASSING_CODES: Final = frozenset(
    {159, 202, 203, 209, 210, 236, 241, 242, 243, 252, 319, 394, 425, 60, 81, 164, 497, 516, 999}
)
"""Errors of an insert that are not the data's fault and may be gone next time: time-outs, memory, disk, connections, too
many parts, keeper, tables not there, rights. Any other is taken to be the data's: a batch that waited for ever would hold
everybody up, and before the pump blames a request it sees that the engine takes one without spans."""


_PLANNING: Final = {
    # Two rewrites of AND and OR that hash whole subqueries again and again: 2 s of planning for the verdicts. (A third cannot
    # be turned off; see verdicts.sql.)
    "optimize_and_compare_chain": 0,
    "optimize_extract_common_expressions": 0,
}

_OTHERS_TAKE_MS: Final = 10_000

_UTC: Final = {"session_timezone": "UTC"}
"""Days are those of UTC everywhere: in bound moments, in `toDate` and `today()` of queries, views and upkeep. Without it they
are those of the engine's host, the embedded engine's being ours."""

_SCRIBE_SETTINGS: Final = {"max_partitions_per_insert_block": 0}


class StoreOptions(RetentionSettings, Protocol):
    """Of the collector's settings, what the store looks at."""

    @property
    def cluster(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """What the store may be told; the defaults suit tests and tools."""

    retention_days: int = 14
    drop_days: int = 2
    cluster: str | None = None


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """What one query may take. Reaching a bound aborts it with `QueryLimit`."""

    seconds: float = 10.0
    memory_bytes: int = 2 * 1024**3
    rows: int = 100_000

    def settings(self) -> dict[str, Any]:
        """Return the limits as settings of the engine."""
        return {
            "max_execution_time": self.seconds,
            "timeout_overflow_mode": "throw",
            "max_memory_usage": self.memory_bytes,
            "max_result_rows": self.rows,
            "result_overflow_mode": "throw",
        }


class Store:
    """Spans, ledger and what belongs to them. All methods block and may be called from any thread."""

    def __init__(
        self,
        writer: Client,
        keeper: Client,
        scribe: Client,
        judge: Client,
        readers: list[Client],
        settings: RetentionSettings,
        leases: Client | None = None,
        layout: Layout | None = None,
        *,
        embedded: bool,
    ) -> None:
        """Take over open clients; use `Store.open`."""
        self._writer = writer
        self._readers: queue.LifoQueue[Client] = queue.LifoQueue()
        for reader in readers:
            self._readers.put(reader)
        self._write_lock = threading.Lock()
        # Upkeep may take seconds, which no insert should wait for: it has a client and a lock of its own.
        self._keeper = keeper
        self._upkeep_lock = threading.Lock()
        # So have the witnesses: what they saw is of little use when it comes late.
        self._scribe = scribe
        self._scribe_lock = threading.Lock()
        self._judge = judge
        self._judge_session = FrameSession(judge, "hopwatch_collector.judge", layout)
        self._judge_lock = threading.Lock()
        self.written = 0
        """How many times something was written that may change what is known of deliveries."""
        self._in_flight: dict[object, int] = {}
        self._in_flight_lock = threading.Lock()
        self._embedded = embedded
        self._layout = layout or OneServer()
        self._lease_client = leases
        self._shared = None if leases is None else SharedLeases(leases)
        self._closed = False
        self._insert_settings = _insert_settings()
        self._upkeep = Upkeep(keeper, settings, layout=layout)
        self.version = f"ClickHouse {writer.server_version}"

    @classmethod
    def open(cls, target: str, settings: StoreOptions | None = None, database: str = "hopwatch") -> "Store":
        """Open the engine and bring its tables up to date.

        `target` is a directory for the embedded engine or an `http(s)://…` address of a ClickHouse server, whose
        path, if it has one, names the database. Raises EngineUnavailable.
        """
        dsn, database = _dsn(target, database)
        settings = settings or StoreSettings()
        layout = layout_of(settings.cluster)
        try:
            with _client(dsn, None, layout) as first:
                first.command(layout.database(database))
                clients = [_client(dsn, database, layout) for _ in range(4 + _READERS)]
        except (ClickHouseError, OSError) as error:
            raise EngineUnavailable(
                f"the engine at {_hidden(target)} cannot be opened: {_words(error)}"
            ) from error
        writer, keeper, scribe, judge, *readers = clients
        embedded = dsn.startswith("chdb")
        leases = None if embedded else _client(dsn, database, layout)
        store = cls(writer, keeper, scribe, judge, readers, settings, leases, layout, embedded=embedded)
        try:
            store._migrate()
            store._upkeep.name_foreign_tables()
        except (ClickHouseError, OSError) as error:
            store.close()
            raise EngineUnavailable(
                f"the tables at {_hidden(target)} cannot be brought up to date: {_words(error)}"
            ) from error
        except BaseException:
            store.close()
            raise
        return store

    def _migrate(self) -> None:
        """Bring the tables up to date; of several collectors that start at once, one does."""

        def run(statement: str) -> None:
            self._writer.command(statement, settings={"flatten_nested": 0})

        def done() -> set[int]:
            return {row[0] for row in self._writer.query("SELECT number FROM migrations").result_rows}

        self._see_layout()
        schema.prepare(run, self._layout)
        newest, known = max(done(), default=0), max(one.number for one in schema.migrations())
        if newest > known:
            raise EngineUnavailable(
                f"the tables were written by a newer version of hopwatch (migration {newest}; this one knows {known}): start that "
                "version, or give this one another data directory or database"
            )
        if not schema.missing(done()):
            self._attach_lost(run)
            self._require_fsync(run)
            return
        with self._shared.alone("migrations") if self._shared else nullcontext():
            schema.apply(run, done, self._layout)
            schema.attach_anew(run, schema.own_views(), self._layout)
            self._require_fsync(run)

    def _require_fsync(self, run: Callable[[str], object]) -> None:
        """Have a server write to its disk what it takes: the journal lets go of it soon after. The embedded engine's files we sync ourselves."""
        if self._embedded:
            return
        unsynced = self._writer.query(
            sql_text("unsynced", __package__, "upkeep_sql"),
            parameters={"tables": [self._layout.stored(table) for table in schema.own_tables()]},
        ).result_rows
        for (table,) in unsynced:
            run(self._layout.alter(table, "MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1"))

    def _attach_lost(self, run: Callable[[str], object]) -> None:
        """Bring back views that somebody who migrated had detached when they were stopped; what came in meanwhile is not in them."""
        there = {row[0] for row in self._writer.query("SHOW TABLES").result_rows}
        lost = [view for view in schema.own_views() if view not in there]
        if lost:
            _log.warning(
                "views attached again", views=lost, reason="a collector was stopped while it migrated"
            )
            schema.attach_anew(run, lost, self._layout)

    def _see_layout(self) -> None:
        """Raise EngineUnavailable where the database was laid out otherwise: its rows would not be found."""
        found = {
            row[0] for row in self._writer.query(sql_text("laid_out", __package__, "upkeep_sql")).result_rows
        }
        if found and found != {"migrations", self._layout.stored("migrations")}:
            raise EngineUnavailable(
                "the database was made "
                + ("by a collector with --cluster" if len(found) > 1 else "without --cluster")
                + ": start the collector as before, or give it another database (--engine-url http://…/database)"
            )

    @property
    def leases(self) -> Leases:
        """Which jobs are ours, where several collectors write into one store."""
        return self._shared or Alone()

    def share(self) -> None:
        """Begin to share out jobs with other collectors, where there may be any."""
        if self._shared is not None:
            self._shared.start()

    def insert_otlp(self, payload: bytes, token: str) -> None:
        """Insert concatenated ExportTraceServiceRequests, all of their rows exactly once per `token`.

        A token seen before completes what is missing of its rows and doubles nothing. Raises EngineRefusal where
        the bytes are at fault, EngineUnavailable where trying again may help.
        """
        if not payload:
            return
        settings = {**self._insert_settings, "insert_deduplication_token": token}
        try:
            with self._write_lock, self._writing():
                self._writer.raw_insert("otlp", None, payload, fmt="ProtobufSingle", settings=settings)
        except (ClickHouseError, OSError) as error:
            raise _insert_error(error) from error

    def query(self, sql_name: str, params: Mapping[str, Any], limits: QueryLimits | None = None) -> list[Row]:
        """Run `query/sql/<sql_name>.sql` with parameters bound by the engine, never put into the text.

        Raises QueryLimit when the query would take more than its limits, EngineUnavailable for the rest.
        """
        settings = (limits or QueryLimits()).settings()
        try:
            with self._reader() as client:
                statement = with_settings(sql_text(sql_name), settings)
                result = client.query(statement, parameters=dict(params))
                return list(result.named_results())
        except ClickHouseError as error:
            raise _query_error(error) from error

    def maintain(self) -> None:
        """Do what is due: find the senders of strangers, sum up edges, drop what is older than the retention.

        Of several collectors over one store, one does.
        """
        if not self.leases.held("upkeep"):
            return
        alone = (self.written, self.complete_until() / 1000) if self._embedded else (None, None)
        try:
            with self._upkeep_lock, self._writing(counted=False):
                moved = self._upkeep.run(*alone)
            self.written += moved
        except ClickHouseError as error:
            raise EngineUnavailable(f"upkeep failed: {_words(error)}") from error

    @property
    def held_days(self) -> tuple[str, ...]:
        """Days older than the retention that are kept until `drop_days` lets that many go at once."""
        return self._upkeep.held_days

    def write(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows into a table: what witnesses saw, what is declared. Raises EngineUnavailable."""
        try:
            with self._scribe_lock, self._writing():
                self._scribe.insert(table, rows, column_names=columns, settings=_SCRIBE_SETTINGS)
        except (ClickHouseError, OSError) as error:
            raise EngineUnavailable(f"the engine could not take rows of {table}: {_words(error)}") from error

    def standing_claims(self, system: str, resource: int) -> list[Row]:
        """Return the claims to destinations that a witness has written and not taken back."""
        return self._standing("standing_claims", {"system": system, "resource": resource})

    def standing_places(self, system: str, resource: int, told: Sequence[str] = ()) -> list[Row]:
        """Return the places that a witness, or any of a broker of these identities, has written positions of and that have not
        gone, and how they stood."""
        return self._standing("standing_places", {"system": system, "resource": resource, "told": list(told)})

    def standing_declarations(self) -> list[Row]:
        """Return the expectations that hold, by the columns of `declared`."""
        return self._standing("standing_declarations", {}, "expects")

    def standing_deadlines(self) -> list[Row]:
        """Return the deadlines that hold, in their order, by the columns of `deadline_rules`."""
        return self._standing("standing_deadlines", {}, "expects")

    def _standing(self, name: str, parameters: Mapping[str, Any], whose: str = "witness") -> list[Row]:
        sql = sql_text(name, f"hopwatch_collector.{whose}", "sql")
        try:
            with self._scribe_lock:
                return list(self._scribe.query(sql, parameters=dict(parameters)).named_results())
        except (ClickHouseError, OSError) as error:
            raise EngineUnavailable(f"the engine could not answer: {_words(error)}") from error

    @property
    def overlap_ms(self) -> int:
        """For how long after its moment a row that somebody else writes may become visible: nobody else writes into an embedded engine."""
        return 0 if self._embedded else _OTHERS_TAKE_MS

    def complete_until(self) -> int:
        """Return the moment (ms, by the host's clock) up to which all that this process was writing can be read."""
        with self._in_flight_lock:
            return min(self._in_flight.values(), default=int(time.time() * 1000)) - 1

    @contextmanager
    def _writing(self, *, counted: bool = True) -> Iterator[None]:
        """Note since when something is being written, and that it was."""
        mark = object()
        with self._in_flight_lock:
            self._in_flight[mark] = int(time.time() * 1000)
        try:
            yield
        finally:
            with self._in_flight_lock:
                del self._in_flight[mark]
                self.written += counted

    @contextmanager
    def judging(self) -> Iterator[FrameSession]:
        """The judge's session, for one thread at a time."""
        with self._judge_lock:
            if self._closed:
                raise EngineUnavailable("the store is closed")
            yield self._judge_session

    def close(self) -> None:
        """Close the engine; safe to call twice. Queries still running are waited for."""
        if self._closed:
            return
        self._closed = True
        if self._shared is not None and self._lease_client is not None:
            self._shared.stop()
            self._lease_client.close()
        for _ in range(_READERS):
            self._readers.get().close()
        with self._upkeep_lock:
            self._keeper.close()
        with self._scribe_lock:
            self._scribe.close()
        with self._judge_lock:
            self._judge.close()
        with self._write_lock:
            self._writer.close()

    @contextmanager
    def _reader(self) -> Iterator[Client]:
        if self._closed:
            raise EngineUnavailable("the store is closed")
        client = self._readers.get()
        try:
            yield client
        finally:
            self._readers.put(client)


def _dsn(target: str, database: str) -> tuple[str, str]:
    if "://" not in target:
        path = Path(target).resolve()
        path.mkdir(parents=True, exist_ok=True)
        return f"chdb:///{path}", database
    base, _, name = target.partition("://")[2].partition("/")
    name = name.split("?")[0].strip("/")
    return f"{target.partition('://')[0]}://{base}", name.replace("`", "") or database


def _client(dsn: str, database: str | None, layout: Layout) -> Client:
    # Each client has a session of its own on a server, which temporary tables need and which refuses queries side
    # by side: a client is used by one thread at a time.
    # Parameters travel in the body: a list of messages is too long for an address.
    options: dict[str, Any] = {} if dsn.startswith("chdb") else {"form_encode_query_params": True}
    client = clickhouse_connect.get_client(
        dsn=dsn,
        database=database,
        tz_mode="aware",
        tz_source="server",
        settings={**_UTC, **layout.settings},
        **options,
    )
    # The driver writes moments that are bound, and reads those of no zone, in the zone it found before that setting held.
    client.server_tz = UTC
    return client


def _hidden(target: str) -> str:
    """The address without what may be a password."""
    scheme, mark, rest = target.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}" if mark else target


def _insert_settings() -> dict[str, Any]:
    proto = resources.files(__package__).joinpath("otlp.proto").read_text("utf-8")
    return {
        "format_schema_source": "string",
        "format_schema": proto,
        "format_schema_message_name": "Request",
        "input_format_protobuf_oneof_presence": 1,
        # Exactly once through the whole chain of views: without it a batch sent again doubles what the views made.
        "deduplicate_blocks_in_dependent_materialized_views": 1,
        # Bloom filters are built by merges; a fresh part is small enough to be scanned.
        "materialize_skip_indexes_on_insert": 0,
        # Folding rows already at the insert costs more than it saves: few rows of one batch share a key.
        "optimize_on_insert": 0,
        **_PLANNING,
        # Spans are filed under at most two months of days; a batch may touch all of them.
        "max_partitions_per_insert_block": 0,
    }


def _words(error: BaseException) -> str:
    """What the engine said, without the statement it usually repeats."""
    return str(error).partition(": In scope ")[0].partition(": while executing")[0][:500]


def _code(error: BaseException) -> int | None:
    return getattr(error, "code", None)


def _insert_error(error: Exception) -> EngineRefusal | EngineUnavailable:
    passing = _code(error) is None or _code(error) in _PASSING_CODES
    if passing or isinstance(error, OSError | OperationalError):
        return EngineUnavailable(f"the engine could not take the batch: {_words(error)}")
    return EngineRefusal(f"the engine refused the batch: {_words(error)}")


def _query_error(error: Exception) -> QueryLimit | EngineUnavailable:
    if _code(error) in _LIMIT_CODES:
        return QueryLimit(f"the query would take too much: {_words(error)}")
    return EngineUnavailable(f"the engine could not answer: {_words(error)}")
