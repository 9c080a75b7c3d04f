"""All rounds of a plan: a lane for each broker, one collector for all, and what comes of it."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from support.collector import Collector, Ports

from hopwatch_demo.brokers import Brokers
from truth.compare import Tally
from truth.lane import Lane, Round, Size, draw
from truth.watch import Watch

DEADLINE_S = 5.0
"""The collector's; at the end of a round all that is open is beyond it."""


@dataclass(frozen=True)
class Plan:
    """What is to be played."""

    seed: str
    rounds: Mapping[str, Iterable[int]]
    """The numbers of the rounds over each broker."""
    minutes: float
    """No round begins later than this."""
    size: Size
    calm: bool = False
    """Whether the collector is left running all the time."""
    clear: bool = False
    """Whether the brokers are used by others, and what was made there is taken away at the end."""


@dataclass
class Outcome:
    """What came of a plan."""

    tally: Tally = field(default_factory=Tally)
    rounds: list[Round] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def watching(brokers: Brokers, names: Iterable[str]) -> list[str]:
    """Return the options of a collector that watches these brokers."""
    options = {
        "kafka": [f"--watch-kafka={brokers.kafka.url}"],
        "rabbitmq": [f"--watch-rabbitmq={brokers.rabbitmq.management_url}"],
        "nats": [
            f"--watch-nats={brokers.nats.url}",
            f"--watch-nats-monitoring={brokers.nats.monitoring_url}",
        ],
    }
    return [option for name in names for option in options[name]]


def play(plan: Plan, brokers: Brokers, folder: Path, say: Callable[[str], None]) -> Outcome:
    """Play all rounds, and look once more at the end at everything that should have stayed as it was."""
    prefix = f"t{uuid4().hex[:6]}"
    urls = {name: brokers[name].url for name in plan.rounds}
    wires = {name.upper(): url for name, url in urls.items()}
    with ExitStack() as stack:
        options = [f"--deadline={DEADLINE_S:g}", *watching(brokers, plan.rounds)]
        collector = Collector(folder / "collector", *options, ports=Ports.free())
        stack.callback(collector.stop)
        watch = Watch(collector)
        environment = collector.environment(**wires)

        def make(broker: str, number: int) -> Round:
            scenario = draw(broker, plan.seed, number, plan.size, prefix)
            records = folder / scenario.run
            return Round(scenario, urls[broker], records, watch, environment, plan.size)

        ends_at = time.monotonic() + plan.minutes * 60
        lanes = [Lane(name, make, iter(numbers), say, ends_at) for name, numbers in plan.rounds.items()]
        _work(lanes, watch, None if plan.calm else plan.seed)
        outcome = Outcome(rounds=[one for lane in lanes for one in lane.rounds])
        outcome.broken = [why for lane in lanes for why in lane.broken]
        for one in outcome.rounds:
            outcome.tally.add(one.tally)
        _judge_again(outcome, say)
        if plan.clear:
            for one in outcome.rounds:
                one.clear()
        return outcome


def _work(lanes: list[Lane], watch: Watch, trouble: str | None) -> None:
    troubling = threading.Thread(target=watch.trouble, args=(trouble,), daemon=True)
    if trouble is not None:
        troubling.start()
    threads = [threading.Thread(target=lane.work, daemon=True) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    watch.end()
    if trouble is not None:
        troubling.join()


def _judge_again(outcome: Outcome, say: Callable[[str], None]) -> None:
    for one in outcome.rounds:
        undone = one.judge_again()
        if undone:
            say(f"{one.scenario.seed}: {len(undone)} were right, and are wrong now: {undone[0]}")
        outcome.tally.right -= len(undone)
        outcome.tally.wrong += undone
