"""Threads, locks and events of the operating system, whatever the host has put in the place of Python's.

gevent and eventlet replace `threading` by greenlets of one thread. A guest's thread that became one of these would wait on behalf of
the whole host; one that waits for their locks needs their scheduler. Ours are taken from where those who replace things keep what
they replaced, so that it does not matter whether they come before us, after us, or not at all.
"""

import sys
import threading
from _queue import Empty, SimpleQueue
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final


def _original(module: str, name: str) -> Any:
    """Return what a module of Python's has under a name when nobody has replaced it."""
    if (gevent := sys.modules.get("gevent.monkey")) is not None:
        return gevent.get_original(module, name)
    if (eventlet := sys.modules.get("eventlet.patcher")) is not None:
        return getattr(eventlet.original(module), name)
    return getattr(__import__(module), name)


def _replaced() -> bool:
    """Whether threads begun by `threading` are greenlets by now."""
    if (gevent := sys.modules.get("gevent.monkey")) is not None and gevent.is_module_patched("threading"):
        return True
    eventlet = sys.modules.get("eventlet.patcher")
    return eventlet is not None and bool(eventlet.is_monkey_patched("thread"))


_start_new_thread: Final[Callable[..., int]] = _original("_thread", "start_new_thread")
_new_lock: Final[Callable[[], Any]] = _original("_thread", "RLock")


class Lock:
    """A lock of the operating system's, held for a few instructions at a time: nothing under it waits or switches.

    Whoever has it may take it again: a finalizer may run in the midst of anything.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = _new_lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._lock.release()


class Event:
    """Something that one thread waits for and others may make happen, any number of times."""

    __slots__ = ("_bell", "_set")

    def __init__(self) -> None:
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._set = False

    def set(self) -> None:
        """Make it happen; whoever waits goes on."""
        self._set = True
        self._bell.put(None)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it happens, at most so long; whether it has."""
        if not self._set:
            with suppress(Empty):
                self._bell.get(timeout=timeout_s)
        return self._set


class Thread:
    """A thread that does one thing and keeps no process from ending."""

    def __init__(self, name: str, run: Callable[[], object]) -> None:
        self.name = name
        self._run = run
        self._ended = Event()

    def start(self) -> None:
        """Begin. Raises RuntimeError where no thread can be had, as while Python shuts down."""
        if _replaced():
            _start_new_thread(self._work, ())
        else:  # under its name in all lists of threads
            threading.Thread(target=self._work, name=self.name, daemon=True).start()

    def join(self, timeout_s: float) -> None:
        """Wait until it has ended, at most so long."""
        self._ended.wait(timeout_s)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return not self._ended.wait(0)

    def _work(self) -> None:
        try:
            self._run()
        finally:
            self._ended.set()
