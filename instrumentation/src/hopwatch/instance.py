"""What names this process to others: its instance id, the same for as long as it lives."""

import uuid
from typing import Final

from opentelemetry import trace

from hopwatch.forks import after_fork

_ATTRIBUTE: Final = "service.instance.id"

_named = ""


def instance_id() -> str:
    """Return the instance id of this process as its spans tell it, or one of our own where they tell none."""
    global _named
    if not _named:
        resource = getattr(trace.get_tracer_provider(), "resource", None)
        told = resource.attributes.get(_ATTRIBUTE) if resource is not None else None
        _named = str(told or uuid.uuid4())
    return _named


def _forget() -> None:
    global _named
    _named = ""


after_fork(_forget)
"""A forked child is another instance."""
