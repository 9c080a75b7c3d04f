"""`hopwatch collect`: the options, and what to read about them."""

import asyncio
import logging
import sys
from json import dumps
from pathlib import Path
from typing import Annotated, Any, NoReturn

import structlog
import typer
from pydantic import ValidationError

from hopwatch_collector.auth import require_safe
from hopwatch_collector.errors import CollectorError, SettingsError
from hopwatch_collector.expects import Declared, load
from hopwatch_collector.settings import Settings
from hopwatch_collector.witness.configured import witnesses

_LISTENING = "Where to listen"
_ENGINE = "What to keep, and where"
_DECLARING = "What the team declares: who is to get what, and within what time"
_SAFETY = "Who may come in"
_WATCHING = "Which brokers to ask what they hold, with read-only credentials"


def command(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Directory of the journal and the embedded engine. Default: ~/.local/share/hopwatch.",
            envvar="HOPWATCH_DATA",
            rich_help_panel=_ENGINE,
        ),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on. Default: 127.0.0.1, which only this machine reaches; "
            "any other wants both tokens.",
            envvar="HOPWATCH_LISTEN",
            rich_help_panel=_LISTENING,
        ),
    ] = None,
    otlp_grpc_port: Annotated[
        int | None,
        typer.Option(
            help="OTLP over gRPC. Default: 4317. 0 takes any free port; the ready line says which.",
            envvar="HOPWATCH_OTLP_GRPC_PORT",
            rich_help_panel=_LISTENING,
        ),
    ] = None,
    otlp_http_port: Annotated[
        int | None,
        typer.Option(
            help="OTLP over HTTP, protobuf or JSON. Default: 4318.",
            envvar="HOPWATCH_OTLP_HTTP_PORT",
            rich_help_panel=_LISTENING,
        ),
    ] = None,
    api_port: Annotated[
        int | None,
        typer.Option(
            help="The query API, health and /metrics. Default: 4319.",
            envvar="HOPWATCH_API_PORT",
            rich_help_panel=_LISTENING,
        ),
    ] = None,
    engine_url: Annotated[
        str | None,
        typer.Option(
            help="A ClickHouse server instead of the embedded engine: http://user:password@host:8123/database.",
            envvar="HOPWATCH_ENGINE_URL",
            rich_help_panel=_ENGINE,
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="With --engine-url: the name of a ClickHouse cluster, as its servers know it (system.clusters). The tables are "
            "spread over its shards by message, and replicated within each.",
            envvar="HOPWATCH_CLUSTER",
            rich_help_panel=_ENGINE,
        ),
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            help="Seconds after which a waiting message is overdue and one in hand is stuck, where no rule of "
            "--config says otherwise. Default: 30.",
            envvar="HOPWATCH_DEADLINE",
            rich_help_panel=_ENGINE,
        ),
    ] = None,
    retention_days: Annotated[
        int | None,
        typer.Option(
            help="Days to keep; older ones are dropped, a day at a time. Default: 14.",
            envvar="HOPWATCH_RETENTION_DAYS",
            rich_help_panel=_ENGINE,
        ),
    ] = None,
    drop_days: Annotated[
        int | None,
        typer.Option(
            help="Days that may be dropped at once. Where more are too old (the collector was away, the retention was "
            "shortened, a clock jumped) they are kept, and the log says so, until this allows it. Default: 2.",
            envvar="HOPWATCH_DROP_DAYS",
            rich_help_panel=_ENGINE,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML file with `expects` (receivers that are owed messages), `asyncapi` (documents that say so) and "
            "`deadlines` (how long each may take); see the readme. SIGHUP: read it and all documents again.",
            envvar="HOPWATCH_CONFIG",
            rich_help_panel=_DECLARING,
        ),
    ] = None,
    asyncapi: Annotated[
        list[Path] | None,
        typer.Option(
            help="AsyncAPI 3 document whose `receive` operations name receivers; may be given several times.",
            envvar="HOPWATCH_ASYNCAPI",
            rich_help_panel=_DECLARING,
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Check options, configuration file and documents, print what they declare, and stop.",
            rich_help_panel=_DECLARING,
        ),
    ] = False,
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="With --check: print it as JSON, `expectations`, `deadlines`, `left_out` and `mistakes`.",
            rich_help_panel=_DECLARING,
        ),
    ] = False,
    watch_kafka: Annotated[
        list[str] | None,
        typer.Option(
            help="Kafka: host:9092, or kafka://user:password@host:9092?mechanism=SCRAM-SHA-512 (kafkas:// with TLS). "
            "Like the others of its kind it may be given several times, each with a name before it: orders=host:9092. "
            "In an environment variable, several have blanks between them.",
            envvar="HOPWATCH_WATCH_KAFKA",
            rich_help_panel=_WATCHING,
        ),
    ] = None,
    watch_rabbitmq: Annotated[
        list[str] | None,
        typer.Option(
            help="RabbitMQ's management API: http://user:password@host:15672, a virtual host other than / behind it. "
            "Several virtual hosts: once for each.",
            envvar="HOPWATCH_WATCH_RABBITMQ",
            rich_help_panel=_WATCHING,
        ),
    ] = None,
    watch_rabbitmq_events: Annotated[
        list[str] | None,
        typer.Option(
            help="RabbitMQ's events, amqp://user:password@host:5672: queues and bindings come and go at the true moment. "
            "Needs the plugin rabbitmq_event_exchange. Where several are watched, with the name of the one it is of: orders=amqp://…",
            envvar="HOPWATCH_WATCH_RABBITMQ_EVENTS",
            rich_help_panel=_WATCHING,
        ),
    ] = None,
    watch_rabbitmq_firehose: Annotated[
        list[str] | None,
        typer.Option(
            help="RabbitMQ's firehose, amqp://user:password@host:5672, a virtual host behind it: where each message went, exactly. "
            "Needs tracing on (rabbitmqctl trace_on), which costs the broker throughput. Named like the events.",
            envvar="HOPWATCH_WATCH_RABBITMQ_FIREHOSE",
            rich_help_panel=_WATCHING,
        ),
    ] = None,
    watch_nats: Annotated[
        list[str] | None,
        typer.Option(
            help="NATS: nats://user:password@host:4222. What ends unheard, while no collector listens, may stay unknown.",
            envvar="HOPWATCH_WATCH_NATS",
            rich_help_panel=_WATCHING,
        ),
    ] = None,
    watch_nats_monitoring: Annotated[
        list[str] | None,
        typer.Option(
            help="NATS's monitoring endpoint, http://host:8222: shows plain subscribers too. Named like RabbitMQ's events.",
            envvar="HOPWATCH_WATCH_NATS_MONITORING",
            rich_help_panel=_WATCHING,
        ),
    ] = None,
    ingest_token: Annotated[
        str | None,
        typer.Option(
            help="Senders must show it: OTEL_EXPORTER_OTLP_HEADERS='authorization=Bearer <token>'.",
            envvar="HOPWATCH_INGEST_TOKEN",
            rich_help_panel=_SAFETY,
        ),
    ] = None,
    otlp_origins: Annotated[
        list[str] | None,
        typer.Option(
            "--otlp-origin",
            help="Web pages that may send spans from a browser, as https://shop.example; may be given several times. Pages of this "
            "machine may where the collector listens on loopback; all others are refused.",
            envvar="HOPWATCH_OTLP_ORIGINS",
            rich_help_panel=_SAFETY,
        ),
    ] = None,
    read_token: Annotated[
        str | None,
        typer.Option(
            help="Readers of the API must show it; hopwatch's own commands take it from HOPWATCH_READ_TOKEN.",
            envvar="HOPWATCH_READ_TOKEN",
            rich_help_panel=_SAFETY,
        ),
    ] = None,
    allow_insecure: Annotated[
        bool | None,
        typer.Option(
            "--allow-insecure",
            help="Listen beyond this machine without tokens: only where something else guards the ports.",
            envvar="HOPWATCH_ALLOW_INSECURE",
            rich_help_panel=_SAFETY,
        ),
    ] = None,
) -> None:
    """Collect: receive spans, keep them, and answer where every message is.

    Works as it is, without any option: services instrumented with hopwatch (or any OpenTelemetry SDK with its
    default endpoint) find it on this machine, and `hopwatch live` shows what they do.

    Stop it with Ctrl-C or SIGTERM; nothing it has acknowledged is lost, even if it is killed. SIGHUP makes it read
    the files of what is declared again.

    Exit codes: 0 stopped as asked, 1 could not start (a port taken, a directory not writable), 2 the options or
    what is declared do not make sense, or are not safe. With --check: 0 all is well, 1 something in a document
    was left out, 2 it would not start.
    """
    given = {
        name: value for name, value in locals().items() if value is not None and name not in ("check", "json")
    }
    if check:
        checked(given, json=json)
    elif json:
        _fail("--json goes with --check; logs are JSON wherever stderr is not a terminal", 2)
    else:
        run(given)


def run(given: dict[str, Any]) -> None:
    """Runs the collector with the options given; the rest comes from the environment and the defaults."""
    log_to_stderr()
    try:
        settings = _settings(given)
        from hopwatch_collector.server import serve

        asyncio.run(serve(settings))
    except SettingsError as error:
        _fail(str(error), 2)
    except CollectorError as error:
        _fail(str(error), 1)


def checked(given: dict[str, Any], *, json: bool) -> None:
    """Says what the options and files given declare, and what is wrong with them, without starting anything."""
    declared, mistakes = Declared(), ""
    try:
        settings = _settings(given)
        require_safe(settings)
        witnesses(settings)
        declared = load(settings)
    except SettingsError as error:
        mistakes = str(error)
    for why in declared.left_out:
        typer.echo(f"left out: {why}", err=True)
    if json:
        told = {**declared.listed(), "mistakes": [line.strip() for line in mistakes.splitlines()]}
        typer.echo(dumps(told, indent=2, ensure_ascii=False))
    elif not mistakes:
        for one in declared.expectations:
            typer.echo(f"{one.system} {one.pattern.text} → {one.receiver}  ({one.source})")
        typer.echo(declared.summary())
    if mistakes:
        _fail(mistakes, 2)
    raise typer.Exit(1 if declared.left_out else 0)


def _settings(given: dict[str, Any]) -> Settings:
    """Raises SettingsError."""
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None


def log_to_stderr() -> None:
    """One line per event to stderr: for people on a terminal, as JSON elsewhere; stdout has the ready line only."""
    renderer: Any = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)


def _explain(error: ValidationError) -> str:
    problems = (
        f"--{str(problem['loc'][0]).replace('_', '-')}: {problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors()
    )
    return "\n  ".join(problems)


def _fail(text: str, code: int) -> NoReturn:
    typer.echo(f"hopwatch collect: {text}", err=True)
    raise typer.Exit(code)
