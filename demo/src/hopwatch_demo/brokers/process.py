"""A broker's process: started under a keeper, ended by pid, never outliving its owner."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hopwatch_demo.patience import scale_wait

_KEEPER = Path(__file__).with_name("_keeper.py")


class Process:
    """One running command and everything it starts; its output goes to `log`."""

    def __init__(
        self, command: Sequence[str], directory: Path, log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        with log.open("ab") as out:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_KEEPER), str(directory), *command],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env=None if env is None else {**os.environ, **env},
                start_new_session=True,  # a terminal's Ctrl-C is for the owner, who then ends the broker
            )

    @property
    def running(self) -> bool:
        """Whether the command still runs."""
        return self._keeper.poll() is None

    def end(self, *, hard: bool = False) -> None:
        """End it and wait until nothing of it is left: in its own orderly way, or at once with `hard`."""
        pipe = self._keeper.stdin
        if pipe is None:
            return
        with contextlib.suppress(BrokenPipeError):
            pipe.write(b"k" if hard else b"t")
            pipe.flush()
        self._keeper.wait(timeout=scale_wait(60))
        with contextlib.suppress(BrokenPipeError):
            pipe.close()
