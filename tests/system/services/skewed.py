"""Runs another of the tests' services with a wall clock that is off: skewed.py SECONDS SERVICE [ARGUMENTS…].

The clock is Python's, changed before anything else reads it; the monotonic one, and so every timeout, is left alone.
"""

import runpy
import sys
import time
from pathlib import Path

right, right_ns = time.time, time.time_ns
seconds, service, *arguments = sys.argv[1:]
off = float(seconds)
time.time = lambda: right() + off
time.time_ns = lambda: right_ns() + round(off * 1e9)

if __name__ == "__main__":
    script = Path(__file__).with_name(f"{service}.py")
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name="__main__")
