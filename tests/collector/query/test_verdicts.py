"""Every verdict, from the facts that lead to it."""

from dataclasses import replace

import pytest
from ledger_support import (
    CLIENT,
    ERROR,
    REMOTE,
    SERVER,
    S,
    committed,
    in_kafka,
    judged,
    new_span,
    opened,
    processed,
    sent,
    subscribed,
    take,
    verdicts,
)

from hopwatch_collector.engine import Store


def only(store: Store, **more: float) -> tuple[str, str]:
    """Verdict and reason of the one delivery there is."""
    rows = judged(store, **more)
    assert len(rows) == 1, rows
    return rows[0]["verdict"], rows[0]["why"]


def test_an_ack_settles(store: Store) -> None:
    """An acknowledged attempt settles the delivery, with both witnesses."""
    send = sent()
    take(store, send, processed(send))
    row = judged(store)[0]
    assert (row["verdict"], row["receiver"], row["why"]) == (
        "settled",
        "billing",
        "acknowledged by the receiver",
    )
    assert row["witnesses"] == ["producer", "consumer"]
    assert (row["producer"], row["consumer"]) == ("shop", "billing")


def test_a_consumer_alone_settles(store: Store) -> None:
    """Where the sender was not seen the consumer's word counts, and it is the only witness."""
    take(store, processed(sent()))
    row = judged(store)[0]
    assert (row["verdict"], row["witnesses"], row["producer"]) == ("settled", ["consumer"], "")


def test_no_acknowledgement_needed(store: Store) -> None:
    """A receiver that needs no acknowledgement settles by processing without error."""
    send = sent()
    take(store, send, processed(send, settle="auto"))
    assert only(store)[0] == "settled"


def test_a_late_settle_span_settles(store: Store) -> None:
    """A settlement after the handler's end comes as a span of its own and counts for its attempt."""
    send = sent()
    process = processed(send, settle="none")
    take(store, send, process)
    assert only(store)[0] == "in_flight"
    take(
        store,
        process.but(
            kind=CLIENT, start=4.0, end=4.0, id=b"settle--", parent=process.id, flags=0,
            messaging__operation__type="settle", hopwatch__settle__outcome="ack",
        ),
    )  # fmt: skip
    assert only(store)[0] == "settled"


def test_kafka_settles_when_processed_and_committed_past(store: Store) -> None:
    """A Kafka record is settled by processing without error and a commit beyond its offset, not by either alone."""
    send = sent("orders", "kafka", **in_kafka(7))
    take(store, send, processed(send, settle="none"))
    assert only(store) == ("in_flight", "processed, not yet settled")
    take(store, committed("orders", 7))
    assert only(store)[0] == "in_flight"
    take(store, committed("orders", 8, start=3.0))
    row = judged(store)[0]
    assert row["verdict"] == "settled"
    assert (
        row["since"].second == committed("orders", 8, start=3.0).start % 60
        or row["settled_at"] > row["received_at"]
    )


def test_commits_of_other_partitions_and_groups_do_not_count(store: Store) -> None:
    """Only the same group's commit on the same partition passes a record."""
    send = sent("orders", "kafka", **in_kafka(7, "1"))
    take(
        store, send, processed(send, settle="none"), committed("orders", 9, partition="0"), committed("orders", 9, "mail", partition="1"),
        committed("refunds", 9, partition="1"),
    )  # fmt: skip
    assert only(store)[0] == "in_flight"


def test_commits_before_a_topic_was_made_anew_do_not_count(store: Store) -> None:
    """A commit long before the message belongs to an earlier topic of the same name."""
    send = sent("orders", "kafka", **in_kafka(7))
    take(store, send, processed(send, settle="none"), committed("orders", 100, start=-600.0))
    assert only(store)[0] == "in_flight"


def test_kafka_processed_but_never_committed_is_stuck(store: Store) -> None:
    """A record processed and not committed within the deadline is stuck."""
    send = sent("orders", "kafka", **in_kafka(7))
    take(store, send, processed(send, settle="none"))
    assert only(store, now=40.0)[0] == "stuck"


def test_skipped(store: Store) -> None:
    """A subscribed group that committed past a record it never processed skipped it, after a short grace."""
    send = sent("orders", "kafka", **in_kafka(7))
    take(store, subscribed("orders", "billing", "kafka"), send, committed("orders", 9, start=2.0))
    assert verdicts(store, now=3.0) == {"billing": "waiting"}
    assert verdicts(store, now=10.0) == {"billing": "skipped"}


def test_an_answered_call_is_settled(store: Store) -> None:
    """A call is one delivery to the service that answered it, at the route it knows."""
    client = http_call()
    take(store, client, served(client))
    row = judged(store)[0]
    assert (row["verdict"], row["receiver"], row["destination"]) == ("settled", "orders", "POST /orders/{id}")
    assert (row["producer"], row["consumer"]) == ("gateway", "orders")


def test_a_call_answered_with_an_error_failed(store: Store) -> None:
    """A server error fails the call, with the server's words."""
    client = http_call()
    take(store, client, served(client).but(status=ERROR, words="boom"))
    assert only(store) == ("failed", "answered with an error: boom")


def test_a_call_of_which_only_the_client_was_seen(store: Store) -> None:
    """Without the callee's spans the receiver is the address called, and the reason says so."""
    take(store, http_call())
    row = judged(store)[0]
    assert (row["verdict"], row["receiver"], row["destination"]) == (
        "settled",
        "orders:8001",
        "POST orders:8001",
    )
    assert row["witnesses"] == ["producer"]
    assert "callee was not seen" in row["why"]


def test_a_refused_connection_returns_the_call(store: Store) -> None:
    """A call that found nobody listening is returned."""
    take(
        store,
        http_call().but(
            status=ERROR, words="refused", http__response__status_code=None, error__type="httpx.ConnectError"
        ),
    )
    assert verdicts(store) == {"": "returned"}


def test_a_call_without_an_answer_is_unconfirmed(store: Store) -> None:
    """A call that timed out may or may not have been taken."""
    take(
        store,
        http_call().but(
            status=ERROR, words="late", http__response__status_code=None, error__type="httpx.ReadTimeout"
        ),
    )
    assert verdicts(store) == {"": "unconfirmed"}


def test_grpc(store: Store) -> None:
    """A gRPC call is told by old and new names alike: the destination is package.Service/Method."""
    client = S(
        kind=CLIENT,
        service="orders",
        attributes={
            "rpc.system": "grpc",
            "rpc.service": "shop.Payments",
            "rpc.method": "Pay",
            "rpc.grpc.status_code": 0,
        },
    )
    server = S(
        kind=SERVER,
        service="payments",
        trace=client.trace,
        parent=client.id,
        flags=REMOTE,
        attributes={"rpc.system.name": "grpc", "rpc.method": "shop.Payments/Pay"},
    )
    take(store, client, server)
    row = judged(store)[0]
    assert (row["verdict"], row["receiver"], row["destination"], row["system"]) == (
        "settled",
        "payments",
        "shop.Payments/Pay",
        "grpc",
    )


def test_dead_lettered(store: Store) -> None:
    """Reading a dead-lettered copy tells what became of the original for its receiver, with the reason."""
    send = sent("events:order", "rabbitmq")
    copy = processed(
        send,
        "graveyard",
        start=2.0,
        hopwatch__dead_letter__receiver="billing",
        hopwatch__dead_letter__reason="rejected",
    )
    take(store, send, processed(send, settle="reject"), copy)
    rows = {row["receiver"]: (row["verdict"], row["why"]) for row in judged(store)}
    assert rows == {
        "billing": ("dead_lettered", "dead-lettered: rejected"),
        "graveyard": ("settled", "acknowledged by the receiver"),
    }


def test_terminated(store: Store) -> None:
    """A JetStream term ends the delivery for good, in the receiver's words."""
    send = sent()
    take(store, send, processed(send, settle="term", error="poison", hopwatch__reason="cannot parse"))
    assert only(store) == ("dead_lettered", "terminated by the receiver: cannot parse")


@pytest.mark.parametrize("outcome", ["returned", "refused", "unconfirmed"])
def test_what_the_sender_knows(store: Store, outcome: str) -> None:
    """A send that failed is one delivery without a receiver, though somebody is subscribed."""
    take(store, subscribed(), sent(outcome=outcome, hopwatch__reason="in the broker's words"))
    row = judged(store)[0]
    assert (row["verdict"], row["receiver"]) == (outcome, "")
    assert row["why"].endswith(": in the broker's words")


def test_an_unconfirmed_send_that_arrived(store: Store) -> None:
    """An outcome the sender does not know is settled by a receiver that got it."""
    send = sent(outcome="unconfirmed")
    take(store, subscribed(), send, processed(send))
    assert verdicts(store) == {"billing": "settled"}


def test_a_duplicate_that_the_broker_dropped(store: Store) -> None:
    """A duplicate the broker dropped was refused, and the reason says why."""
    take(store, subscribed(), sent(outcome="duplicate"))
    verdict, why = only(store)
    assert verdict == "refused"
    assert "duplicate" in why


def test_failed(store: Store) -> None:
    """An attempt that ended with an error and will not be repeated failed."""
    send = sent()
    take(store, send, processed(send, settle="auto", error="ValueError: no"))
    assert only(store) == ("failed", "the handler failed and nothing more is due: ValueError: no")


def test_rejected_without_a_copy(store: Store) -> None:
    """A rejection without a dead-lettered copy seen failed, and says that none was seen."""
    send = sent(system="rabbitmq")
    take(store, send, processed(send, settle="reject"))
    verdict, why = only(store)
    assert verdict == "failed"
    assert "no dead-lettered copy" in why


def test_kafka_committed_past_an_error_failed(store: Store) -> None:
    """A record whose handler failed and that was committed past will not come again."""
    send = sent("orders", "kafka", **in_kafka(7))
    take(store, send, processed(send, settle="none", error="boom"), committed("orders", 8))
    assert only(store) == ("failed", "committed past, but the handler failed: boom")


def test_in_flight_then_stuck(store: Store) -> None:
    """A hop reported open is in flight, and stuck once it has been so for longer than the deadline."""
    send = sent()
    take(store, send, opened(processed(send)))
    assert only(store, now=5.0) == ("in_flight", "being processed")
    assert only(store, now=40.0) == ("stuck", "still being processed after the deadline")


def test_an_open_hop_that_ended(store: Store) -> None:
    """The process span itself supersedes the report that it was open, in whatever order they come."""
    send = sent()
    process = processed(send, took=3.0)
    take(store, process)
    take(store, opened(process))
    take(store, send)
    assert only(store, now=100.0)[0] == "settled"


def test_waiting_then_overdue(store: Store) -> None:
    """What a durable receiver is owed waits without a sign of delivery, and is overdue after the deadline."""
    take(store, subscribed(), sent())
    assert only(store, now=10.0) == ("waiting", "no sign of delivery yet (no broker evidence)")
    assert only(store, now=40.0) == (
        "overdue",
        "no sign of delivery within the deadline (no broker evidence)",
    )


@pytest.mark.parametrize("outcome", ["nack", "requeue"])
def test_given_back(store: Store, outcome: str) -> None:
    """A message given back waits for its next attempt, from the moment it was given back."""
    send = sent()
    take(store, send, processed(send, start=20.0, settle=outcome, error="try again"))
    assert only(store, now=40.0)[0] == "waiting"
    assert only(store, now=60.0)[0] == "overdue"


def test_redelivery(store: Store) -> None:
    """A later attempt that is acknowledged settles what an earlier one gave back."""
    send = sent()
    take(store, send, processed(send, settle="nack", error="no"), processed(send, start=3.0, attempt=2))
    row = judged(store)[0]
    assert (row["verdict"], row["attempts"]) == ("settled", 2)


def test_a_crash_in_mid_processing_then_a_redelivery(store: Store) -> None:
    """An attempt that never ended does not hold up the delivery once a later one is acknowledged."""
    send = sent()
    take(store, send, opened(processed(send)), processed(send, start=5.0, attempt=2))
    assert verdicts(store, now=100.0) == {"billing": "settled"}


def test_a_plain_subscriber_that_missed_it(store: Store) -> None:
    """A plain NATS subject keeps nothing: after the deadline only the broker could tell."""
    take(store, subscribed(durable=False), sent(outcome="sent"))
    assert only(store, now=10.0)[0] == "waiting"
    verdict, why = only(store, now=40.0)
    assert verdict == "unknown"
    assert "needs the broker's evidence" in why


def test_no_receiver(store: Store) -> None:
    """What nobody is known to have been owed has no receiver, after a short grace."""
    take(store, sent(outcome="sent"))
    assert verdicts(store, now=1.0) == {"": "waiting"}
    assert verdicts(store, now=3.0) == {"": "no_receiver"}


def test_every_receiver_has_its_own_verdict(store: Store) -> None:
    """An event fanned out to three receivers is three deliveries."""
    send = sent()
    take(store, *(subscribed(receiver=name) for name in ("billing", "mail", "stock")), send)
    take(store, processed(send), processed(send, "mail", service="mail", settle="auto", error="boom"))
    assert verdicts(store) == {"billing": "settled", "mail": "failed", "stock": "waiting"}


def http_call() -> S:
    """An HTTP call as the client sees it."""
    return S(
        name="POST", service="gateway", kind=CLIENT,
        attributes={
            "http.request.method": "POST", "server.address": "orders", "server.port": 8001, "http.response.status_code": 201,
            "hopwatch.message.id": sent().message,
        },
    )  # fmt: skip


def served(client: S) -> S:
    """The same call as the server sees it."""
    return S(
        name="POST /orders/{id}", service="orders", kind=SERVER, trace=client.trace, parent=client.id, flags=REMOTE,
        attributes={"http.request.method": "POST", "http.route": "/orders/{id}", "hopwatch.message.id": client.message},
    )  # fmt: skip


def test_a_call_sent_again_under_its_id_is_settled_by_the_attempt_that_went_well(store: Store) -> None:
    """Two refusals and an answer are three attempts at one call."""
    client = http_call()
    tries = [
        served(client).but(id=new_span(), start=number / 10, end=number / 10 + 0.05, hopwatch__attempt=number)
        for number in (1, 2, 3)
    ]
    tries[:2] = [replace(one, status=ERROR, words="503") for one in tries[:2]]
    take(store, client, *reversed(tries))
    (row,) = judged(store)
    assert (row["verdict"], row["cause"], row["attempts"]) == ("settled", "settled.answered", 3)


def test_a_caller_that_gave_up_is_told_apart_from_the_callee(store: Store) -> None:
    """The callee went on and answered; nobody was there any more to hear it."""
    client = http_call().but(http__response__status_code=None, hopwatch__publish__outcome="unconfirmed")
    take(store, replace(client, status=ERROR, words="ReadTimeout"), served(client).but(start=0.5, end=3.0))
    (row,) = judged(store)
    assert (row["verdict"], row["cause"]) == ("settled", "settled.caller_gone")


def test_a_send_that_was_tried_again_is_told_apart(store: Store) -> None:
    """Nobody answered it, and its sender sent the same under another id."""
    first = sent(outcome="unconfirmed")
    again = sent(start=1.0)
    told = first.but(id=new_span(), start=1.0, end=1.0, hopwatch__reason=f"sent again as {again.message}")
    take(store, subscribed(), first, told, again)
    rows = {row["message"]: row for row in judged(store)}
    (unanswered,) = [row for row in rows.values() if row["verdict"] == "unconfirmed"]
    assert unanswered["cause"] == "unconfirmed.sent_again"
    assert again.message in unanswered["why"]
