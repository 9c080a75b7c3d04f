"""Ground truth and ledger of the test at rate: what every delivery must be, what the collector says, where they differ."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families
from services.rate_record import KEPT
from services.record import Line, read_lines
from support.collector import Api

from hopwatch_collector.api.models import Delivery, DeliveryList, Verdict
from hopwatch_demo.patience import scale_wait

PAGE = 1_000
SHOWN = 5
"""Examples of each kind of difference."""

NOBODY = ""

VERDICTS = {
    ("kafka", "ack"): Verdict.SETTLED,
    ("kafka", "fail"): Verdict.FAILED,
    ("rabbitmq", "ack"): Verdict.SETTLED,
    ("rabbitmq", "reject"): Verdict.DEAD_LETTERED,
    ("rabbitmq", "fail"): Verdict.FAILED,
    ("nats", "ack"): Verdict.SETTLED,
    ("nats", "term"): Verdict.DEAD_LETTERED,
    ("nats", "fail"): Verdict.FAILED,
}
"""What the last thing that a receiver did with a message makes of it."""

Key = tuple[str, str]
"""An event and a receiver."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What a delivery must be."""

    verdict: Verdict
    attempts: int


@dataclass
class Dealings:
    """What one receiver wrote down of one event."""

    received: int = 0
    how: str = ""
    """How it was last settled; empty while it is held."""


@dataclass(frozen=True)
class Broker:
    """What was sent over one broker, and who gets it."""

    name: str
    run: str

    def receiver(self, short: str) -> str:
        """Return a receiver as the ledger spells it."""
        return {"kafka": "{}-{}", "rabbitmq": "{}.{}", "nats": "{}/{}"}[self.name].format(self.run, short)

    def owed(self, sent: Line) -> list[str]:
        """Return who is owed what was sent so."""
        if sent.how == "returned":
            return [NOBODY]
        if self.name == "kafka":
            shorts = ["billing", "stock", "archive"]
        else:
            shorts = ["billing", "stock", *(["shelf"] if sent.route == KEPT else [])]
        return [self.receiver(short) for short in shorts]


@dataclass
class Records:
    """All that the services of one broker wrote down."""

    broker: Broker
    sent: dict[str, Line] = field(default_factory=dict)
    dealings: dict[Key, Dealings] = field(default_factory=lambda: defaultdict(Dealings))
    passed: set[tuple[str, int, int]] = field(default_factory=set)

    @classmethod
    def read(cls, broker: Broker, *paths: Path) -> "Records":
        """Read the records of sender and receivers."""
        found = cls(broker)
        for path in paths:
            for line in read_lines(path):
                found._take(line)
        return found

    def _take(self, line: Line) -> None:
        if line.act == "sent":
            self.sent[line.event] = line
        elif line.act == "passed":
            self.passed.add((line.receiver, line.partition, line.offset))
        else:
            dealings = self.dealings[line.event, line.receiver]
            dealings.received += line.act == "received"
            dealings.how = line.how

    def expected(self) -> Iterator[tuple[Key, Truth]]:
        """Yield what every delivery must be once all deadlines are over."""
        dead = self.broker.receiver("dead")
        for event, sent in self.sent.items():
            for receiver in self.broker.owed(sent):
                yield (event, receiver), self._truth(sent, receiver)
            if (event, dead) in self.dealings:
                yield (event, dead), self._truth(sent, dead)

    def _truth(self, sent: Line, receiver: str) -> Truth:
        if receiver == NOBODY:
            return Truth(Verdict.RETURNED, 0)
        dealings = self.dealings.get((sent.event, receiver), Dealings())
        if not dealings.received:
            passed = (receiver, sent.partition, sent.offset) in self.passed
            return Truth(Verdict.SKIPPED if passed else Verdict.OVERDUE, 0)
        held = not dealings.how
        return Truth(
            Verdict.STUCK if held else VERDICTS[self.broker.name, dealings.how],
            dealings.received,
        )


def read_ledger(api: Api, since: datetime) -> Iterator[Delivery]:
    """Yield every delivery since then, page by page."""
    window = {"since": _written(since), "until": _written(datetime.now(UTC)), "limit": PAGE}
    page = api.read(DeliveryList, "deliveries", **window)
    yield from page.deliveries
    while page.next_cursor is not None:
        page = api.read(DeliveryList, "deliveries", **window, cursor=page.next_cursor)
        yield from page.deliveries


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass
class Comparison:
    """The ledger beside the ground truth."""

    rows: int = 0
    differences: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    messages: dict[str, str] = field(default_factory=dict)
    """A message of each kind of difference."""
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rows by verdict and receiver."""

    def differ(self, key: Key, truth: str, ledger: str, row: Delivery | None = None) -> None:
        """Note a difference under its kind."""
        kind = f"{key[1] or 'nobody'}: truth {truth}; ledger {ledger}"
        self.differences[kind] += 1
        if row is not None:
            self.messages.setdefault(kind, row.message_id)
        if len(self.examples[kind]) < SHOWN:
            why = (
                ""
                if row is None
                else f" [{row.message_id}: {row.cause}, {row.reason}; sent {row.sent_at}, so since {row.since}]"
            )
            self.examples[kind].append(f"{key[0]}{why}")

    def told(self, api: Api) -> str:
        """Return all that differs, with what decided a message of each kind, and how the collector is."""
        asked = [f"{kind}: {api.get(f'why/{message}').text}" for kind, message in self.messages.items()]
        return "\n".join([str(self), *asked[:SHOWN], _health(api)])

    def __str__(self) -> str:
        lines = [f"{sum(self.differences.values())} differences in {self.rows} rows"]
        for kind, count in self.differences.most_common():
            lines += [f"{count} x {kind}", *(f"    {example}" for example in self.examples[kind])]
        return "\n".join(lines)


def compare(expected: Mapping[Key, Truth], ledger: Iterable[Delivery]) -> Comparison:
    """Compare verdict and attempts of every delivery, in both directions."""
    found, seen = Comparison(), Counter[Key]()
    for row in ledger:
        found.rows += 1
        found.counts[row.verdict.value, row.receiver] += 1
        key = (row.keys.get("event", ""), row.receiver)
        seen[key] += 1
        truth, said = expected.get(key), Truth(row.verdict, row.attempts)
        if truth != said or seen[key] > 1:
            again = " once more" if seen[key] > 1 else ""
            found.differ(key, _told(truth), _told(said) + again, row)
    for key, truth in expected.items():
        if key not in seen:
            found.differ(key, _told(truth), "nothing")
    return found


def _health(api: Api) -> str:
    with urlopen(f"{api.url}/healthz", timeout=scale_wait(30)) as answer:
        return str(answer.read(), "utf-8")


def _told(one: Truth | None) -> str:
    return "nothing" if one is None else f"{one.verdict} after {one.attempts}"


def read_metric(page: str, name: str) -> list[tuple[dict[str, str], float]]:
    """Return the samples of a name, with their labels, of a page that Prometheus would scrape."""
    return [
        (sample.labels, sample.value)
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name
    ]


def count_deliveries(page: str) -> Counter[tuple[str, str]]:
    """Return how many deliveries there are, says the page, by verdict and receiver."""
    counts: Counter[tuple[str, str]] = Counter()
    for labels, value in read_metric(page, "hopwatch_deliveries"):
        counts[labels["verdict"], labels["receiver"]] += int(value)
    return +counts
