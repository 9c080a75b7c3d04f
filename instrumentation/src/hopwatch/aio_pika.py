"""aio-pika, recorded: import from here instead of from `aio_pika`."""

import aio_pika as _library
from aio_pika import *  # noqa: F403 — the library's names as the library has them

from hopwatch.dropin import turn_on

__getattr__ = turn_on(_library)
