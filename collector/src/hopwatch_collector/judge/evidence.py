"""Everything that is known of some messages, as frames: what services told, what brokers told, what is declared."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from hopwatch_collector.judge.brokers import Brokers
from hopwatch_collector.judge.frames import (
    ADVISORIES,
    COMMITS,
    COVERAGE,
    DEADLINES,
    EXPECTED,
    FACTS,
    FOREIGN_READERS,
    LOSSES,
    MESSAGE_EVENTS,
    POLLS,
    SEEKS,
    SUBSCRIPTIONS,
    empty,
)
from hopwatch_collector.judge.standing import Standing


@dataclass(frozen=True, slots=True)
class Evidence:
    """What there is of some messages. All times are µs since 1970, as they were told; 0 stands for never.

    Brokers are named as `brokers` says, whatever was told of them.
    """

    facts: pl.DataFrame = field(default_factory=lambda: empty(FACTS))
    """The ledger's rows of the messages, folded: one per message, receiver, attempt and hop."""
    message_events: pl.DataFrame = field(default_factory=lambda: empty(MESSAGE_EVENTS))
    """What was told of single messages besides: time to live, RabbitMQ's firehose."""
    durable: pl.DataFrame = field(default_factory=lambda: empty(SUBSCRIPTIONS))
    """Subscriptions that last while nobody is connected, one row each."""
    brief: pl.DataFrame = field(default_factory=lambda: empty(SUBSCRIPTIONS))
    """Reports of the others around the time of the messages, one row per 15 s."""
    expected: pl.DataFrame = field(default_factory=lambda: empty(EXPECTED))
    """What the team declares."""
    standing: Standing = field(default_factory=Standing.unknown)
    """How receivers stood, whenever that changed, since some time before the messages, and last before that."""
    commits: pl.DataFrame = field(default_factory=lambda: empty(COMMITS))
    """Kafka's commits beyond the messages, the nearest ones."""
    commit_heads: pl.DataFrame = field(default_factory=lambda: empty(COMMITS))
    """Each group's latest commit."""
    seeks: pl.DataFrame = field(default_factory=lambda: empty(SEEKS))
    advisories: pl.DataFrame = field(default_factory=lambda: empty(ADVISORIES))
    """What a broker said of single offsets."""
    polls: pl.DataFrame = field(default_factory=lambda: empty(POLLS))
    """When each kind of broker could last be asked."""
    coverage: pl.DataFrame = field(default_factory=lambda: empty(COVERAGE))
    """When processes told what they do as receivers, a row per minute."""
    losses: pl.DataFrame = field(default_factory=lambda: empty(LOSSES))
    """What processes say they lost of it."""
    foreign_readers: pl.DataFrame = field(default_factory=lambda: empty(FOREIGN_READERS))
    """Who read from where around the time of the messages, by the word of instrumentations that may tell part of it."""
    deadlines: pl.DataFrame = field(default_factory=lambda: empty(DEADLINES))
    brokers: Brokers = field(default_factory=Brokers)
    firehose_from: int = 0
    """Since when RabbitMQ's firehose was heard without a gap, and until when."""
    firehose_until: int = 0
    clock_offsets: Mapping[int, int] = field(default_factory=dict)
    """By process: µs to take off its times."""
