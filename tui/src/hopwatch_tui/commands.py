"""What a person types: `live`, `find`, `show`, `why`, `undelivered`, `lag`, `clocks`; plain functions that `hopwatch` registers.

Exit codes: 0 found, 1 nothing found, 2 usage, 3 the collector is not reachable or failed. On a terminal they draw; into
a pipe they write one line per row, columns apart by tabs, with full ids and UTC times.
"""

import re
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from hopwatch_tui import clocks as clocking
from hopwatch_tui import report
from hopwatch_tui.answers import (
    CauseList,
    ClockList,
    Delivery,
    DeliveryList,
    Flow,
    LagList,
    Message,
    SearchResult,
    Why,
)
from hopwatch_tui.client import DEFAULT_COLLECTOR, Client, NotFound, Raw
from hopwatch_tui.options import (
    CollectorOption,
    DestinationOption,
    JsonOption,
    LimitOption,
    ReceiverOption,
    ServiceOption,
    SinceOption,
    TokenOption,
    UntilOption,
    VerdictOption,
)
from hopwatch_tui.printing import (
    Exit,
    fail,
    finish,
    nothing_found,
    now,
    print_drawing,
    print_raw,
    reported,
    utc,
)
from hopwatch_tui.text import clean


def live(
    collector: CollectorOption = DEFAULT_COLLECTOR,
    token: TokenOption = "",
    window: Annotated[
        int, typer.Option("--window", min=1, max=86_400, metavar="SECONDS", help="How far back it looks.")
    ] = 300,
) -> None:
    """Watch messages travel, live, and see which were not delivered.

    \b
    Example:
      hopwatch live
      hopwatch live --collector http://10.0.0.7:4319 --window 900

    Inside: 1 2 3 switch between flows, undelivered and lag; Enter opens; / filters; s searches; ? lists all keys.
    """
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):  # textual draws on stderr
        fail(
            "hopwatch live needs a terminal",
            "Into a pipe, `hopwatch undelivered` and `hopwatch find` print rows.",
            Exit.USAGE,
        )
    from hopwatch_tui.app import (
        HopwatchApp,
    )  # textual takes a while to import; the other commands do without it

    with reported():
        app = HopwatchApp(collector, token=token, window_s=window)
    app.run()
    raise typer.Exit(app.return_code or 0)


def find(
    query: Annotated[
        str,
        typer.Argument(
            metavar="[QUERY]",
            help="A message id, alias, trace or flow id, or a business key.",
            show_default=False,
        ),
    ] = "",
    service: ServiceOption = "",
    destination: DestinationOption = "",
    receiver: ReceiverOption = "",
    verdict: VerdictOption = None,
    since: SinceOption = "1h",
    until: UntilOption = "",
    limit: LimitOption = 100,
    json: JsonOption = False,
    collector: CollectorOption = DEFAULT_COLLECTOR,
    token: TokenOption = "",
) -> None:
    """Find messages and flows by id, business key, service, destination, receiver or verdict.

    \b
    Examples:
      hopwatch find order_id=4711
      hopwatch find 0199c1f2-7f7e-7c3a-9d53-5a1f0c7be001
      hopwatch find --destination orders.placed --verdict stuck --since 2h

    Exit codes: 0 found, 1 nothing found, 2 usage, 3 collector not reachable or failed.
    """
    filters = {"service": service, "destination": destination, "receiver": receiver, "verdict": verdict}
    if not query and not any(filters.values()):
        fail("find needs a QUERY or a filter", "For example: hopwatch find order_id=4711", Exit.USAGE)
    with reported(), Client(collector, token) as client:
        raw = client.search(query, **filters, since=since, until=until, limit=limit)
        result = client.parse(SearchResult, raw)
    finish(
        raw,
        json,
        result.hits,
        draw=lambda: report.hits_table(result.hits, now()),
        header=("kind", "id", "state", "matched", "title", "at", "flow_id"),
        row=lambda hit: (hit.kind, hit.id, hit.state, hit.why, hit.title, utc(hit.at), hit.flow_id),
        nothing=f"nothing found in the last {since}"
        if not until
        else f"nothing found from {since} to {until}",
        hint="Look further back with --since 7d.",
        truncated=result.truncated,
    )


def show(
    id: Annotated[
        str,
        typer.Argument(
            metavar="MESSAGE-OR-FLOW", help="A message id or alias, a flow or trace id.", show_default=False
        ),
    ],
    json: JsonOption = False,
    collector: CollectorOption = DEFAULT_COLLECTOR,
    token: TokenOption = "",
) -> None:
    """Show one message with every delivery, attempt and witness, or one flow as a tree of hops.

    \b
    Examples:
      hopwatch show 0199c1f2-7f7e-7c3a-9d53-5a1f0c7be001
      hopwatch show 4bf92f3577b34da6a3ce929d0e0e4736

    Exit codes: 0 found, 1 nothing found, 2 usage, 3 collector not reachable or failed.
    """
    with reported(), Client(collector, token) as client:
        found = _message_or_flow(client, id)
    if found is None:
        nothing_found(
            f"no message, alias, flow or trace is known by {clean(id, limit=200)}",
            "Look around it with `hopwatch find`.",
        )
    raw, answer = found
    if json:
        print_raw(raw)
    elif isinstance(answer, Flow):
        print_drawing(report.flow_tree(answer))
    else:
        print_drawing(report.message_view(answer))


def why(
    id: Annotated[str, typer.Argument(metavar="MESSAGE", help="A message id or alias.", show_default=False)],
    receiver: ReceiverOption = "",
    json: JsonOption = False,
    collector: CollectorOption = DEFAULT_COLLECTOR,
    token: TokenOption = "",
) -> None:
    """Explain where one message is: who was owed it, what every witness saw, what is missing, what to do.

    \b
    Examples:
      hopwatch why 0199c1f2-7f7e-7c3a-9d53-5a1f0c7be001
      hopwatch why 0199c1f2-7f7e-7c3a-9d53-5a1f0c7be001 --receiver billing

    Exit codes: 0 found, 1 nothing found, 2 usage, 3 collector not reachable or failed.
    """
    with reported(), Client(collector, token) as client:
        try:
            raw = client.why(id)
        except NotFound:
            nothing_found(
                f"no message is known by {clean(id, limit=200)}", "Look for it with `hopwatch find`."
            )
        answer = client.parse(Why, raw)
    told = [one for one in answer.explanations if not receiver or one.receiver == receiver]
    if not told:
        nothing_found(
            f"it was not owed to {clean(receiver, limit=200)}", "Without --receiver, all receivers are told."
        )
    if json:
        print_raw(raw)
    else:
        print_drawing(report.why_view(answer, told))


def undelivered(
    destination: DestinationOption = "",
    receiver: ReceiverOption = "",
    service: ServiceOption = "",
    verdict: VerdictOption = None,
    since: SinceOption = "1h",
    until: UntilOption = "",
    limit: LimitOption = 100,
    causes: Annotated[
        bool, typer.Option("--causes", help="Grouped by cause, destination and receiver, with what to do.")
    ] = False,
    json: JsonOption = False,
    collector: CollectorOption = DEFAULT_COLLECTOR,
    token: TokenOption = "",
) -> None:
    """List messages that did not reach a receiver they were owed to, each with its reason.

    \b
    Examples:
      hopwatch undelivered
      hopwatch undelivered --causes
      hopwatch undelivered --destination orders.placed --since 2h
      hopwatch undelivered --verdict dead_lettered --json | jq '.deliveries[].reason'

    Exit codes: 0 some are, 1 none is, 2 usage, 3 collector not reachable or failed.
    """
    if causes:
        if verdict:
            fail(
                "--causes and --verdict do not go together", "Causes are of all undelivered ones.", Exit.USAGE
            )
        asked = {"destination": destination, "receiver": receiver, "service": service}
        _causes(
            collector, token, json, since, until, {**asked, "since": since, "until": until, "limit": limit}
        )
        return
    with reported(), Client(collector, token) as client:
        raw = client.deliveries(
            verdict=verdict or ["undelivered"],
            destination=destination,
            receiver=receiver,
            service=service,
            since=since,
            until=until,
            limit=limit,
        )
        result = client.parse(DeliveryList, raw)
    finish(
        raw,
        json,
        result.deliveries,
        draw=lambda: report.undelivered_table(result.deliveries, now()),
        header=("verdict", "message_id", "destination", "receiver", "since", "attempts", "reason", "flow_id"),
        row=_delivery_row,
        nothing="nothing undelivered "
        + (f"in the last {since}" if not until else f"from {since} to {until}"),
        hint="",
        truncated=result.truncated,
    )


def _causes(
    collector: str, token: str, json: bool, since: str, until: str, filters: dict[str, str | int]
) -> None:
    with reported(), Client(collector, token) as client:
        raw = client.undelivered(**filters)
        result = client.parse(CauseList, raw)
    finish(
        raw,
        json,
        result.causes,
        draw=lambda: report.causes_view(result.causes, now()),
        header=(
            "deliveries",
            "verdict",
            "destination",
            "receiver",
            "first_at",
            "last_at",
            "reason",
            "advice",
            "sample",
        ),
        row=lambda cause: (
            str(cause.deliveries),
            cause.verdict,
            cause.destination,
            cause.receiver,
            utc(cause.first_at),
            utc(cause.last_at),
            cause.reason,
            cause.advice,
            " ".join(cause.sample_message_ids),
        ),
        nothing="nothing undelivered "
        + (f"in the last {since}" if not until else f"from {since} to {until}"),
        hint="",
        truncated=result.truncated,
    )


def lag(
    json: JsonOption = False,
    collector: CollectorOption = DEFAULT_COLLECTOR,
    token: TokenOption = "",
) -> None:
    """List how many messages wait for each receiver, and how long the oldest has.

    \b
    Examples:
      hopwatch lag
      hopwatch lag | awk -F'\\t' '$4 > 100'

    Exit codes: 0 receivers are known, 1 none is, 2 usage, 3 collector not reachable or failed.
    """
    with reported(), Client(collector, token) as client:
        raw = client.lag()
        result = client.parse(LagList, raw)
    finish(
        raw,
        json,
        result.rows,
        draw=lambda: report.lag_table(result.rows),
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
        row=lambda row: (
            row.system,
            row.destination,
            row.receiver,
            str(row.waiting),
            str(row.in_flight),
            f"{row.oldest_s:.3f}",
            "" if row.growth_per_s is None else f"{row.growth_per_s:.3f}",
            "" if row.drain_s is None else f"{row.drain_s:.1f}",
            "broker" if row.by_broker else "services",
        ),
        nothing="no receiver is known yet",
        hint="Receivers appear when a service with hopwatch turned on subscribes or receives.",
        truncated=result.truncated,
    )


def clocks(
    at: Annotated[
        str, typer.Option("--at", metavar="TIME", help="Around when: 2h, 7d or an RFC 3339 time.")
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
        draw=lambda: report.clocks_table(result),
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


def _message_or_flow(client: Client, id: str) -> tuple[Raw, Message | Flow] | None:
    """Whatever bears this id: directly, or as the only thing a search finds by it (a trace id, a key's value)."""
    flow_first = re.fullmatch(r"[0-9a-f]{32}", id) is not None
    lookups: list[Callable[[], tuple[Raw, Message | Flow]]] = [
        lambda: _answer(client, Message, client.message(id)),
        lambda: _answer(client, Flow, client.flow(id)),
    ]
    for lookup in reversed(lookups) if flow_first else lookups:
        try:
            return lookup()
        except NotFound:
            continue
    hits = client.parse(SearchResult, client.search(id, since="7d", limit=100)).hits
    flows = {hit.flow_id or hit.id for hit in hits}
    try:
        if len(hits) == 1 and hits[0].kind == "message":
            return _answer(client, Message, client.message(hits[0].id))
        return _answer(client, Flow, client.flow(flows.pop())) if len(flows) == 1 else None
    except NotFound:
        return None


def _answer(client: Client, cls: type[Any], raw: Raw) -> tuple[Raw, Any]:
    return raw, client.parse(cls, raw)


def _delivery_row(delivery: Delivery) -> tuple[str, ...]:
    return (
        delivery.verdict,
        delivery.message_id,
        delivery.destination,
        delivery.receiver,
        utc(delivery.since),
        str(delivery.attempts),
        delivery.reason,
        delivery.flow_id,
    )
