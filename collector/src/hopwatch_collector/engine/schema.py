"""The numbered migrations: what they are made of and how they are applied."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Final

from hopwatch_collector.engine.layout import Layout, OneServer
from hopwatch_collector.engine.sqlfiles import sql_text

_ONEOF: Final = (
    "Enum8('none' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, "
    "'array_value' = 5, 'kvlist_value' = 6, 'bytes_value' = 7)"
)
_SCALARS: Final = (
    "string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String"
)
_INNER: Final = f"Tuple(inner {_ONEOF}, {_SCALARS}, array_value String, kvlist_value String)"
_ANY_VALUE: Final = (
    f"Tuple(value {_ONEOF}, {_SCALARS}, array_value Tuple(values Array({_INNER})), "
    f"kvlist_value Tuple(values Array(Tuple(key String, value {_INNER}))))"
)
_INNER_AS_JSON: Final = (
    "multiIf({0}.inner = 'string_value', toJSONString({0}.string_value), {0}.inner = 'int_value', toString({0}.int_value), "
    "{0}.inner = 'bool_value', if({0}.bool_value, 'true', 'false'), {0}.inner = 'double_value', toJSONString({0}.double_value), "
    "{0}.inner = 'none', 'null', "
    "toJSONString(base64Encode(concat({0}.bytes_value, {0}.array_value, {0}.kvlist_value))))"
)
_AS_TEXT: Final = (
    "v -> multiIf(v.value = 'string_value', v.string_value, v.value = 'int_value', toString(v.int_value), "
    "v.value = 'bool_value', if(v.bool_value, 'true', 'false'), v.value = 'double_value', toString(v.double_value), "
    "v.value = 'bytes_value', base64Encode(v.bytes_value), "
    "v.value = 'array_value', concat('[', arrayStringConcat(arrayMap(i -> "
    + _INNER_AS_JSON.format("i")
    + ", v.array_value.values), ','), ']'), "
    "v.value = 'kvlist_value', concat('{', arrayStringConcat(arrayMap(p -> concat(toJSONString(p.key), ':', "
    + _INNER_AS_JSON.format("p.value")
    + "), v.kvlist_value.values), ','), '}'), '')"
)

_DROPPED: Final = re.compile(r"^DROP (?:TABLE|VIEW) IF EXISTS (?P<name>\w+)", re.MULTILINE)
_MADE: Final = re.compile(
    r"^CREATE (?P<kind>TABLE|VIEW|MATERIALIZED VIEW) (?:IF NOT EXISTS )?(?P<name>\w+)", re.MULTILINE
)
_END: Final = re.compile(r";[ \t]*(?:--[^\n]*)?(?:\n|$)")
"""Where a statement ends, a remark behind it included: a server takes one statement at a time."""
_JOURNAL: Final = "migrations"
"""The table that says which migrations have been applied."""
_LEASES: Final = "leases"
"""The table that says who may apply them, among others."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file of statements, each of which may be run again."""

    number: int
    name: str
    text: str


def placeholders(layout: Layout) -> Mapping[str, str]:
    """What `{{…}}` stands for in migrations."""
    return {**layout.engines, "AnyValue": _ANY_VALUE, "as_text": _AS_TEXT}


def migrations() -> tuple[Migration, ...]:
    """Return all migrations in order of their numbers."""
    found = [
        entry
        for entry in resources.files(__package__).joinpath("sql").iterdir()
        if entry.name.endswith(".sql")
    ]
    numbered = (
        Migration(int(entry.name[:4]), entry.name.removesuffix(".sql"), entry.read_text("utf-8"))
        for entry in found
    )
    return tuple(sorted(numbered, key=lambda migration: migration.number))


def statements(text: str, layout: Layout | None = None) -> Iterator[str]:
    """Split a file at the semicolons that end lines, fill in the placeholders, and lay the tables out; by default on one server."""
    layout = layout or OneServer()
    for name, value in placeholders(layout).items():
        text = text.replace("{{" + name + "}}", value)
    for statement in _END.split(text):
        if any(line.strip() and not line.lstrip().startswith("--") for line in statement.splitlines()):
            yield from layout.statements(statement.strip())


def _made() -> Mapping[str, str]:
    """What the migrations make and do not take away again: kinds by names."""
    made = {found["name"]: found["kind"] for one in migrations() for found in _MADE.finditer(one.text)}
    gone = {found["name"] for one in migrations() for found in _DROPPED.finditer(one.text)}
    return {name: kind for name, kind in made.items() if name not in gone}


def own_tables() -> tuple[str, ...]:
    """Return the names of the tables that hold what the collector keeps: all of ours but the one that says which migrations were applied."""
    return tuple(sorted(name for name, kind in _made().items() if kind == "TABLE"))


def own_views() -> tuple[str, ...]:
    """Return the names of the views that make rows of what is inserted."""
    return tuple(sorted(name for name, kind in _made().items() if kind == "MATERIALIZED VIEW"))


def own_names(layout: Layout | None = None) -> tuple[str, ...]:
    """Return the names of all that is ours in the database, tables and views."""
    names = (*sorted(_made()), _JOURNAL, _LEASES)
    return tuple(dict.fromkeys((*names, *map((layout or OneServer()).stored, names))))


def prepare(run: Callable[[str], object], layout: Layout) -> None:
    """Make the two tables that are needed to apply migrations: which have been, and who may."""
    journal = (
        f"CREATE TABLE IF NOT EXISTS {_JOURNAL} (number UInt32, name String, applied_at DateTime('UTC') DEFAULT now())\n"
        "ENGINE = {{ReplacingMergeTree}} ORDER BY number"
    )
    for text in (journal, sql_text("table", __package__, "lease_sql")):
        for statement in statements(text, layout):
            run(statement)


def missing(applied: set[int]) -> bool:
    """Whether there are migrations that have not been applied."""
    return any(migration.number not in applied for migration in migrations())


def apply(run: Callable[[str], object], done: Callable[[], set[int]], layout: Layout) -> None:
    """Apply what is missing, oldest first. A crash half-way through one is mended by applying it again."""
    applied = done()
    for migration in migrations():
        if migration.number in applied:
            continue
        for statement in statements(migration.text, layout):
            run(statement)
        run(f"INSERT INTO {_JOURNAL} (number, name) VALUES ({migration.number}, '{migration.name}')")


def attach_anew(run: Callable[[str], object], views: Iterable[str], layout: Layout) -> None:
    """Load views anew from their definitions.

    The engine names a batch, in the tables that a view feeds, by the view too, and in the process that made or altered the view
    it spells that name otherwise than after the next start: a batch that is sent again after a restart would be taken for
    another one. So they are used only as every later start has them.
    """
    for view in views:
        for text in (f"DETACH TABLE IF EXISTS {view} SYNC", f"ATTACH TABLE IF NOT EXISTS {view}"):
            for statement in layout.statements(text):
                run(statement)
