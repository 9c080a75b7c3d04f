"""What all answers have in common, and those about clocks, which are part of several."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

CLOCK_OFFSET = (
    "seconds by which the clock that told the times is known to be ahead (negative: behind); taken off, they are by the "
    "collector's clock. 0: it may be right"
)


class Model(BaseModel):
    """Base of all answers: unknown fields are mistakes, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Page(Model):
    """Common to lists: whether there is more than was asked for."""

    truncated: bool


class Clock(Model):
    """How far a host's clock is ahead of the collector's (negative: behind), from what causality allows."""

    host: str = Field(description="node, host or container by name, else service and instance")
    offset_s: float = Field(
        description="halfway between the bounds; the one nearest to zero where that is vague"
    )
    uncertainty_s: float | None = Field(
        description="`offset_s` is off by no more; null: bounded from one side"
    )
    at_least_s: float | None
    at_most_s: float | None
    corrected_s: float = Field(description="what is taken off the times it told; 0: it may be right")
    hops: int = Field(description="messages, answers and exports that this rests on")
    since: datetime | None = Field(description="the minute of the first of them")


class ClockList(Page):
    """Clocks around a moment, those furthest off first."""

    reference: str = Field(
        description="whose clock is taken to be right: another's than the collector's where nothing bounds that from both sides"
    )
    collector: str = Field(description="the collector's host, as it is among the clocks")
    left_out: list[str] = Field(
        description="hosts whose hops contradict each other: set, or several of one name"
    )
    clocks: list[Clock]
