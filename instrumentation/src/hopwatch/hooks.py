"""What a team decides about the hops and calls of one transport: what is recorded, what it is called, what stays private.

```python
hopwatch.instrument(hooks={"aiokafka": hopwatch.Hook(
    keep=lambda hop: hop.destination != "heartbeats",
    name=lambda hop: f"{hop.operation} order events" if hop.destination.startswith("order.") else hop.name,
    redact=lambda name, value: None if name == "messaging.kafka.message.key" else value,
)})
```
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from opentelemetry.util.types import AttributeValue

from hopwatch.conventions import (
    ATTEMPT,
    DEAD_LETTER_RECEIVER,
    DESTINATION,
    FLOW_ID,
    HTTP_METHOD,
    HTTP_ROUTE,
    HTTP_STATUS,
    KAFKA_OFFSET,
    MESSAGE_ID,
    MESSAGING_DESTINATION_NAME,
    MESSAGING_DESTINATION_PARTITION_ID,
    MESSAGING_OPERATION_NAME,
    MESSAGING_OPERATION_TYPE,
    MESSAGING_SYSTEM,
    PUBLISH_OUTCOME,
    RECEIVER,
    RPC_METHOD,
    RPC_STATUS,
    RPC_SYSTEM,
    SEQUENCE,
    SETTLE_OUTCOME,
    STREAM,
)
from hopwatch.faults import swallowed
from hopwatch.places import Attributes

ESSENTIAL: Final = frozenset(
    {
        ATTEMPT,
        DEAD_LETTER_RECEIVER,
        DESTINATION,
        FLOW_ID,
        HTTP_METHOD,
        HTTP_ROUTE,
        HTTP_STATUS,
        KAFKA_OFFSET,
        MESSAGE_ID,
        MESSAGING_DESTINATION_NAME,
        MESSAGING_DESTINATION_PARTITION_ID,
        MESSAGING_OPERATION_NAME,
        MESSAGING_OPERATION_TYPE,
        MESSAGING_SYSTEM,
        PUBLISH_OUTCOME,
        RECEIVER,
        RPC_METHOD,
        RPC_STATUS,
        RPC_SYSTEM,
        SEQUENCE,
        SETTLE_OUTCOME,
        STREAM,
    }
)
"""What the ledger is made of: `redact` is not asked about these. Who wants none of it uses `keep`."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A hop, a half of a call or a GraphQL operation, about to be recorded."""

    operation: str
    """`send` or `process`; of calls `call` or `serve`; of GraphQL `query`, `mutation` or `subscription`."""

    destination: str
    """Topic, subject, or exchange and routing key, as `hopwatch.destination` spells it; method of a gRPC call; path or,
    once it is known and the span renamed after it, route of a request; name of a GraphQL operation."""

    name: str
    """What its span would be called."""

    attributes: Attributes
    """What is known of it by now."""


@dataclass(frozen=True, slots=True)
class Hook:
    """Functions that are asked about every hop or call of a transport; what they raise is counted and swallowed.

    `keep` returns whether it is recorded: of one that is not, no span, no message id and no verdict exists, but the
    trace goes on through it. `name` returns the span's name; it is asked again when a request's route is known.
    `redact` is given the name and value of everything that
    may be private (business keys, reasons, message keys, texts of exceptions; not what the ledger is made of, see
    `ESSENTIAL`) and returns the value to record, None for none. If it raises, the value is not recorded.
    """

    keep: Callable[[Draft], bool] | None = None
    name: Callable[[Draft], str] | None = None
    redact: Callable[[str, AttributeValue], AttributeValue | None] | None = None

    def named(self, draft: Draft) -> str | None:
        """Return the name of a hop's span, None where it is not to be recorded."""
        try:
            if self.keep is not None and not self.keep(draft):
                return None
            return str(self.name(draft)) if self.name is not None else draft.name
        except Exception as fault:  # noqa: BLE001 — a hook must not break its host either
            swallowed("hook", fault)
            return draft.name

    def renamed(self, draft: Draft) -> str:
        """Return the name of the span of what is being recorded."""
        try:
            return str(self.name(draft)) if self.name is not None else draft.name
        except Exception as fault:  # noqa: BLE001 — a hook must not break its host either
            swallowed("hook", fault)
            return draft.name

    def redacted(self, attributes: Attributes) -> dict[str, AttributeValue]:
        """Return attributes as they are to be recorded."""
        kept: dict[str, AttributeValue] = {}
        for name, value in attributes.items():
            said = value if name in ESSENTIAL else self._redacted(name, value)
            if said is not None:
                kept[name] = said
        return kept

    def _redacted(self, name: str, value: AttributeValue) -> AttributeValue | None:
        try:
            return self.redact(name, value) if self.redact is not None else value
        except Exception as fault:  # noqa: BLE001 — a hook must not break its host either
            swallowed("hook", fault)
            return None


_installed: dict[str, Hook] = {}


def install(hooks: Mapping[str, Hook]) -> None:
    """Note the hooks of transports about to be instrumented, by the import name of their library."""
    _installed.update(hooks)


def hook_for(library: str) -> Hook | None:
    """Return the hook of a transport, if it has one."""
    return _installed.get(library)


def forget() -> None:
    """Forget all hooks."""
    _installed.clear()
