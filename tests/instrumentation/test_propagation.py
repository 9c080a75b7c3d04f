"""What the propagator writes to and reads from a carrier."""

import pytest
from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

import hopwatch
from hopwatch.context import flow_id, incoming_message_id, is_flow_id
from hopwatch.conventions import FLOW_ID, MESSAGE_ID, MESSAGE_ID_HEADER
from hopwatch.ids import is_message_id
from hopwatch.propagation import is_internal

tracer = trace.get_tracer("some.library")


def ended(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    """Return the one ended span of this name."""
    [span] = [span for span in spans.get_finished_spans() if span.name == name]
    return span


def attributes(span: ReadableSpan) -> dict[str, object]:
    """Return a span's attributes as a dict."""
    return dict(span.attributes or {})


def sent_by(name: str, kind: SpanKind = SpanKind.CLIENT, context: Context | None = None) -> dict[str, str]:
    """Return the headers that a call from a span of this kind carries, made in `context`."""
    headers: dict[str, str] = {}
    token = otel_context.attach(context if context is not None else Context())
    with tracer.start_as_current_span(name, kind=kind):
        propagate.inject(headers)
    otel_context.detach(token)
    return headers


def test_a_call_carries_the_id_noted_on_its_span(spans: InMemorySpanExporter) -> None:
    """A client span of another library's instrumentation gets the id that its headers carry."""
    headers = sent_by("GET")
    assert is_message_id(headers[MESSAGE_ID_HEADER])
    assert attributes(ended(spans, "GET"))[MESSAGE_ID] == headers[MESSAGE_ID_HEADER]


def test_every_injection_mints_its_own_id(spans: InMemorySpanExporter) -> None:
    """Two calls of one flow are two messages."""
    assert sent_by("a")[MESSAGE_ID_HEADER] != sent_by("b")[MESSAGE_ID_HEADER]


def test_the_receiving_span_gets_the_id(spans: InMemorySpanExporter) -> None:
    """A server span started in the extracted context carries the caller's message id."""
    headers = sent_by("GET")
    context = propagate.extract(headers)
    tracer.start_span("serve", context=context, kind=SpanKind.SERVER).end()
    assert attributes(ended(spans, "serve"))[MESSAGE_ID] == headers[MESSAGE_ID_HEADER]


def test_inner_spans_do_not_inherit_the_id(spans: InMemorySpanExporter) -> None:
    """Only the span that received the message is its receiving half."""
    context = propagate.extract(sent_by("GET"))
    with tracer.start_as_current_span("serve", context=context, kind=SpanKind.SERVER):
        tracer.start_span("inner", kind=SpanKind.INTERNAL).end()
        tracer.start_span("inner-consumer", kind=SpanKind.CONSUMER).end()
    assert MESSAGE_ID not in attributes(ended(spans, "inner"))
    assert MESSAGE_ID not in attributes(ended(spans, "inner-consumer"))


def test_injecting_inside_a_server_span_keeps_its_own_id(spans: InMemorySpanExporter) -> None:
    """A hand-made injection without a client span does not rename the message being served."""
    headers = sent_by("GET")
    with tracer.start_as_current_span("serve", context=propagate.extract(headers), kind=SpanKind.SERVER):
        propagate.inject({})
    assert attributes(ended(spans, "serve"))[MESSAGE_ID] == headers[MESSAGE_ID_HEADER]


def test_the_flow_is_the_trace_of_its_root(spans: InMemorySpanExporter) -> None:
    """The flow stays that of the first trace over any number of hops, and needs no header while the trace does."""
    first = sent_by("first")
    root = f"{ended(spans, 'first').context.trace_id:032x}"
    assert flow_id(propagate.extract(first)) == root
    second = sent_by("second", context=propagate.extract(first))
    assert flow_id(propagate.extract(second)) == root
    assert "tracestate" not in second


def test_a_new_trace_in_a_flow_says_which_flow(spans: InMemorySpanExporter) -> None:
    """A trace begun anew while handling a message still belongs to that message's flow."""
    context = propagate.extract(sent_by("first"))
    root = flow_id(context)
    rootless = trace.set_span_in_context(trace.INVALID_SPAN, context)
    headers = sent_by("later", context=rootless)
    later = ended(spans, "later")
    assert f"{later.context.trace_id:032x}" != root
    assert attributes(later)[FLOW_ID] == root
    assert headers["tracestate"] == f"hw={root}"
    assert flow_id(propagate.extract(headers)) == root


def test_other_vendors_tracestate_survives(spans: InMemorySpanExporter) -> None:
    """Our member is added beside those of others."""
    context = propagate.extract(sent_by("first") | {"tracestate": "vendor=1"})
    assert "vendor=1" in sent_by("second", context=context)["tracestate"]


@pytest.mark.parametrize(
    "hostile", ["", "x", "a" * 10_000, "\x1b[31m", "018F0000-0000-7000-8000-00000000000A", "é" * 36]
)
def test_hostile_ids_are_as_good_as_none(hostile: str, spans: InMemorySpanExporter) -> None:
    """A header that is not an id neither reaches a span nor breaks extraction."""
    headers = sent_by("GET") | {MESSAGE_ID_HEADER: hostile}
    context = propagate.extract(headers)
    assert incoming_message_id(context) is None
    tracer.start_span("serve", context=context, kind=SpanKind.SERVER).end()
    assert MESSAGE_ID not in attributes(ended(spans, "serve"))


@pytest.mark.parametrize("hostile", ["hw=", "hw=zz", "hw=" + "A" * 32, "hw=" + "1" * 33, ",,,;=", "hw"])
def test_hostile_flow_ids_are_ignored(hostile: str, spans: InMemorySpanExporter) -> None:
    """A tracestate member of another form leaves the trace as its own flow."""
    context = propagate.extract(sent_by("GET") | {"tracestate": hostile})
    flow = flow_id(context)
    assert flow is not None
    assert is_flow_id(flow)
    assert flow == f"{ended(spans, 'GET').context.trace_id:032x}"


def test_business_keys_reach_every_hop(spans: InMemorySpanExporter) -> None:
    """A tag is on the span that is current, on what is sent and on what receives it."""
    with hopwatch.tag(order_id=17):
        headers = sent_by("GET", context=otel_context.get_current())
    context = propagate.extract(headers)
    tracer.start_span("serve", context=context, kind=SpanKind.SERVER).end()
    assert attributes(ended(spans, "GET"))["hopwatch.key.order_id"] == "17"
    assert attributes(ended(spans, "serve"))["hopwatch.key.order_id"] == "17"


def test_a_nested_tag_leaves_the_handled_message_alone(spans: InMemorySpanExporter) -> None:
    """A key that came with a message stays on its span; the nested value goes to what is sent inside."""
    with hopwatch.tag(event="first"):
        headers = sent_by("GET", context=otel_context.get_current())
    with (
        tracer.start_as_current_span("serve", context=propagate.extract(headers), kind=SpanKind.SERVER),
        hopwatch.tag(event="second"),
    ):
        tracer.start_span("onward", kind=SpanKind.CLIENT).end()
    assert attributes(ended(spans, "serve"))["hopwatch.key.event"] == "first"
    assert attributes(ended(spans, "onward"))["hopwatch.key.event"] == "second"


def test_business_keys_do_not_leave_the_house(spans: InMemorySpanExporter) -> None:
    """An HTTP call to a foreign host carries other baggage but none of our keys."""
    from opentelemetry import baggage

    def headers_to(url: str) -> dict[str, str]:
        headers: dict[str, str] = {}
        with (
            hopwatch.tag(order_id=17),
            tracer.start_as_current_span("GET", kind=SpanKind.CLIENT, attributes={"url.full": url}),
        ):
            propagate.inject(headers, context=baggage.set_baggage("theirs", "1"))
        return headers

    assert headers_to("https://api.example.com/pay")["baggage"] == "theirs=1"
    assert "order_id" in headers_to("http://orders:8000/pay")["baggage"]
    assert headers_to("http://[")["baggage"] == "theirs=1"  # no address, and no error of the call's either


def test_tag_names_are_checked() -> None:
    """A name that could not travel is an error where it is written."""
    with pytest.raises(ValueError, match="Order-Id"), hopwatch.tag(**{"Order-Id": 1}):
        pass


def test_tags_are_bounded(spans: InMemorySpanExporter) -> None:
    """Long values are cut and no more than eight keys reach a span, wherever they come from."""
    with hopwatch.tag(**{f"k{n}": "v" * 1_000 for n in range(20)}):
        tracer.start_span("GET", kind=SpanKind.CLIENT).end()
    found = {k: v for k, v in attributes(ended(spans, "GET")).items() if k.startswith("hopwatch.key.")}
    assert len(found) == 8
    assert set(found.values()) == {"v" * 128}


def test_tags_end_with_their_block(spans: InMemorySpanExporter) -> None:
    """After the block the keys are gone."""
    with hopwatch.tag(order_id=17):
        pass
    assert "baggage" not in sent_by("GET", context=otel_context.get_current())


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("::1", True),
        ("orders", True),
        ("orders.shop.svc.cluster.local", True),
        ("8.8.8.8", False),
        ("api.example.com", False),
        ("internal.example.com", False),
    ],
)
def test_internal_hosts(host: str, inside: bool) -> None:
    """Loopback, private addresses and names without a public domain are inside."""
    assert is_internal(host) is inside
