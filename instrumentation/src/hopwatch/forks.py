"""What has to be done in a forked child, also where the fork was not Python's and Python was not told of it.

uWSGI loads an application and then forks its workers in C: neither threads nor what `os.register_at_fork` was told exist for them.
"""

import logging
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import PurePath
from typing import Any, Final

_log: Final = logging.getLogger("hopwatch")


class _Forks:
    """What is to be done, once in each child."""

    def __init__(self) -> None:
        self._tasks: list[Callable[[], object]] = []
        self._pid = os.getpid()
        self._listening = False

    def after(self, task: Callable[[], object]) -> None:
        self._tasks.append(task)
        if not self._listening:
            self._listening = True
            os.register_at_fork(after_in_child=self.happened)
            _tell_uwsgi(self.happened)

    def happened(self) -> None:
        pid = os.getpid()
        if pid != self._pid:  # of a fork that is told of twice, the second time tells nothing new
            self._pid = pid
            for task in self._tasks:
                task()


def _tell_uwsgi(happened: Callable[[], None]) -> None:
    """Have uWSGI say when a worker begins, where it runs us."""
    if _have_uwsgi_tell(happened) or not _may_be_uwsgi():
        return
    # It gives its module to Python only after Python has begun, and we may have begun with Python.
    waiting = True

    def look(_event: str, _arguments: Any) -> None:
        nonlocal waiting
        if waiting and "uwsgi" in sys.modules:
            waiting = False
            waiting = not _have_uwsgi_tell(happened)

    sys.addaudithook(look)


def _may_be_uwsgi() -> bool:
    """Whether uWSGI may be about to run us: Python is part of another program, or of a command of that name."""
    began_by = PurePath(sys.executable or "python").name
    return "python" not in began_by or any("uwsgi" in PurePath(part).name for part in sys.orig_argv[:2])


def _have_uwsgi_tell(happened: Callable[[], None]) -> bool:
    """Whether it does."""
    uwsgi: Any = sys.modules.get("uwsgi")
    if uwsgi is None or not hasattr(uwsgi, "opt"):
        return False
    if not {"enable-threads", b"enable-threads", "threads", b"threads"} & set(uwsgi.opt):
        _log.warning(
            "hopwatch sends late what it records, or not at all: uWSGI runs no threads of Python; start it with --enable-threads"
        )
    try:
        import_module("uwsgidecorators").postfork(happened)
    except ImportError:
        before = getattr(uwsgi, "post_fork_hook", None)

        def both() -> None:
            happened()
            if before is not None:
                before()

        uwsgi.post_fork_hook = both
    return True


_forks: Final = _Forks()
after_fork: Final = _forks.after
"""Have something done in every child from now on, in the order in which it was asked for."""
