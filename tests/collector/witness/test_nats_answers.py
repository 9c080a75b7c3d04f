"""What the NATS witness makes of answers that no JetStream or monitoring endpoint would give: trouble, and the rest is seen."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.msg import Msg
from nats_guarded import GuardedNats
from scenario_support import watching

from hopwatch_collector.engine import Store
from hopwatch_collector.witness.model import Look
from hopwatch_collector.witness.nats import NatsWitness
from hopwatch_demo.patience import scale_wait

pytestmark = pytest.mark.nats

Answer = Callable[[str, dict[str, Any]], bytes]
"""Subject behind `$JS.API.` and request → answer."""


class WithoutJetStream(GuardedNats):
    """A server on which others may answer for JetStream."""

    def prepare(self) -> None:
        super().prepare()
        self.write(jetstream=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedNats]:
    """A NATS server of this file's own."""
    GuardedNats.provide()
    nats_server = WithoutJetStream(Path(tmp_path_factory.mktemp("nats"), "own"))
    nats_server.start()
    yield nats_server
    nats_server.stop(hard=True)


@pytest.fixture
async def answered(server: GuardedNats) -> AsyncIterator[Callable[[Answer], Any]]:
    """Has somebody answer for JetStream, and returns what the witness sees."""
    client = await nats.connect(server.url, connect_timeout=scale_wait(20))
    witnesses: list[NatsWitness] = []

    async def look(answer: Answer) -> Look:
        async def respond(message: Msg) -> None:
            told = json.loads(message.data or b"{}")
            await message.respond(answer(message.subject.removeprefix("$JS.API."), told))

        await client.subscribe("$JS.API.>", cb=respond)
        await client.flush()
        witness = server.witness_with(None)
        witnesses.append(witness)
        return await witness.look()

    yield look
    for witness in witnesses:
        await witness.close()
    await client.close()


def stream(name: Any = "ORDERS", **more: Any) -> dict[str, Any]:
    """A stream as JetStream tells of it."""
    return {
        "config": {"name": name, "subjects": ["orders.>"]}, "state": {"first_seq": 1, "last_seq": 9}, **more,
    }  # fmt: skip


def consumer(name: Any = "billing", **more: Any) -> dict[str, Any]:
    """A consumer as JetStream tells of it."""
    return {
        "name": name, "stream_name": "ORDERS", "created": "2026-01-02T03:04:05.123456789Z",
        "config": {"ack_policy": "explicit"}, "delivered": {"consumer_seq": 3, "stream_seq": 3},
        "ack_floor": {"stream_seq": 2}, "num_pending": 6, "num_ack_pending": 1, **more,
    }  # fmt: skip


def listed(streams: Any, consumers: Any) -> Answer:
    """These streams, each with these consumers."""

    def answer(subject: str, told: Mapping[str, Any]) -> bytes:
        field, entries = ("streams", streams) if subject == "STREAM.LIST" else ("consumers", consumers)
        total = len(entries) if isinstance(entries, list) else 1
        return json.dumps({field: entries, "total": total, "offset": told["offset"]}).encode()

    return answer


@pytest.mark.parametrize(
    "text",
    [
        b"", b"<html><body>404</body></html>", b"null", b"[]", b'"streams"', b"\xff\xfe\x00", b"[" * 100_000, b"9" * 5000,
        b'{"streams": 7, "total": 1}', b'{"streams": [], "total": "many"}'.replace(b"[]", b"[{}]"),
        b'{"error": "no"}', b'{"error": {"code": 503, "description": "off\\u001b[31m"}}',
        b'{"streams": [{}], "total": 1000000000, "offset": 17}',
    ],
)  # fmt: skip
async def test_no_list(answered: Callable[[Answer], Any], text: bytes) -> None:
    """An answer that is no list is named as trouble, in words that may be shown, and nothing is taken for gone."""
    look = await answered(lambda subject, told: text)
    assert look.partial
    assert look.blind[0].startswith(("JetStream's STREAM.LIST", "what JetStream says of a stream"))
    assert look.blind[0].isprintable()
    assert not look.positions


@pytest.mark.parametrize(
    "odd",
    [
        None, 7, [], {}, stream(None), stream(""), stream("two words"), stream("a.b"), stream("*"), stream("x\r\nPUB a 1\r\nb"),
        stream("NUL\x00"), stream(state=None), stream(state={"first_seq": 2**64, "last_seq": 2}),
        stream(state={"first_seq": "1", "last_seq": 2}), stream(state={"first_seq": -1, "last_seq": 2}),
        stream(config={"name": "X", "sources": 7}), stream(config={"name": "X", "sources": [{}]}),
        stream(config={"name": "X", "sources": [{"name": 7}]}), stream(config={"name": "X", "mirror": "S"}),
        stream(config={"name": "X", "mirror": {"name": "GOOD", "subject_transforms": [7]}}),
        stream(config={"name": "X", "subjects": [7]}),
    ],
)  # fmt: skip
async def test_an_odd_stream(answered: Callable[[Answer], Any], odd: Any) -> None:
    """A stream that makes no sense is trouble; the one beside it is seen."""
    good = stream("GOOD")
    look = await answered(listed([odd, good], [consumer()]))
    assert {place.receiver for place in look.positions} >= {"GOOD/billing"}
    assert len(look.positions) == 1
    assert any("makes no sense" in why and why.isprintable() for why in look.blind)


@pytest.mark.parametrize(
    "odd",
    [
        None, "billing", {}, consumer(None), consumer(""), consumer(["a"]), consumer("mark\x1f>"), consumer(created=None),
        consumer(created=5), consumer(created="yesterday"), consumer(delivered=None), consumer(delivered={"stream_seq": 1}),
        consumer(num_pending=2**70), consumer(num_ack_pending=-1), consumer(num_pending=True), consumer(num_waiting="many"),
        consumer(config=None), consumer(config={"filter_subjects": 7}), consumer(config={"filter_subjects": [7]}),
        consumer(ack_floor={}),
    ],
)  # fmt: skip
async def test_an_odd_consumer(answered: Callable[[Answer], Any], odd: Any) -> None:
    """A consumer that makes no sense is trouble; the one beside it is seen, and nothing of its stream taken for gone."""
    look = await answered(listed([stream()], [odd, consumer("good")]))
    assert "ORDERS/good" in {place.receiver for place in look.positions}
    assert look.partial
    assert any("makes no sense" in why and why.isprintable() for why in look.blind)


async def test_streams_that_copy_from_each_other(answered: Callable[[Answer], Any]) -> None:
    """However they are tied together, what comes in is known, each once."""
    every = [
        stream(f"S{number}", config={
            "name": f"S{number}", "subjects": [f"s{number}"], "sources": [{"name": f"S{other}"} for other in range(30)],
        })
        for number in range(30)
    ]  # fmt: skip
    look = await answered(listed(every, [consumer()]))
    assert {claim.pattern for claim in look.claims if claim.receiver == "S0/billing"} == {
        f"s{number}" for number in range(30)
    }


async def test_names_of_any_kind_are_kept(answered: Callable[[Answer], Any], store: Store) -> None:
    """Quotes, escapes, line ends, surrogates and great lengths in names reach the engine, bounded."""
    names = [
        'it\'s "quoted"',
        "\x1b[31mred\x07",
        "line\nend\ttab",
        "half \ud83d",
        "x" * 5000,
        "'; DROP TABLE ledger --",
    ]
    look = await answered(listed([stream()], [consumer(name) for name in names]))

    class Seen:
        system, broker = "nats", "nats:4222"

        async def look(self) -> Look:
            return look

        async def hidden(self, missing: Any) -> Mapping[Any, str]:
            return {}

        async def close(self) -> None: ...

    watch = watching(Seen(), store)
    await watch.once()
    kept = {row["receiver"] for row in store.standing_places("nats", watch._id)}
    assert {f"ORDERS/{name}" for name in names[:3]} <= kept
    assert "ORDERS/half ?" in kept
    assert f"ORDERS/{'x' * 505}" in kept
    assert len(kept) == len(names)


async def test_advisories_anybody_may_send(server: GuardedNats, store: Store) -> None:
    """Of what is sent as an advisory, only what one can be is taken, and no look fails for the rest."""
    witness = server.witness()
    await witness.look()
    client = await nats.connect(server.url, connect_timeout=scale_wait(20))
    good = {
        "type": "io.nats.jetstream.advisory.v1.terminated", "timestamp": "2026-01-02T03:04:05Z", "stream": "ORDERS",
        "consumer": "billing", "stream_seq": 7, "deliveries": 1, "reason": "no\x1b[31m",
    }  # fmt: skip
    odd: list[Any] = [
        None, [], "x", {}, good | {"type": {}}, good | {"stream_seq": 2**80}, good | {"stream_seq": None},
        good | {"timestamp": 5}, good | {"consumer": ""}, good | {"deliveries": -1},
    ]  # fmt: skip
    for text in [b"", b"<", *(json.dumps(one).encode() for one in [*odd, good | {"deliveries": 2**40}])]:
        await client.publish("$JS.EVENT.ADVISORY.CONSUMER.X", text)
    await client.flush()
    await witness._client.flush()
    (seen,) = (await witness.look()).sightings
    assert (seen.receiver, seen.offset, seen.attempts) == ("ORDERS/billing", 7, 2**32 - 1)
    assert seen.reason.isprintable()
    await client.close()
    await witness.close()


@contextmanager
def monitoring(body: bytes, status: int = 200, *, endless: bool = False) -> Iterator[str]:
    """A web server that answers everything with this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            try:
                self.wfile.write(body)
                while endless:
                    self.wfile.write(b" " * 1_000_000)
            except OSError:
                return

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        thread = threading.Thread(target=web.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()
        thread.join()


def connections(*told: Any, total: Any = None) -> bytes:
    """An answer of `/connz`."""
    return json.dumps({"connections": list(told), "total": len(told) if total is None else total}).encode()


def connection(*subjects: Any, **more: Any) -> dict[str, Any]:
    """A connection with plain subscriptions."""
    return {
        "cid": 5,
        "name": "shop",
        "subscriptions_list_detail": [{"subject": one} for one in subjects],
        **more,
    }


GOOD = connection("a.good")


async def _subscribers(server: GuardedNats, body: bytes, **more: Any) -> tuple[set[tuple[str, str]], str]:
    """Who is seen to be subscribed, and the trouble."""
    with monitoring(body, **more) as url:
        witness = server.witness_with(url)
        look = await witness.look()
        await witness.close()
        await asyncio.sleep(0)
    return {(claim.pattern, claim.receiver) for claim in look.claims}, "; ".join(look.blind)


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (b"<html><body>Sign in</body></html>", {}), (b"", {}), (b"null", {}), (b"[]", {}), (b"{}", {"status": 503}),
        (b"{}", {"status": 302}), (b'{"connections": 7, "total": 1}', {}), (b"[" * 100_000, {}),
        (b"{", {"endless": True}),
    ],
    ids=["HTML", "nothing", "null", "list", "503", "redirect", "no connections", "deep", "endless"],
)  # fmt: skip
async def test_no_monitoring_endpoint(server: GuardedNats, body: bytes, more: dict[str, Any]) -> None:
    """What answers like no monitoring endpoint is trouble, in words that may be shown."""
    seen, trouble = await _subscribers(server, body, **more)
    assert not seen
    assert trouble.startswith("plain subscribers are not all seen: 127.0.0.1")
    assert trouble.isprintable()


@pytest.mark.parametrize(
    "odd",
    [
        None, 7, [], connection("b", cid=None, name=None), connection(None), connection(7), connection(""), connection("a\x1fb"),
        connection("b", name=["x"]), {"cid": 6, "subscriptions_list_detail": 7}, {"cid": 6, "subscriptions_list_detail": [None]},
    ],
)  # fmt: skip
async def test_an_odd_connection(server: GuardedNats, odd: Any) -> None:
    """A connection that makes no sense is trouble; the one beside it is seen."""
    seen, trouble = await _subscribers(server, connections(odd, GOOD))
    assert seen == {("a.good", "client shop:a.good")}
    assert "makes no sense" in trouble


async def test_a_list_that_never_ends(server: GuardedNats) -> None:
    """An endpoint that always promises more is asked so many times and no more."""
    seen, trouble = await _subscribers(server, connections(GOOD, total=10**12))
    assert seen == {("a.good", "client shop:a.good")}
    assert "and no more" in trouble


async def test_a_list_cut_short(server: GuardedNats) -> None:
    """An endpoint that promises more and has none is believed no more than it shows."""
    pages = json.dumps({"connections": None, "total": 5}).encode()
    seen, trouble = await _subscribers(server, pages)
    assert not seen
    assert "promises 5 connections and tells of 0" in trouble
