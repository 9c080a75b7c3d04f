"""The shop as the compose file runs it: alone, against brokers that run elsewhere."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.process import inherited_environment

from hopwatch_demo import truth
from hopwatch_demo.brokers.ports import free_ports
from hopwatch_demo.patience import scale_wait
from hopwatch_demo.standing import MOST_BYTES, empty_large
from hopwatch_demo.truth import Act

START_S = 60
COMMAND = [sys.executable, "-m", "hopwatch_demo.standing"]


def quiet() -> dict[str, str]:
    """This process's environment without a word to hopwatch."""
    return inherited_environment()


@pytest.mark.nats
@pytest.mark.system
def test_the_shop_runs_until_it_is_told_to_stop(nats_url, tmp_path):
    """Every service comes up, orders flow although no collector answers, SIGTERM ends all with status 0."""
    services = ("GATEWAY", "ORDERS", "PAYMENTS")
    addresses = {
        f"HOPWATCH_DEMO_{name}": f"127.0.0.1:{port}"
        for name, port in zip(services, free_ports(3), strict=True)
    }
    told = {
        "HOPWATCH_DEMO_NATS": nats_url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "TMPDIR": str(tmp_path),
    }
    shop = subprocess.Popen(COMMAND, env=quiet() | addresses | told)
    try:
        end = time.monotonic() + scale_wait(START_S)
        acts: set[tuple[str, Act]] = set()
        while ("billing", Act.RECEIVED) not in acts and time.monotonic() < end and shop.poll() is None:
            time.sleep(0.2)
            acts = {(entry.service, entry.act) for entry in _entries(tmp_path)}
        assert ("billing", Act.RECEIVED) in acts
        assert ("gateway", Act.READY) in acts
    finally:
        shop.send_signal(signal.SIGTERM)
        status = shop.wait(scale_wait(60))
    assert status == 0
    assert not list(tmp_path.glob("hopwatch-shop-*"))


def _entries(folder: Path) -> list[truth.Entry]:
    return [entry for records in folder.glob("hopwatch-shop-*/records") for entry in truth.read(records)]


def test_without_a_broker_it_says_what_to_set():
    """Status 2, like any wrong usage."""
    done = subprocess.run(
        COMMAND, env=quiet(), capture_output=True, text=True, check=False, timeout=scale_wait(60)
    )
    assert done.returncode == 2
    assert "HOPWATCH_DEMO_NATS" in done.stderr


def test_large_files_are_emptied_and_others_kept(tmp_path):
    """A shop that stands for months fills no disk."""
    large, small = tmp_path / "logs" / "large.log", tmp_path / "small.log"
    large.parent.mkdir()
    large.write_bytes(b"x" * (MOST_BYTES + 1))
    small.write_bytes(b"x")
    empty_large(tmp_path)
    assert (large.stat().st_size, small.stat().st_size) == (0, 1)
