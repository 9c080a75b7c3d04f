"""When the modules that instrument a library can be used: not while one of them is being imported itself.

`from hopwatch.transports.nats import processing` may be what imports `nats` first. Its instrumentation, which is due at that
moment, is in the very module that is only half there.
"""

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from typing import Any


class _Watched(ModuleSpec):
    """What the import system knows of a module that is being imported: told by the attribute that it clears when it is done."""

    @property
    def _initializing(self) -> bool:
        return bool(vars(self).get("_initializing"))

    @_initializing.setter
    def _initializing(self, goes_on: bool) -> None:
        vars(self)["_initializing"] = goes_on
        if not goes_on:
            self.__class__ = ModuleSpec  # type: ignore[assignment]  # as it was
            for action in vars(self).pop("_hopwatch_actions", ()):
                action()


def once_whole(packages: tuple[str, ...], action: Callable[[], Any]) -> None:
    """Run an action as soon as no module of these packages is half imported: now, if none is."""
    for name, module in [*sys.modules.items()]:
        if name.partition(".")[0] in packages:
            spec = getattr(module, "__spec__", None)
            if isinstance(spec, ModuleSpec) and getattr(spec, "_initializing", False):
                if type(spec) is ModuleSpec:
                    spec.__class__ = _Watched
                if type(spec) is _Watched:
                    later = vars(spec).setdefault("_hopwatch_actions", [])
                    later.append(lambda: once_whole(packages, action))
                    return
    action()
