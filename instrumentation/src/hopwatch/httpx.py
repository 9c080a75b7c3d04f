"""httpx, recorded: import from here instead of from `httpx`."""

import httpx as _library
from httpx import *  # noqa: F403 — the library's names as the library has them

from hopwatch.dropin import turn_on

__getattr__ = turn_on(_library)
