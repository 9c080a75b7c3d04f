"""The innermost steps of recording in C (`native.c`), where a compiler was at hand when hopwatch was installed.

Each has a twin in Python that says the same, byte for byte. HOPWATCH_PURE_PYTHON=1 has the twins do the work.
"""

import os
import sys
from importlib import import_module
from typing import Any, Final

VARIABLE: Final = "HOPWATCH_PURE_PYTHON"


def _compiled() -> Any:
    if os.environ.get(VARIABLE, "").strip().lower() in ("1", "true", "yes"):
        return None
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return None  # it relies on the lock, and to load it would give the application its lock back
    try:
        return import_module("hopwatch._native")
    except ImportError:
        return None


native: Final = _compiled()
"""The compiled module, None where the twins do the work."""
