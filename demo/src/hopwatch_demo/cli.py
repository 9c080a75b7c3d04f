"""The demo's command line: `python -m hopwatch_demo`, which is what `make demo` runs."""

import os
import signal
import subprocess
import sys
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from hopwatch_demo import faults, report, world
from hopwatch_demo.brokers import NAMES, BrokerMissing
from hopwatch_demo.collector import CollectorFailed
from hopwatch_demo.expect import courses
from hopwatch_demo.ledger import LedgerUnreadable
from hopwatch_demo.supervisor import hopwatch_command
from hopwatch_demo.world import Plan, World
from hopwatch_tui.client import ApiError

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)

DIFFERS = 1
FAILED = 3
TERMINATED = 128 + signal.SIGTERM


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=1, help="How long orders are placed.")] = 25.0,
    rate: Annotated[float, typer.Option(min=0.1, max=20, help="Orders per second.")] = 2.0,
    brokers: Annotated[
        str,
        typer.Option(help=f"Only these, which then must be there: {','.join(NAMES)}. Default: all that run."),
    ] = "",
    fault: Annotated[list[str] | None, typer.Option(help="Commit only this fault; repeatable.")] = None,
    no_fault: Annotated[list[str] | None, typer.Option(help="Do not commit this fault; repeatable.")] = None,
    list_faults: Annotated[bool, typer.Option("--list-faults", help="Say what faults there are.")] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep records, logs and the collector's data.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON; never opens the live view.")
    ] = False,
) -> None:
    """Run a small shop of real services on real brokers, with faults committed on purpose.

    On a terminal it opens the live view. Elsewhere it runs for a while, freezes, compares the collector's ledger
    with what the services themselves recorded, and reports.

    Exit codes: 0 ledger and records agree, 1 they differ, 2 usage, 3 something did not start or answer.
    """
    if list_faults:
        _list_faults()
        return
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, interrupt)
    plan = Plan(seconds, rate, _brokers(brokers), _faults(fault or [], no_fault or []), keep)
    live = not json and sys.stdin.isatty() and sys.stdout.isatty()
    try:
        with world.opened(plan, _say) as running:
            code = _live(running) if live else _report(running, json)
    except (BrokerMissing, CollectorFailed, world.ShopFailed, LedgerUnreadable, ApiError) as error:
        typer.echo(f"demo: {error} {getattr(error, 'message', '')}".rstrip(), err=True)
        code = FAILED
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    raise typer.Exit(code)


def _live(running: World) -> int:
    """Open the live view on the running shop until the person leaves it."""
    running.open_shop()
    environment = os.environ | {"HOPWATCH_COLLECTOR": running.collector.api_url}
    return subprocess.run([hopwatch_command(), "live"], env=environment, check=False).returncode


def _report(running: World, json: bool) -> int:
    """Load, freeze, compare, report."""
    running.load(_say)
    running.freeze(_say)
    found = running.compare(_say)
    faults_seen = courses(found.expected, running.plan.faults, running.settings.brokers)
    result = report.Result(running.brokers, found.rows, found.agreement, faults_seen)
    if json:
        typer.echo(result.json())
    else:
        width = None if sys.stdout.isatty() else report.WIDTH
        report.draw(
            result,
            running.collector.api_url,
            Console(width=width, highlight=False, markup=False, emoji=False),
        )
    typer.echo(result.line(), err=json)
    return exit_code(result)


def exit_code(result: report.Result) -> int:
    """Return 0 if ledger and records agree and every fault took its course, else 1."""
    return 0 if result.ok else DIFFERS


def _brokers(said: str) -> tuple[str, ...]:
    names = tuple(filter(None, (name.strip() for name in said.split(","))))
    if unknown := set(names) - set(NAMES):
        raise typer.BadParameter(
            f"no such broker: {', '.join(sorted(unknown))}; there are: {', '.join(NAMES)}"
        )
    return names


def _faults(only: list[str], without: list[str]) -> frozenset[str]:
    try:
        return faults.choose(only, without)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _list_faults() -> None:
    for fault in faults.FAULTS.values():
        verdicts = ", ".join(f"{broker}: {verdict}" for broker, verdict in sorted(fault.verdicts.items()))
        typer.echo(f"{fault.name}\n    {fault.does}\n    strikes: {fault.kind.name}; {verdicts}")


def _say(text: str) -> None:
    typer.echo(f"demo: {text}", err=True)


def _terminate(number: int, frame: FrameType | None) -> None:
    """Leave as if by `sys.exit`, so that everything started is ended."""
    raise SystemExit(TERMINATED)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Leave wherever the demo is. asyncio's own way, which cancels a task instead, has been lost in clients that swallow it."""
    raise KeyboardInterrupt


def main() -> None:
    """Run the command."""
    app()
