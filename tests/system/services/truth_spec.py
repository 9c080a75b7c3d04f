"""What the judge's judge tells a client of a broker to be, and what that client is told over stdin later."""

from dataclasses import asdict, dataclass, field
from typing import Any, Final

PLAIN: Final = "plain"
"""Instrumented by one line."""
SILENT: Final = "silent"
"""Not instrumented."""
SAMPLED: Final = "sampled"
"""Instrumented; its sampler drops every trace, and its ledger is whole all the same."""
FOLLOWS: Final = "follows"
"""Instrumented; its ledger follows a sampler that keeps three traces in ten."""
LOSSY: Final = "lossy"
"""Instrumented; it can hold back few spans, and loses the others."""

ENVIRONMENT: Final[dict[str, dict[str, str]]] = {
    PLAIN: {"OTEL_BSP_MAX_QUEUE_SIZE": "200000"},
    SILENT: {},
    SAMPLED: {"OTEL_BSP_MAX_QUEUE_SIZE": "200000", "OTEL_TRACES_SAMPLER": "always_off"},
    FOLLOWS: {
        "OTEL_BSP_MAX_QUEUE_SIZE": "200000",
        "HOPWATCH_LEDGER": "sampled",
        "OTEL_TRACES_SAMPLER": "traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.3",
    },
    LOSSY: {
        "OTEL_BSP_MAX_QUEUE_SIZE": "40",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "40",
        "OTEL_BSP_SCHEDULE_DELAY": "2500",
    },
}
"""The environment that makes a process tell so much."""

CLEAR: Final = frozenset({PLAIN, SAMPLED})
"""Ways of telling that leave nothing out."""

HELD_AT_MOST: Final = 20
"""Messages that a client keeps unsettled on purpose; fewer than it is given at once."""


@dataclass(frozen=True, slots=True)
class Client:
    """One process: a sender, or one member of a receiver."""

    name: str
    broker: str
    role: str
    """`send` or `receive`."""
    telling: str
    seed: str
    run: str
    """The name that all events of the round begin with."""
    source: str
    """Topic, exchange, queue, stream or subject."""
    receiver: str = ""
    """As the ledger spells it; empty for a sender."""
    settings: dict[str, Any] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    """Of a receiver: the shares of fates other than `ack`; of a sender: those of routes."""

    @property
    def told(self) -> bool:
        """Whether it is instrumented."""
        return self.telling != SILENT

    def as_json(self) -> dict[str, Any]:
        """Return what `Client(**…)` makes it of again."""
        return asdict(self)
