"""Options that commands have in common."""

from typing import Annotated

import typer

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
