"""How a command ends: its exit codes, what it says on stderr, and that no error of its own looks like `nothing found`."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from functools import wraps
from io import TextIOWrapper
from pathlib import PurePath
from traceback import extract_tb
from typing import NoReturn, ParamSpec

import typer

from hopwatch_tui.client import ApiError, Invalid
from hopwatch_tui.text import clean

P = ParamSpec("P")


class Exit(IntEnum):
    """What a command's exit code says."""

    FOUND = 0
    NOTHING = 1
    USAGE = 2
    COLLECTOR = 3
    FAILING = 4
    INTERNAL = 70
    PIPE = 141


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """A command that ends with a sentence and an exit code of its own where something in it breaks.

    Characters that the encoding of its output lacks are replaced.
    """

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="replace")
        try:
            _flushed(command, *args, **kwargs)
        except BrokenPipeError:  # `| head` has read enough: ended as SIGPIPE ends other programs
            _drop_output()
            raise typer.Exit(Exit.PIPE) from None
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except Exception as error:  # noqa: BLE001  the boundary: a traceback would end with 1, as `nothing found` does
            _drop_output()
            internal(error)

    return run


def _flushed(command: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Run a command; its output is written when it ends, while an error of that can still be told."""
    try:
        command(*args, **kwargs)
    finally:
        sys.stdout.flush()


def _drop_output() -> None:
    """What could not be written is tried again when Python ends, and would fail again: it goes nowhere."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def internal(error: BaseException) -> NoReturn:
    """Say what broke inside hopwatch and where, in a sentence, and end."""
    frames = extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "hopwatch_tui" in frame.filename] or frames
    where = f" ({PurePath(ours[-1].filename).name}, line {ours[-1].lineno})" if ours else ""
    told = clean(f"{type(error).__name__}: {error}", limit=500)
    fail(
        f"an error of its own, {told}{where}", "The question may be right: please report this.", Exit.INTERNAL
    )


class reported:  # noqa: N801  a context manager used like a function
    """Turns an API error into a few lines on stderr and the exit code that fits."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: object, _traceback: object) -> None:
        if isinstance(error, Invalid) and error.parameters:
            fail("; ".join(_refusal(*one) for one in error.parameters), "", Exit.USAGE)
        if isinstance(error, ApiError):
            fail(error.title, error.message, Exit.COLLECTOR, error.hint)


def _refusal(parameter: str, detail: str) -> str:
    """What the collector says of a parameter, by the name that it has on the command line."""
    named = {"q": "QUERY", "message_id": "the id", "flow_id": "the id"}
    return f"{named.get(parameter, f'--{parameter}')}: {detail}"


def nothing_found(message: str, hint: str) -> NoReturn:
    """Say so, with what to do next, and end with exit code 1."""
    sys.stderr.write(f"hopwatch: {message}\n" + (f"  {hint}\n" if hint else ""))
    raise typer.Exit(Exit.NOTHING)


def fail(title: str, message: str, code: Exit, hint: str = "") -> NoReturn:
    """Say what went wrong, with what to do next, and end."""
    lines = [f"hopwatch: {title}", *(f"  {part}" for part in (message, hint) if part)]
    sys.stderr.write("\n".join(lines) + "\n")
    raise typer.Exit(code)
