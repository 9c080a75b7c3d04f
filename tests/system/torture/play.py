"""Kills at random moments, by a seed: of start-up, ingest, replay, retention and a disk that takes nothing."""

import os
import random
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
from support.collector import Collector
from support.process import HOPWATCH, Process, environment
from support.waiting import eventually

from hopwatch_demo.patience import scale_wait
from torture.count import Counted, count
from torture.hostile import Strangers
from torture.senders import Senders, request

# So that a kill finds the pipeline in every possible state. Old days are dropped at every start.
SETTINGS = {
    "HOPWATCH_BATCH_SPANS": "200",
    "HOPWATCH_LINGER": "0.02",
    "HOPWATCH_RETENTION_DAYS": "2",
    "HOPWATCH_DROP_DAYS": "60",
}
_DISK_FAILS_S = 1.5


@dataclass(frozen=True, slots=True)
class Played:
    """What came of it."""

    kills: int
    acknowledged: int
    refused: int
    healthz_max_s: float
    counted: Counted

    def line(self) -> str:
        """In one line."""
        return (
            f"kills={self.kills} acknowledged={self.acknowledged} lost={self.counted.lost} doubled={self.counted.doubled} "
            f"invented={self.counted.invented} refused={self.refused} healthz_max_s={self.healthz_max_s:.2f}"
        )


class Torture:
    """One data directory and what is done to whoever uses it."""

    def __init__(self, data: Path, seed: int) -> None:
        self.kills = 0
        self._chance = random.Random(seed)
        self._data = data
        self._collector = Collector(data, env=SETTINGS)
        self._senders = Senders(self._collector.otlp_http, self._collector.otlp_grpc)
        self._strangers = Strangers(
            self._collector.otlp_http, self._collector.otlp_grpc, self._collector.api_url, seed
        )
        self._strangers.there.set()

    def once(self) -> str:
        """Kill it once, at a moment that chance picks, and start it again; return which."""
        moments: dict[str, Callable[[], None]] = {
            "ingest": self._in_ingest,
            "replay": self._in_replay,
            "start-up": self._in_start,
            "disk": self._without_disk,
            "retention": self._in_retention,
        }
        name = self._chance.choices(list(moments), weights=(4, 2, 2, 1, 1))[0]
        moments[name]()
        return name

    def end(self) -> Played:
        """Let everything come in, stop, and count."""
        self._senders.stop()
        self._strangers.stop()
        eventually(self._backlog, lambda left: left == 0, within=240, what="the backlog")
        assert self._collector.stop() == 0
        book = self._senders.book
        refused = book.refused + self._strangers.answers
        counted = count(self._data / "engine", book)
        return Played(self.kills, len(book.acknowledged), refused, self._strangers.healthz_max_s, counted)

    def _in_ingest(self) -> None:
        self._senders.resume()
        assert self._senders.wait_acknowledged(self._chance.randrange(20, 2000), scale_wait(120))
        self._kill_and_start()

    def _in_replay(self) -> None:
        """Twice in a row: what the first left behind is under way again when the second comes."""
        self._in_ingest()
        time.sleep(self._chance.uniform(0.0, 1.0))
        self._kill_and_start()

    def _in_start(self) -> None:
        """While it is not ready yet: files are read, tables made, batches sent again."""
        self._senders.resume()
        assert self._senders.wait_acknowledged(100, scale_wait(120))
        self._senders.pause()
        self._kill()
        starting = Process([HOPWATCH, "collect", *self._collector._options()], env=environment(**SETTINGS))
        time.sleep(self._chance.uniform(0.2, 3.0))
        starting.send(9)
        starting.wait()
        starting.close()
        self.kills += 1
        self._start()

    def _without_disk(self) -> None:
        """Nothing can be written for a while: what is not written is not acknowledged."""
        self._senders.resume()
        pid = self._collector.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (self._chance.randrange(1, 1 << 16), before[1]))
        time.sleep(_DISK_FAILS_S)
        if self._chance.random() < 0.5:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
            assert self._senders.wait_acknowledged(100, scale_wait(120))
        self._kill_and_start()

    def _in_retention(self) -> None:
        """Days that are too old have come in: they are dropped soon after the next start."""
        for _ in range(5):
            httpx.post(
                f"{self._collector.otlp_http}/v1/traces",
                content=request(old=True)[1],
                headers={"Content-Type": "application/x-protobuf"},
                trust_env=False,
                timeout=scale_wait(30),
            )
        self._kill_and_start()
        time.sleep(self._chance.uniform(0.5, 2.5))
        self._in_ingest()

    def _kill_and_start(self) -> None:
        self._kill()
        self._senders.pause()
        self._start()

    def _kill(self) -> None:
        self._strangers.there.clear()
        self._collector.kill()
        self.kills += 1

    def _start(self) -> None:
        self._collector.start()
        self._strangers.there.set()

    def _backlog(self) -> int:
        told: int = httpx.get(
            f"{self._collector.api_url}/healthz", timeout=scale_wait(60), trust_env=False
        ).json()["journal_backlog_bytes"]
        return told


def seed_of(text: str | None) -> int:
    """The seed that was given, or another one."""
    return int(text) if text else int.from_bytes(os.urandom(3), "big")
