"""Runs one broker and ends it, with everything it started, as soon as its owner is gone.

Standard library only, run as `python -I -S _keeper.py DIRECTORY COMMAND…`. The owner holds the write end of stdin:
`t` ends the broker in an orderly way, `k` at once; end of file means that the owner died, even by SIGKILL: then the
broker is killed and its directory removed. (PR_SET_PDEATHSIG would follow the owner's *thread*, not its process.)
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
ORDERLY_SECONDS = 20.0


class Keeper:
    def __init__(self, directory: str, command: list[str]) -> None:
        self.directory = directory
        self.orphaned = False
        adopt_orphans()
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        self.watch = threading.Thread(target=self.reap)
        self.watch.start()

    def obey(self) -> None:
        """Follow the owner's wishes until there are no more."""
        while order := os.read(0, 1):
            if order == b"t":
                self.child.terminate()
                threading.Timer(ORDERLY_SECONDS, self.kill).start()
            else:
                self.kill()
        self.orphaned = True
        self.kill()
        self.watch.join()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)

    def reap(self) -> None:
        """Wait for the broker, end what it left behind (RabbitMQ's epmd, a beam still writing), and leave."""
        code = self.child.wait()
        deadline = time.monotonic() + ORDERLY_SECONDS
        while group_alive(self.child.pid) and not self.orphaned and time.monotonic() < deadline:
            time.sleep(0.02)
        self.kill()
        while left := adopted():
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            collect_dead()
            time.sleep(0.005)
        if self.orphaned:
            shutil.rmtree(self.directory, ignore_errors=True)
            with contextlib.suppress(OSError):  # the last keeper takes the common directory along
                os.rmdir(os.path.dirname(self.directory))
        os._exit(code if code >= 0 else 128 - code)


def adopt_orphans() -> None:
    """Have daemonised descendants become our children (Linux; elsewhere only the process group is followed)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def adopted() -> list[int]:
    """Our children, of any of our threads."""
    found: list[int] = []
    for children in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, children.read_text().split())
    return found


def collect_dead() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def group_alive(group: int) -> bool:
    collect_dead()
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    # Handlers that do nothing, not SIG_IGN: what is ignored or blocked here would stay so in the broker.
    for ours in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ours, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    Keeper(sys.argv[1], sys.argv[2:]).obey()
