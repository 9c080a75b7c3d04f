"""What every transport needs to put itself around a client library, and to take itself away again."""

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

import wrapt
from opentelemetry import propagate, trace
from opentelemetry.propagators.textmap import Getter, TextMapPropagator
from opentelemetry.trace import TracerProvider

from hopwatch.conventions import MESSAGE_ID_HEADER
from hopwatch.faults import swallowed
from hopwatch.w3c import TRAVELLING, sender_in

P = ParamSpec("P")
R = TypeVar("R")

Args = tuple[Any, ...]
Kwargs = dict[str, Any]
Wrapper = Callable[[Callable[..., Any], Any, Args, Kwargs], Any]


class Patches:
    """Replacements in a library's classes and modules, all in force until `undo`."""

    def __init__(self) -> None:
        self._wrapped: list[tuple[Any, str, Any, Any]] = []
        self.active = True

    def wrap(self, owner: Any, name: str, wrapper: Wrapper) -> None:
        """Put `wrapper(wrapped, instance, args, kwargs)` around a method that `owner` itself defines.

        Raises:
            AttributeError: it does not define it; this version of the library is not supported.
        """
        if name not in vars(owner):
            raise AttributeError(f"{owner.__module__}.{owner.__qualname__} has no {name}")
        self.replace(owner, name, wrapt.FunctionWrapper(vars(owner)[name], wrapper, self._is_active))

    def around(self, owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Put `make(original)` in the place of a method that `owner` itself defines: where every call is a message.

        What is made says itself what it is (`functools.wraps`, a coroutine function for one), asks `active`, and costs a
        third of what a wrapper put on with `wrap` does.

        Raises:
            AttributeError: `owner` does not define it; this version of the library is not supported.
        """
        if name not in vars(owner):
            raise AttributeError(f"{owner.__module__}.{owner.__qualname__} has no {name}")
        self.replace(owner, name, make(vars(owner)[name]))

    def replace(self, owner: Any, name: str, replacement: Any) -> None:
        """Put something else in the place of an attribute of a class or module."""
        original = vars(owner)[name]
        setattr(owner, name, replacement)
        self._wrapped.append((owner, name, original, replacement))

    def undo(self) -> None:
        """Put the originals back; where others have wrapped ours since, ours becomes transparent instead."""
        self.active = False
        for owner, name, original, replacement in reversed(self._wrapped):
            if vars(owner).get(name) is replacement:
                setattr(owner, name, original)
        self._wrapped.clear()

    def _is_active(self) -> bool:
        return self.active


def guarded(function: Callable[P, R]) -> Callable[P, R | None]:
    """Make a function of ours harmless to its host: an error is counted, and the answer is None."""

    @wraps(function)
    def guard(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return function(*args, **kwargs)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed(function.__qualname__, fault)
            return None

    return guard


def argument(args: Args, kwargs: Kwargs, index: int, name: str, default: Any = None) -> Any:
    """Return what a caller passed for one parameter, by position or by name."""
    return args[index] if len(args) > index else kwargs.get(name, default)


def with_argument(args: Args, kwargs: Kwargs, index: int, name: str, value: Any) -> tuple[Args, Kwargs]:
    """Return the caller's arguments with one replaced, passed the way it was passed."""
    if len(args) > index:
        return (*args[:index], value, *args[index + 1 :]), kwargs
    return args, {**kwargs, name: value}


def stale_fields() -> Collection[str]:
    """Return the lower-case header names a forwarded message may still carry from its previous hop."""
    return _stale_fields(propagate.get_global_textmap())


@lru_cache(maxsize=4)
def _stale_fields(propagator: TextMapPropagator) -> Collection[str]:
    return frozenset({field.lower() for field in propagator.fields} | {MESSAGE_ID_HEADER})


def fresh_headers(headers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Copy a caller's headers without what an earlier hop put there; the caller's own are not touched."""
    if not headers:
        return {}
    stale = stale_fields()
    return {name: value for name, value in headers.items() if name.lower() not in stale}


class HeaderGetter(Getter[Mapping[str, Any] | None]):
    """Reads headers whatever the case of their names (Go writes `Traceparent`) and whether str or bytes."""

    def get(self, carrier: Mapping[str, Any] | None, key: str) -> list[str] | None:
        """Return the value of a header as a list of one, None if there is none."""
        if not carrier:
            return None
        value = carrier.get(key)
        if value is None:
            value = next((carrier[name] for name in carrier if name.lower() == key), None)
        text = as_text(value)
        return None if text is None else [text]

    sender = staticmethod(sender_in) if sender_in is not None else None

    def fields(self, carrier: Mapping[str, Any] | None) -> dict[str, str]:
        """Return what `get` would for every header that travels with a message, in one pass."""
        found: dict[str, str] = {}
        for name, value in carrier.items() if carrier else ():
            lower = name.lower()
            if lower in TRAVELLING and (name == lower or lower not in found):
                text = value if type(value) is str else as_text(value)
                if text is not None:
                    found[lower] = text
        return found

    def keys(self, carrier: Mapping[str, Any] | None) -> list[str]:
        """Return the names of all headers."""
        return list(carrier or ())


header_getter = HeaderGetter()


def as_text(value: Any) -> str | None:
    """Return a header's value as text, None if it is none; bytes from outside may be anything."""
    if isinstance(value, str):
        return value
    return value.decode(errors="replace") if isinstance(value, bytes) else None


_named: tuple[TracerProvider | None, str] = (None, "")
"""A tracer provider, and the service it is of."""


def service_name() -> str:
    """Return `service.name` of the tracer provider in force; plain subscribers have no other name."""
    global _named
    in_force = (
        trace._TRACER_PROVIDER
    )  # the function that returns it asks this first, and costs five times as much
    known, name = _named
    if in_force is None or in_force is not known:
        provider = in_force or trace.get_tracer_provider()
        resource = getattr(provider, "resource", None)
        name = (
            str(resource.attributes.get("service.name", "unknown_service")) if resource else "unknown_service"
        )
        _named = provider, name
    return name
