"""Kill the collector again and again, with strangers at its ports, and count what it acknowledged.

Senders over OTLP/HTTP and gRPC note every span that was acknowledged; the collector is killed while it starts, takes spans, sends
batches again, drops old days, and while its disk takes nothing. At the end every acknowledged span has to be in spans, links, totals
and ledger, once. Ends with one line; exit code 1 where something is lost, doubled or was never sent.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from torture.play import Torture, seed_of


def main() -> int:
    """Torture for as long as is asked; return the exit code."""
    parser = argparse.ArgumentParser(
        "torture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=3.0, help="go on for so long (default: 3)")
    parser.add_argument(
        "--seed", help="which moments are picked (default: another each time, told at the beginning)"
    )
    parser.add_argument("--keep", type=Path, help="use this directory for the collector's data and keep it")
    asked = parser.parse_args()
    seed = seed_of(asked.seed)
    print(f"seed {seed}", flush=True)
    data = asked.keep or Path(tempfile.mkdtemp(prefix="hopwatch-torture-"))
    until = time.monotonic() + 60 * asked.minutes
    torture = Torture(data / "data", seed)
    while time.monotonic() < until:
        moment = torture.once()
        print(f"{torture.kills} kills, the last in {moment}", flush=True)
    played = torture.end()
    print(played.line())
    if played.counted.exact and asked.keep is None:
        shutil.rmtree(data, ignore_errors=True)
    elif not played.counted.exact:
        print(f"the data are kept in {data}", file=sys.stderr)
    return 0 if played.counted.exact else 1


if __name__ == "__main__":
    sys.exit(main())
