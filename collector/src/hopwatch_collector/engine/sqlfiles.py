"""Statements by file name. A line `-- include: <name>` stands for the text of another file."""

import re
from functools import cache
from importlib import resources
from typing import Final

_INCLUDE: Final = re.compile(r"^-- include: (\w+)$", re.MULTILINE)


@cache
def sql_text(name: str, package: str = "hopwatch_collector.query", folder: str = "sql") -> str:
    """Return the text of `<folder>/<name>.sql` in `package`, complete."""
    text = resources.files(package).joinpath(folder, f"{name}.sql").read_text("utf-8")
    return _INCLUDE.sub(lambda found: sql_text(found[1], package, folder), text).rstrip().rstrip(";")
