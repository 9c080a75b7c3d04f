"""What is read of the store and kept, so that it is read again only after somebody wrote into the tables it comes from."""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

_T = TypeVar("_T")

_MOST_NAMES: Final = 1_000


class Tables(Protocol):
    """Of the store, what keeping takes."""

    def stand(self, table: str) -> Hashable:
        """Return what is another one once somebody wrote into the table, as it was when that was last looked for."""


@dataclass(slots=True)
class Kept:
    """Of each kind what was read last. One thread at a time."""

    _found: dict[str, tuple[Hashable, Any]] = field(default_factory=dict)
    _names: dict[str, set[str]] = field(default_factory=dict)

    def get(
        self, kind: str, tables: Tables, of: Iterable[str], asked: Hashable, read: Callable[[], _T]
    ) -> _T:
        """Return what `read` gives, or gave before: when the same was asked and nothing has been written into the tables since."""
        key = (tuple(tables.stand(table) for table in of), asked)
        before = self._found.get(kind)
        if before is None or before[0] != key:
            before = self._found[kind] = (key, read())
        found: _T = before[1]
        return found

    def widened(self, kind: str, names: Iterable[str]) -> list[str]:
        """Return the names and those asked for before, sorted: so that it is the same from one time to the next that is asked."""
        known = self._names.setdefault(kind, set())
        wanted = set(names)
        if len(known | wanted) > _MOST_NAMES:
            known.clear()
        known |= wanted
        return sorted(known)
