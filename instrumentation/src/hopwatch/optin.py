"""What is recorded only where it is asked for, because it may be private or is seldom worth its price."""

import os
from dataclasses import dataclass
from typing import Final, Self

VARIABLE: Final = "HOPWATCH_RECORD"
"""Comma-separated: `message_key` (Kafka's record keys), `body_size` (bytes of every payload),
`graphql_document` (the text of GraphQL operations)."""

ENVELOPE_VARIABLE: Final = "HOPWATCH_WEBSOCKET_ENVELOPE"
"""`true`: WebSocket messages carry their context in front of them, where the other end says so too."""


@dataclass(frozen=True, slots=True)
class OptIn:
    """What the person running the process asked for."""

    message_key: bool = False
    body_size: bool = False
    graphql_document: bool = False
    envelope: bool = False

    @classmethod
    def from_environment(cls) -> Self:
        """Read the variable; what is not known here is left to later versions."""
        wanted = {word.strip().lower() for word in os.environ.get(VARIABLE, "").split(",")}
        return cls(
            message_key="message_key" in wanted,
            body_size="body_size" in wanted,
            graphql_document="graphql_document" in wanted,
            envelope=os.environ.get(ENVELOPE_VARIABLE, "").strip().lower() in ("1", "true", "yes"),
        )
