"""Services on hosts whose clocks are minutes off: real processes, one ledger, and times as if all clocks agreed."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import uuid4

import pytest
from support.collector import Collector
from support.process import HOPWATCH, Process, environment
from support.waiting import eventually

from hopwatch_collector.api.models import Clock, ClockList, Delivery, Live, Verdict

pytestmark = [pytest.mark.nats, pytest.mark.timeout(200)]

OFF = {"ahead-1": 300.0, "behind-1": -300.0}
"""Seconds by host; that of `web-1` is right."""
CALLS = 5


@dataclass(frozen=True, slots=True)
class Shop:
    """What was done: each shop, called by web, and what it then published, which web read."""

    subjects: dict[str, str]
    """By host."""

    def host(self, hop: Delivery) -> str:
        return next(host for host, subject in self.subjects.items() if subject == hop.destination)


@pytest.fixture(scope="module")
def shop(collector: Collector, wires: dict[str, str]) -> Iterator[Shop]:
    """Web calls both shops and reads what they publish; all spans have been exported."""
    subjects = {host: f"skew-{uuid4().hex[:12]}" for host in OFF}
    with ExitStack() as stack:

        def party(host: str, *how: str) -> Process:
            env = environment(
                **wires,
                OTEL_EXPORTER_OTLP_ENDPOINT=collector.otlp_http,
                OTEL_RESOURCE_ATTRIBUTES=f"host.name={host}",
            )
            process = stack.enter_context(Process.service(*how, "hopwatch", f"on-{host}", env=env))
            process.answer()
            return process

        web = party("web-1", "party")
        shops = {host: party(host, "skewed", str(off), "party") for host, off in OFF.items()}
        for host, process in shops.items():
            web.ask(do="receive", over="nats", source=subjects[host], group="readers")
            url = process.ask(do="receive", over="http", source=subjects[host])["ready"]
            for number in range(CALLS):
                text = f"{host} {number}"
                web.ask(do="send", over="http", to=url, text=text)
                assert process.ask(do="take")["took"]["text"] == text
                process.ask(do="send", over="nats", to=subjects[host], text=text)
                assert web.ask(do="take")["took"]["text"] == text
        for process in (web, *shops.values()):
            assert process.ask(do="export")["exported"]
        yield Shop(subjects)


@pytest.fixture(scope="module")
def clocks(collector: Collector, shop: Shop) -> dict[str, Clock]:
    """All clocks, by host, once both shops' are known to be off."""

    def known() -> dict[str, Clock]:
        return {clock.host: clock for clock in collector.api.read(ClockList, "clocks").clocks}

    found = eventually(known, lambda told: all(host in told and told[host].corrected_s for host in OFF))
    # What was judged before is judged again by what is known now.
    eventually(lambda: hops_of(collector, shop), lambda hops: all(hop.sender_clock_offset_s for hop in hops))
    return found


def hops_of(collector: Collector, shop: Shop) -> list[Delivery]:
    """Deliveries of the shops' messages."""
    found = collector.api.deliveries(since="20m", limit=500)
    return [one for one in found if one.destination in shop.subjects.values()]


def test_clocks_are_measured_by_what_messages_show(clocks: dict[str, Clock]) -> None:
    """Calls and messages bound both shops' clocks from both sides, and the truth lies between."""
    for host, off in OFF.items():
        clock = clocks[host]
        assert clock.at_least_s is not None
        assert clock.at_most_s is not None
        assert clock.at_least_s <= off <= clock.at_most_s
        assert clock.uncertainty_s is not None
        assert clock.uncertainty_s < 1.5
        assert clock.hops >= 2 * CALLS
    assert clocks["web-1"].corrected_s == 0


def test_hops_take_as_long_as_they_took(collector: Collector, shop: Shop, clocks: dict[str, Clock]) -> None:
    """Latencies are those of clocks that agree; beside the correction stand the times as they were told."""
    hops = hops_of(collector, shop)
    assert len(hops) == 2 * CALLS
    for hop in hops:
        off = OFF[shop.host(hop)]
        assert hop.verdict is Verdict.SETTLED
        assert hop.latency_ms is not None
        assert hop.latency_ms < 10_000
        assert hop.sent_at is not None
        assert hop.received_at is not None
        assert abs((hop.sent_at - hop.received_at).total_seconds() - off) < 10
        assert abs(hop.sender_clock_offset_s - off) < 1.5
        assert hop.receiver_clock_offset_s == 0


def test_a_person_is_told(collector: Collector, shop: Shop, clocks: dict[str, Clock]) -> None:
    """`hopwatch clocks` lists them, `hopwatch show` marks what is corrected, the live snapshot and /metrics have them."""

    def hopwatch(*words: str) -> str:
        command = [HOPWATCH, *words, "--collector", collector.api.url]
        return subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout

    rows = {line.split("\t")[0]: line.split("\t") for line in hopwatch("clocks").splitlines()}
    assert abs(float(rows["ahead-1"][5]) - 300) < 1.5
    assert abs(float(rows["behind-1"][5]) + 300) < 1.5
    hop = next(
        one for one in collector.api.deliveries(since="20m") if one.destination == shop.subjects["ahead-1"]
    )
    shown = hopwatch("show", hop.flow_id)
    assert "✓ settled ~" in shown
    assert "~ clocks corrected: on-ahead-1 5m" in shown
    told = json.loads(hopwatch("show", hop.flow_id, "--json"))
    assert {round(span["clock_offset_s"]) for span in told["spans"]} <= {0, 299, 300, 301}
    assert told["summary"]["duration_ms"] < 30_000
    live = collector.api.read(Live, "live/snapshot")
    assert {clock.host for clock in live.clocks} == set(OFF)
