"""The steps in C and their twins in Python say the same, byte for byte, and the C neither leaks nor lets anything through."""

import gc
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import getrandbits
from threading import current_thread
from time import monotonic, time_ns
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import default_setter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.sampling import DEFAULT_ON
from opentelemetry.trace import SpanKind

from hopwatch import ids, w3c
from hopwatch.context import FLOW_KEY, get_current
from hopwatch.conventions import Operation, PublishOutcome, SettleOutcome
from hopwatch.lean import encode, fields
from hopwatch.lean.encode import encoded
from hopwatch.lean.provider import LeanTracer, LeanTracerProvider
from hopwatch.lean.queue import SpanQueue
from hopwatch.lean.sent import LeanSend
from hopwatch.lean.settings import ExportSettings
from hopwatch.lean.span import LeanSpan
from hopwatch.native import native
from hopwatch.places import Destination, KafkaPosition, Preparations, Prepared
from hopwatch.transports.aiokafka.headers import header_getter as pairs_getter
from hopwatch.transports.aiokafka.headers import header_setter as pairs_setter
from hopwatch.wrapping import header_getter as mapping_getter

pytestmark = pytest.mark.usefixtures("by_hand")
MESSAGE = "0191d3c0-0000-7000-8000-000000000000"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

trace_ids, span_ids = st.integers(0, 2**128 - 1), st.integers(0, 2**64 - 1)
texts = st.text(st.characters(exclude_categories=()), max_size=12)  # lone surrogates too
values = st.one_of(
    texts,
    st.integers(-(1 << 70), 1 << 70),
    st.booleans(),
    st.floats(),
    st.none(),
    st.binary(max_size=4),
    st.lists(st.integers(), max_size=2).map(tuple),
    st.sampled_from(["x" * 5_000, "é" * 2_000, 127, 128, 2**63 - 1, 2**63, -(2**63), -1]),
)
own = st.dictionaries(texts | st.sampled_from(["hopwatch.message.id", "k" * 300]), values, max_size=6)
names = st.sampled_from(
    ["traceparent", "hopwatch-id", "tracestate", "baggage", "Traceparent", "HOPWATCH-ID", "content-type", "é"]
)
headers = st.lists(
    st.tuples(
        names,
        st.one_of(
            st.sampled_from([PARENT, PARENT.upper(), MESSAGE, MESSAGE.upper(), "", "hw=" + "a" * 32, PARENT + "0"]),
            st.builds("00-{:032x}-{:016x}-{:02x}".format, trace_ids, span_ids, st.integers(0, 255)),
            texts,
        ),
    ),
    max_size=4,
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _able() -> None:
    if native is None and not (
        shutil.which("cc") and Path(sysconfig.get_paths()["include"], "Python.h").exists()
    ):
        pytest.skip("hopwatch was installed where there is no C compiler")


def test_a_compiler_at_hand_was_used() -> None:
    """Where the machine can compile, the steps in C are there: their absence would only show as cost."""
    assert native is not None


@given(
    trace_ids,
    span_ids,
    st.none() | span_ids,
    st.integers(1, 5),
    st.tuples(span_ids, span_ids),
    st.binary(max_size=2_000),
    own,
)
def test_a_span_is_the_same_bytes(
    trace_id: int,
    span_id: int,
    parent: int | None,
    kind: int,
    times: tuple[int, int],
    shared: bytes,
    said: Any,
) -> None:
    """Whatever it says: texts of any length and script, numbers up to their bounds, and what only Python writes."""
    given = (trace_id, span_id, b"\x1a\x01s", parent, b"\x2a\x01n", kind, *times, shared, said, b"\x7a\x00")
    assert native.span(*given) == fields._span(*given)


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        (0, -1),
        (0, 2**128),
        (1, 2**64),
        (3, -1),
        (6, -1),
        (7, 2**64),
        (0, "1"),
        (4, "name"),
        (9, [("a", 1)]),
    ],
)
def test_what_has_no_place_in_a_span_is_refused(place: int, wrong: object) -> None:
    """Ids and times out of bounds, and things of another kind, are errors in both; nothing is cut or read as something else."""
    said: list[Any] = [1, 2, b"", 3, b"", 4, 5, 6, b"", {}, b""]
    said[place] = wrong
    for twin in (native.span, fields._span):
        with pytest.raises(Exception):  # noqa: B017, PT011 — the queue counts it, whichever it is
            twin(*said)
    with pytest.raises(TypeError):
        native.span(1, 2)


@given(trace_ids, span_ids, st.integers(0, 255))
def test_a_traceparent_is_written_and_read_alike(trace_id: int, span_id: int, flags: int) -> None:
    """What one writes the other reads."""
    written = native.traceparent(trace_id, span_id, flags)
    assert written == w3c._traceparent(trace_id, span_id, flags)
    assert native.parent(written) == w3c._parent(written) == (trace_id, span_id, flags)


@given(st.sampled_from([PARENT, MESSAGE]), st.integers(0, 60), texts | st.sampled_from(["A", "g", "-", "0"]))
@example(PARENT, 0, "")
def test_what_is_malformed_is_malformed_to_both(text: str, place: int, put: str) -> None:
    """One character more, less or other than it should be."""
    for wrong in (text[:place] + put + text[place:], text[:place] + put + text[place + 1 :], text[:place]):
        assert native.parent(wrong) == w3c._parent(wrong)
        assert native.is_uuid(wrong) == ids._is_message_id(wrong)


@given(headers)
@example([("traceparent", PARENT), ("hopwatch-id", MESSAGE)])
@example([("traceparent", PARENT), ("hopwatch-id", MESSAGE.upper())])
def test_headers_are_read_alike(given: list[tuple[str, str]]) -> None:
    """Off a dict as NATS and AMQP have one, off pairs as Kafka has them; or it is left to Python."""
    assert w3c.sender_in is not None
    for getter, carrier in (
        (mapping_getter, dict(given)),
        (pairs_getter, [(name, value.encode("utf-8", "surrogatepass")) for name, value in given]),
    ):
        read = w3c.sender_in(carrier)
        said = getter.fields(carrier)
        wanted = None if w3c.BAGGAGE in said else w3c.sender(said)
        assert read is None or read == wanted


def test_ordinary_headers_are_not_left_to_python() -> None:
    """A message with our two headers among others, one without any, and none at all."""
    assert w3c.sender_in is not None
    usual = {"content-type": "json", "traceparent": PARENT, "hopwatch-id": MESSAGE}
    pairs = tuple((name, value.encode()) for name, value in usual.items())
    for carrier in (usual, pairs, list(pairs)):
        read = w3c.sender_in(carrier)
        assert read is not None
        assert read[0] is not None
        assert (read[0].span_id, read[1], read[2], read[3]) == (
            0xB7AD6B7169203331,
            MESSAGE,
            PARENT[3:35],
            False,
        )
    assert w3c.sender_in({"content-type": "json"}) is w3c.NOBODY
    assert w3c.sender_in(None) is w3c.NOBODY
    assert w3c.sender_in({"traceparent": PARENT, "hopwatch-id": "7"}) == (
        *read[:1],
        None,
        PARENT[3:35],
        False,
    )
    for unusual in ({1: 2}, [1], "text", [("traceparent",)], {"traceparent": 7}, {"traceparent": "0" * 55}):
        assert w3c.sender_in(unusual) is None


def test_ids_are_minted_alike() -> None:
    """Both are UUIDv7 of this moment, count up, never repeat, and begin elsewhere every millisecond."""
    for mint in (ids.new_message_id, ids._new_message_id):
        minted = [mint() for _ in range(100_000)]
        assert len({*minted}) == 100_000
        assert all(
            re.fullmatch("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", one)
            for one in minted
        )
        assert [one[:13] for one in minted] == sorted(one[:13] for one in minted)
        assert len({one[14:24] for one in minted}) > 1
        first = minted[0]
        assert int(minted[1][24:], 16) == int(first[24:], 16) + 1 or minted[1][:13] != first[:13]


class Kept:
    """An outlet that writes what ends and keeps nothing."""

    def put(self, span: LeanSpan | LeanSend) -> None:
        """Write it."""
        encoded(span)


PLACE = Preparations("kafka", Operation.SEND).of("send", Destination("orders", "orders"))


def own_tracer() -> LeanTracer:
    """Return the tracer of a recorder."""
    provider = LeanTracerProvider(Resource({}), Kept(), sampler=DEFAULT_ON)  # type: ignore[arg-type]  # it is only put into
    tracer = provider.get_tracer("hopwatch.kafka")
    assert isinstance(tracer, LeanTracer)
    return tracer


def test_other_layouts_are_left_to_python() -> None:
    """A class without the slots that were counted on is not touched, and what was learnt before stays."""
    good: dict[str, Any] = {"span": LeanSpan, "send": LeanSend, "place": Prepared, "tails": encode._TAILS}
    assert native.learn(**good | {"span": dict}) is False
    assert native.learn(**good | {"send": LeanSpan}) is False
    assert native.learn(**good) is True
    for wrong in (
        {"span": 1},
        {"tails": [b"", b""]},
        {"tails": (b"",)},
        {"flags": ()},
        {"context": list},
        {"span_context": dict},
        {"propagate": None},
        {"nonsense": 1},
    ):
        with pytest.raises(TypeError):
            native.learn(**good | wrong)
    with pytest.raises(TypeError):
        native.learn(LeanSpan)
    hops()


def test_what_is_no_hop_is_refused() -> None:
    """Wrong arguments are errors, and what failed half-way leaves nothing behind that looks whole."""
    tracer, headers, in_progress = own_tracer(), {"traceparent": PARENT, "hopwatch-id": MESSAGE}, {}
    begin = [tracer, PLACE, SpanKind.CONSUMER, headers, {}, getrandbits, time_ns]
    attempt = [tracer, PLACE, headers, {}, None, None, in_progress, getrandbits, time_ns, monotonic]
    send = [tracer, PLACE, Context(), {}, MESSAGE, {}, default_setter, getrandbits, time_ns]
    for step, good, places in (
        (native.begin, begin, (1, 4, 5, 6)),
        (native.attempt, attempt, (1, 3, 6, 7, 8, 9)),
        (native.send, send, (1, 2, 3, 7, 8)),
        (native.end, [1, {}, time_ns], (1,)),
    ):
        for place in places:
            with pytest.raises(TypeError):
                step(*good[:place], 17, *good[place + 1 :])
        with pytest.raises(TypeError):
            step(*good[:-1])
    with pytest.raises(TypeError):
        native.sent(1)
    for step, good in ((native.begin, begin), (native.attempt, attempt), (native.send, send)):
        place = good.index(getrandbits)
        with pytest.raises(ZeroDivisionError):
            step(*good[:place], lambda bits: bits // 0, *good[place + 1 :])
    with pytest.raises(TypeError):
        native.send(*send[:5], [], default_setter, *send[7:])
    assert not in_progress
    assert native.end(1, {}, time_ns) is native.sent(1, "sent", None, time_ns) is False
    bare = object.__new__(LeanSpan)
    with pytest.raises(AttributeError):
        native.field(bare)
    with pytest.raises(AttributeError):
        native.field(object())


def test_an_interrupt_is_not_swallowed() -> None:
    """Whoever presses Ctrl-C while a span is written has pressed it: what cannot be written is another matter."""

    def interrupted(span: object) -> bytes:
        raise KeyboardInterrupt

    queue = SpanQueue(ExportSettings(), Resource({}))
    queue._thread, queue._stir_at = current_thread(), 10
    provider = LeanTracerProvider(Resource({}), queue, sampler=DEFAULT_ON)
    tracer = provider.get_tracer("hopwatch.kafka")
    assert isinstance(tracer, LeanTracer)
    send = tracer.quick_send(PLACE, Context(), {"a": (1, 2)}, MESSAGE, {}, default_setter)
    assert send is not None
    place = send.place = Prepared("new", {}, PLACE.destination)  # which was not encoded yet: Python does it
    native.learn(encode=interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            send.end(PublishOutcome.SENT)
    finally:
        native.learn(encode=encode._encoded)
    assert place.encoded is None
    assert not queue._ended


def hops() -> None:
    """Every way through what makes and writes spans."""
    tracer = own_tracer()
    for headers in ({"traceparent": PARENT, "hopwatch-id": MESSAGE}, {"traceparent": PARENT.replace("-01", "-00")},
                    {"traceparent": PARENT, "hopwatch-id": "7"}, {"baggage": "a=b"}, None):  # fmt: skip
        begun = tracer.quick_receive(PLACE, SpanKind.CONSUMER, headers, mapping_getter, {"a": 1})
        hop = tracer.quick_process(PLACE, headers, mapping_getter, {"a": 1}, None, get_current())
        assert (begun is None) == (hop is None)
        if begun is None or hop is None:
            continue
        begun[0].end()
        for carrier, setter in (({}, default_setter), ([], pairs_setter)):
            send = tracer.quick_send(PLACE, hop.context, {"b": "c"}, MESSAGE, carrier, setter)
            assert send is not None
            send.end(PublishOutcome.SENT, position=KafkaPosition(1, 2))
        other = Context({**hop.context, FLOW_KEY: "f" * 32})
        assert tracer.quick_send(PLACE, other, {}, MESSAGE, {}, default_setter) is None
        hop.settled(SettleOutcome.ACK)
        hop.end()
    failed = tracer.quick_receive(PLACE, SpanKind.CONSUMER, None, mapping_getter, {"d": (1, 2)})
    assert failed is not None
    failed[0].record_exception(ValueError("no"))
    failed[0].end()
    for step in (
        partial(native.begin, tracer, PLACE, None, {}, {}, None, time_ns),
        partial(native.attempt, tracer, PLACE, {}, {}, None, None, {}, None, time_ns, monotonic),
        partial(native.attempt, tracer, PLACE, {}, {}, None, None, {}, getrandbits, time_ns, None),
        partial(native.send, tracer, PLACE, Context(), {}, MESSAGE, {}, default_setter, getrandbits, None),
        partial(native.send, tracer, PLACE, Context(), {}, MESSAGE, {}, None, getrandbits, time_ns),
    ):
        with pytest.raises((TypeError, AttributeError)):
            step()


def calls() -> Iterator[None]:
    """Every way through the module, good and bad."""
    span = [
        2**100,
        2**60,
        b"",
        2**60,
        b"\x2a\x01n",
        4,
        5,
        6,
        b"s" * 900,
        {"a": "b" * 900, "c": 7, "d": 1.5, "e": True},
        b"",
    ]
    while True:
        native.span(*span)
        native.span(*span[:9], {"a": (1, 2)}, b"")
        with pytest.raises(OverflowError):
            native.span(-1, *span[1:])
        native.parent(native.traceparent(2**100, 2**60, 1))
        for carrier in ({"traceparent": PARENT, "hopwatch-id": MESSAGE}, [("traceparent", PARENT.encode()), ("hopwatch-id", b"7")],
                        {"traceparent": PARENT, "hopwatch-id": 7}, {"baggage": "a=b"}, None, [("a", 1), 2]):  # fmt: skip
            native.sender(carrier)
        ids.new_message_id()
        hops()
        yield


def test_nothing_leaks() -> None:
    """However often they are called, no block of memory stays behind."""
    call = calls()
    for _ in range(300):
        next(call)
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(3_000):
        next(call)
    gc.collect()
    assert sys.getallocatedblocks() - before < 300


def test_python_does_the_work_where_it_is_asked_to() -> None:
    """HOPWATCH_PURE_PYTHON=1 leaves the module out."""
    code = "from hopwatch import ids, w3c; from hopwatch.native import native; print(native, w3c.sender_in, len(ids.new_message_id()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HOPWATCH_PURE_PYTHON": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["None", "None", "36"]
