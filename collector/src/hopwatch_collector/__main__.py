"""`python -m hopwatch_collector`: the same as `hopwatch collect`."""

import typer

from hopwatch_collector.cli import command

if __name__ == "__main__":
    typer.run(command)
