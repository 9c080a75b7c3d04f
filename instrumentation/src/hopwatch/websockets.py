"""websockets, recorded: import from here instead of from `websockets`."""

import websockets as _library
from websockets import *  # noqa: F403 — the library's names as the library has them

from hopwatch.dropin import turn_on

__getattr__ = turn_on(_library)
