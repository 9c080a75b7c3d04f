"""The collector under test, as everybody else sees it, and its absences."""

import threading
import time
from collections.abc import Iterator
from datetime import datetime
from random import Random
from urllib.error import URLError
from urllib.request import urlopen

import httpx
from support import rate
from support.collector import Collector
from support.waiting import eventually

from hopwatch_collector.api.models import Delivery, Why
from hopwatch_demo.patience import scale_wait

AWAY_EVERY_S = (70.0, 130.0)
AWAY_FOR_S = (0.0, 8.0)


class Watch:
    """Reads the ledger of a collector that may be away for a while."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._away: list[tuple[float, float]] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()

    @property
    def away(self) -> list[tuple[float, float]]:
        """When the collector was away."""
        return [*self._away]

    def trouble(self, seed: str) -> None:
        """Kill or stop the collector now and then, and start it again after a while, until `end`."""
        lot = Random(f"{seed} collector")
        while not self._ended.wait(lot.uniform(*AWAY_EVERY_S)):
            began, killed = time.time(), lot.random() < 0.5
            with self._lock:
                if killed:
                    self._collector.kill()
                else:
                    self._collector.stop()
                self._ended.wait(lot.uniform(*AWAY_FOR_S))
                self._collector.start()
                self._away.append((began, time.time()))

    def end(self) -> None:
        """Leave the collector alone from now on."""
        self._ended.set()

    def rows(self, since: datetime) -> list[Delivery]:
        """Return every delivery since then."""
        with self._lock:
            return list(rate.read_ledger(self._collector.api, since))

    def why(self, message_id: str, receiver: str) -> Iterator[str]:
        """Yield what the collector says when asked why."""
        with self._lock:
            answer = self._collector.api.get(f"why/{message_id}")
        if answer.status_code != 200:
            yield f"    why: {answer.status_code} {answer.text}"
            return
        for one in Why.model_validate_json(answer.content).explanations:
            if one.receiver != receiver:
                continue
            yield f"    why: {one.cause}: {one.reason}"
            for said in one.evidence:
                yield f"        {said.at} {said.witness}: {said.says}"
            if one.decision is not None:
                yield f"        {one.decision.signals}; else {one.decision.otherwise} if {one.decision.if_signal}"

    def await_looks(self, broker: str, count: int) -> None:
        """Return when the broker was asked so many times more."""
        before = self._looks(broker)

        def asked() -> float:
            now = self._looks(broker)
            nonlocal before
            before = min(before, now)  # a collector that was started again counts anew
            return now - before

        eventually(asked, lambda looks: looks >= count, within=60, what=f"looks at {broker}")

    def _looks(self, broker: str) -> float:
        samples = rate.read_metric(self._page(), "hopwatch_witness_looks_total")
        return sum(
            value for labels, value in samples if labels["system"] == broker and "ok" in labels.values()
        )

    def _page(self) -> str:
        with self._lock:
            try:
                with urlopen(f"{self._collector.api_url}/metrics", timeout=scale_wait(30)) as page:
                    return str(page.read(), "utf-8")
            except (URLError, httpx.HTTPError):
                return ""
