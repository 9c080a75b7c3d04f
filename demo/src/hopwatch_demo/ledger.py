"""The collector's side of the comparison: every delivery in its ledger, read through its API."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

import httpx

from hopwatch_demo.patience import scale_wait

LIMIT: Final = 1000
"""Rows the API gives at most; a stretch of time that holds more is read in halves."""

SHORTEST: Final = timedelta(milliseconds=2)


BUSY: Final = frozenset({422, 429, 503})
"""Answers of a collector that could not finish in its time limit, or is not ready: worth asking again."""

PATIENCE_S: Final = 60.0
PAUSE_S: Final = 1.0


class LedgerUnreadable(Exception):
    """The collector's ledger cannot be read; the message says why."""


class TooManyRows(LedgerUnreadable):
    """The API cuts off even the shortest stretch of time."""


@dataclass(frozen=True, slots=True)
class Row:
    """One delivery as the collector tells it; `event` is the key that joins it with the ground truth."""

    event: str
    receiver: str
    verdict: str
    attempts: int
    flow_id: str
    message_id: str
    destination: str
    reason: str

    @classmethod
    def of(cls, said: dict[str, Any]) -> Self:
        """Read it from the API's answer."""
        return cls(
            event=str(said["keys"].get("event", "")),
            receiver=str(said["receiver"]),
            verdict=str(said["verdict"]),
            attempts=int(said["attempts"]),
            flow_id=str(said["flow_id"]),
            message_id=str(said["message_id"]),
            destination=str(said["destination"]),
            reason=str(said["reason"]),
        )


class Ledger:
    """A client of the collector's API at `url`."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=f"{url}/api/v1", timeout=scale_wait(30.0), trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def deliveries(self, since: float, until: float) -> list[Row]:
        """Return all deliveries sent between two moments (Unix time, seconds).

        Raises:
            LedgerUnreadable: the collector does not answer, or with an error, or stays too busy for a minute.
            TooManyRows: it cuts its answer off even for a few milliseconds.
        """
        found: dict[tuple[str, str], Row] = {}
        for row in self._between(datetime.fromtimestamp(since, UTC), datetime.fromtimestamp(until, UTC)):
            found[row.message_id, row.receiver] = row
        return list(found.values())

    def _between(self, since: datetime, until: datetime) -> Iterator[Row]:
        window: dict[str, str | int] = {"since": _said(since), "until": _said(until), "limit": LIMIT}
        answer = self._ask(window)
        if not answer["truncated"]:
            yield from map(Row.of, answer["deliveries"])
            return
        if until - since < SHORTEST:
            raise TooManyRows(f"more than {LIMIT} deliveries between {since} and {until}")
        middle = since + (until - since) / 2
        yield from self._between(since, middle)
        yield from self._between(middle, until)

    def _ask(self, window: dict[str, str | int]) -> dict[str, Any]:
        until = time.monotonic() + scale_wait(PATIENCE_S)
        while True:
            try:
                answer = self._http.get("/deliveries", params=window)
            except httpx.HTTPError as error:
                raise LedgerUnreadable(f"the collector does not answer: {error!r}") from error
            if answer.is_success:
                said: dict[str, Any] = answer.json()
                return said
            if answer.status_code not in BUSY or time.monotonic() > until:
                raise LedgerUnreadable(f"the collector answers {answer.status_code}: {answer.text[:500]}")
            time.sleep(PAUSE_S)


def _said(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
