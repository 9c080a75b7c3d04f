"""What a witness wrote down, in a few words each."""

from datetime import UTC, datetime
from typing import Any

from ledger_support import at, judged

from hopwatch_collector.engine import Store
from hopwatch_collector.witness.watch import POLL_COLUMNS, STATE_COLUMNS


def stood(store: Store, system: str, receiver: str, seconds: float, **told: Any) -> None:
    """A witness wrote down how a receiver stood, so many seconds into the story."""
    when = at(seconds)
    defaults: dict[str, Any] = dict.fromkeys(STATE_COLUMNS, -1)
    defaults |= {
        "day": when.date(), "system": system, "destination": "", "receiver": receiver, "partition": "", "at": when,
        "oldest_at": datetime(1970, 1, 1, tzinfo=when.tzinfo), "dead_letters": 0, "state": "",
        "uncounted": 0, "unchanged_until": datetime(1970, 1, 1, tzinfo=when.tzinfo),
    }  # fmt: skip
    row = defaults | told
    store.write("receiver_states", list(row), [list(row.values())])


def looked(store: Store, system: str, seconds: float, *, ok: bool = True, broker: str = "broker:1") -> None:
    """A witness looked, or could not, so many seconds into the story."""
    when = at(seconds)
    row = [when.date(), system, broker, when, int(ok), "" if ok else "login refused", 1, 1]
    store.write("watches", POLL_COLUMNS, [row])


def known(store: Store, system: str, name: str, *identities: str) -> None:
    """A broker is watched under a name, and was seen to be these."""
    store.write("brokers", ("system", "told", "name"), [[system, told, name] for told in identities])


def finding(store: Store, now: float, **more: float) -> str:
    """The cause of the one delivery there is."""
    (row,) = judged(store, now=now, **more)
    return str(row["cause"])


def claimed(store: Store, system: str, pattern: str, receiver: str, seconds: float = -60.0) -> None:
    """A witness saw so many seconds into the story that a receiver is entitled to a pattern, for good."""
    row: dict[str, Any] = {
        "day": at(seconds).date(), "system": system, "pattern": pattern, "receiver": receiver, "resource": 1,
        "first_at": at(seconds), "last_at": at(seconds), "unsubscribed_at": datetime(1970, 1, 1, tzinfo=UTC),
    }  # fmt: skip
    store.write("durable_subscriptions", list(row), [list(row.values())])
