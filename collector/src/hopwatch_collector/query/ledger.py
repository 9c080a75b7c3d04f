"""Reads deliveries as the judge wrote them: single rows by message, lists by minutes, counts from what is kept beside the rows."""

import base64
import binascii
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hopwatch_collector.api.models import UNDELIVERED, Cause, LagRow, Verdict
from hopwatch_collector.engine import Row, Store
from hopwatch_collector.errors import InvalidCursor
from hopwatch_collector.judge.rules import by_silence, sentence
from hopwatch_collector.query.advice import advice_on
from hopwatch_collector.query.rows import NEVER, lag_row, message_id
from hopwatch_collector.query.window import Window

_MINUTES_AT_ONCE: Final = 10_000
_WIDTHS_S: Final = (60, 3_600, 90_000, 2**31)
"""How far from the minute of the oldest open message is looked for the one that has waited longest: given back, one may be younger."""
_EARLIEST: Final = datetime(1970, 1, 2, tzinfo=UTC)
_LATEST: Final = datetime(2105, 1, 1, tzinfo=UTC)

Receiver = tuple[str, str, str]
"""System, destination, receiver."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What deliveries have to match; empty: anything."""

    verdicts: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    destination: str = ""
    receiver: str = ""
    service: str = ""

    def parameters(self) -> dict[str, Any]:
        """Return the same for a statement."""
        return {
            "verdicts": list(self.verdicts),
            "causes": list(self.causes),
            "destination": self.destination,
            "receiver": self.receiver,
            "service": self.service,
        }


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row of a page, behind which the next one goes on."""

    at_us: int
    message: str
    receiver: str

    @classmethod
    def of(cls, row: Row) -> "Cursor":
        """Return the cursor behind a row of `deliveries`."""
        return cls(_us(row["first_at"]), row["message"].hex(), row["receiver"])

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Return the cursor that `text` was made of. Raises InvalidCursor."""
        try:
            at, message, receiver = base64.urlsafe_b64decode(text.encode()).decode().split(" ", 2)
            cursor = cls(int(at), bytes.fromhex(message).hex(), receiver)
        except (ValueError, binascii.Error) as error:
            raise InvalidCursor("the cursor is not one that an earlier answer gave as next_cursor") from error
        if len(cursor.message) != 32 or not 0 <= cursor.at_us < 2**62:
            raise InvalidCursor("the cursor is not one that an earlier answer gave as next_cursor")
        return cursor

    def text(self) -> str:
        """Return it in letters that an address may have."""
        return base64.urlsafe_b64encode(f"{self.at_us} {self.message} {self.receiver}".encode()).decode()


_AFTER_ALL: Final = Cursor(2**61, "f" * 32, "")


@dataclass(frozen=True, slots=True)
class Counts:
    """How deliveries stand: rows of open_counts.sql and of window_counts.sql."""

    open: Sequence[Row]
    window: Sequence[Row]

    def verdicts(self) -> Mapping[Receiver, Mapping[Verdict, int]]:
        """Return how many deliveries of what was sent in the window have which verdict, by receiver."""
        found: dict[Receiver, dict[Verdict, int]] = defaultdict(lambda: defaultdict(int))
        for row in self.window:
            found[_name(row)][Verdict(row["verdict"])] += row["deliveries"]
        return found

    def standing(self) -> Mapping[Receiver, Mapping[Verdict, int]]:
        """Return the same with all that is open, whenever it was sent."""
        found = {name: dict(counts) for name, counts in self.verdicts().items()}
        for row in self.open:
            of_receiver = found.setdefault(_name(row), {})
            of_receiver.update({Verdict(name): count for name, count in row["verdicts"].items()})
        return found

    def receipts(self) -> Mapping[Receiver, Row]:
        """Return when receivers of messages last got one of the window, and what their clients then said still waited."""
        found: dict[Receiver, Row] = {}
        for row in self.window:
            if not row["receiver"] or row["call"]:
                continue
            before = found.get(_name(row), _NO_RECEIPT)
            told = row if row["pending_at"] > before["pending_at"] else before
            found[_name(row)] = {
                "last_received_at": max(row["last_received_at"], before["last_received_at"]),
                "last_pending": told["last_pending"],
                "pending_at": told["pending_at"],
            }
        return found


class Ledger:
    """Every method blocks and may be called from any thread. Windows are about messages' first facts; counts go by whole minutes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of_messages(self, messages: Sequence[str], limit: int) -> list[Row]:
        """Return rows of the messages named (32 hex digits each), oldest first."""
        if not messages:
            return []
        return self._store.query("deliveries_of", {"messages": messages, "top": limit})

    def of_flows(self, flows: Sequence[Row]) -> Mapping[str, Mapping[Verdict, int]]:
        """Return how many deliveries of each flow (a row of flow_summaries.sql) have which verdict."""
        messages = [message for flow in flows for message in flow["messages"]]
        if not messages:
            return {}
        asked = {"flows": [flow["flow_id"] for flow in flows], "messages": messages}
        found: dict[str, dict[Verdict, int]] = defaultdict(dict)
        for row in self._store.query("flow_verdicts", asked):
            found[row["flow"].hex()][Verdict(row["verdict"])] = row["deliveries"]
        return found

    def newest(
        self, window: Window, filters: Filters, limit: int, cursor: str | None = None
    ) -> tuple[list[Row], str | None]:
        """Return the newest rows that match, and the cursor behind them where there are more.

        The counts beside the rows say in which minutes there are any: only these are read.
        """
        after = Cursor.parse(cursor) if cursor else _AFTER_ALL
        exact = {
            "since": _us(window.since),
            "until": _us(window.until),
            "after_at": after.at_us,
            "after_message": after.message,
            "after_receiver": after.receiver,
        }
        latest = window.until if cursor is None else min(window.until, _moment(after.at_us))
        rows: list[Row] = []
        for first, last in self._stretches(Window(window.since, latest), filters, limit + 1):
            stretch = {"first_minute": first, "last_minute": last, "top": limit + 1 - len(rows)}
            rows += self._store.query("deliveries", {**filters.parameters(), **exact, **stretch})
            if len(rows) > limit:
                return rows[:limit], Cursor.of(rows[limit - 1]).text()
        return rows, None

    def _stretches(self, window: Window, filters: Filters, wanted: int) -> Iterator[tuple[int, int]]:
        """Return stretches of minutes (s), the latest first, each of which may hold as many rows as are wanted."""
        until = _seconds(window.until)
        while True:
            minutes = self._store.query(
                "delivery_minutes",
                {
                    **filters.parameters(),
                    "since": _minute(window.since),
                    "until": until,
                    "top": _MINUTES_AT_ONCE,
                },
            )
            last, counted = None, 0
            for row in minutes:
                minute = _seconds(row["minute"])
                last, counted = last or minute, counted + row["deliveries"]
                if counted >= wanted:
                    yield minute, last
                    last, counted = None, 0
            if last is not None:
                yield _seconds(minutes[-1]["minute"]), last
            if len(minutes) < _MINUTES_AT_ONCE:
                return
            until = _seconds(minutes[-1]["minute"]) - 60

    def causes(self, window: Window, filters: Filters, limit: int) -> list[Cause]:
        """Return undelivered messages by cause, destination and receiver, the most frequent first."""
        asked = {
            "since": _minute(window.since),
            "until": _seconds(window.until),
            "undelivered": list(filters.verdicts),
            "destination": filters.destination,
            "receiver": filters.receiver,
            "service": filters.service,
            "top": limit,
        }
        rows = self._store.query("undelivered_causes", asked)
        if not rows:
            return []
        samples = self._store.query(
            "cause_samples",
            {
                "causes": [row["cause"] for row in rows],
                "systems": [row["system"] for row in rows],
                "destinations": [row["destination"] for row in rows],
                "receivers": [row["receiver"] for row in rows],
                "first_minutes": [_seconds(row["first_minute"]) for row in rows],
                "last_minutes": [_seconds(row["last_minute"]) for row in rows],
            },
        )
        known = {(row["cause"], row["system"], row["destination"], row["receiver"]): row for row in samples}
        details = self._details([sample["samples"][0] for sample in samples if sample["samples"]])
        return [_cause(row, known, details) for row in rows]

    def _details(self, messages: Sequence[bytes]) -> Mapping[tuple[bytes, str, str], str]:
        asked = {"messages": [message.hex() for message in messages]}
        rows = self._store.query("delivery_details", asked) if messages else []
        return {(row["message"], row["receiver"], row["cause"]): row["detail"] for row in rows}

    def edges(self, window: Window, limit: int) -> list[Row]:
        """Return who reached whom through what."""
        return self._store.query(
            "edges",
            {
                "since": _minute(window.since),
                "until": _seconds(window.until),
                "undelivered": sorted(UNDELIVERED),
                "top": limit,
            },
        )

    def counts(self, window: Window) -> Counts:
        """Return what is open, whenever it was sent, and what was sent in the window, by receiver."""
        asked = {"since": _minute(window.since), "until": _seconds(window.until)}
        return Counts(self._store.query("open_counts", {}), self._store.query("window_counts", asked))

    def lag(self, counts: Counts, now: datetime, limit: int) -> list[LagRow]:
        """Return what waits for each receiver, and receivers that got something in the window: so many of each at most."""
        waits = [row for row in counts.open if row["receiver"]][:limit]
        receipts = counts.receipts()
        oldest = self._oldest(waits)
        rows = [
            lag_row({**row, **oldest[_name(row)], **receipts.get(_name(row), _NO_RECEIPT)}, now)
            for row in waits
        ]
        quiet = [name for name in sorted(receipts) if name not in oldest][:limit]
        rows += [lag_row({**_named(name), **_NOTHING_WAITS, **receipts[name]}, now) for name in quiet]
        return sorted(
            rows, key=lambda row: (-row.waiting, -row.in_flight, row.system, row.destination, row.receiver)
        )

    def _oldest(self, waits: Sequence[Row]) -> dict[Receiver, Row]:
        """Since when the oldest of each receiver's open messages has waited, and flows behind the number."""
        found: dict[Receiver, Row] = {}
        pending = list(waits)
        for width in _WIDTHS_S:
            if not pending:
                break
            minutes = {
                _name(row): _seconds(row["oldest_minute"] if row["waiting"] else row["open_minute"])
                for row in pending
            }
            asked = {
                "names": [row["name"] for row in pending],
                "minutes": list(minutes.values()),
                "width": min(width, 2**32 - 1),
                "first": min(minutes.values()),
                "until": min(max(minutes.values()) + width, _seconds(_LATEST)),
            }
            rows = {_name(row): row for row in self._store.query("oldest_open", asked)}
            found |= rows
            # All that was sent later has waited for less long than until the end of what was looked at.
            pending = [
                row
                for row in pending
                if row["waiting"]
                and (_name(row) not in rows or not _certain(rows[_name(row)], minutes[_name(row)] + width))
            ]
        return {_name(row): found.get(_name(row), _NO_SAMPLES) for row in waits}


_NO_SAMPLES: Final[Row] = {"oldest": NEVER, "samples": []}
_NOTHING_WAITS: Final[Row] = {"waiting": 0, "in_flight": 0, "oldest": NEVER, "samples": []}
_NO_RECEIPT: Final[Row] = {"last_received_at": NEVER, "last_pending": -1, "pending_at": NEVER}


def _certain(row: Row, until: int) -> bool:
    return bool(row["oldest"] > NEVER and _seconds(row["oldest"]) < until)


def _cause(
    row: Row, known: Mapping[tuple[str, str, str, str], Row], details: Mapping[tuple[bytes, str, str], str]
) -> Cause:
    sample = known.get((row["cause"], row["system"], row["destination"], row["receiver"]))
    messages = list(sample["samples"]) if sample else []
    detail = details.get((messages[0], row["receiver"], row["cause"]), "") if messages else ""
    return Cause(
        cause=row["cause"],
        verdict=Verdict(row["verdict"]),
        reason=sentence(row["cause"], detail),
        advice=advice_on(row["cause"]),
        by_silence=by_silence(row["cause"]),
        system=row["system"],
        destination=row["destination"],
        receiver=row["receiver"],
        deliveries=row["deliveries"],
        first_at=sample["first_at"] if sample else row["first_minute"],
        last_at=sample["last_at"] if sample else row["last_minute"],
        sample_message_ids=[message_id(key) for key in messages],
    )


def _name(row: Row) -> Receiver:
    return row["system"], row["destination"], row["receiver"]


def _named(name: Receiver) -> Row:
    return dict(zip(("system", "destination", "receiver"), name, strict=True))


def _seconds(at: datetime) -> int:
    return int(min(max(at, _EARLIEST), _LATEST).timestamp())


def _minute(at: datetime) -> int:
    return _seconds(at) // 60 * 60


def _us(at: datetime) -> int:
    return round(
        (min(max(at, _EARLIEST), _LATEST) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)
    )


def _moment(us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=min(us, 4_000_000_000_000_000))
