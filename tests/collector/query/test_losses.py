"""What services lost on the way here: exact however often it is told, and said where a verdict rests on silence."""

from datetime import UTC, datetime

from ledger_support import S, asked, at, new_span, new_trace, processed, samples_of, sent, subscribed, take

from hopwatch_collector.api.models import Verdict
from hopwatch_collector.engine import Store
from hopwatch_collector.query.window import Window

LONG_AGO = datetime(1970, 1, 2, tzinfo=UTC)
WINDOW = Window(at(-60), at(7200))


def lost(since: float, until: float, *, service: str = "billing", process: str = "a", **reasons: int) -> S:
    """A report of what a process has lost since it began."""
    return S(
        name="losses", service=service, start=since, end=until, trace=new_trace(), id=new_span(),
        attributes={
            "hopwatch.report": "losses",
            "hopwatch.losses.id": process,
            **{f"hopwatch.lost.{reason}": count for reason, count in reasons.items()},
        },
    )  # fmt: skip


def test_repeated_late_and_missing_reports_never_miscount(store: Store) -> None:
    """Counts are since a process began: the highest holds, processes add up, in whatever order they are told."""
    first, second = lost(0, 10, queue_full=5), lost(20, 30, queue_full=9, refused=2)
    take(store, second)
    take(store, first, lost(5, 8, process="b", queue_full=100))
    take(store, second)
    [found] = asked(store).losses(LONG_AGO).losses
    assert (found.service, found.spans, found.processes) == ("billing", 111, 2)
    assert found.reasons == {"queue_full": 109, "refused": 2}
    assert (found.first_at, found.last_at) == (at(0), at(30))


def test_a_window_has_what_was_lost_in_it(store: Store) -> None:
    """What was told before counts for the time before."""
    take(
        store, lost(0, 10, queue_full=5), lost(200, 210, queue_full=9), lost(0, 5, service="till", refused=1)
    )
    [found] = asked(store).losses(at(100)).losses
    assert (found.service, found.reasons, found.first_at) == ("billing", {"queue_full": 4}, at(200))
    assert asked(store).losses(at(300)).losses == []
    assert [one.service for one in asked(store).losses(LONG_AGO).losses] == ["billing", "till"]


def test_a_verdict_on_a_silent_service_that_lost_spans_says_so(store: Store) -> None:
    """In lists, causes, the message itself and its evidence; messages sent after the last loss are not in doubt."""
    send, later = sent(), sent(start=500.0)
    take(store, subscribed(), send, later, lost(10, 20, queue_full=120))
    queries = asked(store)
    doubt = f"billing lost 120 spans between {at(10):%H:%M:%S} and {at(20):%H:%M:%S}"
    reasons = {one.message_id: one.reason for one in queries.deliveries(WINDOW).deliveries}
    assert reasons[send.message].endswith(f"; but {doubt}: the ledger has gaps")
    assert "lost" not in reasons[later.message]
    assert doubt in queries.undelivered(WINDOW).causes[0].reason
    told = queries.why(send.message)
    assert told is not None
    [explained] = told.explanations
    assert (explained.verdict, doubt in explained.reason) == (Verdict.OVERDUE, True)
    assert [one.says for one in explained.evidence if "lost" in one.says] == [
        f"{doubt} (120 queue_full): what it did with this message may be among them"
    ]


def test_what_others_lost_casts_no_doubt(store: Store) -> None:
    """Neither on a verdict about another service, nor on one that somebody's word decided."""
    send = sent()
    settled = sent(destination="paid")
    take(store, subscribed(), send, settled, processed(settled, service="till", receiver="till"))
    take(store, lost(10, 20, service="till", queue_full=5), lost(10, 20, service="shop", queue_full=5))
    reasons = {one.message_id: one.reason for one in asked(store).deliveries(WINDOW).deliveries}
    assert not [reason for reason in reasons.values() if "lost" in reason]


def test_a_receiver_nobody_claims_may_be_anybody(store: Store) -> None:
    """Where nobody was seen that was owed the message, whoever lost spans may have been it."""
    send = sent()
    take(store, send, lost(10, 20, service="till", queue_full=1))
    [found] = asked(store).deliveries(WINDOW).deliveries
    assert found.verdict is Verdict.NO_RECEIVER
    assert "till lost 1 span between" in found.reason


def test_metrics_and_snapshots_show_losses(store: Store) -> None:
    """Per service and reason."""
    take(store, lost(0, 10, queue_full=5, refused=2))
    samples = [sample for sample in samples_of(asked(store)) if "lost" in sample[0]]
    assert samples == [
        ("hopwatch_service_spans_lost_total", {"service": "billing", "reason": "queue_full"}, 5),
        ("hopwatch_service_spans_lost_total", {"service": "billing", "reason": "refused"}, 2),
    ]
    assert [one.spans for one in asked(store).live(7_200).losses] == [7]
    assert asked(store).live(60).losses == []
