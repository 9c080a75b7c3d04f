"""Statements by file name.

A line `-- include: <name>` stands for the text of another file; a line `-- stage: <name>` says that the statement of
that file comes first: it leaves its result in a temporary table that this one reads. Stages may have stages.
"""

import re
from functools import cache
from importlib import resources
from typing import Final

_STAGE: Final = re.compile(r"^-- stage: (\w+)$", re.MULTILINE)
_TEMPORARY: Final = re.compile(r"^CREATE OR REPLACE TEMPORARY TABLE (\w+)", re.MULTILINE)
_INCLUDE: Final = re.compile(r"^-- include: (\w+)$", re.MULTILINE)


@cache
def sql_text(name: str, package: str = "hopwatch_collector.query", folder: str = "sql") -> str:
    """Return the text of `<folder>/<name>.sql` in `package`, complete."""
    text = resources.files(package).joinpath(folder, f"{name}.sql").read_text("utf-8")
    return _INCLUDE.sub(lambda found: sql_text(found[1], package, folder), text).rstrip().rstrip(";")


@cache
def stages(name: str) -> tuple[str, ...]:
    """Return the statements a query needs before its own, in order."""
    found = (text for stage in _STAGE.findall(sql_text(name)) for text in (*stages(stage), sql_text(stage)))
    return tuple(dict.fromkeys(found))


@cache
def staged_tables(name: str) -> tuple[str, ...]:
    """Return the temporary tables that a query's stages leave behind."""
    return tuple(table for stage in stages(name) for table in _TEMPORARY.findall(stage))
