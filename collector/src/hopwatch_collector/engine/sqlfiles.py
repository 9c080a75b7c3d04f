"""Statements by file name.

A line `-- include: <name>` stands for the text of another file; a line `-- stage: <name>` says that the statement of
that file comes first: it leaves its result in a temporary table that this one reads. Stages may have stages. A line
`-- from: <table>, <table>` in one says that it has no rows while none of these tables has any.
"""

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

_STAGE: Final = re.compile(r"^-- stage: (\w+)$", re.MULTILINE)
_TEMPORARY: Final = re.compile(r"^CREATE OR REPLACE TEMPORARY TABLE (\w+) ENGINE = Memory AS$", re.MULTILINE)
_FROM: Final = re.compile(r"^-- from: (\w+(?:, \w+)*)$", re.MULTILINE)
_INCLUDE: Final = re.compile(r"^-- include: (\w+)$", re.MULTILINE)


@cache
def sql_text(name: str, package: str = "hopwatch_collector.query", folder: str = "sql") -> str:
    """Return the text of `<folder>/<name>.sql` in `package`, complete."""
    text = resources.files(package).joinpath(folder, f"{name}.sql").read_text("utf-8")
    return _INCLUDE.sub(lambda found: sql_text(found[1], package, folder), text).rstrip().rstrip(";")


@dataclass(frozen=True, slots=True)
class Stage:
    """What a query needs beforehand: a temporary table with the rows of a SELECT."""

    table: str
    statement: str
    """Makes and fills the table."""
    select: str
    """What it is filled with."""
    sources: tuple[str, ...] = ()
    """It is empty where all of these tables are; none: nothing is known of that."""

    @classmethod
    def read(cls, name: str) -> "Stage":
        """Return the stage of a file, whose statement is one CREATE … AS. Raises ValueError where it is not."""
        text = sql_text(name)
        found = _TEMPORARY.search(text)
        if found is None:
            raise ValueError(f"{name}.sql makes no temporary table")
        sources = _FROM.search(text)
        return cls(found[1], text, text[found.end() :], tuple(sources[1].split(", ")) if sources else ())


@cache
def stages(name: str) -> tuple[Stage, ...]:
    """Return the stages a query needs before its own statement, in order."""
    found = (one for stage in _STAGE.findall(sql_text(name)) for one in (*stages(stage), Stage.read(stage)))
    return tuple(dict.fromkeys(found))
