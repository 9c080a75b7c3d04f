"""`hopwatch run -- python -m app`: instrumentation without a change to the code."""

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

_AUTO = Path(__file__).parent / "auto"


def command(
    program: Annotated[list[str], typer.Argument(help="The program and its arguments, after `--`.")],
    service: Annotated[
        str | None, typer.Option(help="Name of this service; OTEL_SERVICE_NAME says the same.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="The collector's OTLP/HTTP address, by default http://127.0.0.1:4318.")
    ] = None,
    only: Annotated[str | None, typer.Option(help="Only these libraries: names separated by commas.")] = None,
    exclude: Annotated[str | None, typer.Option(help="All but these libraries.")] = None,
) -> None:
    """Run a Python program with every call and message recorded, without changing its code.

    Example: hopwatch run --service orders -- python -m orders
    """
    path = shutil.which(program[0])
    if path is None:
        typer.echo(f"hopwatch run: no such program: {program[0]}", err=True)
        raise typer.Exit(127)
    os.execve(path, program, environment(dict(os.environ), service, endpoint, only, exclude))


def environment(
    base: dict[str, str],
    service: str | None = None,
    endpoint: str | None = None,
    only: str | None = None,
    exclude: str | None = None,
) -> dict[str, str]:
    """Return `base` with what makes a Python process instrument itself at start-up."""
    inherited = base.get("PYTHONPATH")
    said = {
        "PYTHONPATH": os.pathsep.join([str(_AUTO), *([inherited] if inherited else [])]),
        "HOPWATCH_SERVICE": service,
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "HOPWATCH_ONLY": only,
        "HOPWATCH_EXCLUDE": exclude,
    }
    return base | {name: value for name, value in said.items() if value is not None}
