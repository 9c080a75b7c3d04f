"""The `hopwatch` command: its subcommands come from entry points, so a light install shows only what it has."""

import sys
from importlib.metadata import entry_points, version

import typer

COMMANDS = "hopwatch.commands"
"""Entry-point group: subcommand name → a plain function with typer annotations."""

_ELSEWHERE = {
    "collect": "hopwatch[collector]",
    "live": "hopwatch[tui]",
    "find": "hopwatch[tui]",
    "show": "hopwatch[tui]",
    "undelivered": "hopwatch[tui]",
    "lag": "hopwatch[tui]",
    "why": "hopwatch[tui]",
    "clocks": "hopwatch[tui]",
    "flows": "hopwatch[tui]",
    "topology": "hopwatch[tui]",
    "status": "hopwatch[tui]",
}


def app(only: str | None = None) -> typer.Typer:
    """Assemble the command from what is installed; with `only`, nothing but that subcommand is imported."""
    assembled = typer.Typer(
        name="hopwatch",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        help="Where is my message, who got it, who did not, and why?",
        epilog=_missing(),
    )
    assembled.callback()(_options)
    for found in sorted(entry_points(group=COMMANDS), key=lambda entry: entry.name):
        if only is None or found.name == only:
            assembled.command(found.name)(found.load())
    return assembled


def main() -> None:
    """Run the command named on the command line; a known one that is not installed says what brings it."""
    asked = sys.argv[1] if len(sys.argv) > 1 else ""
    if asked in _missing_commands():
        sys.stderr.write(f"hopwatch: `{asked}` is not installed here: pip install '{_ELSEWHERE[asked]}'\n")
        raise SystemExit(2)
    installed = {found.name for found in entry_points(group=COMMANDS)}
    app(asked if asked in installed else None)()


def _missing_commands() -> list[str]:
    return sorted(set(_ELSEWHERE) - {found.name for found in entry_points(group=COMMANDS)})


def _missing() -> str:
    return "; ".join(f"{name}: pip install '{_ELSEWHERE[name]}'" for name in _missing_commands())


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"hopwatch {version('hopwatch')}\n")
        raise typer.Exit


def _options(
    show_version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
    ),
) -> None:
    pass
