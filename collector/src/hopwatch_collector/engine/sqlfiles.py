"""Statements by file name. A line `-- include: <name>` stands for the text of another file."""

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Final

_INCLUDE: Final = re.compile(r"^-- include: (\w+)$", re.MULTILINE)


@cache
def sql_text(name: str, package: str = "hopwatch_collector.query", folder: str = "sql") -> str:
    """Return the text of `<folder>/<name>.sql` in `package`, complete."""
    text = resources.files(package).joinpath(folder, f"{name}.sql").read_text("utf-8")
    return _INCLUDE.sub(lambda found: sql_text(found[1], package, folder), text).rstrip().rstrip(";")


def with_settings(statement: str, settings: Mapping[str, Any]) -> str:
    """Return a statement with settings as part of it: handed over beside it, each costs the embedded engine two statements more."""
    if not settings:
        return statement
    return f"{statement}\nSETTINGS " + ", ".join(f"{name} = '{value}'" for name, value in settings.items())
