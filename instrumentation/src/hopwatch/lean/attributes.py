"""Attributes as the SDK would keep them, at the price of a dict."""

from collections.abc import Mapping
from types import NoneType
from typing import Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.util.types import AnyValue

from hopwatch.ready import Ready

Store = dict[str, AnyValue]

PLAIN: Final = frozenset({str, int, bool, float, bytes, NoneType})
"""Types that are kept as they are; everything else is looked at and may be copied."""

_STRINGS: Final = frozenset({str})


def cleaned(given: Mapping[str, AnyValue], length: int | None) -> Store:
    """Return a copy that nobody else holds, with unfit keys left out and values copied, cast or cut at `length`."""
    if length is None:
        if type(given) is Ready:
            return given
        owned = dict(given)
        if _STRINGS.issuperset(map(type, owned)) and "" not in owned:
            if not PLAIN.issuperset(map(type, owned.values())):
                _clean_values(owned)
            return owned
    return dict(BoundedAttributes(attributes=given, max_value_len=length))


def cleaned_value(value: AnyValue, length: int | None) -> AnyValue:
    """Return one value as `cleaned` would."""
    if length is None:
        if isinstance(value, str):
            return str.__str__(value)  # enumerations of strings, mostly
        if isinstance(value, list | tuple) and PLAIN.issuperset(map(type, value)):
            return tuple(value)
    return BoundedAttributes(attributes={"value": value}, max_value_len=length)["value"]


def put(store: Store, count: int | None, added: Store) -> int:
    """Add cleaned attributes; where `count` would be exceeded the oldest make room. Returns how many were lost."""
    if (count is None or len(store) + len(added) <= count) and store.keys().isdisjoint(added):
        store.update(added)
        return 0
    lost = 0
    for key, value in added.items():
        store.pop(key, None)  # what is said again counts as new
        store[key] = value
        if count is not None and len(store) > count:
            del store[next(iter(store))]
            lost += 1
    return lost


def _clean_values(owned: Store) -> None:
    for key, value in owned.items():
        if type(value) not in PLAIN:
            owned[key] = cleaned_value(value, None)
