"""What a declaration comes to, whichever file it was read from."""

from dataclasses import dataclass
from typing import Final

BROKERS: Final = ("kafka", "nats", "rabbitmq")
"""Systems whose receivers can be declared: of a call, the answer tells."""

MAX_EXPECTATIONS: Final = 5_000
MAX_RULES: Final = 200
MAX_NAME: Final = 512
"""Characters of a pattern or a name; longer than any broker allows."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Which destinations are meant. Two lists of words decide, as they do for patterns that brokers and services report."""

    text: str
    """As it was written, parameters as `*`."""
    prefix: str = ""
    """What a destination begins with before the words that `expression` is about."""
    expression: str = ""
    """Of the rest, each word with a dot before it; empty: destinations that are `text` to the letter."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """One receiver that is to get whatever is sent to a pattern."""

    system: str
    pattern: Pattern
    receiver: str
    """As the ledger spells it: consumer group, queue, `stream/consumer`, queue group, `service:subject`."""
    source: str
    """Where it is declared, in words, without a path."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How long a receiver may take. Of several that match, the first counts."""

    system: str
    """Empty: any."""
    destination: Pattern | None
    """None: any."""
    receiver: str
    """A regular expression; empty: any."""
    seconds: float
    named: str = ""
    """The receiver as it was written."""
