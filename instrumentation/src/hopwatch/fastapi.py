"""FastAPI, recorded: import from here instead of from `fastapi`."""

import fastapi as _library
from fastapi import *  # noqa: F403 — the library's names as the library has them

from hopwatch.dropin import turn_on

__getattr__ = turn_on(_library)
