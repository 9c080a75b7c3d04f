"""RabbitMQ as installed, or from apt where we are root; its own node, ports, cookie, epmd and directories."""

import base64
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from hopwatch_demo.brokers import probe, system
from hopwatch_demo.brokers.model import Broker, BrokerMissing, State
from hopwatch_demo.brokers.ports import free_ports
from hopwatch_demo.brokers.server import Server, http_status

_PLUGINS = "[rabbitmq_management,rabbitmq_prometheus,rabbitmq_event_exchange,rabbitmq_tracing].\n"
_CONFIG = """\
listeners.tcp.local = 127.0.0.1:{amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management}
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = {prometheus}
# Fresh queue figures: the default is 5 s.
collect_statistics_interval = 1000
log.console = true
log.console.level = info
"""
# By default, every two minutes RabbitMQ throws away what channels that have just closed had counted: a reader that comes for one
# message is then never counted, and verdicts go wrong by chance.
_ADVANCED = "[{rabbit, [{core_metrics_gc_interval, 86400000}]}].\n"
_LOGIN = {"Authorization": "Basic " + base64.b64encode(b"guest:guest").decode()}


def script() -> str | None:
    """The server's own script: Debian's wrapper in /usr/sbin would change the user."""
    debian = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    return str(debian) if debian.exists() else shutil.which("rabbitmq-server")


class RabbitMQ(Server):
    name = "rabbitmq"
    variable = "HOPWATCH_RABBITMQ_URL"

    @staticmethod
    def given(url: str, environ: Mapping[str, str]) -> Broker:
        return Broker(
            "rabbitmq",
            State.GIVEN,
            probe.rabbitmq_version(url),
            url,
            management_url=environ.get("HOPWATCH_RABBITMQ_MANAGEMENT_URL", "").rstrip("/"),
            monitoring_url=environ.get("HOPWATCH_RABBITMQ_PROMETHEUS_URL", "").rstrip("/"),
        )

    @staticmethod
    def provide() -> None:
        if script() is not None:
            return
        if not system.can_install():
            raise BrokerMissing("rabbitmq-server is not installed: apt-get install rabbitmq-server")
        if why := system.install("rabbitmq-server"):
            raise BrokerMissing(why)

    def prepare(self) -> None:
        self.amqp, self.management, self.prometheus, self.dist, self.epmd = free_ports(5)
        self.cookie = secrets.token_hex(16)
        config = _CONFIG.format(amqp=self.amqp, management=self.management, prometheus=self.prometheus)
        (self.directory / "rabbitmq.conf").write_text(config)
        (self.directory / "advanced.config").write_text(_ADVANCED)
        (self.directory / "enabled_plugins").write_text(_PLUGINS)

    @property
    def _url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.amqp}/%2F"

    def command(self) -> Sequence[str]:
        return [script() or "rabbitmq-server"]

    def environment(self) -> Mapping[str, str]:
        home = self.directory
        erlang = f"-kernel inet_dist_use_interface {{127,0,0,1}} +S 2:2 +sbwt none -setcookie {self.cookie}"
        return {
            "HOME": str(home),
            "ERL_EPMD_PORT": str(self.epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"hopwatch-{self.amqp}@localhost",
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_PID_FILE": str(home / "rabbitmq.pid"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(home / "feature_flags"),
            "RABBITMQ_DIST_PORT": str(self.dist),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": erlang,
        }

    def ready(self) -> bool:
        # The listeners come up one after the other, the plugins' before AMQP's own.
        return (
            bool(probe.rabbitmq_version(self._url))
            and http_status(self.management, "/api/overview", _LOGIN) == 200
            and http_status(self.prometheus, "/metrics") == 200
        )

    def broker(self) -> Broker:
        return Broker(
            self.name,
            State.REAL,
            probe.rabbitmq_version(self._url),
            self._url,
            management_url=f"http://guest:guest@127.0.0.1:{self.management}",
            monitoring_url=f"http://127.0.0.1:{self.prometheus}",
        )
