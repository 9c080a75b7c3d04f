"""The commands as a person types them, against a collector fed by real services."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from support.collector import Collector
from support.process import HOPWATCH, SERVICES, Process, environment
from support.waiting import eventually

from hopwatch_collector.api.models import (
    CauseList,
    DeliveryList,
    Flow,
    FlowList,
    LagList,
    Message,
    SearchResult,
    Topology,
    Verdict,
)
from hopwatch_demo.patience import scale_wait

pytestmark = [pytest.mark.nats, pytest.mark.rabbitmq]

FOUND, NOTHING, USAGE, COLLECTOR = 0, 1, 2, 3
"""Exit codes of the commands."""


@dataclass(frozen=True, slots=True)
class Shop:
    """What the services have done: the run's name, the order's trace and the ids of its messages."""

    name: str
    trace_id: str
    placed: str
    kept: str
    billed: str


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Its stdout as JSON."""
        return json.loads(self.out)


class Commands:
    """Runs `hopwatch` commands as processes."""

    def __init__(self, url: str) -> None:
        self._env = environment(HOPWATCH_COLLECTOR=url)

    def __call__(self, *arguments: str) -> Answer:
        done = subprocess.run(
            [HOPWATCH, *arguments],
            env=self._env,
            capture_output=True,
            text=True,
            timeout=scale_wait(60),
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def hopwatch(collector: Collector) -> Commands:
    """The `hopwatch` command, told by environment where the collector is."""
    return Commands(collector.api_url)


@pytest.fixture(scope="module")
def shop(collector: Collector, wires: dict[str, str]) -> Iterator[Shop]:
    """Two services under `hopwatch run` whose messages the collector has in its ledger."""
    name = f"shop-{uuid4().hex[:8]}"
    env = collector.environment(**wires)
    with service("billing", name, env) as billing:
        assert billing.answer() == {"ready": True}
        with service("orders", name, env) as orders:
            trace_id = orders.answer()["placed"]
            assert billing.answer() == {"billed": ["jetstream", "nats", "rabbitmq"]}
            yield Shop(
                name,
                trace_id,
                *(settled(collector, f"{name}{end}") for end in (".placed", ".kept", "-bills")),
            )


def service(script: str, name: str, env: dict[str, str]) -> Process:
    """Start a service that has no line of hopwatch's set-up in it."""
    path = str(SERVICES / f"{script}.py")
    return Process(
        [HOPWATCH, "run", "--service", f"{name}-{script}", "--", sys.executable, path, name], env=env
    )


def settled(collector: Collector, destination: str) -> str:
    """Return the id of the one message sent to a destination, once it is settled."""
    (delivery,) = collector.api.await_deliveries(
        lambda them: [one.verdict for one in them] == [Verdict.SETTLED], destination=destination
    )
    return delivery.message_id


def ids(answer: Answer) -> set[str]:
    """Return the ids a find came up with."""
    return {hit.id for hit in SearchResult.model_validate_json(answer.out).hits}


def test_find_by_business_key_comes_up_with_every_message_of_the_order(
    hopwatch: Commands, shop: Shop
) -> None:
    """`key=value` and the bare value find all messages sent under the tag, and none of another order."""
    named = hopwatch("find", f"order_id={shop.name}-4711", "--json")
    assert named.status == FOUND, named
    assert {shop.placed, shop.kept, shop.billed} <= ids(named)
    assert ids(hopwatch("find", f"{shop.name}-4711", "--json")) == ids(named)
    other = ids(hopwatch("find", f"order_id={shop.name}-4712", "--json"))
    assert len(other) >= 2
    assert not other & ids(named)


@pytest.mark.parametrize("by", ["message id", "AMQP message_id", "Nats-Msg-Id", "trace id"])
def test_find_knows_every_id_of_a_message(hopwatch: Commands, shop: Shop, by: str) -> None:
    """A message is found by our id, by the ids the application gave it, and by its trace."""
    query, expected = {
        "message id": (shop.placed, shop.placed),
        "AMQP message_id": (f"{shop.name}-bill-4711", shop.billed),
        "Nats-Msg-Id": (f"{shop.name}-msg-4711", shop.kept),
        "trace id": (shop.trace_id, shop.trace_id),  # the flow that the trace began
    }[by]
    answer = hopwatch("find", query, "--json")
    assert answer.status == FOUND, answer
    assert ids(answer) == {expected}


def test_find_by_filters_alone(hopwatch: Commands, shop: Shop) -> None:
    """Destination, receiver, service and verdict find without a query."""
    name = shop.name
    filters = ("--service", f"{name}-billing", "--receiver", f"{name}-billing", "--verdict", "settled")
    answer = hopwatch("find", "--destination", f"{name}.placed", *filters, "--json")
    assert (answer.status, ids(answer)) == (FOUND, {shop.placed})
    other = hopwatch("find", "--destination", f"{name}.placed", "--verdict", "stuck", "--json")
    assert (other.status, ids(other)) == (NOTHING, set())


def test_find_prints_rows_into_a_pipe(hopwatch: Commands, shop: Shop) -> None:
    """Without --json a pipe gets a header and one line per hit, columns apart by tabs."""
    header, *rows = hopwatch("find", shop.placed).out.splitlines()
    assert header.split("\t")[:3] == ["kind", "id", "state"]
    assert [row.split("\t")[:3] for row in rows] == [["message", shop.placed, "settled"]]


def test_nothing_found_is_exit_code_1(hopwatch: Commands, shop: Shop) -> None:
    """A search without hits says so on stderr; with --json it still answers."""
    answer = hopwatch("find", f"{shop.name}-no-such-thing", "--json")
    assert (answer.status, answer.data["hits"]) == (NOTHING, [])
    assert "nothing found" in answer.err
    missing = hopwatch("show", "0199c1f2-7f7e-7c3a-9d53-5a1f0c7be001")
    assert (missing.status, missing.out) == (NOTHING, "")
    assert hopwatch("undelivered", "--service", f"{shop.name}-nobody").status == NOTHING


def test_show_a_message_by_id_and_by_alias(hopwatch: Commands, shop: Shop) -> None:
    """`show` answers with the whole message: who sent it, who got it, by whose witness, under which other names."""
    answer = hopwatch("show", shop.billed, "--json")
    assert answer.status == FOUND, answer
    message = Message.model_validate(answer.data)
    assert message.aliases == [f"{shop.name}-bill-4711"]
    assert (message.producer, message.publish_outcome) == (f"{shop.name}-orders", "confirmed")
    assert message.keys == {"order_id": f"{shop.name}-4711"}
    (delivery,) = message.deliveries
    assert (delivery.receiver, delivery.consumer) == (f"{shop.name}-bills", f"{shop.name}-billing")
    assert set(delivery.witnesses) == {"producer", "consumer"}
    assert [one.settle_outcome for one in delivery.history] == ["ack"]
    by_alias = hopwatch("show", f"{shop.name}-bill-4711", "--json")
    assert (by_alias.status, by_alias.data["message_id"]) == (FOUND, shop.billed)
    drawn = hopwatch("show", shop.billed)
    assert drawn.status == FOUND
    assert f"{shop.name}-bills" in drawn.out


def test_show_a_flow_by_its_trace(hopwatch: Commands, shop: Shop) -> None:
    """`show` of a trace id answers with the flow: its three hops, both services."""
    answer = hopwatch("show", shop.trace_id, "--json")
    assert answer.status == FOUND, answer
    flow = Flow.model_validate(answer.data)
    assert {hop.message_id for hop in flow.hops} == {shop.placed, shop.kept, shop.billed}
    assert {hop.verdict for hop in flow.hops} == {Verdict.SETTLED}
    assert set(flow.summary.services) == {f"{shop.name}-orders", f"{shop.name}-billing"}
    assert flow.summary.name == "place an order"


def test_undelivered_lists_what_reached_nobody_with_reasons(
    hopwatch: Commands, collector: Collector, shop: Shop
) -> None:
    """The unroutable message and the request without responders are listed, each with the broker's own words."""
    sender = f"{shop.name}-orders"
    collector.api.await_deliveries(lambda them: len(them) == 2, verdict="returned", service=sender)
    answer = hopwatch("undelivered", "--each", "--service", sender, "--json")
    assert answer.status == FOUND, answer
    found = {one.destination: one for one in DeliveryList.model_validate(answer.data).deliveries}
    found.pop(f"{shop.name}-backlog", None)  # overdue by now, on a slow machine
    assert found.keys() == {f"{shop.name}-nowhere", f"{shop.name}.anyone"}
    assert {one.verdict for one in found.values()} == {Verdict.RETURNED}
    assert "NO_ROUTE" in found[f"{shop.name}-nowhere"].reason
    assert "NoResponders" in found[f"{shop.name}.anyone"].reason
    assert {one.witnesses[0] for one in found.values()} == {"producer"}


def test_undelivered_groups_by_cause(hopwatch: Commands, collector: Collector, shop: Shop) -> None:
    """Each cause of one verdict is a line with how many, and its samples are the messages that --each lists."""
    sender = f"{shop.name}-orders"
    collector.api.await_deliveries(lambda them: len(them) == 2, verdict="returned", service=sender)
    asked = ("undelivered", "--service", sender, "--verdict", "returned", "--json")
    answer = hopwatch(*asked)
    assert answer.status == FOUND, answer
    causes = CauseList.model_validate_json(answer.out).causes
    assert [(one.deliveries, one.verdict) for one in causes] == [(1, Verdict.RETURNED)] * 2
    each = DeliveryList.model_validate_json(hopwatch(*asked, "--each").out).deliveries
    assert {id for one in causes for id in one.sample_message_ids} == {one.message_id for one in each}
    assert {one.cause for one in causes} == {one.cause for one in each}


def test_flows_and_topology_are_those_of_the_shop(hopwatch: Commands, shop: Shop) -> None:
    """The order's flow is listed by service and destination; every edge leads from its producer to its receiver."""
    flows = hopwatch(
        "flows", "--service", f"{shop.name}-billing", "--destination", f"{shop.name}.placed", "--json"
    )
    assert flows.status == FOUND, flows
    assert shop.trace_id in {flow.flow_id for flow in FlowList.model_validate_json(flows.out).flows}
    edges = Topology.model_validate_json(hopwatch("topology", "--json").out).edges
    (edge,) = [one for one in edges if one.destination == f"{shop.name}.placed"]
    assert (edge.producer, edge.receiver) == (f"{shop.name}-orders", f"{shop.name}-billing")
    assert hopwatch("flows", "--service", f"{shop.name}-nobody").status == NOTHING


def test_status_is_ok(hopwatch: Commands) -> None:
    """A collector that works says so, and which version it is."""
    answer = hopwatch("status", "--json")
    assert answer.status == FOUND, answer
    assert answer.data["health"]["status"] == "ok"
    assert answer.data["health"]["version"]
    assert answer.data["live"]["window_s"] == 300


def test_find_by_time_alone(hopwatch: Commands, shop: Shop) -> None:
    """`--since` lists what there was, without a query."""
    assert shop.placed in ids(hopwatch("find", "--since", "1h", "--limit", "1000", "--json"))


def test_lag_since_tells_what_waits(hopwatch: Commands, shop: Shop) -> None:
    """A queue whose messages were sent within that time is told; the collector takes the times that others take."""
    answer = hopwatch("lag", "--since", "1h", "--json")
    assert answer.status == FOUND, answer
    assert f"{shop.name}-backlog" in {row.receiver for row in LagList.model_validate_json(answer.out).rows}


@pytest.mark.parametrize(
    "arguments",
    [
        ("find", "x", "--since", "1m", "--until", "2m"),
        ("flows", "--since", "now", "--until", "2h"),
        ("topology", "--since", "1m", "--until", "2m"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_the_collector_refuses_is_usage(hopwatch: Commands, arguments: tuple[str, ...]) -> None:
    """A stretch of time that ends before it begins is told by the option's name."""
    answer = hopwatch(*arguments)
    assert (answer.status, answer.out) == (USAGE, "")
    assert "--until: until must be after since" in answer.err


def test_lag_counts_what_waits_in_a_queue_nobody_reads(
    hopwatch: Commands, collector: Collector, shop: Shop
) -> None:
    """Three messages in a declared queue without a consumer are three waiting, and the oldest has an age."""
    backlog = f"{shop.name}-backlog"
    eventually(
        collector.api.lag, lambda rows: any(row.receiver == backlog and row.waiting == 3 for row in rows)
    )
    answer = hopwatch("lag", "--json")
    assert answer.status == FOUND, answer
    rows = {row.receiver: row for row in LagList.model_validate(answer.data).rows}
    assert (rows[backlog].system, rows[backlog].destination) == ("rabbitmq", backlog)
    assert rows[backlog].waiting == 3
    assert rows[backlog].oldest_s > 0
    assert rows[f"{shop.name}-bills"].waiting == 0


def test_usage_is_exit_code_2(hopwatch: Commands) -> None:
    """A find without anything to find by explains itself."""
    answer = hopwatch("find")
    assert (answer.status, answer.out) == (USAGE, "")
    assert "QUERY" in answer.err


@pytest.mark.parametrize("command", [("show", "4711"), ("lag",)])
def test_no_collector_is_exit_code_3(command: tuple[str, ...]) -> None:
    """A collector that is not there is told apart from nothing found, with what to do about it."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        answer = Commands(f"http://127.0.0.1:{reserved.getsockname()[1]}")(*command, "--json")
    assert (answer.status, answer.out) == (COLLECTOR, "")
    assert "hopwatch collect" in answer.err
