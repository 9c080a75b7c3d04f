"""What a sampler leaves out, as far as it can be told before it is asked: what the quick lane and the ledger go by."""

from typing import Final, NamedTuple

from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import (
    Decision,
    ParentBased,
    Sampler,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import Tracer
from opentelemetry.util.types import AttributeValue

from hopwatch.conventions import LEDGER, LEDGER_RATIO, Ledger


class Foreseen(NamedTuple):
    """Whether a sampler takes what begins a trace, and what goes on with one; None: it has to be asked each time."""

    root: bool | None = None
    sampled: bool | None = None
    """Below a parent that is sampled."""
    unsampled: bool | None = None
    """Below one that is not."""


_UNKNOWN: Final = Foreseen()


def foreseen(sampler: Sampler) -> Foreseen:
    """Return what a sampler decides; only the SDK's own can be foreseen."""
    if isinstance(sampler, StaticSampler) and _decides_as(sampler, StaticSampler):
        if sampler._decision is Decision.RECORD_ONLY:
            return _UNKNOWN
        takes = sampler._decision is Decision.RECORD_AND_SAMPLE
        return Foreseen(takes, takes, takes)
    if isinstance(sampler, ParentBased) and _decides_as(sampler, ParentBased):
        return Foreseen(
            foreseen(sampler._root).root,
            _both(sampler._remote_parent_sampled, sampler._local_parent_sampled),
            _both(sampler._remote_parent_not_sampled, sampler._local_parent_not_sampled),
        )
    return _UNKNOWN


def ledger_told(tracer: Tracer) -> dict[str, AttributeValue]:
    """Return what a tracer's process tells of its messages, as attributes; nothing where only its maker knows."""
    if isinstance(tracer, trace.ProxyTracer):
        tracer = tracer._tracer
    in_force = getattr(tracer, "in_force", None)
    if in_force is not None:
        tracer = in_force()
    if getattr(tracer, "ledger", False):
        return {LEDGER: Ledger.WHOLE.value}
    sampler = getattr(tracer, "sampler", None)
    if not isinstance(sampler, Sampler):
        return {}
    known = foreseen(sampler)
    if known.root and known.sampled:
        return {LEDGER: (Ledger.WHOLE if known.unsampled else Ledger.PARENT).value}
    told: dict[str, AttributeValue] = {LEDGER: Ledger.SAMPLED.value}
    ratio = _ratio(sampler)
    return told if ratio is None else told | {LEDGER_RATIO: ratio}


def _both(one: Sampler, other: Sampler) -> bool | None:
    takes = foreseen(one).root
    return takes if takes == foreseen(other).root else None


def _decides_as(sampler: Sampler, known: type[Sampler]) -> bool:
    return type(sampler).should_sample is known.should_sample


def _ratio(sampler: Sampler) -> float | None:
    if isinstance(sampler, ParentBased):
        sampler = sampler._root
    return sampler.rate if isinstance(sampler, TraceIdRatioBased) else None
