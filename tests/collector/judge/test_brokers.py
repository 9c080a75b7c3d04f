"""Which broker is meant: evidence of one decides nothing of another, whatever names they have in common."""

from typing import Any

import pytest
from evidence_support import known, looked, stood
from ledger_support import S, committed, in_kafka, judged, processed, sent, subscribed, take, verdicts

from hopwatch_collector.engine import Store

A = {"hopwatch__broker": "cluster-a"}
B = {"hopwatch__broker": "cluster-b"}


def in_cluster(of: dict[str, str], offset: int = 7) -> S:
    """A record of `orders` in one of two clusters."""
    return sent("orders", "kafka", **in_kafka(offset), **of)


def owed(store: Store, *clusters: dict[str, str]) -> None:
    """The group billing is subscribed to `orders` in these clusters."""
    take(store, *(subscribed("orders", "billing", system="kafka", start=-60.0).but(**of) for of in clusters))


def causes(store: Store, now: float = 10.0) -> dict[tuple[str, str], str]:
    """Causes by broker and receiver."""
    return {(row["broker"], row["receiver"]): row["cause"] for row in judged(store, now=now)}


def test_a_commit_in_one_cluster_says_nothing_of_another(store: Store) -> None:
    """Two clusters with the same topic and group: one's commit passes the other's record, which waits all the same."""
    owed(store, A, B)
    take(store, in_cluster(A), in_cluster(B), committed("orders", 9).but(**A))
    found = causes(store)
    assert found["cluster-a", "billing"] == "skipped"
    assert found["cluster-b", "billing"] == "waiting.no_evidence"


def test_a_position_in_one_cluster_says_nothing_of_another(store: Store) -> None:
    """What a witness sees of a group belongs to the cluster it looked at, by whatever name that is watched."""
    known(store, "kafka", "east", "cluster-a")
    known(store, "kafka", "west", "cluster-b")
    owed(store, A, B)
    take(store, in_cluster(A), in_cluster(B))
    place = {"destination": "orders", "partition": "0", "first": 0, "end": 20}
    stood(store, "kafka", "billing", 2.0, broker="cluster-a", next=10, done=10, **place)
    stood(store, "kafka", "billing", 2.0, broker="cluster-b", next=5, done=5, **place)
    looked(store, "kafka", 20.0, broker="east")
    looked(store, "kafka", 20.0, broker="west")
    assert causes(store, now=21.0) == {
        ("east", "billing"): "settled.uninstrumented",
        ("west", "billing"): "waiting.held",
    }


def test_subscribers_of_another_cluster_are_owed_nothing(store: Store) -> None:
    """A record is owed to the groups of its own cluster only."""
    known(store, "kafka", "east", "cluster-a")
    known(store, "kafka", "west", "cluster-b")
    owed(store, B)
    take(store, in_cluster(A))
    looked(store, "kafka", 9.0, broker="east")
    assert causes(store) == {("east", ""): "no_receiver.broker"}


def test_a_broker_that_is_not_watched_is_named(store: Store) -> None:
    """Another cluster is watched: that is no word on this one, and the reason says whose word is missing."""
    known(store, "kafka", "east", "cluster-a")
    owed(store, A, B)
    take(store, in_cluster(B))
    looked(store, "kafka", 59.0, broker="east")
    (row,) = judged(store, now=60.0)
    assert row["cause"] == "overdue.no_evidence"
    assert row["why"].endswith("its broker, cluster-b, is not watched")
    assert "broker" not in row["witnesses"]


@pytest.mark.parametrize(("now", "cause"), [(10.0, "waiting.no_evidence"), (60.0, "unknown.which_broker")])
def test_of_several_brokers_the_one_meant_has_to_be_told(store: Store, now: float, cause: str) -> None:
    """A sender that does not tell its cluster may mean either: nothing is claimed from what one of them shows."""
    known(store, "kafka", "east", "cluster-a")
    known(store, "kafka", "west", "cluster-b")
    take(store, in_cluster({}))
    looked(store, "kafka", 59.0, broker="east")
    looked(store, "kafka", 59.0, broker="west")
    assert causes(store, now=now) == {("", ""): cause}


def test_an_untold_sender_is_believed_its_receiver(store: Store) -> None:
    """Where the receiver tells its cluster, that is where the record was."""
    known(store, "kafka", "east", "cluster-a")
    known(store, "kafka", "west", "cluster-b")
    send = in_cluster({})
    take(store, send, processed(send, settle="none").but(**B), committed("orders", 8).but(**B))
    assert causes(store) == {("west", "billing"): "settled.committed"}


def test_a_subscriber_that_does_not_tell_its_broker_may_be_owed(store: Store) -> None:
    """With several brokers, its subscription is no ground to say that nobody was owed the record."""
    known(store, "kafka", "east", "cluster-a")
    known(store, "kafka", "west", "cluster-b")
    owed(store, {})
    take(store, in_cluster(A))
    looked(store, "kafka", 59.0, broker="east")
    assert causes(store, now=60.0) == {("east", ""): "unknown.which_broker"}


@pytest.mark.parametrize("sender", [A, {}], ids=["told", "untold"])
@pytest.mark.parametrize("receiver", [A, {}], ids=["told", "untold"])
def test_the_only_broker_is_meant(store: Store, sender: dict[str, str], receiver: dict[str, str]) -> None:
    """Where one cluster is known, clients too old to tell it mean that one: older and newer services meet."""
    owed(store, receiver)
    take(store, in_cluster(sender), committed("orders", 9).but(**receiver))
    assert set(causes(store).values()) == {"skipped"}


def test_servers_of_one_nats_system_are_one_broker(store: Store) -> None:
    """A server's id changes whenever it starts, and clients may be connected to any server of a cluster."""
    known(store, "nats", "messages", "NA", "NB")
    take(store, subscribed(durable=False, start=-1.0).but(hopwatch__broker="NB"), sent(hopwatch__broker="NA"))
    assert [(row["broker"], row["receiver"]) for row in judged(store)] == [("messages", "billing")]


def test_nats_servers_nobody_watches_are_not_told_apart(store: Store) -> None:
    """They may be linked: a subscriber at another server is owed what it subscribed to."""
    take(store, subscribed(durable=False, start=-1.0).but(hopwatch__broker="NB"), sent(hopwatch__broker="NA"))
    assert set(verdicts(store)) == {"billing"}


def test_queues_of_another_virtual_host_are_others(store: Store) -> None:
    """An idle queue `billing` in `/` does not say that what went to `billing` of another virtual host was taken."""
    known(store, "rabbitmq", "main", "rabbit@a/")
    owner = subscribed(":billing", "billing", system="rabbitmq", start=-60.0)
    take(store, owner.but(hopwatch__broker="rabbit@a/audit"))
    take(store, sent(":billing", "rabbitmq", hopwatch__broker="rabbit@a/audit"))
    idle = {"broker": "rabbit@a/", "waiting": 0, "in_hand": 0, "consumers": 1}
    stood(store, "rabbitmq", "billing", -30.0, **idle, published=4, handed=4, acked=4)
    stood(store, "rabbitmq", "billing", 2.0, **idle, published=5, handed=5, acked=5)
    looked(store, "rabbitmq", 59.0, broker="main")
    (row,) = judged(store, now=60.0)
    assert (row["broker"], row["cause"]) == ("rabbit@a/audit", "overdue.no_evidence")


def test_a_copy_is_judged_where_it_was_taken_from(store: Store) -> None:
    """A bridge copied the record with its headers: the copy's receiver has read an offset of its own, the original waits on."""
    owed(store, A)
    send = in_cluster(A)
    copy: dict[str, Any] = {**B, "messaging__kafka__offset": 2, "hopwatch__receiver": "audit"}
    take(store, send, processed(send, settle="none").but(**copy), committed("orders", 3, "audit").but(**B))
    assert causes(store) == {
        ("cluster-a", "billing"): "waiting.no_evidence",
        ("cluster-b", "audit"): "settled.committed",
    }


def test_a_copy_on_another_topic_has_another_offset(store: Store) -> None:
    """The group has committed past the original's offset there, and not past the copy's."""
    send = sent("orders", "kafka", **in_kafka(1))
    copy: dict[str, Any] = {
        "hopwatch__destination": "orders.v2", "messaging__destination__name": "orders.v2", "messaging__kafka__offset": 5,
    }  # fmt: skip
    take(store, send, processed(send, settle="none").but(**copy), committed("orders.v2", 5))
    (row,) = judged(store)
    assert (row["destination"], row["offset"], row["cause"]) == ("orders.v2", 5, "in_flight.unsettled")


def test_receivers_of_another_kind_of_broker_tell_nothing_of_these(store: Store) -> None:
    """A NATS queue group that tells what it does bears the name of a Kafka group that does not."""
    other = sent("stock", "nats")
    take(store, other, processed(other, "billing"))
    owed(store, {})
    take(store, in_cluster({}))
    place = {"destination": "orders", "partition": "0", "first": 0, "end": 20}
    stood(store, "kafka", "billing", 2.0, next=10, done=10, **place)
    looked(store, "kafka", 20.0)
    (row,) = [row for row in judged(store, now=21.0) if row["system"] == "kafka"]
    assert row["cause"] == "settled.uninstrumented"


def test_of_several_names_the_newest_counts(store: Store) -> None:
    """A broker that is watched under another name from today on is the same one, and what was seen of it before stays its own."""
    known(store, "kafka", "kafka:9092", "cluster-a")
    known(store, "kafka", "east", "cluster-a")
    owed(store, A)
    take(store, in_cluster(A))
    place = {"destination": "orders", "partition": "0", "first": 0, "end": 20, "next": 10, "done": 10}
    stood(store, "kafka", "billing", 2.0, broker="cluster-a", **place)
    looked(store, "kafka", 3.0, broker="kafka:9092")
    looked(store, "kafka", 20.0, broker="east")
    assert causes(store, now=21.0) == {("east", "billing"): "settled.uninstrumented"}
