"""A terminal without a screen: runs a program in it, reads all it draws, and knows when."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

WIDTH, HEIGHT = 160, 60

Seen = Callable[[float, bytes], None]
"""Called with the time (seconds since 1970) and each piece of what the program draws, from a thread of its own."""


@contextmanager
def on_terminal(command: Sequence[str], seen: Seen | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run a program on a terminal of 160×60: keys from it, drawings to it, while its stdout is a pipe to us.

    Textual draws on stderr, so what the program prints is told apart from what it draws. Ended at the end, if it has not
    ended by itself.
    """
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    env = os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    env |= {"COLUMNS": str(WIDTH), "LINES": str(HEIGHT)}
    process = subprocess.Popen(command, stdin=its, stdout=subprocess.PIPE, stderr=its, env=env, text=True)
    os.close(its)
    reader = threading.Thread(target=_read, args=(ours, seen or _nothing), daemon=True)
    reader.start()
    try:
        yield process
    finally:
        process.terminate()
        process.wait()
        reader.join()
        os.close(ours)
        if process.stdout is not None:
            process.stdout.close()


def _read(drawn: int, seen: Seen) -> None:
    while True:
        try:
            piece = os.read(drawn, 65_536)
        except OSError:  # how Linux says that nobody has the other end any more
            return
        if not piece:
            return
        seen(time.time(), piece)


def _nothing(_at: float, _piece: bytes) -> None:
    pass
