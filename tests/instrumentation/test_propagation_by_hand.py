"""What is read and written by hand is what OpenTelemetry's own propagators, asked one by one, read and write."""

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import default_getter, default_setter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hopwatch.context import flow_id, foreign_flow, incoming_message_id, with_flow, with_outgoing
from hopwatch.conventions import MESSAGE_ID_HEADER
from hopwatch.ids import new_message_id
from hopwatch.propagation import HopwatchPropagator, received
from hopwatch.transports.aiokafka.headers import header_getter as kafka_getter
from hopwatch.transports.aiokafka.headers import header_setter as kafka_setter
from hopwatch.w3c import FlowState
from hopwatch.wrapping import header_getter


class Other(CompositePropagator):
    """The default propagator as any other: nothing about it is done by hand."""


PARTS = [TraceContextTextMapPropagator(), W3CBaggagePropagator()]
BY_HAND = HopwatchPropagator(CompositePropagator(PARTS))
GENERAL = HopwatchPropagator(Other(PARTS))

HEX = "0123456789abcdef"
trace_ids = st.text(HEX, min_size=32, max_size=32)
span_ids = st.text(HEX, min_size=16, max_size=16)
hostile = st.text(max_size=60) | st.sampled_from(
    [
        "",
        " ",
        "00",
        "00-",
        "hw=",
        "hw=zz",
        "hw",
        ",,",
        "=",
        "\x00",
        "hw=" + "A" * 32,
        "hw=" + "1" * 33,
    ]
)
hostile |= st.integers(8_000, 9_000).map(lambda length: "a" * length)
parents = st.builds(
    "{}-{}-{}-{}{}".format,
    st.sampled_from(["00", "01", "ff", "0", "zz"]),
    trace_ids | st.just("0" * 32),
    span_ids | st.just("0" * 16),
    st.text(HEX, min_size=2, max_size=2),
    st.sampled_from(["", "-x", " ", "-"]),
)
states = st.builds("hw={}".format, trace_ids) | st.lists(
    st.sampled_from(["hw=" + "a" * 32, "vendor=1", "other=x", " hw=" + "b" * 32, "hw=short", "BAD", ""]),
    max_size=4,
).map(",".join)
ids = st.uuids().map(str) | hostile
baggages = st.sampled_from(["hopwatch.key.order_id=17", "a=1,hopwatch.key.b=%20x", "broken", ""]) | hostile
headers = st.fixed_dictionaries(
    {},
    optional={
        "traceparent": parents | hostile,
        "tracestate": states | hostile,
        "baggage": baggages,
        MESSAGE_ID_HEADER: ids,
        "unrelated": st.text(max_size=5),
    },
)


def seen(context: Context) -> tuple[Any, ...]:
    """Return everything a context says of the message it was extracted from."""
    sender = trace.get_current_span(context).get_span_context()
    said = (sender.trace_id, sender.span_id, sender.is_remote, sender.trace_flags, sender.is_valid)
    about = (incoming_message_id(context), flow_id(context), foreign_flow(context))
    return (*said, sender.trace_state.to_header(), dict(baggage.get_all(context)), *about)


@given(headers)
def test_what_is_read_does_not_depend_on_the_way(carrier: dict[str, str]) -> None:
    """Clean, foreign and hostile headers give the same context, id, flow and baggage."""
    assert seen(BY_HAND.extract(carrier)) == seen(GENERAL.extract(carrier))
    context, message_id, foreign = BY_HAND.receive(carrier, default_getter)
    assert (seen(context), message_id, foreign) == (seen(context), *received(GENERAL.extract(carrier))[1:])


@given(headers)
def test_a_getter_that_gives_all_at_once_gives_the_same(carrier: dict[str, str]) -> None:
    """Headers in one pass, as texts or as Kafka's pairs of bytes, are those asked for one by one."""
    pairs = [(name.title(), value.encode()) for name, value in carrier.items()]
    assert seen(BY_HAND.extract(carrier, getter=header_getter)) == seen(
        GENERAL.extract(carrier, getter=header_getter)
    )
    assert seen(BY_HAND.extract(pairs, getter=kafka_getter)) == seen(
        GENERAL.extract(pairs, getter=kafka_getter)
    )


@given(headers, headers)
def test_what_surrounds_a_message_stays(outer: dict[str, str], carrier: dict[str, str]) -> None:
    """Extraction into a context that holds something already replaces and keeps the same things."""
    around = GENERAL.extract(outer)
    assert seen(BY_HAND.extract(carrier, around)) == seen(GENERAL.extract(carrier, around))


contexts = st.builds(
    SpanContext,
    st.integers(0, 2**128 - 1),
    st.integers(0, 2**64 - 1),
    st.booleans(),
    st.integers(0, 255).map(TraceFlags),
    st.none()
    | states.map(lambda text: TraceState.from_header([text]))
    | trace_ids.map(lambda t: FlowState(t, int(t, 16))),
)
tags = st.dictionaries(st.sampled_from(["hopwatch.key.order_id", "theirs"]), st.text(max_size=9), max_size=2)


@given(contexts, st.none() | trace_ids, tags)
def test_what_is_written_does_not_depend_on_the_way(
    sender: SpanContext, kept: str | None, business: Mapping[str, str]
) -> None:
    """Any span context, flow and baggage is written as the same headers, whatever they are written into."""
    context = with_outgoing(new_message_id(), Context())
    context = trace.set_span_in_context(NonRecordingSpan(sender), context)
    for name, value in business.items():
        context = baggage.set_baggage(name, value, context)
    if kept is not None:
        context = with_flow(kept, context)
    by_hand: dict[str, str] = {}
    general: dict[str, str] = {}
    BY_HAND.inject(by_hand, context, default_setter)
    GENERAL.inject(general, context, default_setter)
    assert by_hand == general
    pairs: list[tuple[str, bytes | None]] = []
    BY_HAND.inject(pairs, context, kafka_setter)
    assert dict(pairs) == {name: value.encode() for name, value in general.items()}


@given(trace_ids, st.sampled_from(["hw", "vendor"]), st.text(HEX, min_size=1, max_size=4))
def test_a_tracestate_of_ours_alone_is_like_any_other(flow: str, name: str, value: str) -> None:
    """Reading, adding, updating and deleting give what OpenTelemetry's own class gives."""
    ours, theirs = FlowState(flow, int(flow, 16)), TraceState([("hw", flow)])
    assert ours == theirs
    assert (list(ours.items()), list(ours.keys()), list(ours.values())) == ([("hw", flow)], ["hw"], [flow])
    assert (repr(ours), ours.to_header(), len(ours), name in ours) == (
        repr(theirs),
        theirs.to_header(),
        1,
        name in theirs,
    )
    assert ours.get(name) == theirs.get(name)
    assert ours.add(name, value) == theirs.add(name, value)
    assert ours.update(name, value) == theirs.update(name, value)
    assert ours.delete("hw") == theirs.delete("hw")


def test_only_the_default_propagator_is_replaced() -> None:
    """Propagators the application chose itself, or a subclass of one, are always asked."""
    chosen: dict[str, str] = {}
    context = trace.set_span_in_context(NonRecordingSpan(SpanContext(1, 2, False)))

    class Marking(W3CBaggagePropagator):
        def inject(self, carrier: Any, context: Context | None = None, setter: Any = default_setter) -> None:
            setter.set(carrier, "marked", "yes")

    HopwatchPropagator(CompositePropagator([PARTS[0], Marking()])).inject(chosen, context)
    assert chosen["marked"] == "yes"
    assert type(propagate.get_global_textmap()) is CompositePropagator
