"""What a person types: `live`, `find`, `show`, `why`, `undelivered`, `lag`, `clocks`; plain functions that `hopwatch` registers.

Exit codes: 0 found, 1 nothing found, 2 usage, 3 the collector is not reachable or failed. On a terminal they draw; into
a pipe they write one line per row, columns apart by tabs, with full ids and UTC times.
"""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console, RenderableType

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
from hopwatch_tui.client import DEFAULT_COLLECTOR, ApiError, Client, NotFound, Raw
from hopwatch_tui.text import clean


class Exit(IntEnum):
    """What a command's exit code says."""

    FOUND = 0
    NOTHING = 1
    USAGE = 2
    COLLECTOR = 3


CollectorOption = Annotated[
    str,
    typer.Option(
        "--collector", envvar="HOPWATCH_COLLECTOR", metavar="URL", help="Where the collector's API is."
    ),
]
TokenOption = Annotated[
    str,
    typer.Option(
        "--token",
        envvar="HOPWATCH_READ_TOKEN",
        metavar="TOKEN",
        help="Read token, where one is wanted.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the API's JSON answer unchanged.")]
SinceOption = Annotated[
    str, typer.Option("--since", metavar="TIME", help="From when: 15m, 2h, 7d or an RFC 3339 time.")
]
UntilOption = Annotated[
    str, typer.Option("--until", metavar="TIME", help="Up to when, like --since.", show_default=False)
]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many rows at most.")]
ServiceOption = Annotated[
    str,
    typer.Option(
        "--service", metavar="NAME", help="Only what this service sent or received.", show_default=False
    ),
]
DestinationOption = Annotated[
    str, typer.Option("--destination", metavar="NAME", help="Only what was sent there.", show_default=False)
]
ReceiverOption = Annotated[
    str,
    typer.Option(
        "--receiver", metavar="NAME", help="Only what was owed to this receiver.", show_default=False
    ),
]
VerdictOption = Annotated[
    list[str] | None,
    typer.Option(
        "--verdict",
        metavar="VERDICT",
        help="Only this verdict, e.g. stuck or `undelivered` for all bad ones; repeatable.",
    ),
]


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
        _fail(
            "hopwatch live needs a terminal",
            "Into a pipe, `hopwatch undelivered` and `hopwatch find` print rows.",
            Exit.USAGE,
        )
    from hopwatch_tui.app import (
        HopwatchApp,
    )  # textual takes a while to import; the other commands do without it

    with _reported():
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
        _fail("find needs a QUERY or a filter", "For example: hopwatch find order_id=4711", Exit.USAGE)
    with _reported(), Client(collector, token) as client:
        raw = client.search(query, **filters, since=since, until=until, limit=limit)
        result = client.parse(SearchResult, raw)
    _finish(
        raw,
        json,
        result.hits,
        draw=lambda: report.hits_table(result.hits, _now()),
        header=("kind", "id", "state", "matched", "title", "at", "flow_id"),
        row=lambda hit: (hit.kind, hit.id, hit.state, hit.why, hit.title, _utc(hit.at), hit.flow_id),
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
    with _reported(), Client(collector, token) as client:
        found = _message_or_flow(client, id)
    if found is None:
        _nothing(
            f"no message, alias, flow or trace is known by {clean(id, limit=200)}",
            "Look around it with `hopwatch find`.",
        )
    raw, answer = found
    if json:
        _print_raw(raw)
    elif isinstance(answer, Flow):
        _draw(report.flow_tree(answer))
    else:
        _draw(report.message_view(answer))


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
    with _reported(), Client(collector, token) as client:
        try:
            raw = client.why(id)
        except NotFound:
            _nothing(f"no message is known by {clean(id, limit=200)}", "Look for it with `hopwatch find`.")
        answer = client.parse(Why, raw)
    told = [one for one in answer.explanations if not receiver or one.receiver == receiver]
    if not told:
        _nothing(
            f"it was not owed to {clean(receiver, limit=200)}", "Without --receiver, all receivers are told."
        )
    if json:
        _print_raw(raw)
    else:
        _draw(report.why_view(answer, told))


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
            _fail(
                "--causes and --verdict do not go together", "Causes are of all undelivered ones.", Exit.USAGE
            )
        asked = {"destination": destination, "receiver": receiver, "service": service}
        _causes(
            collector, token, json, since, until, {**asked, "since": since, "until": until, "limit": limit}
        )
        return
    with _reported(), Client(collector, token) as client:
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
    _finish(
        raw,
        json,
        result.deliveries,
        draw=lambda: report.undelivered_table(result.deliveries, _now()),
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
    with _reported(), Client(collector, token) as client:
        raw = client.undelivered(**filters)
        result = client.parse(CauseList, raw)
    _finish(
        raw,
        json,
        result.causes,
        draw=lambda: report.causes_view(result.causes, _now()),
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
            _utc(cause.first_at),
            _utc(cause.last_at),
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
    with _reported(), Client(collector, token) as client:
        raw = client.lag()
        result = client.parse(LagList, raw)
    _finish(
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
    with _reported(), Client(collector, token) as client:
        raw = client.clocks(at)
        result = client.parse(ClockList, raw)
    _finish(
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
        row=lambda clock: (*clocking.cells(clock), _utc(clock.since)),
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


def _finish(
    raw: Raw,
    json: bool,
    rows: Sequence[Any],
    *,
    draw: Callable[[], RenderableType],
    header: Sequence[str],
    row: Callable[[Any], Sequence[str]],
    nothing: str,
    hint: str,
    truncated: bool,
) -> None:
    if json:
        _print_raw(raw)
    elif rows and sys.stdout.isatty():
        _draw(draw())
    elif rows:
        _print_rows(header, (row(one) for one in rows))
    if not rows:
        _nothing(nothing, hint)
    if truncated:
        sys.stderr.write(
            f"hopwatch: only the first {len(rows)} are shown; --limit or a shorter time changes that\n"
        )


def _delivery_row(delivery: Delivery) -> tuple[str, ...]:
    return (
        delivery.verdict,
        delivery.message_id,
        delivery.destination,
        delivery.receiver,
        _utc(delivery.since),
        str(delivery.attempts),
        delivery.reason,
        delivery.flow_id,
    )


def _print_rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    # cleaned once more without lines: a tab or newline in a value would make another column or row
    lines = ["\t".join(header), *("\t".join(clean(value) for value in row) for row in rows)]
    sys.stdout.write("\n".join(lines) + "\n")


def _print_raw(raw: Raw) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(raw.body.rstrip(b"\n") + b"\n")
    sys.stdout.flush()


def _draw(what: RenderableType) -> None:
    # into a pipe nothing is folded or coloured; rich itself honours NO_COLOR
    width = None if sys.stdout.isatty() else 10_000
    console = Console(
        width=width,
        no_color=None if sys.stdout.isatty() else True,
        highlight=False,
        markup=False,
        emoji=False,
    )
    if width is None:
        console.print(what)
        return
    with console.capture() as drawn:
        console.print(what)
    sys.stdout.write("\n".join(line.rstrip() for line in drawn.get().split("\n")))


def _now() -> datetime:
    return datetime.now(UTC)


def _utc(moment: datetime | None) -> str:
    return "" if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _reported:  # noqa: N801  a context manager used like a function
    """Turns an API error into a few lines on stderr and exit code 3."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: object, _traceback: object) -> None:
        if isinstance(error, ApiError):
            _fail(error.title, error.message, Exit.COLLECTOR, error.hint)


def _nothing(message: str, hint: str) -> NoReturn:
    sys.stderr.write(f"hopwatch: {message}\n" + (f"  {hint}\n" if hint else ""))
    raise typer.Exit(Exit.NOTHING)


def _fail(title: str, message: str, code: Exit, hint: str = "") -> NoReturn:
    lines = [f"hopwatch: {title}", *(f"  {part}" for part in (message, hint) if part)]
    sys.stderr.write("\n".join(lines) + "\n")
    raise typer.Exit(code)
