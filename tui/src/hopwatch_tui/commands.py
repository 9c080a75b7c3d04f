"""What a person types about messages: `live`, `find`, `show`, `why`, `undelivered`; functions that `hopwatch` registers.

Exit codes: 0 found, 1 nothing found, 2 usage, 3 the collector is not reachable or failed, 70 an error of hopwatch's own.
On a terminal they draw; into a pipe they write one line per row, columns apart by tabs, with full ids and UTC times.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from hopwatch_tui import lists, report
from hopwatch_tui.answers import (
    Cause,
    CauseList,
    Delivery,
    DeliveryList,
    Flow,
    Message,
    SearchResult,
    Why,
)
from hopwatch_tui.client import DEFAULT_COLLECTOR, Client, NotFound, Raw
from hopwatch_tui.endings import Exit, fail, guarded, internal, nothing_found, reported
from hopwatch_tui.options import (
    CollectorOption,
    DestinationOption,
    JsonOption,
    LimitOption,
    ReceiverOption,
    ServiceOption,
    SinceOption,
    TokenOption,
    UndeliveredVerdictOption,
    UntilOption,
    VerdictOption,
    check_text,
    number_in,
)
from hopwatch_tui.printing import finish, in_words, now, print_drawing, print_raw, utc
from hopwatch_tui.text import clean


@guarded
def live(
    collector: CollectorOption = DEFAULT_COLLECTOR,
    token: TokenOption = "",
    window: Annotated[
        int,
        typer.Option(
            "--window",
            metavar="SECONDS",
            parser=number_in(1, 86_400),
            help="How far back it looks, at most a day (86400).",
        ),
    ] = 300,
) -> None:
    """Watch messages travel, live, and see which were not delivered.

    \b
    Example:
      hopwatch live
      hopwatch live --collector http://10.0.0.7:4319 --window 900

    Inside: 1 2 3 switch between flows, undelivered and lag; Enter opens; / filters; s searches; ? lists all keys.

    Exit codes: 0 left, 2 usage or no terminal, 3 no collector's address, 70 an error of its own.
    """
    if not _on_a_terminal():
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
    if app.broken is not None:
        internal(app.broken)
    if app.return_code:
        raise typer.Exit(Exit.INTERNAL)


def _on_a_terminal() -> bool:
    return all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))  # textual draws on stderr


@guarded
def find(
    context: typer.Context,
    query: Annotated[
        str,
        typer.Argument(
            metavar="QUERY",
            callback=check_text,
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
    """Find messages and flows by id, business key, service, destination, receiver, verdict or time.

    \b
    Examples:
      hopwatch find order_id=4711
      hopwatch find 0199c1f2-7f7e-7c3a-9d53-5a1f0c7be001
      hopwatch find --destination orders.placed --verdict stuck --since 2h
      hopwatch find --since 2m

    Exit codes: 0 found, 1 nothing found, 2 usage, 3 collector not reachable or failed.
    """
    filters = {"service": service, "destination": destination, "receiver": receiver, "verdict": verdict}
    if not query and not any(filters.values()) and not _given(context, "since", "until"):
        fail(
            "find needs a QUERY, a filter or --since", "For example: hopwatch find order_id=4711", Exit.USAGE
        )
    with reported(), Client(collector, token) as client:
        raw = client.search(query, **filters, since=since, until=until, limit=limit)
        result = client.parse(SearchResult, raw)
    finish(
        raw,
        json,
        result.hits,
        draw=lambda: lists.hits_table(result.hits, now()),
        header=("kind", "id", "state", "matched", "title", "at", "flow_id"),
        row=lambda hit: (hit.kind, hit.id, hit.state, hit.why, hit.title, utc(hit.at), hit.flow_id),
        nothing=f"nothing found {in_words(since, until)}",
        hint="Look further back with --since 7d.",
        truncated=result.truncated,
    )


@guarded
def show(
    id: Annotated[
        str,
        typer.Argument(
            metavar="MESSAGE-OR-FLOW",
            callback=check_text,
            help="A message id or alias, a flow or trace id.",
            show_default=False,
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


@guarded
def why(
    id: Annotated[
        str,
        typer.Argument(
            metavar="MESSAGE", callback=check_text, help="A message id or alias.", show_default=False
        ),
    ],
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


@guarded
def undelivered(
    destination: DestinationOption = "",
    receiver: ReceiverOption = "",
    service: ServiceOption = "",
    verdict: UndeliveredVerdictOption = None,
    since: SinceOption = "1h",
    until: UntilOption = "",
    limit: LimitOption = 100,
    each: Annotated[
        bool, typer.Option("--each", help="One line per message and receiver, not per cause.")
    ] = False,
    json: JsonOption = False,
    collector: CollectorOption = DEFAULT_COLLECTOR,
    token: TokenOption = "",
) -> None:
    """Tell which messages did not reach a receiver they were owed to, by cause, and what to do about it.

    Messages with a verdict, a cause, a destination and a receiver in common are one line.

    \b
    Examples:
      hopwatch undelivered
      hopwatch undelivered --destination orders.placed --since 2h
      hopwatch undelivered --json | jq '.causes[].advice'
      hopwatch undelivered --each --verdict dead_lettered

    Exit codes: 0 some are, 1 none is, 2 usage, 3 collector not reachable or failed.
    """
    filters: dict[str, str | int | Sequence[str]] = {
        "destination": destination,
        "receiver": receiver,
        "service": service,
        "since": since,
        "until": until,
        "limit": limit,
    }
    nothing = f"nothing undelivered {in_words(since, until)}"
    with reported(), Client(collector, token) as client:
        if each:
            _each(client, json, nothing, {**filters, "verdict": verdict or ["undelivered"]})
        else:
            _causes(client, json, nothing, {**filters, "verdict": verdict or []})


def _each(client: Client, json: bool, nothing: str, filters: Mapping[str, str | int | Sequence[str]]) -> None:
    raw = client.deliveries(**filters)
    result = client.parse(DeliveryList, raw)
    finish(
        raw,
        json,
        result.deliveries,
        draw=lambda: lists.undelivered_table(result.deliveries, now()),
        header=("verdict", "message_id", "destination", "receiver", "since", "attempts", "reason", "flow_id"),
        row=_delivery_row,
        nothing=nothing,
        hint="",
        truncated=result.truncated,
    )


def _causes(
    client: Client, json: bool, nothing: str, filters: Mapping[str, str | int | Sequence[str]]
) -> None:
    raw = client.undelivered(**filters)
    result = client.parse(CauseList, raw)
    finish(
        raw,
        json,
        result.causes,
        draw=lambda: lists.causes_table(result.causes, now()),
        header=(
            "deliveries",
            "verdict",
            "cause",
            "destination",
            "receiver",
            "reason",
            "advice",
            "first_at",
            "last_at",
            "sample_message_ids",
            "system",
        ),
        row=_cause_row,
        nothing=nothing,
        hint="",
        truncated=result.truncated,
    )


def _given(context: typer.Context, *names: str) -> bool:
    """Whether one of these options was typed, rather than left at its default."""
    sources = [context.get_parameter_source(name) for name in names]
    return any(source is not None and source.name == "COMMANDLINE" for source in sources)


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
        report.reason_text(delivery),
        delivery.flow_id,
    )


def _cause_row(cause: Cause) -> tuple[str, ...]:
    return (
        str(cause.deliveries),
        cause.verdict,
        cause.cause,
        cause.destination,
        cause.receiver,
        report.reason_text(cause),
        cause.advice,
        utc(cause.first_at),
        utc(cause.last_at),
        " ".join(cause.sample_message_ids),
        cause.system,
    )
