"""Queries by file name. A line `-- include: <name>` stands for the text of another file."""

import re
from functools import cache
from importlib import resources

_INCLUDE = re.compile(r"^-- include: (\w+)$", re.MULTILINE)


@cache
def sql_text(name: str) -> str:
    """Return the query `hopwatch_collector/query/sql/<name>.sql`, complete."""
    text = resources.files("hopwatch_collector.query").joinpath("sql", f"{name}.sql").read_text("utf-8")
    return _INCLUDE.sub(lambda found: sql_text(found[1]), text).rstrip().rstrip(";")
