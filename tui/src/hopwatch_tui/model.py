"""What the live view knows, apart from any screen: the latest snapshot, filters, pause, the state of the connection."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Generic, TypeVar

from hopwatch_tui.answers import Cause, CauseList, FlowSummary, LagRow, Live
from hopwatch_tui.client import ApiError
from hopwatch_tui.format import DELIVERED

T = TypeVar("T")
_LONG_AGO = datetime.fromtimestamp(0, UTC)


class View(IntEnum):
    """What the live screen can show."""

    FLOWS = 0
    UNDELIVERED = 1
    LAG = 2


class Connection(StrEnum):
    """How the stream of snapshots is doing."""

    CONNECTING = "connecting"
    LIVE = "live"
    LOST = "lost"


class Filter:
    """Words that must all be in a line, in any order and case; a word with `-` before it must not be."""

    def __init__(self, text: str = "") -> None:
        self.text = text.strip()
        words = self.text.lower().split()
        self._wanted = [word for word in words if not word.startswith("-") or word == "-"]
        self._unwanted = [word[1:] for word in words if word.startswith("-") and word != "-"]

    def __bool__(self) -> bool:
        return bool(self.text)

    def matches(self, haystack: str) -> bool:
        """Whether a line with this text stays."""
        low = haystack.lower()
        return all(word in low for word in self._wanted) and not any(word in low for word in self._unwanted)

    def of(self, items: Sequence[T], haystack: Callable[[T], str]) -> Sequence[T]:
        """The items that stay."""
        return [item for item in items if self.matches(haystack(item))] if self else items


@dataclass(slots=True)
class LiveModel:
    """The live screen's state. It holds one snapshot and, while paused, the newest one it is not showing."""

    snapshot: Live | None = None
    held: Live | None = None
    skipped: int = 0
    paused: bool = False
    connection: Connection = Connection.CONNECTING
    trouble: ApiError | None = None
    retry_in_s: float = 0.0
    caused: CauseList | None = None
    causes_trouble: ApiError | None = None
    causes_as_of: datetime | None = None
    _ordered: tuple[Live | None, Sequence[FlowSummary]] = (None, ())

    def receive(self, live: Live) -> bool:
        """Take a snapshot; says whether what is shown changed."""
        self.connection, self.trouble = Connection.LIVE, None
        if self.paused:
            self.held = live
            self.skipped += 1
            return False
        self.snapshot = live
        return True

    def fail(self, error: ApiError) -> None:
        """One snapshot failed on the collector's side; what is shown stays, with the reason."""
        self.connection, self.trouble = Connection.LIVE, error

    def lose(self, error: ApiError, retry_in_s: float) -> None:
        """The connection is gone and is tried again in `retry_in_s` seconds; what is shown stays."""
        self.connection, self.trouble, self.retry_in_s = Connection.LOST, error, retry_in_s

    def toggle_pause(self) -> None:
        """Hold still, or catch up with the newest snapshot."""
        self.paused = not self.paused
        if not self.paused and self.held is not None:
            self.snapshot = self.held
        self.held, self.skipped = None, 0

    @property
    def now(self) -> datetime | None:
        """The collector's clock at the snapshot: ages count from it, so the clocks of two machines do not matter."""
        return self.snapshot.at if self.snapshot else None

    @property
    def flows(self) -> Sequence[FlowSummary]:
        """Flows, those that began last first: a line keeps its neighbours while the flow goes on."""
        if self._ordered[0] is not self.snapshot:  # asked for several times per snapshot, put in order once
            flows = self.snapshot.flows if self.snapshot else ()
            newest = sorted(flows, key=lambda flow: flow.started_at or _LONG_AGO, reverse=True)
            self._ordered = self.snapshot, newest
        return self._ordered[1]

    @property
    def judged_at(self) -> datetime | None:
        """As of when the snapshot's verdicts are."""
        return (self.snapshot.judged_at or self.snapshot.at) if self.snapshot else None

    @property
    def causes_wanted(self) -> bool:
        """Whether the snapshot knows of undelivered deliveries that the causes at hand do not tell of yet."""
        if self.snapshot is None or self.connection is Connection.LOST:
            return False
        if self.caused is not None and (self.paused or self.causes_as_of == self.judged_at):
            return False
        return self.undelivered_count > 0

    def explain(self, causes: CauseList | ApiError, as_of: datetime | None) -> None:
        """Take in the causes of what was undelivered at a moment; where they could not be had, those before stay."""
        if isinstance(causes, ApiError):
            self.causes_trouble = causes
        else:
            self.caused, self.causes_trouble = causes, None
        self.causes_as_of = as_of

    @property
    def causes(self) -> Sequence[Cause]:
        """What was not delivered by cause, destination and receiver, the most frequent first."""
        return self.caused.causes if self.caused and self.undelivered_count else ()

    @property
    def undelivered_count(self) -> int:
        """How many there are in the window, also where the list of them is cut off."""
        if self.snapshot is None:
            return 0
        counted = sum(one.deliveries for one in self.snapshot.verdicts if one.verdict not in DELIVERED)
        return max(counted, len(self.snapshot.undelivered))

    @property
    def lag(self) -> Sequence[LagRow]:
        """Lag, the furthest behind first."""
        rows = self.snapshot.lag if self.snapshot else ()
        return sorted(rows, key=lambda row: (-row.waiting, -row.oldest_s, row.destination, row.receiver))


@dataclass(slots=True)
class Cursor(Generic[T]):
    """A place in a list that keeps to an item, not to a row number, while the list changes around it.

    Until somebody moves, it stays at the top, where what is new arrives.
    """

    key_of: Callable[[T], str]
    items: Sequence[T] = ()
    index: int = 0
    following: bool = True
    _key: str = ""

    def replace(self, items: Sequence[T]) -> None:
        """Show other items; the cursor stays on its own, or near where that was if it is gone."""
        self.items = items
        if self.following:
            self.index = 0
        elif self.index >= len(items) or self.key_of(items[self.index]) != self._key:
            self.index = self._find(self._key, min(self.index, len(items) - 1))
        self._remember()

    def _find(self, key: str, otherwise: int) -> int:
        for index, item in enumerate(self.items):
            if self.key_of(item) == key:
                return index
        return max(0, otherwise)

    def _remember(self) -> None:
        self._key = self.key_of(self.items[self.index]) if self.items else self._key

    def move_to(self, index: int) -> None:
        """Go to a row, as near as there is one, and keep to its item from now on."""
        self.index = max(0, min(index, len(self.items) - 1))
        self.following = False
        self._remember()

    def follow(self) -> None:
        """Go to the top and stay there."""
        self.index, self.following = 0, True
        self._remember()

    @property
    def current(self) -> T | None:
        """What is under the cursor."""
        return self.items[self.index] if self.items else None
