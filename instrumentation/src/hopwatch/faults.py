"""What instrumentation swallows instead of letting it reach the host: counted, logged once per kind."""

import logging
from collections import Counter
from threading import Lock

_log = logging.getLogger("hopwatch")
_counts: Counter[str] = Counter()
_lock = Lock()


def swallowed(where: str, error: BaseException) -> None:
    """Count an error of ours that the host must not see; its first occurrence is logged with a traceback."""
    kind = f"{where}: {type(error).__name__}"
    with _lock:
        _counts[kind] += 1
        first = _counts[kind] == 1
    if first:
        _log.warning("hopwatch could not record (%s); the application is not affected", kind, exc_info=error)


def counts() -> dict[str, int]:
    """Return how often each kind of error was swallowed since the start of the process."""
    with _lock:
        return dict(_counts)
