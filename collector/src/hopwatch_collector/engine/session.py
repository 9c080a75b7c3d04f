"""A session for whoever reads and writes whole columns: statements of .sql files in, frames out."""

import io
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, Final

import polars as pl
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from hopwatch_collector.engine.layout import Layout, OneServer
from hopwatch_collector.engine.sqlfiles import with_settings
from hopwatch_collector.errors import EngineUnavailable

_READ: Final = {
    "output_format_arrow_low_cardinality_as_dictionary": 0,
    "output_format_arrow_string_as_string": 1,
    "output_format_arrow_compression_method": "none",
    "max_execution_time": 120,
}
_WRITE: Final = {"max_partitions_per_insert_block": 0, "optimize_on_insert": 0}


class FrameSession:
    """One client of the engine with temporary tables of its own. One thread at a time. Raises EngineUnavailable."""

    def __init__(self, client: Client, package: str, layout: Layout | None = None) -> None:
        """`package`: whose folder `sql` the statements are in; `layout`: where the tables are, by default on one server."""
        self._client = client
        self._layout = layout or OneServer()
        self._package = package
        self._stands: dict[str, tuple[tuple[str, int], ...]] = {}

    def pick(self, messages: Sequence[bytes]) -> None:
        """Put the messages (16 bytes each) into the temporary table `picked`."""
        try:
            self._client.command(_text(self._package, "pick"))
            self._client.command("TRUNCATE TABLE picked")
            if messages:
                self._client.raw_insert("picked", None, b"".join(messages), fmt="RowBinary")
        except (ClickHouseError, OSError) as error:
            raise _unavailable(error) from error

    def frame(self, name: str, parameters: Mapping[str, Any], **texts: str) -> pl.DataFrame:
        """Run `sql/<name>.sql` and return its rows; each of `texts` stands for its `{{name}}` in the file."""
        statement = _text(self._package, name)
        for key, text in texts.items():
            statement = statement.replace("{{" + key + "}}", text)
        try:
            found = self._client.raw_query(
                with_settings(statement, _READ), parameters=dict(parameters), fmt="ArrowStream"
            )
        except (ClickHouseError, OSError) as error:
            raise _unavailable(error) from error
        return pl.read_ipc_stream(found) if found else pl.DataFrame()

    def write(self, table: str, rows: pl.DataFrame) -> None:
        """Insert the rows of a frame by the names of its columns."""
        if rows.is_empty():
            return
        block = io.BytesIO()
        rows.write_ipc_stream(block, compat_level=pl.CompatLevel.oldest())
        try:
            self._client.raw_insert(table, rows.columns, block.getvalue(), fmt="ArrowStream", settings=_WRITE)
        except (ClickHouseError, OSError) as error:
            raise _unavailable(error) from error

    def run(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Run `sql/<name>.sql`, which has no rows to return."""
        try:
            self._client.command(_text(self._package, name), parameters=dict(parameters))
        except (ClickHouseError, OSError) as error:
            raise _unavailable(error) from error

    def in_use(self, table: str) -> bool:
        """Whether the table has rows, as last looked."""
        return self._layout.stored(table) in self._stands

    def stand(self, table: str) -> tuple[tuple[str, int], ...]:
        """Return what is another one once somebody wrote into the table, as last looked; empty: it has no rows."""
        return self._stands.get(self._layout.stored(table), ())

    def look(self) -> None:
        """Look which tables have rows, and which were written into: of those that were not, nothing needs to be asked."""
        stands: dict[str, tuple[tuple[str, int], ...]] = {}
        for table, partition, last in self.frame("stands", {}, parts=self._layout.parts).iter_rows():
            stands[table] = (*stands.get(table, ()), (partition, last))
        self._stands = stands


@cache
def _text(package: str, name: str) -> str:
    return resources.files(package).joinpath("sql", f"{name}.sql").read_text("utf-8").rstrip().rstrip(";")


def _unavailable(error: Exception) -> EngineUnavailable:
    words = str(error).partition(": In scope ")[0].partition(": while executing")[0][:500]
    return EngineUnavailable(f"the engine could not answer the judge: {words}")
