"""Attributes that need no looking at: what hopwatch's own recorder hands to a span."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.util.types import AnyValue


class Ready(dict[str, "AnyValue"]):
    """A promise of whoever fills it: plain values under plain keys, and nobody touches it once a span has it.

    The lean span takes it as its own, without a copy and without a check; for any other provider it is a mapping.
    """

    __slots__ = ()
