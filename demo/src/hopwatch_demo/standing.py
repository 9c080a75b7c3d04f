"""The shop alone, until it is told to stop: for brokers and a collector that run elsewhere, as in the compose file."""

import asyncio
import os
import signal
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Final

from hopwatch_demo import faults
from hopwatch_demo.shop.customers import OPEN
from hopwatch_demo.shop.prepare import prepare
from hopwatch_demo.shop.settings import PREFIX, Settings
from hopwatch_demo.supervisor import Shop, jobs

LOOK_S: Final = 30.0
MOST_BYTES: Final = 8 * 1024 * 1024
"""What one record or log may grow to before it is emptied: nobody compares them here."""


def settings() -> Settings:
    """What the environment says, with all faults where it names none."""
    said = Settings.from_environment()
    if f"{PREFIX}FAULTS" not in os.environ:
        said = replace(said, faults=faults.choose([], []))
    return said


def empty_large(folder: Path) -> None:
    """Empty the files below `folder` that have grown large; they are only ever appended to."""
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size > MOST_BYTES:
            os.truncate(path, 0)


def main() -> int:
    """Run the shop until SIGTERM or SIGINT; 2 where no broker is named."""
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with tempfile.TemporaryDirectory(prefix="hopwatch-shop-") as name:
        folder = Path(name)
        here = replace(settings(), records=folder / "records")
        if not here.brokers:
            print(f"name a broker: {PREFIX}NATS, {PREFIX}RABBITMQ or {PREFIX}KAFKA", file=sys.stderr)
            return 2
        here.records.mkdir()
        asyncio.run(prepare(here))
        with Shop(folder, {**os.environ, **here.environment()}) as shop:
            shop.start(jobs(here.brokers))
            (here.records / OPEN).touch()
            print(f"shop: {len(shop.names)} processes, on {', '.join(here.brokers)}", flush=True)
            while not stopped.wait(LOOK_S):
                empty_large(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
