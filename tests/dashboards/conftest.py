"""Prometheus for the tests: the installed one, or Debian's package unpacked into a cache; else missing, loudly."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from hopwatch_demo.patience import scale_wait

PACKAGE_S = scale_wait(120)
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Tools:
    """Where `prometheus` and `promtool` are; `missing` says why they are not."""

    prometheus: str = ""
    promtool: str = ""
    version: str = ""
    missing: str = ""


@pytest.fixture(scope="session")
def prometheus_tools(closing_lines: list[str]) -> Tools:
    """Prometheus and promtool; skips without them, fails where HOPWATCH_REQUIRE_BROKERS is `all` or names prometheus."""
    tools = _installed() or _unpacked()
    closing_lines.append(
        f"prometheus: missing ({tools.missing})" if tools.missing else f"prometheus: real {tools.version}"
    )
    if tools.missing:
        required = os.environ.get("HOPWATCH_REQUIRE_BROKERS", "").replace(",", " ").split()
        refuse = pytest.fail if {"all", "prometheus"} & set(required) else pytest.skip
        refuse(f"prometheus missing: {tools.missing}")
    return tools


@pytest.fixture(scope="session")
def root() -> Path:
    """The workspace's root."""
    return ROOT


def _installed() -> Tools | None:
    prometheus, promtool = shutil.which("prometheus"), shutil.which("promtool")
    return _tools(prometheus, promtool) if prometheus and promtool else None


def _unpacked() -> Tools:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "hopwatch", "prometheus")
    if not cache.is_dir():
        reason = _fetch(cache)
        if reason:
            return Tools(missing=reason)
    return _tools(str(cache / "usr/bin/prometheus"), str(cache / "usr/bin/promtool"))


def _fetch(cache: Path) -> str:
    """Unpack Debian's package into `cache`, installing nothing; why it cannot be had, or empty."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return "neither installed nor to be had: no apt here"
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent) as name:
        folder = Path(name)
        said = _run(["apt-get", "download", "prometheus"], folder)
        if not list(folder.glob("*.deb")) and os.geteuid() == 0:
            _run(["apt-get", "update"], folder)
            said = _run(["apt-get", "download", "prometheus"], folder)
        packages = list(folder.glob("*.deb"))
        if not packages:
            return f"apt cannot fetch it: {said[-200:]}"
        said = _run(["dpkg-deb", "-x", str(packages[0]), "unpacked"], folder)
        unpacked = folder / "unpacked"
        if not (unpacked / "usr/bin/prometheus").exists():
            return f"the package cannot be unpacked: {said[-200:]}"
        if not cache.exists():
            unpacked.rename(cache)
    return ""


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=PACKAGE_S)
    return f"{done.stdout}{done.stderr}".strip()


def _tools(prometheus: str, promtool: str) -> Tools:
    try:
        said = subprocess.run([prometheus, "--version"], capture_output=True, text=True, check=False)
    except OSError as error:
        return Tools(missing=f"it does not run: {error}")
    words = f"{said.stdout}{said.stderr}".split()
    if said.returncode or "version" not in words:
        return Tools(missing=f"it does not run: exit status {said.returncode}")
    return Tools(prometheus, promtool, words[words.index("version") + 1])
