"""Every query of the dashboard and of the alerts, run on a real Prometheus that scrapes a real collector."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from support.process import inherited_environment

from hopwatch.conventions import (
    DESTINATION,
    MESSAGE_ID,
    MESSAGING_DESTINATION_NAME,
    MESSAGING_OPERATION_TYPE,
    MESSAGING_SYSTEM,
    PUBLISH_OUTCOME,
    RECEIVER,
    REPORT,
    SETTLE_OUTCOME,
    SUBSCRIPTION_DURABLE,
    SUBSCRIPTION_PATTERN,
)
from hopwatch_demo.patience import scale_wait

TOKEN = "read-me"
TRAFFIC_S = 150
"""Enough on a machine that is busy with other tests; alone it takes a few seconds."""
KINDS = {"server": 2, "client": 3, "producer": 4, "consumer": 5}
SAMPLES = re.compile(r"\b((?:hopwatch|traces)_[a-z0-9_]+)\b(?!\s*=)")
pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@dataclass(frozen=True, slots=True)
class World:
    """A collector that has seen some traffic, and the Prometheus that scrapes it."""

    collector: str
    prometheus: str

    def page(self) -> str:
        """The collector's metrics page."""
        answer = httpx.get(
            f"{self.collector}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=scale_wait(60)
        )
        return answer.raise_for_status().text

    def ask(self, expr: str) -> list[dict[str, Any]]:
        """Series that `expr` gives right now."""
        answer = httpx.post(
            f"{self.prometheus}/api/v1/query", data={"query": expr}, timeout=scale_wait(60)
        ).json()
        assert answer["status"] == "success", f"{expr}: {answer}"
        series: list[dict[str, Any]] = answer["data"]["result"]
        return series


class Traffic:
    """Spans of two services and a broker between them, as OTLP JSON."""

    def __init__(self, otlp: str) -> None:
        self._client = httpx.Client(base_url=otlp, timeout=scale_wait(60))
        self._count = 0

    def send(self) -> None:
        """One more round: settled, failed, returned and waiting messages, and a call."""
        self._count += 1
        now = time.time_ns()
        orders, billing = [], []
        for number, (destination, outcome) in enumerate(
            [
                ("shop:orders.placed", "confirmed"),
                ("shop:orders.odd", "confirmed"),
                ("shop:nowhere", "returned"),
            ]
        ):
            trace, sent, got = (os.urandom(size).hex() for size in (16, 8, 8))
            message = {
                MESSAGE_ID: f"01890a5d-ac96-774b-{self._count:04x}-{number:012x}",
                **_about(destination),
            }
            publish = {MESSAGING_OPERATION_TYPE: "send", PUBLISH_OUTCOME: outcome}
            orders.append(
                _span(
                    trace, sent, "", "publish", "producer", now, message | publish, ok=outcome == "confirmed"
                )
            )
            if outcome == "confirmed":
                odd = destination.endswith("odd")
                process = {MESSAGING_OPERATION_TYPE: "process", RECEIVER: "billing"}
                process |= {SETTLE_OUTCOME: "reject" if odd else "ack"}
                billing.append(
                    _span(trace, got, sent, "process", "consumer", now + 10**6, message | process, ok=not odd)
                )
        billing += [
            _subscription(now, "shop:orders.*", "billing"),
            _subscription(now, "shop:orders.placed", "shipping"),
        ]
        trace, call, served = (os.urandom(size).hex() for size in (16, 8, 8))
        http = {"http.request.method": "GET", "url.path": "/price", "server.address": "billing"}
        orders.append(_span(trace, call, "", "GET", "client", now, http))
        billing.append(
            _span(trace, served, call, "GET /price", "server", now + 10**5, http | {"http.route": "/price"})
        )
        body = {"resourceSpans": [_resource("orders", orders), _resource("billing", billing)]}
        self._client.post("/v1/traces", json=body).raise_for_status()

    def send_rubbish(self) -> None:
        """One request that the collector must refuse."""
        refused = self._client.post(
            "/v1/traces", content=b"\xff\xff\xff", headers={"Content-Type": "application/x-protobuf"}
        )
        assert refused.status_code == 400

    def close(self) -> None:
        """No more traffic."""
        self._client.close()


def _about(destination: str) -> dict[str, str]:
    return {MESSAGING_SYSTEM: "rabbitmq", DESTINATION: destination, MESSAGING_DESTINATION_NAME: "shop"}


def _subscription(now: int, pattern: str, receiver: str) -> dict[str, Any]:
    attributes: dict[str, Any] = {MESSAGING_SYSTEM: "rabbitmq", REPORT: "subscribe", RECEIVER: receiver}
    attributes |= {SUBSCRIPTION_PATTERN: pattern, SUBSCRIPTION_DURABLE: True}
    # Entitled before the message was sent.
    return _span(
        os.urandom(16).hex(), os.urandom(8).hex(), "", "subscribe", "client", now - 10**9, attributes
    )


def _span(
    trace: str,
    span: str,
    parent: str,
    name: str,
    kind: str,
    start: int,
    attributes: dict[str, Any],
    *,
    ok: bool = True,
) -> dict[str, Any]:
    return {
        "traceId": trace,
        "spanId": span,
        "parentSpanId": parent,
        "name": name,
        "kind": KINDS[kind],
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + 5 * 10**6),
        "attributes": [{"key": key, "value": _value(value)} for key, value in attributes.items()],
        "status": {} if ok else {"code": 2, "message": "it failed"},
    }


def _value(value: object) -> dict[str, Any]:
    return {"boolValue": value} if isinstance(value, bool) else {"stringValue": value}


def _resource(service: str, spans: list[dict[str, Any]]) -> dict[str, Any]:
    attributes = [{"key": "service.name", "value": {"stringValue": service}}]
    return {"resource": {"attributes": attributes}, "scopeSpans": [{"spans": spans}]}


@contextlib.contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`command`, ended by its pid."""
    quiet = inherited_environment()
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=quiet)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(scale_wait(30))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Wait for `condition`; AssertionError naming `what` where it does not come true."""
    end = time.monotonic() + scale_wait(seconds)
    while time.monotonic() < end:
        with contextlib.suppress(httpx.TransportError):
            if condition():
                return
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {scale_wait(seconds):g} s")


@pytest.fixture(scope="module")
def world(prometheus_tools: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Both running, with traffic until every derived family has been scraped a few times."""
    folder = tmp_path_factory.mktemp("world")
    collect = [str(Path(sys.executable).with_name("hopwatch")), "collect", "--data", str(folder / "data")]
    collect += [
        "--otlp-grpc-port=0",
        "--otlp-http-port=0",
        "--api-port=0",
        "--deadline=1",
        f"--read-token={TOKEN}",
    ]
    log = folder / "collector.log"
    with contextlib.ExitStack() as stack:
        stack.enter_context(running(collect, log))
        until(lambda: "hopwatch collector ready:" in log.read_text(), "the collector")
        at = dict(re.findall(r"([a-z-]+)=(\S+)", log.read_text().partition("ready:")[2].splitlines()[0]))
        traffic = Traffic(f"http://{at['otlp-http']}")
        stack.callback(traffic.close)
        prometheus = stack.enter_context(_prometheus(prometheus_tools.prometheus, at["api"], folder))
        here = World(f"http://{at['api']}", prometheus)
        asked = httpx.get(
            f"{here.collector}/api/v1/lag",
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=scale_wait(60),
        )
        assert asked.status_code < 500
        end = time.monotonic() + scale_wait(TRAFFIC_S)
        while time.monotonic() < end and not _scraped(here):
            traffic.send()
            traffic.send_rubbish()
            time.sleep(1)
        assert _scraped(here), (
            f"not all was scraped within {scale_wait(TRAFFIC_S):g} s: {log.read_text()[-2000:]}"
        )
        yield here


@contextlib.contextmanager
def _prometheus(binary: str, target: str, folder: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = {
        "global": {"scrape_interval": "3s", "scrape_timeout": "3s"},
        "scrape_configs": [
            {
                "job_name": "hopwatch",
                "authorization": {"credentials": TOKEN},
                "static_configs": [{"targets": [target]}],
            }
        ],
    }
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    command = [binary, f"--config.file={file}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    command += [f"--web.listen-address={address}", "--log.level=warn"]
    with running(command, folder / "prometheus.log"):
        url = f"http://{address}"
        until(lambda: httpx.get(f"{url}/-/ready", timeout=scale_wait(20)).status_code == 200, "Prometheus")
        yield url


def _scraped(world: World) -> bool:
    """Whether derived counters have grown and everything else is there."""
    grown = world.ask("sum(increase(traces_service_graph_request_failed_total[60s])) > 0")
    refused = world.ask("increase(hopwatch_ingest_refused_total[60s]) > 0")
    return bool(grown and refused and world.ask("hopwatch_lag_seconds") and world.ask("hopwatch_deliveries"))


def _dashboard_queries(root: Path) -> dict[str, str]:
    found = {}
    board = json.loads((root / "dashboards/grafana/hopwatch.json").read_text())
    for panel in board["panels"]:
        for shown in (panel, *(panel.get("panels") or [])):
            for target in shown.get("targets") or []:
                found[f"{shown['title']} {target['refId']}"] = target["expr"]
    return found


def _alert_queries(root: Path) -> dict[str, str]:
    [group] = yaml.safe_load((root / "dashboards/prometheus/hopwatch.rules.yml").read_text())["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


def _substituted(expr: str) -> str:
    """As Grafana sends it, with all values of every variable chosen."""
    for variable, value in {"$__rate_interval": "60s", "$service": ".+", "$destination": ".+"}.items():
        expr = expr.replace(variable, value)
    return expr


def _exported(page: str) -> set[str]:
    """Every sample name on a metrics page, also of families that have no series yet."""
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE):
        names |= (
            {f"{name}{suffix}" for suffix in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
        )
    return names | set(re.findall(r"^([a-z_0-9]+)[{ ]", page, re.MULTILINE))


def test_every_metric_asked_for_is_exported(world, root):
    """No panel, alert or variable waits for a name that never comes."""
    board = json.loads((root / "dashboards/grafana/hopwatch.json").read_text())
    variables = [variable["query"] for variable in board["templating"]["list"] if variable["type"] == "query"]
    expressions = [*_dashboard_queries(root).values(), *_alert_queries(root).values(), *variables]
    asked = {name for expr in expressions for name in SAMPLES.findall(expr)}
    assert asked
    assert asked <= _exported(world.page())


def test_every_panel_shows_something(world, root):
    """Real Prometheus understands each query, and has an answer to it."""
    empty = {}
    for name, expr in _dashboard_queries(root).items():
        if not world.ask(_substituted(expr)):
            empty[name] = expr
    assert not empty


def test_every_alert_can_be_asked(world, root):
    """Real Prometheus understands each rule; the traffic's returned message raises its alert."""
    answers = {name: world.ask(expr) for name, expr in _alert_queries(root).items()}
    undelivered = answers["HopwatchUndelivered"]
    assert "returned" in {series["metric"]["verdict"] for series in undelivered}
    assert answers["HopwatchIngestRefusing"]
    assert not answers["HopwatchCollectorDown"]
    assert not answers["HopwatchEngineFailing"]


def test_the_node_graph_has_its_columns(world, root):
    """Grafana's node graph wants id, source and target."""
    edges = world.ask(_substituted(_dashboard_queries(root)["Who sends to whom edges"]))
    pairs = {(edge["metric"]["source"], edge["metric"]["target"]) for edge in edges}
    assert ("orders", "billing") in pairs
    assert len({edge["metric"]["id"] for edge in edges}) == len(edges)


def test_numbers_agree_with_what_was_sent(world):
    """Verdicts and lag on the page are those of the traffic."""
    deliveries = world.ask("sum by (verdict, destination, receiver) (hopwatch_deliveries)")
    seen = {
        tuple(series["metric"].get(key, "") for key in ("verdict", "destination", "receiver"))
        for series in deliveries
    }
    assert ("settled", "shop:orders.placed", "billing") in seen
    assert ("returned", "shop:nowhere", "") in seen
    lagging = {series["metric"]["receiver"] for series in world.ask("hopwatch_lag_messages > 0")}
    assert "shipping" in lagging
