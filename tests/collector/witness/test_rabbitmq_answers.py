"""What the RabbitMQ witness makes of answers that are odd, hostile or no answers at all, served by a real HTTP server."""

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenario_support import watching

from hopwatch_collector.engine import Store
from hopwatch_collector.witness import rabbitmq_management
from hopwatch_collector.witness.model import EXACTLY, Look, Place, WitnessAway
from hopwatch_collector.witness.rabbitmq import RabbitMQWitness
from hopwatch_collector.witness.rabbitmq_answers import Nonsense, listed

GOOD = {"name": "orders", "messages_ready": 3, "messages_unacknowledged": 1, "consumers": 2}
"""A queue as the management API tells it."""


class Management:
    """Answers as a management API might, with what each list is to hold: text as it is, anything else as JSON."""

    def __init__(self) -> None:
        self.lists: dict[str, Any] = {
            "queues": [],
            "exchanges": [],
            "bindings": [],
            "policies": [],
            "nodes": [],
            "cluster-name": {"name": "rabbit@here"},
        }
        self.status = 200
        lists = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                told = lists.lists[self.path.split("/")[2].partition("?")[0]]
                body = told if isinstance(told, bytes) else json.dumps(told).encode()
                self.send_response(lists.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    async def look(self) -> Look:
        """What a witness sees."""
        witness = self.witness()
        try:
            return await witness.look()
        finally:
            await witness.close()

    def witness(self) -> RabbitMQWitness:
        return RabbitMQWitness(f"http://guest:guest@127.0.0.1:{self.server.server_port}")


@pytest.fixture
def management() -> Iterator[Management]:
    """A server of this test's own."""
    one = Management()
    yield one
    one.server.shutdown()
    one.server.server_close()


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>Log in</html>", b"", b"{", b"\xff\xfe", b"[" * 100_000, b"9" * 5000, {"error": "not_found"}, None, 7,
        {"items": [GOOD], "page": 1},
    ],
)  # fmt: skip
@pytest.mark.parametrize("what", ["queues", "exchanges", "bindings"])
async def test_what_is_no_list_is_told(management: Management, what: str, answer: object) -> None:
    """Whatever else comes instead of a list, the witness says that it cannot see, and where the answer was from."""
    management.lists[what] = answer
    with pytest.raises(WitnessAway, match=r"RabbitMQ at 127\.0\.0\.1:\d+: an answer that is no (JSON|list)"):
        await management.look()


@pytest.mark.parametrize(
    "odd",
    [
        None, 7, "orders", [], {}, {"name": None}, {"name": 7}, {"name": ["orders"]}, {"name": "x" * 513},
        {"name": "\ud800"}, {"name": "otherwise\x1forders"},
    ],
)  # fmt: skip
async def test_what_makes_no_sense_is_left_out(management: Management, store: Store, odd: object) -> None:
    """One entry that makes no sense costs no other; it is said, and nothing that is missing counts as deleted."""
    place = Place("orders")
    watch = watching(management.witness(), store)
    management.lists["queues"] = [GOOD, {"name": "gone?"}]
    await watch.once()
    assert watch.trouble is None
    management.lists["queues"] = [odd, GOOD | {"messages_ready": 4}]
    await watch.once()
    assert "1 of the queues make no sense" in (watch.trouble or "")
    standing = {row["receiver"] for row in store.standing_places("rabbitmq", watch._id)}
    assert standing == {place.receiver, "gone?"}
    await watch._witness.close()


@pytest.mark.parametrize("value", [None, "7", 1.5, 1e300, True, -1, 1 << 62, 10**400, [], {}, "x" * 10_000])
async def test_figures_that_make_no_sense_are_not_told(
    management: Management, store: Store, value: object
) -> None:
    """A field that is missing or of another kind says nothing, whichever it is, and can be written down."""
    names = ("messages_ready", "messages_unacknowledged", "consumers", "head_message_timestamp", "node",
             "exclusive", "auto_delete", "message_stats", "arguments", "effective_policy_definition")  # fmt: skip
    counters = ("publish", "deliver_get", "ack", "deliver_no_ack", "get_no_ack")
    limits = ("x-message-ttl", "x-max-length", "x-max-length-bytes", "x-dead-letter-exchange",
              "x-dead-letter-routing-key")  # fmt: skip
    management.lists["queues"] = [
        {"name": "fields", **dict.fromkeys(names, value)},
        {
            "name": "inside",
            "message_stats": dict.fromkeys(counters, value),
            "arguments": dict.fromkeys(limits, value),
        },
        GOOD,
    ]
    management.lists["exchanges"] = [
        {"name": "hub", "type": "topic", "arguments": value, "policy": value},
        {"name": "other", "type": "direct", "arguments": {"alternate-exchange": value}, "policy": "p"},
    ]
    management.lists["bindings"] = [
        {
            "source": "hub",
            "destination": "inside",
            "destination_type": "queue",
            "routing_key": "#",
            "arguments": value,
        }
    ]
    management.lists["policies"] = [{"name": "p", "definition": value}]
    management.lists["nodes"] = [{"name": "n", "uptime": value}]
    watch = watching(management.witness(), store)
    await watch.once()
    assert watch.trouble is None
    look = await watch._witness.look()
    await watch._witness.close()
    assert (look.positions[Place("fields")].waiting, look.positions[Place("fields")].consumers) == (-1, -1)
    assert look.positions[Place("inside")].published == 0
    assert look.positions[Place("inside")].max_length == -1
    assert look.positions[Place("orders")].waiting == 3
    rows = {row["receiver"] for row in store.standing_places("rabbitmq", watch._id)}
    assert rows == {"fields", "inside", "orders"}


async def test_old_statistics_are_no_restart(management: Management, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node tells its uptime as of its last statistics; only one that is shorter than before began anew."""
    clock = [1_000.0]
    monkeypatch.setattr("hopwatch_collector.witness.rabbitmq.time.time", lambda: clock[0])
    witness = management.witness()
    began = []
    for now, uptime_s, published in (
        (1_000.0, 900, 7), (1_011.0, 900, 8), (1_011.5, 911, 9), (1_071.0, 911, 9), (1_071.1, 971, 9), (1_080.0, 3, 0),
    ):  # fmt: skip
        clock[0] = now
        management.lists["nodes"] = [{"name": "n", "uptime": uptime_s * 1_000}]
        management.lists["queues"] = [GOOD | {"node": "n", "message_stats": {"publish": published}}]
        began.append((await witness.look()).positions[Place("orders")].first)
    await witness.close()
    assert began == [100] * 5 + [1_077]


NASTY = [
    'it\'s "quoted"; DROP TABLE ledger --',
    "two\nlines\ttab",
    "\x1b[31mred\x1b[0m",
    "a:b:c",
    "",
    "*.#",
    "naïve ☃",
    "\x00",
]
"""Names that RabbitMQ allows, or that a hostile one may tell."""


@pytest.mark.parametrize("name", [name for name in NASTY if name])
async def test_any_name_is_kept_as_it_is(management: Management, store: Store, name: str) -> None:
    """Quotes, newlines, escapes, colons and wildcards in names are names, all the way into the engine and back."""
    management.lists["queues"] = [GOOD | {"name": name}]
    management.lists["exchanges"] = [{"name": name, "type": "direct"}]
    management.lists["bindings"] = [
        {"source": name, "destination": name, "destination_type": "queue", "routing_key": name}
    ]
    watch = watching(management.witness(), store)
    await watch.once()
    await watch._witness.close()
    assert watch.trouble is None
    [place] = store.standing_places("rabbitmq", watch._id)
    claims = {row["pattern"].removeprefix(EXACTLY) for row in store.standing_claims("rabbitmq", watch._id)}
    assert (place["receiver"], claims) == (name, {name, f"{name}:{name}"})


async def test_an_answer_without_end_is_cut_off(
    management: Management, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than so many bytes of an answer are read."""
    monkeypatch.setattr(rabbitmq_management, "LARGEST", 1 << 20)
    management.lists["queues"] = b"[" + b"1," * (1 << 20)
    with pytest.raises(WitnessAway, match="more than 1 MiB"):
        await management.look()


async def test_many_queues_are_seen(management: Management) -> None:
    """A long list is an ordinary one."""
    management.lists["queues"] = [GOOD | {"name": f"q{n}"} for n in range(20_000)]
    look = await management.look()
    assert len(look.positions) == len(look.claims) == 20_000


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "login refused"), (403, "login refused"), (404, "answered 404"), (302, "answered 302"), (500, "answered 500")],
)  # fmt: skip
async def test_a_refusal_is_told(management: Management, status: int, said: str) -> None:
    """A status that is no success is told, and no body is taken for an answer."""
    management.status = status
    with pytest.raises(WitnessAway, match=said):
        await management.look()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("name"), inner, max_size=3)
    ),
)


@given(JSON | st.lists(JSON))
def test_any_json_is_a_list_or_nonsense(told: object) -> None:
    """Whatever JSON comes, the answer is named things and a count of others, or Nonsense."""
    try:
        found = listed(json.dumps(told).encode(), ("name",))
    except Nonsense:
        assert not isinstance(told, list)
        return
    assert isinstance(told, list)
    assert len(found.rows) + found.left_out == len(told)
    assert all(isinstance(row, Mapping) and row["name"].encode() is not None for row in found.rows)


async def test_exchanges_that_delay(management: Management) -> None:
    """What is sent to one, or to one that leads there, may come later, and its queues get messages that are not counted."""
    delaying = {"name": "later", "type": "x-delayed-message", "arguments": {"x-delayed-type": "topic"}}
    management.lists["queues"] = [GOOD, {"name": "other"}]
    management.lists["exchanges"] = [
        delaying,
        {"name": "hub", "type": "fanout"},
        {"name": "plain", "type": "fanout"},
    ]
    management.lists["bindings"] = [
        {"source": source, "destination": to, "destination_type": kind, "routing_key": key, "arguments": {}}
        for source, to, kind, key in (
            ("later", "orders", "queue", "eu.*"), ("hub", "later", "exchange", ""), ("plain", "other", "queue", ""),
        )
    ]  # fmt: skip
    look = await management.look()
    assert {claim.pattern for claim in look.claims} == {
        "orders", "other", "delayed\x1flater:eu.*", "delayed\x1fhub:eu.*", "plain:#",
    }  # fmt: skip
    assert {place.receiver: one.uncounted for place, one in look.positions.items()} == {
        "orders": True,
        "other": False,
    }


@pytest.mark.parametrize(
    ("queue", "kind"),
    [
        ({"type": "stream"}, "stream"),
        ({"arguments": {"x-queue-type": "stream"}}, "stream"),
        ({"type": "classic", "arguments": {"x-max-priority": 5}}, "unordered"),
        ({"type": "quorum", "arguments": {"x-max-priority": 0}}, ""),
        ({"type": 7, "arguments": []}, ""),
    ],
)
async def test_what_is_more_than_a_queue(management: Management, queue: dict[str, Any], kind: str) -> None:
    """Streams keep their messages, and queues with priorities hand them out in another order."""
    management.lists["queues"] = [GOOD | queue]
    look = await management.look()
    assert look.positions[Place("orders")].kind == kind
