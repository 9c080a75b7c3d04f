"""One run of the demo: brokers, collector and shop brought up together, loaded, frozen, ended."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hopwatch_demo.brokers import Brokers
from hopwatch_demo.brokers.ports import free_ports
from hopwatch_demo.catalogue import Broker
from hopwatch_demo.collector import Collector
from hopwatch_demo.expect import Expected, expect, unfinished
from hopwatch_demo.ledger import Ledger, Row
from hopwatch_demo.patience import scale_wait
from hopwatch_demo.shop.customers import OPEN, STOPPED
from hopwatch_demo.shop.messaging.bus import FROZEN
from hopwatch_demo.shop.prepare import prepare
from hopwatch_demo.shop.settings import Settings
from hopwatch_demo.supervisor import Shop, environment_without_hopwatch, jobs
from hopwatch_demo.truth import Act, Entry, Reader
from hopwatch_demo.verify import Agreement, compare

DEADLINE_S: Final = 5.0
"""The collector's deadline for stuck and overdue."""

START_S: Final = 90.0
DRAIN_S: Final = 30.0
SETTLE_S: Final = 15.0
"""Seconds the ledger gets to catch up once nothing moves any more."""

MARGIN_S: Final = 1.0
"""Seconds beyond the deadline, so that nothing is judged while it is just about to turn overdue."""

LOOK_S: Final = 0.25

Say = Callable[[str], None]


class ShopFailed(Exception):
    """The shop did not come up; the message says which services, and where their logs are."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is to be. An empty `brokers` means all that can be had."""

    seconds: float = 25.0
    rate: float = 2.0
    brokers: tuple[str, ...] = ()
    faults: frozenset[str] = frozenset()
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """What both sides said at one moment, and how far they agree."""

    expected: Mapping[tuple[str, str], Expected]
    rows: Sequence[Row]
    agreement: Agreement


@dataclass(frozen=True, slots=True)
class World:
    """What is running."""

    plan: Plan
    folder: Path
    settings: Settings
    shop: Shop
    collector: Collector
    brokers: str
    """What each broker is, in one line."""
    began: float
    records: Reader

    def entries(self) -> list[Entry]:
        """Everything the services recorded so far."""
        return self.records.entries()

    def expected(self) -> dict[tuple[str, str], Expected]:
        """What the ledger should say now."""
        return expect(self.entries(), time.time(), DEADLINE_S)

    def load(self, say: Say) -> None:
        """Let customers place orders for as long as planned, and stop them."""
        self.open_shop()
        end = time.monotonic() + self.plan.seconds
        while (left := end - time.monotonic()) > 0:
            say(f"load: {self._counts()}, {left:.0f} s left")
            time.sleep(min(5.0, left))
        self.stop_load()

    def open_shop(self) -> None:
        """Have customers begin to place orders."""
        (self.settings.records / OPEN).touch()

    def stop_load(self) -> None:
        """Have customers place no further order."""
        (self.settings.records / STOPPED).touch()

    def freeze(self, say: Say) -> None:
        """Stop the world where nothing is about to change: all done that can be, all else past its deadline."""
        say(f"freezing: {self._counts()}; letting quick things finish")
        self._await(self._drained, DRAIN_S)
        (self.settings.records / FROZEN).touch()
        self._await(self._slow_ones_paused, DRAIN_S)
        say("frozen; waiting for the deadline of what is left")
        self._await(self._all_decided, DEADLINE_S + MARGIN_S + 10)

    def compare(self, say: Say) -> Comparison:
        """Compare ledger and ground truth once the ledger has caught up, or had time enough to."""
        say("comparing the ledger with what the services recorded")
        with Ledger(self.collector.api_url) as ledger:
            until = time.monotonic() + scale_wait(SETTLE_S)
            while not self._compared(ledger).agreement.complete and time.monotonic() < until:
                time.sleep(MARGIN_S)
            # Once more: what agreed by chance in a moment of catching up would not agree twice.
            time.sleep(MARGIN_S)
            return self._compared(ledger)

    def _compared(self, ledger: Ledger) -> Comparison:
        rows = ledger.deliveries(self.began, time.time() + MARGIN_S)
        expected = self.expected()
        return Comparison(expected, rows, compare(expected, rows))

    def _await(self, condition: Callable[[], bool], seconds: float) -> bool:
        until = time.monotonic() + scale_wait(seconds)
        while not (held := condition()) and time.monotonic() < until:
            time.sleep(LOOK_S)
        return held

    def _drained(self) -> bool:
        entries = self.entries()
        answered = {entry.event for entry in entries if entry.act is Act.SENT}
        if any(entry.act is Act.SENDING and entry.event not in answered for entry in entries):
            return False
        return not unfinished(expect(entries, time.time(), DEADLINE_S), self.plan.faults)

    def _slow_ones_paused(self) -> bool:
        return not any(
            one.kind == "placed" and one.verdict in ("in_flight", "stuck") for one in self.expected().values()
        )

    def _all_decided(self) -> bool:
        latest = max((entry.at for entry in self.entries()), default=0.0)
        return time.time() - latest > DEADLINE_S + MARGIN_S

    def _counts(self) -> str:
        entries = self.entries()
        orders = sum(entry.act is Act.SENDING and entry.service == "customers" for entry in entries)
        received = sum(entry.act is Act.RECEIVED for entry in entries)
        return f"{orders} orders, {received} messages and calls received"


@contextmanager
def opened(plan: Plan, say: Say) -> Iterator[World]:
    """Bring everything up but the load, and take everything down afterwards.

    Raises:
        CollectorFailed, ShopFailed, BrokerMissing: one of them did not come up.
    """
    folder = Path(tempfile.mkdtemp(prefix="hopwatch-demo-"))
    with ExitStack() as stack:
        if plan.keep:
            stack.callback(say, f"kept: {folder}")
        else:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        say(f"starting brokers and collector; data and logs: {folder}")
        names = plan.brokers or tuple(Broker)
        quiet = environment_without_hopwatch()
        brokers = stack.enter_context(
            Brokers.start(names, required=plan.brokers or ("nats",), background=True)
        )
        brokers.require(*(plan.brokers or ("nats",)))
        collector = stack.enter_context(Collector(folder, quiet | _watched(brokers), DEADLINE_S))
        collector.wait_until_ready()
        urls = {Broker(broker.name): broker.url for broker in brokers.all() if broker.available}
        settings = _settings(folder, plan, urls)
        asyncio.run(prepare(settings))
        env = {**quiet, **settings.environment(), "OTEL_EXPORTER_OTLP_ENDPOINT": collector.otlp_url}
        shop = stack.enter_context(Shop(folder, env))
        records = Reader(settings.records)
        world = World(plan, folder, settings, shop, collector, brokers.closing_line(), time.time(), records)
        say(f"{world.brokers}; starting the shop")
        _start(world)
        say(f"{len(shop.names)} services are ready")
        yield world


def _watched(brokers: Brokers) -> dict[str, str]:
    """The variables that have the collector ask these brokers what they hold."""
    watched = {
        "HOPWATCH_WATCH_NATS": brokers.nats.url,
        "HOPWATCH_WATCH_NATS_MONITORING": brokers.nats.monitoring_url,
        "HOPWATCH_WATCH_RABBITMQ": brokers.rabbitmq.management_url,
        "HOPWATCH_WATCH_KAFKA": brokers.kafka.url,
    }
    return {name: value for name, value in watched.items() if value}


def _settings(folder: Path, plan: Plan, urls: dict[Broker, str]) -> Settings:
    gateway, orders, payments = (f"127.0.0.1:{port}" for port in free_ports(3))
    records = folder / "records"
    records.mkdir()
    return Settings(records, gateway, orders, payments, plan.rate, plan.faults, urls)


def _start(world: World) -> None:
    these = jobs(world.settings.brokers)
    world.shop.start(these)
    until = time.monotonic() + scale_wait(START_S)
    while time.monotonic() < until:
        if sum(entry.act is Act.READY for entry in world.entries()) >= len(these):
            return
        if world.shop.deaths:
            break
        time.sleep(LOOK_S)
    raise ShopFailed(f"not all services became ready; ended: {world.shop.deaths}\n{_last_words(world)}")


def _last_words(world: World) -> str:
    logs = sorted((world.folder / "logs").glob("*.log"))
    return "\n".join(
        f"{log.stem}: {said[-2000:]}" for log in logs if (said := log.read_text(errors="replace"))
    )
