"""aiohttp's client, recorded: import from here instead of from `aiohttp`."""

import aiohttp as _library
from aiohttp import *  # noqa: F403 — the library's names as the library has them

from hopwatch.dropin import turn_on

__getattr__ = turn_on(_library)
