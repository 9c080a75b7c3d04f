"""Kafka in KRaft mode, one node, from Maven Central's jars kept in the user's cache."""

import os
import re
import shutil
import subprocess
import tempfile
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path

from hopwatch_demo.brokers import probe, system
from hopwatch_demo.brokers.model import Broker, BrokerMissing, State
from hopwatch_demo.brokers.ports import free_ports
from hopwatch_demo.brokers.server import Server

KAFKA = "3.9.1"
_POM = Path(__file__).with_name("kafka-pom.xml")
_CONFIG = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={directory}/data
num.partitions=1
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
background.threads=2
"""
_LOG4J = """\
log4j.rootLogger=WARN, out
log4j.logger.kafka.server.KafkaRaftServer=INFO
log4j.logger.org.apache.kafka.common.utils.AppInfoParser=INFO
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d %p %m (%c)%n
"""
_JVM = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
)


def jars() -> Path:
    """Where the jars are kept, outside any repository."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "hopwatch", f"kafka-{KAFKA}")


def java() -> str | None:
    """A Java of version 17 or later, by JAVA_HOME, else on the PATH."""
    homes = [Path(os.environ["JAVA_HOME"], "bin", "java")] if os.environ.get("JAVA_HOME") else []
    for candidate in (*map(str, homes), shutil.which("java")):
        if candidate is None or not Path(candidate).exists():
            continue
        said = subprocess.run([candidate, "-version"], capture_output=True, text=True, check=False).stderr
        found = re.search(r'version "(\d+)', said)
        if found and int(found[1]) >= 17:
            return candidate
    return None


class Kafka(Server):
    name = "kafka"
    variable = "HOPWATCH_KAFKA_BOOTSTRAP"

    @staticmethod
    def given(url: str, environ: Mapping[str, str]) -> Broker:
        return Broker("kafka", State.GIVEN, probe.kafka_version(url), url)

    @staticmethod
    def provide() -> None:
        if java() is None:
            _need("Java 17", "default-jre-headless")
        if java() is None:
            raise BrokerMissing("the Java found is older than 17")
        if jars().is_dir():
            return
        if shutil.which("mvn") is None:
            _need("Maven (mvn), which fetches Kafka's jars", "maven")
        _fetch(jars())

    def prepare(self) -> None:
        self.jvm = java() or "java"
        self.port, self.controller = free_ports(2)
        config = _CONFIG.format(port=self.port, controller=self.controller, directory=self.directory)
        (self.directory / "server.properties").write_text(config)
        (self.directory / "log4j.properties").write_text(_LOG4J)
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # An id may begin with a dash, which on its own would be an option.
        arguments = ["format", "-g", f"--cluster-id={cluster}", "-c", "server.properties"]
        formatted = subprocess.run(
            self._java("kafka.tools.StorageTool", *arguments),
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if formatted.returncode:
            raise BrokerMissing(f"formatting Kafka's storage failed: {formatted.stderr.strip()[-300:]}")

    def command(self) -> Sequence[str]:
        return self._java("kafka.Kafka", "server.properties")

    def ready(self) -> bool:
        # Kafka says this once it is registered, unfenced and accepting clients.
        return "Kafka Server started" in self.log.read_text(errors="replace")

    def broker(self) -> Broker:
        found = re.search(r"Kafka version: (\S+)", self.log.read_text(errors="replace"))
        bootstrap = f"127.0.0.1:{self.port}"
        return Broker(self.name, State.REAL, found[1] if found else probe.kafka_version(bootstrap), bootstrap)

    def _java(self, *arguments: str) -> list[str]:
        own = [
            f"-Dlog4j.configuration=file:{self.directory}/log4j.properties",
            f"-Djava.io.tmpdir={self.directory}",  # unpacked native libraries go away with it
        ]
        return [self.jvm, *_JVM, *own, "-cp", f"{jars()}/*", *arguments]


def _need(what: str, package: str) -> None:
    if not system.can_install():
        raise BrokerMissing(f"{what} is not installed: apt-get install {package}")
    if why := system.install(package):
        raise BrokerMissing(why)


def _fetch(target: Path) -> None:
    """Have Maven resolve the jars; they appear at `target` all at once, so that runs in parallel do no harm."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        shutil.copy(_POM, Path(work, "pom.xml"))
        fetched = Path(work, "libs")
        arguments = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={fetched}"]
        maven = subprocess.run(
            ["mvn", "--batch-mode", "--quiet", *arguments],
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if maven.returncode:
            raise BrokerMissing(f"Maven could not fetch Kafka {KAFKA}: {maven.stdout.strip()[-300:]}")
        if not target.is_dir():
            fetched.rename(target)
