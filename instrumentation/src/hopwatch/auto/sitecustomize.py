"""Loaded by Python at start-up under `hopwatch run`: instruments the process, then makes way for the next one."""

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

_HERE = os.path.dirname(os.path.abspath(__file__))


def _instrument() -> None:
    import hopwatch

    chosen = os.environ.get("HOPWATCH_ONLY")
    excluded = os.environ.get("HOPWATCH_EXCLUDE", "")
    hopwatch.instrument(
        service=os.environ.get("HOPWATCH_SERVICE"),
        only=[name for name in chosen.split(",") if name] if chosen else None,
        exclude=[name for name in excluded.split(",") if name],
    )


def _load_shadowed() -> None:
    """Run the sitecustomize that this one hides, if the environment has one."""
    paths = [path for path in sys.path if os.path.abspath(path) != _HERE]
    spec = PathFinder.find_spec("sitecustomize", paths)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(module_from_spec(spec))


try:
    _instrument()
except Exception as error:  # noqa: BLE001 — a guest never breaks its host
    print(f"hopwatch: this process is not instrumented: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
_load_shadowed()
