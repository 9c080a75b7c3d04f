"""Spans that services lost on their way here, and the verdicts that rest on the silence of such a service."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar

from hopwatch_collector.api.models import Cause, Delivery, DeliveryDetail, Loss, Verdict
from hopwatch_collector.engine import Row, Store
from hopwatch_collector.query.rows import corrected

MAX_SERVICES: Final = 500
_NAMED: Final = 3
"""Services named in one reason."""

_SILENT: Final = frozenset(
    {
        Verdict.LOST,
        Verdict.SKIPPED,
        Verdict.OVERDUE,
        Verdict.STUCK,
        Verdict.NO_RECEIVER,
        Verdict.UNKNOWN,
    }
)
_SAID: Final = frozenset(
    {
        "overdue.held",
        "overdue.prefetched",
        "lost.receiver_deleted",
        "no_receiver.broker",
        "no_receiver.declared",
    }
)
"""Causes on the broker's word alone: a service's silence adds nothing to them."""
_CALLERS: Final = frozenset({"stuck.unanswered", "unknown.sender_unseen"})
"""Causes that rest on the silence of whoever sent it."""

Judged = TypeVar("Judged", Delivery, DeliveryDetail, Cause)


def losses(store: Store, since: datetime, limit: int) -> list[Loss]:
    """Return what services told since then that they lost, the latest first."""
    return [_loss(row) for row in store.query("losses", {"since": since, "top": limit})]


def _loss(row: Row) -> Loss:
    return Loss(
        service=row["service"],
        spans=row["spans"],
        reasons=dict(sorted(row["reasons"].items())),
        first_at=row["first_at"],
        last_at=row["last_at"],
        processes=row["processes"],
    )


@dataclass(frozen=True, slots=True)
class Gaps:
    """Who lost spans at a time that matters, and which receivers they say they are."""

    lost: Sequence[Loss]
    claimants: Mapping[str, Sequence[str]]

    def behind(self, judged: Delivery | Cause) -> list[Loss]:
        """Return the losses that a verdict may owe itself to: those of whoever it was silent of, since it was sent.

        Where nobody says who the receiver is, that may be anybody.
        """
        if judged.verdict not in _SILENT or judged.cause in _SAID:
            return []
        who = self._silent(judged)
        since = _began(judged)
        return [loss for loss in self.lost if loss.last_at >= since and (not who or loss.service in who)]

    def _silent(self, judged: Delivery | Cause) -> set[str]:
        if isinstance(judged, Delivery):
            if judged.cause in _CALLERS:
                return {judged.producer} - {""}
            if judged.consumer:
                return {judged.consumer}
        return set(self.claimants.get(judged.receiver, ()))


def gaps(store: Store, judged: Iterable[Delivery | Cause]) -> Gaps:
    """Ask for the losses that some of these verdicts may owe themselves to."""
    silent = [one for one in judged if one.verdict in _SILENT and one.cause not in _SAID]
    lost = losses(store, min(map(_began, silent)), MAX_SERVICES) if silent else []
    if not lost:
        return Gaps((), {})
    receivers = sorted({one.receiver for one in silent if one.receiver})
    rows = store.query("claimants", {"receivers": receivers}) if receivers else []
    return Gaps(lost, {row["receiver"]: row["services"] for row in rows})


def doubted(store: Store, judged: Sequence[Judged]) -> list[Judged]:
    """Return verdicts with a word of doubt in their reasons where they rest on the silence of who lost spans."""
    found = gaps(store, judged)
    if not found.lost:
        return list(judged)
    return [_with_doubt(one, found.behind(one)) for one in judged]


def _with_doubt(judged: Judged, behind: Sequence[Loss]) -> Judged:
    if not behind:
        return judged
    words = "; ".join(in_words(loss) for loss in behind[:_NAMED])
    return judged.model_copy(update={"reason": f"{judged.reason}; but {words}: the ledger has gaps"})


def in_words(loss: Loss) -> str:
    """Return what a service lost, and when."""
    s = "" if loss.spans == 1 else "s"
    return f"{loss.service} lost {loss.spans} span{s} between {loss.first_at:%H:%M:%S} and {loss.last_at:%H:%M:%S}"


def _began(judged: Delivery | Cause) -> datetime:
    if isinstance(judged, Delivery):
        return corrected(judged.sent_at, judged.sender_clock_offset_s) or judged.since
    return judged.first_at or datetime(1970, 1, 2, tzinfo=UTC)
