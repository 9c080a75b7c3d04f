"""Behind `from hopwatch.nats import …` and its like: the library itself, recorded from its import on."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

from hopwatch.setup import instrument


def turn_on(library: ModuleType) -> Callable[[str], Any]:
    """Instrument one library and return what finds the names it does not export by `*`.

    The first of these sets up tracing as `instrument()` does; the service is then named by `OTEL_SERVICE_NAME`.
    """
    instrument(only=[library.__name__])
    return lambda name: getattr(library, name)
