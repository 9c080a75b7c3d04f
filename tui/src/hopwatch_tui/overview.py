"""What a person types about everything at once: `flows`, `topology`, `lag`, `clocks`, `status`.

Output and exit codes are those of `commands`; `status` ends with 4 where the collector answers and is not ok.
"""

import json as jsonlib
from collections.abc import Iterable
from typing import Annotated, Final

import typer

from hopwatch_tui import clocks as clocking
from hopwatch_tui import lists
from hopwatch_tui.answers import (
    ClockList,
    Edge,
    FlowList,
    FlowSummary,
    Health,
    LagList,
    LagRow,
    Live,
    Topology,
)
from hopwatch_tui.client import DEFAULT_COLLECTOR, Client, Raw
from hopwatch_tui.endings import Exit, fail, guarded, reported
from hopwatch_tui.options import (
    CollectorOption,
    DestinationOption,
    JsonOption,
    LimitOption,
    ServiceOption,
    SinceOption,
    StateOption,
    TokenOption,
    UntilOption,
    check_time,
)
from hopwatch_tui.printing import finish, in_words, now, print_raw, show, utc

_LAST_S: Final = 300
"""Seconds back that `status` counts deliveries and spans, as the live view does."""


@guarded
def flows(
    service: ServiceOption = "",
    destination: DestinationOption = "",
    state: StateOption = "",
    since: SinceOption = "1h",
    until: UntilOption = "",
    limit: LimitOption = 100,
    json: JsonOption = False,
    collector: CollectorOption = DEFAULT_COLLECTOR,
    token: TokenOption = "",
) -> None:
    """List flows, those with the latest news first, each with its state: everything one trigger caused is a flow.

    \b
    Examples:
      hopwatch flows
      hopwatch flows --state undelivered --since 2h
      hopwatch flows --service orders --json | jq -r '.flows[].flow_id'

    Exit codes: 0 there are some, 1 there are none, 2 usage, 3 collector not reachable or failed.
    """
    with reported(), Client(collector, token) as client:
        raw = client.flows(
            service=service, destination=destination, state=state, since=since, until=until, limit=limit
        )
        result = client.parse(FlowList, raw)
    finish(
        raw,
        json,
        result.flows,
        draw=lambda: lists.flows_table(result.flows, now()),
        header=(
            "flow_id",
            "state",
            "name",
            "service",
            "started_at",
            "last_at",
            "duration_ms",
            "spans",
            "hops",
            "undelivered",
            "errors",
            "services",
            "keys",
        ),
        row=_flow_row,
        nothing=f"no flow {in_words(since, until)}",
        hint="Look further back with --since 7d.",
        truncated=result.truncated,
    )


def _flow_row(flow: FlowSummary) -> tuple[str, ...]:
    return (
        flow.flow_id,
        flow.state,
        flow.name,
        flow.service,
        utc(flow.started_at),
        utc(flow.last_at),
        _milliseconds(flow.duration_ms),
        str(flow.spans),
        str(flow.hops),
        str(flow.undelivered),
        str(flow.errors),
        " ".join(flow.services),
        " ".join(f"{name}={value}" for name, value in sorted(flow.keys.items())),
    )


@guarded
def topology(
    since: SinceOption = "1h",
    until: UntilOption = "",
    json: JsonOption = False,
    collector: CollectorOption = DEFAULT_COLLECTOR,
    token: TokenOption = "",
) -> None:
    """List who reached whom through what: deliveries, how many were not delivered or failed, and how long they took.

    \b
    Examples:
      hopwatch topology
      hopwatch topology --since 2h
      hopwatch topology | awk -F'\\t' '$7 > 0'

    Exit codes: 0 there are edges, 1 there are none, 2 usage, 3 collector not reachable or failed.
    """
    with reported(), Client(collector, token) as client:
        raw = client.topology(since=since, until=until)
        result = client.parse(Topology, raw)
    finish(
        raw,
        json,
        result.edges,
        draw=lambda: lists.topology_table(result.edges),
        header=(
            "producer",
            "system",
            "destination",
            "receiver",
            "consumer",
            "deliveries",
            "undelivered",
            "errors",
            "p50_ms",
            "p99_ms",
        ),
        row=_edge_row,
        nothing=f"nobody reached anybody {in_words(since, until)}",
        hint="Look further back with --since 7d.",
        truncated=result.truncated,
        narrower="a shorter time",
    )


def _edge_row(edge: Edge) -> tuple[str, ...]:
    return (
        edge.producer,
        edge.system,
        edge.destination,
        edge.receiver,
        edge.consumer,
        str(edge.deliveries),
        str(edge.undelivered),
        str(edge.errors),
        _milliseconds(edge.p50_ms),
        _milliseconds(edge.p99_ms),
    )


@guarded
def lag(
    since: Annotated[
        str,
        typer.Option(
            "--since",
            metavar="TIME",
            callback=check_time,
            help="Only receivers that something waits for, or that received something, since then: 15m, 2h, 7d.",
            show_default=False,
        ),
    ] = "",
    json: JsonOption = False,
    collector: CollectorOption = DEFAULT_COLLECTOR,
    token: TokenOption = "",
) -> None:
    """List how many messages wait for each receiver, and how long the oldest has.

    Without --since: every receiver that is known, and messages of the last hour; brokers count all they hold.

    \b
    Examples:
      hopwatch lag
      hopwatch lag --since 2h
      hopwatch lag | awk -F'\\t' '$4 > 100'

    Exit codes: 0 receivers are known, 1 none is, 2 usage, 3 collector not reachable or failed.
    """
    with reported(), Client(collector, token) as client:
        raw = client.lag(since)
        result = client.parse(LagList, raw)
    finish(
        raw,
        json,
        result.rows,
        draw=lambda: lists.lag_table(result.rows),
        header=(
            "system",
            "destination",
            "receiver",
            "waiting",
            "in_flight",
            "oldest_s",
            "growth_per_s",
            "drain_s",
            "told_by",
        ),
        row=_lag_row,
        nothing=f"no receiver had anything to do {in_words(since, '')}"
        if since
        else "no receiver is known yet",
        hint="Look further back with --since 7d."
        if since
        else "Receivers appear when a service with hopwatch turned on subscribes or receives.",
        truncated=result.truncated,
        narrower="a shorter time, with --since,",
    )


def _lag_row(row: LagRow) -> tuple[str, ...]:
    return (
        row.system,
        row.destination,
        row.receiver,
        str(row.waiting),
        str(row.in_flight),
        f"{row.oldest_s:.3f}",
        "" if row.growth_per_s is None else f"{row.growth_per_s:.3f}",
        "" if row.drain_s is None else f"{row.drain_s:.1f}",
        "broker" if row.by_broker else "services",
    )


@guarded
def clocks(
    at: Annotated[
        str,
        typer.Option(
            "--at", metavar="TIME", callback=check_time, help="Around when: 2h, 7d or an RFC 3339 time."
        ),
    ] = "now",
    json: JsonOption = False,
    collector: CollectorOption = DEFAULT_COLLECTOR,
    token: TokenOption = "",
) -> None:
    """List how far each host's clock is off, measured by what its messages show.

    Nothing is received before it was sent: hops in both directions bound a clock from both sides. Where a clock is
    off by more than it is uncertain, times are corrected for display; `--json` of the other commands keeps the originals.

    \b
    Examples:
      hopwatch clocks
      hopwatch clocks --at 2h
      hopwatch clocks | awk -F'\\t' '$6 != 0'

    Exit codes: 0 clocks are known, 1 none is, 2 usage, 3 collector not reachable or failed.
    """
    with reported(), Client(collector, token) as client:
        raw = client.clocks(at)
        result = client.parse(ClockList, raw)
    finish(
        raw,
        json,
        result.clocks,
        draw=lambda: lists.clocks_table(result),
        header=(
            "host",
            "offset_s",
            "uncertainty_s",
            "at_least_s",
            "at_most_s",
            "corrected_s",
            "hops",
            "since",
        ),
        row=lambda clock: (*clocking.cells(clock), utc(clock.since)),
        nothing="no clock is known yet",
        hint="Clocks are compared once messages pass between hosts.",
        truncated=result.truncated,
    )


@guarded
def status(
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print the API's answers: /healthz as `health`, live/snapshot as `live`."
        ),
    ] = False,
    collector: CollectorOption = DEFAULT_COLLECTOR,
    token: TokenOption = "",
) -> None:
    """Tell how the collector is: version, engine, journal, brokers watched, and deliveries of the last five minutes.

    \b
    Examples:
      hopwatch status
      hopwatch status | awk -F'\\t' '$1 == "broker"'
      hopwatch status --json | jq .health.witnesses
      until hopwatch status; do sleep 1; done

    Exit codes: 0 ok, 2 usage, 3 collector not reachable or says no, 4 it answers, but is starting or failing.
    """
    with reported(), Client(collector, token) as client:
        raw = client.health()
        health = client.parse(Health, raw)
        ok = health.status == "ok"
        last = client.snapshot(_LAST_S) if ok else None
        live = None if last is None else client.parse(Live, last)
    if json:
        print_raw(_both(raw, last))
    else:
        header = ("about", "name", "value")
        show(_status_rows(health, live), draw=lambda: lists.status_view(health, live), header=header)
    if not ok:
        fail(f"the collector is {health.status or 'not ok'}", health.reason, Exit.FAILING)


def _both(health: Raw, live: Raw | None) -> Raw:
    """Two answers in one."""
    told = {"health": health.data, "live": None if live is None else live.data}
    return Raw(jsonlib.dumps(told, ensure_ascii=False, separators=(",", ":")).encode(), told)


def _status_rows(health: Health, live: Live | None) -> Iterable[tuple[str, str, str]]:
    yield "collector", "status", health.status
    yield "collector", "reason", health.reason
    yield "collector", "version", health.version
    yield "collector", "engine", health.engine
    yield "collector", "journal_backlog_bytes", str(health.journal_backlog_bytes)
    for one in health.witnesses:
        yield "broker", f"{one.system} {one.broker}", one.trouble
    if live is not None:
        yield "spans", "per_s", f"{live.spans_per_s:.1f}"
        for counted in live.verdicts:
            yield "deliveries", counted.verdict, str(counted.deliveries)


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
