"""The lean TracerProvider and its tracers: samplers and limits of the SDK around spans of our own."""

from collections.abc import Sequence
from random import getrandbits
from time import monotonic, time_ns
from typing import Any, Final, Protocol

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter, Setter, default_setter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    DEFAULT_TRACE_STATE,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    TraceState,
)
from opentelemetry.util.types import Attributes

from hopwatch.context import BAGGAGE_KEY, FLOW_KEY, INCOMING_KEY, SPAN_KEY, attach, get_current
from hopwatch.conventions import FLOW_ID, MESSAGE_ID, PUBLISH_OUTCOME, SettleOutcome
from hopwatch.faults import swallowed
from hopwatch.hops import ProcessHop
from hopwatch.lean.attributes import Store
from hopwatch.lean.current import Current
from hopwatch.lean.sent import LeanSend
from hopwatch.lean.span import UNSET, LeanSpan, bounded
from hopwatch.native import native
from hopwatch.optin import tells_whole_ledger
from hopwatch.places import Prepared
from hopwatch.processor import OWN_SCOPES, HopSpanProcessor, crossing_attributes
from hopwatch.propagation import HopwatchPropagator, is_by_hand, put_ids, sender_of
from hopwatch.reports import reporter
from hopwatch.sampling import foreseen
from hopwatch.threads import Lock
from hopwatch.w3c import FLAGS, POSSIBLE, sender_in

_FLAGS = tuple(TraceFlags(bits) for bits in range(4))
_ROOT = _FLAGS[TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID]
_INTERNAL = SpanKind.INTERNAL
_AT_THE_END = 4
"""Room for attributes that a send has besides those it is begun with: message id, outcome, position."""


class Outlet(Protocol):
    """Where ended spans go."""

    def put(self, span: LeanSpan | LeanSend) -> None:
        """Take what has ended, a span or the record of a send; never blocks."""

    def force_flush(self, timeout_s: float) -> bool:
        """Send what is there; whether all of it went in time."""

    def shutdown(self, timeout_s: float) -> None:
        """Send what is there and end."""

    def describe(self, resource: Resource) -> None:
        """Let `resource` describe the process from now on."""

    def renew(self, resource: Resource) -> None:
        """Begin anew in a forked child."""


class LeanTracerProvider(trace.TracerProvider):
    """See `opentelemetry.trace.TracerProvider`.

    `outlet` is where spans go that are sampled or belong to the ledger, None for nowhere. Processors of the SDK may be
    added and see every span that is recorded.
    With `stands_in`, it makes way for whatever provider the application sets later, and its tracers hand over to it.
    """

    __slots__ = (
        "_lock",
        "_successor",
        "_tracers",
        "limits",
        "outlet",
        "processors",
        "resource",
        "sampler",
        "stands_in",
        "whole",
    )

    def __init__(
        self,
        resource: Resource,
        outlet: Outlet | None = None,
        *,
        sampler: Sampler | None = None,
        limits: SpanLimits | None = None,
        stands_in: bool = False,
    ) -> None:
        self.resource = resource
        self.outlet = outlet
        self.sampler = sampler or _configured_sampler()
        self.limits = limits or SpanLimits()
        self.stands_in = stands_in
        self.whole = tells_whole_ledger()
        self.processors: tuple[SpanProcessor, ...] = ()
        self._successor: trace.TracerProvider | None = None
        self._tracers: dict[tuple[InstrumentationScope, bool], LeanTracer] = {}
        self._lock = Lock()

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> trace.Tracer:
        """Return the tracer of an instrumentation library; the same one each time."""
        scope = InstrumentationScope(
            instrumenting_module_name or "", instrumenting_library_version or "", schema_url, attributes
        )
        return self.tracer_of(scope, ledger=False)

    def tracer_of(self, scope: InstrumentationScope, *, ledger: bool) -> "LeanTracer":
        """Return a library's tracer of one kind, the same one each time."""
        with self._lock:
            tracer = self._tracers.get((scope, ledger))
            if tracer is None:
                tracer = self._tracers[scope, ledger] = LeanTracer(self, scope, ledger=ledger)
        return tracer

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Let a processor of the SDK see the spans too, whatever it does with them."""
        with self._lock:
            self.processors += (span_processor,)

    def describe(self, resource: Resource) -> None:
        """Let `resource` describe the process from now on."""
        self.resource = resource
        if self.outlet is not None:
            self.outlet.describe(resource)

    def renew(self, resource: Resource) -> None:
        """Begin anew: a fork has made another process of it, which `resource` describes."""
        self._lock = Lock()
        self.resource = resource
        if self.outlet is not None:
            self.outlet.renew(resource)

    def make_way(self) -> trace.TracerProvider | None:
        """Return the application's own provider, if it has set one in our place, made ready for our ids."""
        successor = trace._TRACER_PROVIDER
        if successor is None or successor is self:
            return None
        with self._lock:
            if successor is not self._successor:
                self._successor = successor
                if isinstance(successor, SdkTracerProvider):
                    successor.add_span_processor(HopSpanProcessor())
        return successor

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send everything that has ended; whether it all went in time."""
        deadline = time_ns() + timeout_millis * 1_000_000
        flushed = self.outlet is None or self.outlet.force_flush(timeout_millis / 1000)
        for processor in self.processors:
            left = (deadline - time_ns()) // 1_000_000
            if left <= 0:
                return False
            flushed = processor.force_flush(left) is not False and flushed
        return flushed

    def shutdown(self, timeout_millis: int = 4_000) -> None:
        """Send what has ended, within bounds, and take no more."""
        if self.outlet is not None:
            self.outlet.shutdown(timeout_millis / 1000)
        for processor in self.processors:
            processor.shutdown()


class LeanTracer(trace.Tracer):
    """See `opentelemetry.trace.Tracer`.

    With `ledger`, all that it begins is recorded and goes out, whatever the sampler says: messages, commits and who is
    subscribed. What travels on, and the span's flags, say what the sampler decided.
    """

    __slots__ = (
        "_continued",
        "_foreign",
        "_foreseen",
        "_heir",
        "_most_quick",
        "_root",
        "ledger",
        "limits",
        "provider",
        "scope",
    )

    def __init__(
        self, provider: LeanTracerProvider, scope: InstrumentationScope, *, ledger: bool = False
    ) -> None:
        self.provider = provider
        self.scope = scope
        self.ledger = ledger
        self.limits = provider.limits
        self._foreign = not scope.name.startswith(OWN_SCOPES)
        self._foreseen = foreseen(provider.sampler)
        root, below, beside = self._foreseen
        self._root = self._begun_with(_ROOT, root)
        self._continued = tuple(
            self._begun_with(flags, below if flags.sampled else beside) for flags in _FLAGS
        )
        most = -1 if self._foreign else provider.limits.max_span_attributes
        self._most_quick = most if most is None else most - _AT_THE_END
        if provider.limits.max_span_attribute_length is not None:
            self._most_quick = -1
        self._heir: trace.Tracer | None = None

    def _begun_with(self, inherited: TraceFlags, sampled: bool | None) -> TraceFlags | None:
        """Return the flags of what begins below such a parent, None where it is not recorded or nobody knows yet."""
        if sampled is None or not (sampled or self.ledger):
            return None
        return _FLAGS[inherited & TraceFlags.RANDOM_TRACE_ID | sampled]

    def for_ledger(self) -> "LeanTracer":
        """Return the library's tracer for what belongs to the ledger; this one, where that follows the sampler too."""
        return self.provider.tracer_of(self.scope, ledger=True) if self.provider.whole else self

    def in_force(self) -> trace.Tracer:
        """Return the tracer that records what this one is asked for: our counterpart at the application's own provider."""
        provider = self.provider
        if provider.stands_in and trace._TRACER_PROVIDER is not provider and (heir := self._find_heir()):
            return heir
        return self

    @property
    def sampler(self) -> Sampler:
        """What decides which traces are sampled."""
        return self.provider.sampler

    @property
    def resource(self) -> Resource:
        """Who records."""
        return self.provider.resource

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        """Start a span; its parent is the current span of `context`."""
        provider = self.provider
        if provider.stands_in and trace._TRACER_PROVIDER is not provider and (heir := self._find_heir()):
            return heir.start_span(
                name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
            )
        above: SpanContext | None = trace.get_current_span(context).get_span_context()
        if above is not None and above.is_valid:
            trace_id, state, inherited = above.trace_id, above.trace_state, above.trace_flags
        else:
            above, trace_id, state, inherited = None, getrandbits(128) or 1, None, _ROOT
        known = self._foreseen
        if above is None:
            sampled = known.root
        else:
            sampled = known.sampled if inherited & TraceFlags.SAMPLED else known.unsampled
        recorded = sampled or self.ledger
        if sampled is None:
            asked = provider.sampler.should_sample(context, trace_id, name, kind, attributes, links)
            state, sampled = asked.trace_state, asked.decision is Decision.RECORD_AND_SAMPLE
            if asked.decision is not Decision.DROP:
                recorded, attributes = True, asked.attributes
        if not recorded:
            return _unrecorded(trace_id, inherited, state)
        flags = _FLAGS[inherited & TraceFlags.RANDOM_TRACE_ID | sampled]
        limits = self.limits
        kept, lost = bounded(attributes, limits.max_span_attributes, limits.max_span_attribute_length)
        span = LeanSpan(
            self,
            name,
            kind,
            above,
            (trace_id, getrandbits(64) or 1),
            flags,
            state,
            kept,
            time_ns() if start_time is None else start_time,
        )
        if lost:
            span._dropped_attributes = lost
        if links:
            span._link(links)
        if not (record_exception and set_status_on_exception):
            span._record_exception = record_exception
            span._set_status_on_exception = set_status_on_exception
        if self._foreign and kind is not _INTERNAL:
            self._complete(span, context)
        for processor in provider.processors:
            processor.on_start(span, parent_context=context)  # type: ignore[arg-type]  # readable and writable alike
        return span

    def quick_send(
        self,
        place: Prepared,
        context: Context,
        own: Store,
        message_id: str,
        carrier: Any,
        setter: Setter[Any],
    ) -> LeanSend | None:
        """Begin a send of hopwatch's own recorder, None unless everything is as it is by default.

        What `start_span` and `inject` find out with dozens of calls is known here: sampler, limits, what the attributes
        are, what travels.
        """
        if _native is None:
            return self._send(place, context, own, message_id, carrier, setter)
        send: LeanSend | None = _native.send(
            self, place, context, own, message_id, carrier, setter, getrandbits, time_ns
        )
        return send

    def _send(
        self,
        place: Prepared,
        context: Context,
        own: Store,
        message_id: str,
        carrier: Any,
        setter: Setter[Any],
    ) -> LeanSend | None:
        """Do so in Python; the twin of `native.send`."""
        if not is_by_hand() or not self._is_quick(len(own) + len(place.attributes)) or BAGGAGE_KEY in context:
            return None
        current: Any = context.get(SPAN_KEY)
        above: SpanContext | None = None if current is None else current.get_span_context()
        flow = context.get(FLOW_KEY)
        if above is None:
            if flow is not None:
                return None
            trace_id, begun = getrandbits(128) or 1, self._root
        elif type(above) is SpanContext:
            trace_id, _, _, inherited, state, valid = above
            begun = self._continued[inherited & 3]
            if not valid or state is not DEFAULT_TRACE_STATE:
                return None
            if flow is not None and flow != f"{trace_id:032x}":
                return None
        else:
            return None
        if begun is None:
            return None
        send = LeanSend(self, place, above, trace_id, getrandbits(64) or 1, begun, own, message_id)
        put_ids(carrier, setter, send.traceparent(), message_id)
        return send

    def quick(
        self, place: Prepared, above: SpanContext | None, kind: SpanKind, attributes: Store
    ) -> LeanSpan | None:
        """Start a span of hopwatch's own recorder under a sender, with the same proviso."""
        if not self._is_quick(len(attributes) + len(place.attributes)):
            return None
        return self._below(place, above, kind, attributes)

    def _below(
        self, place: Prepared, above: SpanContext | None, kind: SpanKind, attributes: Store
    ) -> LeanSpan | None:
        kept: TraceState | None = None
        if above is None:
            trace_id, begun = getrandbits(128) or 1, self._root
        elif type(above) is SpanContext:
            trace_id, _, _, inherited, state, valid = above
            begun = self._continued[inherited & 3] if valid else None
            if state is not DEFAULT_TRACE_STATE:
                kept = state
        else:
            return None
        if begun is None:
            return None
        ids = trace_id, getrandbits(64) or 1
        return LeanSpan(self, place.span_name, kind, above, ids, begun, kept, attributes, time_ns(), place)

    def quick_receive(
        self, place: Prepared, kind: SpanKind, carrier: Any, getter: Getter[Any], own: Store
    ) -> tuple[LeanSpan, Context] | None:
        """Start a span of hopwatch's own recorder under the sender that `carrier` names, likewise.

        Returns the context of what is done for the message too.
        """
        if _native is not None and getattr(getter, "sender", None) is sender_in:
            begun: tuple[LeanSpan, Context] | None = _native.begin(
                self, place, kind, carrier, own, getrandbits, time_ns
            )
            if begun is not None:
                return begun
        return self._receive(place, kind, carrier, getter, own)

    def _receive(
        self, place: Prepared, kind: SpanKind, carrier: Any, getter: Getter[Any], own: Store
    ) -> tuple[LeanSpan, Context] | None:
        """Do so in Python; the twin of `native.begin`, which knows no tracestate."""
        if not is_by_hand() or not self._is_quick(len(own) + len(place.attributes)):
            return None
        sender = sender_of(carrier, getter)
        if sender is None:
            return None
        above, message_id, flow, foreign = sender
        if message_id is not None:
            own[MESSAGE_ID] = message_id
        if foreign and flow is not None:
            own[FLOW_ID] = flow
        span = self._below(place, above, kind, own)
        if span is None:
            return None
        known: dict[str, object] = {SPAN_KEY: span, INCOMING_KEY: message_id}
        if flow is not None:
            known[FLOW_KEY] = flow
        return span, Context(known)

    def quick_process(
        self,
        place: Prepared,
        carrier: Any,
        getter: Getter[Any],
        own: Store,
        settled: SettleOutcome | None,
        here: Context | None,
    ) -> ProcessHop | None:
        """Begin an attempt of hopwatch's own recorder under the sender that `carrier` names, likewise.

        It is watched; with `here`, the context from before, it becomes the current one.
        """
        if _native is not None and getattr(getter, "sender", None) is sender_in:
            hop: ProcessHop | None = _native.attempt(
                self,
                place,
                carrier,
                own,
                settled,
                here,
                reporter.in_progress,
                getrandbits,
                time_ns,
                monotonic,
            )
            if hop is not None:
                return hop
        return self._attempt(place, carrier, getter, own, settled, here)

    def _attempt(
        self,
        place: Prepared,
        carrier: Any,
        getter: Getter[Any],
        own: Store,
        settled: SettleOutcome | None,
        here: Context | None,
    ) -> ProcessHop | None:
        """Do so in Python; the twin of `native.attempt`."""
        begun = self._receive(place, SpanKind.CONSUMER, carrier, getter, own)
        if begun is None:
            return None
        span, context = begun
        hop = ProcessHop(self, span, context, own, settled, None, place)
        reporter.in_progress[id(hop)] = hop
        if here is not None:
            hop.before = here
            attach(context)
        return hop

    def _is_quick(self, attributes: int) -> bool:
        provider, most = self.provider, self._most_quick
        if provider.processors or (provider.stands_in and trace._TRACER_PROVIDER is not provider):
            return False
        return most is None or attributes <= most

    def start_as_current_span(  # type: ignore[override]  # a context manager and decorator, as the SDK's
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Current:
        """Return a context manager in which a new span is the current one; it decorates functions too."""

        def start() -> Span:
            return self.start_span(
                name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
            )

        return Current(start, record_exception, set_status_on_exception, end_on_exit)

    def _complete(self, span: LeanSpan, context: Context | None) -> None:
        try:
            added = crossing_attributes(span._kind, span._parent, span._trace_id, context)
            if added:
                span.set_attributes(added)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("span start", fault)

    def _find_heir(self) -> trace.Tracer | None:
        """Return our counterpart at the provider that the application has set since, if it has."""
        if self._heir is None and (successor := self.provider.make_way()) is not None:
            scope = self.scope
            self._heir = successor.get_tracer(scope.name, scope.version, scope.schema_url, scope.attributes)
        return self._heir


def _configured_sampler() -> Sampler:
    """Return the sampler that the `OTEL_TRACES_SAMPLER` variables ask for, as the SDK reads them."""
    return SdkTracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False).sampler


def _unrecorded(trace_id: int, inherited: int, state: trace.TraceState | None) -> Span:
    flags = _FLAGS[inherited & TraceFlags.RANDOM_TRACE_ID]
    return NonRecordingSpan(SpanContext(trace_id, getrandbits(64) or 1, False, flags, state))


_able: Final = (
    POSSIBLE
    and native is not None
    and native.learn(
        hop=ProcessHop,
        tracer=LeanTracer,
        provider=LeanTracerProvider,
        propagator=HopwatchPropagator,
        unset=UNSET,
        consumer=SpanKind.CONSUMER,
        flags=FLAGS,
        no_state=DEFAULT_TRACE_STATE,
        message_key=MESSAGE_ID,
        span_key=SPAN_KEY,
        incoming_key=INCOMING_KEY,
        flow_key=FLOW_KEY,
        baggage_key=BAGGAGE_KEY,
        span_context=SpanContext,
        context=Context,
        propagate=vars(propagate),
        trace=vars(trace),
        setter=default_setter,
        get_current=get_current,
        attach=attach,
        unsettled=SettleOutcome.NONE,
        outcome_key=PUBLISH_OUTCOME,
        span=LeanSpan,
        send=LeanSend,
        place=Prepared,
    )
)
_native: Final = native if _able else None
