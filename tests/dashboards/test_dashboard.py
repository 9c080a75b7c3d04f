"""The dashboard follows the rules that Grafana's dashboard-linter checks, and the house's own."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

Panel = dict[str, Any]
UNITS = {"short", "percentunit", "s", "cps", "reqps", "bytes"}
"""Unit ids that Grafana knows and we use; a misspelt one is accepted silently."""


@pytest.fixture(scope="session")
def board(root: Path) -> dict[str, Any]:
    """The committed dashboard."""
    loaded: dict[str, Any] = json.loads((root / "dashboards/grafana/hopwatch.json").read_text())
    return loaded


def panels(board: dict[str, Any]) -> Iterator[Panel]:
    """Every panel, also those inside collapsed rows, without the rows themselves."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels") or []
        else:
            yield panel


def queries(board: dict[str, Any]) -> Iterator[tuple[Panel, dict[str, Any]]]:
    """Every panel with each of its queries."""
    for panel in panels(board):
        for target in panel.get("targets") or []:
            yield panel, target


def generate(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the generator."""
    command = [sys.executable, "-m", "dashboards.generate", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def test_the_committed_files_are_what_the_code_generates(root):
    """Nobody edits them by hand, or forgets to run the generator."""
    done = generate(root, "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_panel_says_what_it_shows(board):
    """Title, description, unit."""
    for panel in panels(board):
        assert panel["title"], panel["id"]
        assert panel["description"].endswith("."), panel["title"]
        if panel["type"] != "text":
            assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]


def test_panels_have_ids_that_links_can_name(board):
    """All different, none zero, rows included."""
    rows = [panel for panel in board["panels"] if panel["type"] == "row"]
    ids = [panel["id"] for panel in (*rows, *panels(board))]
    assert all(ids)
    assert len(ids) == len(set(ids))


def test_every_query_uses_the_chosen_data_source(board):
    """Panels, queries and variables all follow ${datasource}."""
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel, target in queries(board):
        assert panel["datasource"] == chosen, panel["title"]
        assert target["datasource"] == chosen, panel["title"]
    first, *others = board["templating"]["list"]
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
    assert [variable["datasource"] for variable in others if variable["type"] == "query"] == [chosen, chosen]


def test_variables_take_several_values(board):
    """All of them stands for any value there is."""
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            assert variable["multi"]
            assert variable["includeAll"]
            assert variable["allValue"] == ".+"


def test_multi_value_variables_are_matched_as_patterns(board):
    """`=` would break with a second value."""
    for panel, target in queries(board):
        assert not re.search(r'[^~]"\$(service|destination)"', target["expr"]), panel["title"]


def test_rates_are_taken_over_the_rate_interval_and_of_counters(board):
    """`$__rate_interval` always holds enough samples; a gauge has no rate."""
    for panel, target in queries(board):
        for metric, window in re.findall(r"rate\(([a-z_]+)(?:\{[^}]*\})?\[([^\]]+)\]", target["expr"]):
            assert metric.endswith(("_total", "_bucket", "_sum", "_count")), panel["title"]
            assert window == "$__rate_interval", panel["title"]


def test_counters_are_never_shown_raw(board):
    """A counter without a rate says only how long the collector has been up."""
    for panel, target in queries(board):
        for counter in re.finditer(r"[a-z_]+_(?:total|bucket)\b", target["expr"]):
            assert target["expr"][: counter.start()].endswith("rate("), panel["title"]


def test_the_dashboard_cannot_be_edited_where_it_is_shown(board):
    """It is generated; an edit would be lost."""
    assert board["editable"] is False
    assert board["graphTooltip"] == 1


def test_queries_of_a_panel_have_names_of_their_own(board):
    """Grafana drops the second of two with one name."""
    for panel in panels(board):
        names = [target["refId"] for target in panel.get("targets") or []]
        assert len(names) == len(set(names)), panel["title"]


def test_panels_do_not_overlap(board):
    """Grafana would push them around."""
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        grid = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert grid["x"] + grid["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


def test_no_unknown_keys_survive(root):
    """What the SDK does not know it drops: reading the file and writing it again changes nothing."""
    script = (
        "import json, sys; from grafana_foundation_sdk.models.dashboard import Dashboard;"
        "from grafana_foundation_sdk.cog.encoder import JSONEncoder; text = sys.stdin.read();"
        "again = JSONEncoder(sort_keys=True, indent=2).encode(Dashboard.from_json(json.loads(text)));"
        "sys.exit(again.strip() != text.strip())"
    )
    text = (root / "dashboards/grafana/hopwatch.json").read_text()
    done = subprocess.run([sys.executable, "-c", script], input=text, text=True, check=False)
    assert done.returncode == 0


@pytest.fixture(scope="session")
def alerts(root: Path) -> list[dict[str, Any]]:
    """The committed alert rules."""
    [group] = yaml.safe_load((root / "dashboards/prometheus/hopwatch.rules.yml").read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def test_every_alert_says_what_and_what_to_do(alerts, board, root):
    """Its runbook link leads to a panel that exists, and the runbook has a section for it."""
    runbook = (root / "dashboards/runbook.md").read_text()
    ids = {panel["id"]: panel for panel in panels(board)}
    for alert in alerts:
        assert alert["annotations"]["summary"]
        assert alert["annotations"]["description"].endswith(".")
        assert alert["labels"]["severity"] in {"warning", "critical"}
        url = alert["annotations"]["runbook_url"]
        assert f"/d/{board['uid']}/" in url
        panel = ids[int(url.partition("viewPanel=")[2])]
        assert panel["options"]["content"] == runbook
        assert f"## {alert['alert']}\n" in runbook


def test_the_runbook_has_no_section_without_an_alert(alerts, root):
    """Sections do not outlive their alerts."""
    sections = re.findall(r"^## (.+)$", (root / "dashboards/runbook.md").read_text(), re.MULTILINE)
    assert sections == [alert["alert"] for alert in alerts]


def test_prometheus_accepts_the_rules(prometheus_tools, root):
    """promtool reads the rules and what they must and must not fire on."""
    for command in (["check", "rules", "hopwatch.rules.yml"], ["test", "rules", "hopwatch.test.yml"]):
        done = subprocess.run(
            [prometheus_tools.promtool, *command],
            cwd=root / "dashboards/prometheus",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_accepts_its_configuration(prometheus_tools, root):
    """The scrape configuration that the compose file mounts."""
    done = subprocess.run(
        [prometheus_tools.promtool, "check", "config", "--syntax-only", "prometheus.yml"],
        cwd=root / "dashboards/prometheus",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_provisioning_agrees_with_the_compose_file(root):
    """Grafana looks for dashboards and for Prometheus where the compose file puts them."""
    compose = yaml.safe_load((root / "docker-compose.yml").read_text())
    provisioning = root / "dashboards/grafana/provisioning"
    [provider] = yaml.safe_load((provisioning / "dashboards/hopwatch.yml").read_text())["providers"]
    [source] = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    mounts = [volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/hopwatch.json" in mounts
    assert source["url"] == "http://prometheus:9090"
    scrape = yaml.safe_load((root / "dashboards/prometheus/prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == scrape["global"]["scrape_interval"]
    [job] = scrape["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["collector:4319"]}]
    assert job["authorization"]["credentials_file"] == "/run/secrets/hopwatch_read_token"
