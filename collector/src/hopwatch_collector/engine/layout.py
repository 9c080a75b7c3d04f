"""Where the tables are: on one server, or spread over the shards of a ClickHouse cluster. All that differs between the two is here.

On a cluster each table that holds rows is two: `ledger_local` on every shard, replicated, and `ledger`, which spreads what is
inserted over the shards and asks all of them. The names that statements use stay the same; views are fed by what is inserted
into the spreading tables, on whichever node took the insert.

Rows that merges fold into one, and those that are joined by message, have to lie on one shard, and a batch that is sent again
has to go where it went before: the shard follows from columns, never from chance.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from hopwatch_collector.addresses import is_cluster_name

_BY_MESSAGE: Final = "cityHash64(message)"

SHARDED_BY: Final[Mapping[str, str]] = {
    "aliases": "cityHash64(alias)",
    "attention": _BY_MESSAGE,
    "brief_subscriptions": "cityHash64(receiver)",
    "brokers": "cityHash64(told)",
    "clock_pairs": "cityHash64(from_host)",
    "commit_heads": "cityHash64(receiver)",
    "commits": "cityHash64(receiver)",
    "coverage": "cityHash64(receiver)",
    "deadline_rules": "number",
    "declared": "cityHash64(receiver)",
    "deliveries": _BY_MESSAGE,
    "durable_subscriptions": "cityHash64(receiver)",
    "edges": "cityHash64(client)",
    "foreign_readers": "cityHash64(receiver)",
    "judge_progress": "cityHash64(judge)",
    "leases": "cityHash64(job)",
    "ledger": _BY_MESSAGE,
    "links": "cityHash64(to_trace)",
    "losses": "cityHash64(service)",
    "migrations": "number",
    "moves": "cityHash64(receiver)",
    "receiver_states": "cityHash64(receiver)",
    "resources": "resource",
    "senders_wanted": _BY_MESSAGE,
    "nested_sends": _BY_MESSAGE,
    "sightings": "cityHash64(receiver)",
    "span_minutes": "hash",
    "span_totals": "cityHash64(service)",
    "spans": "cityHash64(trace_id)",
    "strangers": _BY_MESSAGE,
    "told": _BY_MESSAGE,
    "touched": _BY_MESSAGE,
    "watches": "cityHash64(broker)",
}
"""By table: what its rows are spread by."""

_FORMER: Final = frozenset({"positions", "receivers", "telling"})
"""Tables that migrations make and a later one takes away: where their rows lie no longer matters."""

_HEAD: Final = re.compile(
    r"(?P<verb>CREATE TABLE IF NOT EXISTS|CREATE MATERIALIZED VIEW IF NOT EXISTS|CREATE VIEW IF NOT EXISTS"
    r"|CREATE OR REPLACE VIEW|DROP TABLE IF EXISTS|DROP VIEW IF EXISTS|DETACH TABLE IF EXISTS|ATTACH TABLE IF NOT EXISTS"
    r"|ALTER TABLE) (?P<name>\w+)"
)
_ACTIONS: Final = re.compile(r",\s*(?=(?:ADD|DROP|MODIFY|MATERIALIZE|UPDATE)\b)")
_COMMENT: Final = re.compile(r"--[^\n]*")
_SHOWN: Final = ("ADD COLUMN", "DROP COLUMN")
"""Of what is altered, what a table that only spreads rows has too."""


class Layout(Protocol):
    """Where the tables are."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What every client sets."""
        ...

    @property
    def parts(self) -> str:
        """What is asked for the parts of tables, in the place of a table."""
        ...

    @property
    def engines(self) -> Mapping[str, str]:
        """What the names of table engines and of their settings stand for in migrations."""
        ...

    def database(self, name: str) -> str:
        """Return the statement that makes the database."""
        ...

    def statements(self, statement: str) -> tuple[str, ...]:
        """Return what has to be run for a statement of a migration."""
        ...

    def stored(self, table: str) -> str:
        """Return the name of the table that holds a table's rows."""
        ...

    def alter(self, table: str, what: str) -> str:
        """Return the statement that alters the table that is named as it is stored."""
        ...


@dataclass(frozen=True, slots=True)
class OneServer:
    """All tables on one server, or in the embedded engine."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Nothing needs to be set."""
        return {}

    @property
    def parts(self) -> str:
        """Its own."""
        return "system.parts"

    @property
    def engines(self) -> Mapping[str, str]:
        """Plain ones."""
        return _engines("", "non_replicated_deduplication_window")

    def database(self, name: str) -> str:
        """As one would type it."""
        return f"CREATE DATABASE IF NOT EXISTS `{name}`"

    def statements(self, statement: str) -> tuple[str, ...]:
        """As they are."""
        return (statement,)

    def stored(self, table: str) -> str:
        """Under its name."""
        return table

    def alter(self, table: str, what: str) -> str:
        """As one would type it."""
        return f"ALTER TABLE `{table}` {what}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Tables spread over the shards of a cluster that the servers know by a name, and replicated within each.

    Raises ValueError where the name could not be one.
    """

    name: str

    def __post_init__(self) -> None:
        if not is_cluster_name(self.name):
            raise ValueError(f"{self.name!r} is no name of a cluster")

    @property
    def settings(self) -> Mapping[str, Any]:
        """What makes a spread table behave as one: an insert is acknowledged when the shards have it, tables that a shard does
        not have are sent to it, and of several replicas all collectors ask the same one, which knows what was just written."""
        return {
            "distributed_foreground_insert": 1,
            "prefer_global_in_and_join": 1,
            "load_balancing": "in_order",
            "prefer_localhost_replica": 0,
        }

    @property
    def parts(self) -> str:
        """Those of one replica of every shard."""
        return f"cluster('{self.name}', system.parts)"

    @property
    def engines(self) -> Mapping[str, str]:
        """Replicated ones, in the place that the servers give them."""
        return _engines("Replicated", "replicated_deduplication_window")

    def database(self, name: str) -> str:
        """On every node."""
        return f"CREATE DATABASE IF NOT EXISTS `{name}` {self._everywhere}"

    def statements(self, statement: str) -> tuple[str, ...]:
        """On every node; what is about a table with rows, about both that it is made of."""
        found = _HEAD.search(statement)
        if found is None:
            return (statement,)
        verb, name = found["verb"], found["name"]
        if name not in SHARDED_BY and name not in _FORMER:
            return (self._head(statement, found, name),)
        local = self._head(statement, found, self.stored(name))
        if verb.startswith("CREATE"):
            return local, self._spread(name)
        if verb.startswith("DROP"):
            return self._head(statement, found, name), local
        shown = [action for action in _actions(statement[found.end() :]) if action.startswith(_SHOWN)]
        if not shown:
            return (local,)
        return local, f"ALTER TABLE {name} {self._everywhere} " + ", ".join(shown)

    def _head(self, statement: str, found: re.Match[str], name: str) -> str:
        return (
            f"{statement[: found.start()]}{found['verb']} {name} {self._everywhere}{statement[found.end() :]}"
        )

    def _spread(self, name: str) -> str:
        key = SHARDED_BY.get(name, "cityHash64(receiver)")
        return (
            f"CREATE TABLE IF NOT EXISTS {name} {self._everywhere} AS {self.stored(name)} "
            f"ENGINE = Distributed('{self.name}', currentDatabase(), '{self.stored(name)}', {key})"
        )

    def stored(self, table: str) -> str:
        """On each shard."""
        return f"{table}_local"

    def alter(self, table: str, what: str) -> str:
        """On every shard."""
        return f"ALTER TABLE `{table}` {self._everywhere} {what}"

    @property
    def _everywhere(self) -> str:
        return f"ON CLUSTER `{self.name}`"


def layout_of(cluster: str | None) -> Layout:
    """Return where the tables are, by the name of the cluster; none: on one server. Raises ValueError."""
    return Cluster(cluster) if cluster else OneServer()


def _actions(text: str) -> list[str]:
    """What an ALTER does, one by one."""
    return [action.strip() for action in _ACTIONS.split(_COMMENT.sub("", text).strip().rstrip(";"))]


_MERGES: Final = "merge_selector_base = 10, auto_statistics_types = ''"
"""Half as many merges for twice as many parts; and no statistics, which nothing here asks for."""

DEDUPLICATION_WINDOW: Final = 4096
"""Blocks that a table recognises when they are sent again: the batches a crash may repeat, times their partitions."""


def _engines(prefix: str, window: str) -> Mapping[str, str]:
    engines = {
        "MergeTree": "MergeTree",
        "AggregatingMergeTree": "AggregatingMergeTree",
        "ReplacingMergeTree": "ReplacingMergeTree",
        "ReplacingMergeTree seen_at": "ReplacingMergeTree(seen_at)",
        "ReplacingMergeTree written_at": "ReplacingMergeTree(written_at)",
        "ReplacingMergeTree number": "ReplacingMergeTree(number)",
        "SummingMergeTree": "SummingMergeTree",
        "VersionedCollapsingMergeTree": "VersionedCollapsingMergeTree(sign, version)",
    }
    return {
        **{name: prefix + engine for name, engine in engines.items()},
        # The same rows given, taken back and given again are meant: the engine must not take them for a repetition.
        "settings of the judge": f"{window} = 0, {_MERGES}",
        "settings": f"{window} = {DEDUPLICATION_WINDOW}, {_MERGES}",
    }
