"""What can be set on the collector: by flag, by `HOPWATCH_*` environment variable, or not at all."""

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from hopwatch_collector.addresses import is_cluster_name, server_in

Port = Annotated[int, Field(ge=0, le=65535)]
Brokers = Annotated[tuple[str, ...], NoDecode]
"""Addresses of brokers, each with or without a name before it: `orders=kafka:9092`."""
MIB = 1 << 20


def default_data_dir() -> Path:
    """`$XDG_DATA_HOME/hopwatch`, else `~/.local/share/hopwatch`."""
    base = os.environ.get("XDG_DATA_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".local" / "share") / "hopwatch"


class Settings(BaseSettings):
    """All options with their defaults; an argument wins over its environment variable."""

    model_config = SettingsConfigDict(
        env_prefix="HOPWATCH_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    data: Path = Field(default_factory=default_data_dir)
    """Directory of journal and embedded engine; made if missing; one collector at a time."""
    listen: str = "127.0.0.1"
    """Address or host name to listen on; anything but loopback needs both tokens."""
    otlp_grpc_port: Port = 4317
    otlp_http_port: Port = 4318
    api_port: Port = 4319
    engine_url: str | None = Field(default=None, repr=False)
    """ClickHouse to use instead of the embedded engine, e.g. `http://user:password@host:8123/hopwatch`."""
    cluster: str | None = None
    """Name of the ClickHouse cluster, as its servers know it, over which the tables are spread; only with `engine_url`."""
    deadline: float = Field(default=30.0, gt=0)
    """Seconds after which a message that waits is overdue and one in flight is stuck."""
    retention_days: int = Field(default=14, ge=1)
    """Whole days kept; older ones are dropped."""
    drop_days: int = Field(default=2, ge=1)
    """Days that may be dropped at once; where more are older than the retention, all of them are kept until this allows it."""

    config: Path | None = None
    """File of what the team declares: `expects`, `asyncapi`, `deadlines`."""
    asyncapi: Annotated[tuple[Path, ...], NoDecode] = ()
    """AsyncAPI 3 documents whose `receive` operations are declared too; several in the environment as in PATH."""

    watch_kafka: Brokers = Field(default=(), repr=False)
    """Kafka to ask what it holds: `host:9092[,…]`, or `kafka://user:password@host:9092?mechanism=SCRAM-SHA-512`, `kafkas://` with TLS."""
    watch_rabbitmq: Brokers = Field(default=(), repr=False)
    """RabbitMQ's management API: `http://user:password@host:15672`; `/vhost` behind it for another than `/`."""
    watch_rabbitmq_events: Brokers = Field(default=(), repr=False)
    """Where its events are read, `amqp://user:password@host:5672`, the virtual host that has `amq.rabbitmq.event`."""
    watch_rabbitmq_firehose: Brokers = Field(default=(), repr=False)
    """Where its firehose is read, `amqp://user:password@host:5672/vhost`; besides `watch_rabbitmq`."""
    watch_nats: Brokers = Field(default=(), repr=False)
    """NATS server: `nats://user:password@host:4222`."""
    watch_nats_monitoring: Brokers = Field(default=(), repr=False)
    """Its monitoring endpoint, `http://host:8222`: without it plain subscribers are not seen."""

    otlp_origins: Brokers = ()
    """Web pages that may send spans from a browser, as `https://shop.example`; those of this machine may, on loopback."""
    ingest_token: str | None = Field(default=None, repr=False)
    read_token: str | None = Field(default=None, repr=False)
    allow_insecure: bool = False
    """Listen beyond loopback without tokens, knowingly."""

    max_request_bytes: int = Field(default=16 * MIB, ge=1024)
    """Bound on one OTLP request, compressed and decompressed."""
    max_inflight_bytes: int = Field(default=256 * MIB, ge=1024)
    """Bound on all request bytes held in memory at once; beyond it, senders are asked to retry."""
    body_timeout: float = Field(default=30.0, gt=0)
    """Seconds a sender may take to transmit one request body."""
    journal_max_bytes: int = Field(default=4096 * MIB, ge=MIB)
    """Bound on the journal on disk; beyond it, senders are asked to retry."""
    journal_segment_bytes: int = Field(default=64 * MIB, ge=4096)
    batch_spans: int = Field(default=20_000, ge=1)
    """Spans per insert to aim at; fewer when traffic is low, more when the engine is behind."""
    linger: float = Field(default=0.3, ge=0)
    """Seconds an incomplete batch waits for more spans."""

    @field_validator("data")
    @classmethod
    def _absolute(cls, data: Path) -> Path:
        """Mean the same directory wherever the process goes."""
        return data.absolute()

    @field_validator("engine_url")
    @classmethod
    def _server(cls, url: str | None) -> str | None:
        """Refuse what is no address of a server: it would be taken for a directory, or end in a traceback."""
        if url is not None:
            parts = server_in(url, ("http", "https"))
            if parts is None or parts.port == 0:
                raise ValueError("it is http://user:password@host:8123/database")
        return url

    @field_validator("cluster")
    @classmethod
    def _known_to_a_server(cls, cluster: str | None, others: ValidationInfo) -> str | None:
        """Refuse what no server could know, or where there is no server."""
        if cluster and not is_cluster_name(cluster):
            raise ValueError("it is made of letters, digits, `_`, `-` and `.`, as system.clusters has it")
        if cluster and others.data.get("engine_url") is None:
            raise ValueError("it needs --engine-url, the address of one of the cluster's servers")
        return cluster or None

    @field_validator("config")
    @classmethod
    def _absolute_config(cls, config: Path | None) -> Path | None:
        return config and config.absolute()

    @field_validator(
        "watch_kafka",
        "watch_rabbitmq",
        "watch_rabbitmq_events",
        "watch_rabbitmq_firehose",
        "watch_nats",
        "watch_nats_monitoring",
        "otlp_origins",
        mode="before",
    )
    @classmethod
    def _several(cls, told: object) -> object:
        """One text may have several, with blanks or line ends between; a comma goes on with the servers of one Kafka."""
        if isinstance(told, list | tuple):
            told = "\n".join(map(str, told))
        return re.split(r"(?<![,\s])\s+", told.strip()) if isinstance(told, str) and told.strip() else ()

    @field_validator("otlp_origins")
    @classmethod
    def _pages(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse what no browser would call the origin of a page."""
        for origin in origins:
            parts = server_in(origin, ("http", "https"))
            if parts is None or parts.path.strip("/") or parts.query or parts.username:
                raise ValueError(
                    f"{origin!r} is no origin of a page; one is https://shop.example or http://localhost:3000"
                )
        return origins

    @field_validator("asyncapi", mode="before")
    @classmethod
    def _listed(cls, told: object) -> object:
        """The environment has them in one text, as it has PATH."""
        return [part for part in told.split(os.pathsep) if part] if isinstance(told, str) else told

    @field_validator("asyncapi")
    @classmethod
    def _absolute_asyncapi(cls, documents: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(document.absolute() for document in documents)

    @field_validator("ingest_token", "read_token")
    @classmethod
    def _printable(cls, token: str | None) -> str | None:
        """A token must fit in an HTTP header as it is; an empty one is none at all."""
        if token and not (token.isascii() and token.isprintable() and " " not in token):
            raise ValueError("a token is made of printable ASCII characters without spaces")
        return token or None

    @property
    def journal_dir(self) -> Path:
        return self.data / "journal"

    @property
    def engine_dir(self) -> Path:
        return self.data / "engine"

    @property
    def quarantine_dir(self) -> Path:
        return self.data / "quarantine"
