"""Kafka headers: a sequence of (str, bytes) pairs, in which a name may occur more than once."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from opentelemetry.propagators.textmap import Getter, Setter
from opentelemetry.trace import Link

from hopwatch.conventions import MESSAGE_ID_HEADER
from hopwatch.links import link_to_original
from hopwatch.w3c import TRACEPARENT, TRAVELLING, sender_in
from hopwatch.wrapping import as_text, stale_fields

Header = tuple[str, bytes | None]


def fresh(headers: Iterable[Header] | None) -> list[Header]:
    """Copy a caller's headers without what an earlier hop put there; the caller's own are not touched."""
    if not headers:
        return []
    stale = stale_fields()
    return [header for header in headers if header[0].lower() not in stale]


def originals(given: Sequence[Header] | None, kept: Sequence[Header]) -> Sequence[Link]:
    """Return a link to the message that headers were copied from, if an earlier hop left its ids in them."""
    if not given or len(given) == len(kept):
        return ()
    return link_to_original(given, header_getter)


class HeaderSetter(Setter[list[Header]]):
    """Writes a header, replacing one of the same name."""

    def set(self, carrier: list[Header], key: str, value: str) -> None:
        """Set a header to a text."""
        carrier[:] = [header for header in carrier if header[0] != key]
        carrier.append((key, value.encode()))

    def fill(self, carrier: list[Header], fields: Mapping[str, str]) -> None:
        """Add all headers of a message to what `fresh` left."""
        carrier += [(name, value.encode()) for name, value in fields.items()]

    def ids(self, carrier: list[Header], traceparent: str, message_id: str) -> None:
        """Add the two headers that most messages carry to what `fresh` left."""
        carrier += ((TRACEPARENT, traceparent.encode()), (MESSAGE_ID_HEADER, message_id.encode()))


class HeaderGetter(Getter[Any]):
    """Reads headers; of several with one name the last counts, which is what its last sender wrote."""

    def get(self, carrier: Any, key: str) -> list[str] | None:
        """Return the value of a header as a list of one, None if there is none."""
        for name, value in reversed(carrier or ()):
            if name.lower() == key:
                text = as_text(value)
                return None if text is None else [text]
        return None

    sender = staticmethod(sender_in) if sender_in is not None else None

    def fields(self, carrier: Any) -> dict[str, str]:
        """Return what `get` would for every header that travels with a message, in one pass."""
        found: dict[str, str] = {}
        for name, value in carrier or ():
            lower = name.lower()
            if lower in TRAVELLING:
                if isinstance(value, bytes):
                    found[lower] = value.decode(errors="replace")
                else:
                    found.pop(lower, None)
        return found

    def keys(self, carrier: Any) -> list[str]:
        """Return the names of all headers."""
        return [name for name, _ in carrier or ()]


header_setter = HeaderSetter()
header_getter = HeaderGetter()
