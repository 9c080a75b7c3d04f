"""The compose file and the Dockerfiles, read: they cannot run where the tests do."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from hopwatch_collector.settings import Settings
from hopwatch_collector.witness.configured import witnesses
from hopwatch_demo.catalogue import Broker
from hopwatch_demo.shop.settings import PREFIX

SHOP = {f"{PREFIX}{name}" for name in ("RECORDS", "GATEWAY", "ORDERS", "PAYMENTS", "RATE", "FAULTS")}
SHOP |= {f"{PREFIX}{broker.name}" for broker in Broker}

TEXTS = {"type": "array", "items": {"type": "string"}}
SERVICE: dict[str, Any] = {
    "type": "object",
    "required": ["image", "healthcheck", "restart", "ports"],
    "additionalProperties": False,
    "properties": {
        "image": {"type": "string", "pattern": r"^[a-z0-9./-]+:v?\d+\.\d+(\.\d+)*(-[a-z0-9.-]+)?$"},
        "build": {
            "type": "object",
            "required": ["context", "dockerfile"],
            "additionalProperties": False,
            "properties": {"context": {"const": "."}, "dockerfile": {"type": "string"}},
        },
        "command": TEXTS,
        "hostname": {"type": "string"},
        "environment": {"type": "object", "additionalProperties": {"type": ["string", "number"]}},
        "ports": {"type": "array", "items": {"type": "string", "pattern": r"^127\.0\.0\.1:\d+:\d+$"}},
        "volumes": {"type": "array", "items": {"type": "string", "pattern": r"^[a-z./_-]+:/[^:]+(:ro)?$"}},
        "secrets": TEXTS,
        "tmpfs": TEXTS,
        "read_only": {"type": "boolean"},
        "init": {"type": "boolean"},
        "restart": {"const": "unless-stopped"},
        "stop_grace_period": {"type": "string", "pattern": r"^\d+s$"},
        "security_opt": TEXTS,
        "ulimits": {"type": "object"},
        "logging": {"type": "object", "required": ["driver", "options"]},
        "depends_on": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["condition"],
                "additionalProperties": False,
                "properties": {"condition": {"enum": ["service_started", "service_healthy"]}},
            },
        },
        "healthcheck": {
            "type": "object",
            "required": ["test", "interval", "timeout", "retries"],
            "additionalProperties": False,
            "properties": {
                "test": {**TEXTS, "minItems": 2, "prefixItems": [{"enum": ["CMD", "CMD-SHELL"]}]},
                "interval": {"type": "string", "pattern": r"^\d+s$"},
                "timeout": {"type": "string", "pattern": r"^\d+s$"},
                "start_period": {"type": "string", "pattern": r"^\d+s$"},
                "retries": {"type": "integer", "minimum": 1},
            },
        },
    },
}
COMPOSE: dict[str, Any] = {
    "type": "object",
    "required": ["name", "services", "volumes", "secrets"],
    "additionalProperties": False,
    "patternProperties": {"^x-": {}},
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
        "services": {"type": "object", "additionalProperties": SERVICE},
        "volumes": {"type": "object", "additionalProperties": {"type": "null"}},
        "secrets": {
            "type": "object",
            "additionalProperties": {"type": "object", "required": ["environment"]},
        },
    },
}
SERVICES = ["nats", "rabbitmq", "kafka", "clickhouse", "collector", "prometheus", "grafana", "demo"]


@pytest.fixture(scope="session")
def text(root: Path) -> str:
    """The compose file as written."""
    return (root / "docker-compose.yml").read_text()


@pytest.fixture(scope="session")
def compose(text: str) -> dict[str, Any]:
    """The compose file as read."""
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def test_the_file_follows_the_schema(compose):
    """Known keys only, every image pinned, every port on loopback, every service with a health check."""
    # The demo serves nobody outside; it alone publishes nothing.
    demo = dict(compose["services"]["demo"], ports=[])
    jsonschema.validate({**compose, "services": {**compose["services"], "demo": demo}}, COMPOSE)


def test_all_the_system_is_there(compose):
    """Brokers, engine, collector, Prometheus, Grafana, demo."""
    assert list(compose["services"]) == SERVICES


def test_everything_named_exists(compose, root):
    """Mounted files, named volumes, secrets, Dockerfiles, services waited for."""
    used = set()
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (root / source).exists(), volume
                assert volume.endswith(":ro"), volume
            else:
                used.add(source)
        assert set(service.get("secrets", [])) <= set(compose["secrets"])
        assert set(service.get("depends_on", {})) <= set(compose["services"]) - {name}
        if "build" in service:
            assert (root / service["build"]["dockerfile"]).is_file()
    assert used == set(compose["volumes"])


def test_nothing_secret_is_written_down(compose, text):
    """Tokens and passwords come from the environment and have no default."""
    asked = set(re.findall(r"\$\{([A-Z_]+)", text))
    assert not re.search(r"\$\{[A-Z_]+(:?-|\})", text), "a default, or none required"
    for name in asked:
        assert f"export {name}=" in text or f" {name}=$(" in text, (
            f"the top of the file does not say how to set {name}"
        )
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"TOKEN|PASS|HEADERS|SECRET", name):
                assert "${" in str(value), name


def test_the_collector_is_told_only_what_it_understands(compose):
    """A misspelt variable would be ignored."""
    environment = compose["services"]["collector"]["environment"]
    known = {f"HOPWATCH_{name.upper()}" for name in Settings.model_fields}
    assert set(environment) <= known
    read = {
        name.removeprefix("HOPWATCH_").lower(): re.sub(r"\$\{[^}]*\}", "abc", str(value))
        for name, value in environment.items()
    }
    settings = Settings(**read)
    assert settings.read_token == "abc"
    assert {watched.witness.system for watched in witnesses(settings)} >= {"kafka", "rabbitmq", "nats"}


def test_the_shop_is_told_only_what_it_understands(compose):
    """A misspelt variable would be ignored."""
    environment = compose["services"]["demo"]["environment"]
    assert {name for name in environment if name.startswith("HOPWATCH_")} <= SHOP
    assert {f"{PREFIX}{broker.name}" for broker in Broker} <= set(environment)


def test_addresses_lead_to_services_and_ports_that_exist(compose):
    """Every host in a URL is a service that is waited for."""
    for name in ("collector", "demo"):
        service = compose["services"][name]
        for value in service["environment"].values():
            for host in re.findall(r"(?:^|[/@])([a-z]+):\d+", str(value)):
                assert host in service["depends_on"], (name, value)


@pytest.mark.parametrize("name", ["collector/Dockerfile", "demo/Dockerfile"])
def test_images_are_built_in_stages_and_run_without_root(root, name):
    """Pinned bases, no build tools in the result, a numeric user, a health check."""
    text = (root / name).read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert len(bases) == 2
    assert all(re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", base) for base in bases)
    final = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER \d+$", final, re.MULTILINE)
    assert "HEALTHCHECK" in final
    assert "pip install" not in final
    assert "uv==" in text


@pytest.mark.parametrize("name", ["collector/Dockerfile", "demo/Dockerfile"])
def test_everything_copied_exists_and_is_let_through(root, name):
    """.dockerignore keeps all out but what it names."""
    let_through = [
        line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    for line in re.findall(r"^COPY (?!--from)(.+)$", (root / name).read_text(), re.MULTILINE):
        for source in line.split()[:-1]:
            assert (root / source).exists(), line
            assert source in let_through, line


def test_images_use_the_uv_of_the_makefile(root):
    """One lock file, one reader of it."""
    [version] = re.findall(r"^UV_VERSION := (\S+)$", (root / "Makefile").read_text(), re.MULTILINE)
    for name in ("collector/Dockerfile", "demo/Dockerfile"):
        assert f"uv=={version}\n" in (root / name).read_text()
