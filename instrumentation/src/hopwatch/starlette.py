"""Starlette, recorded: import from here instead of from `starlette`."""

import starlette as _library
from starlette import *  # noqa: F403 — the library's names as the library has them

from hopwatch.dropin import turn_on

__getattr__ = turn_on(_library)
