"""What a callee's context knows and does not: its status, whether its caller still waits, what is streamed through it."""

from collections.abc import AsyncIterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import wrapt

from hopwatch.faults import swallowed
from hopwatch.transports.grpc.exchange import CODES, Exchange
from hopwatch.wrapping import guarded

if TYPE_CHECKING:
    _Proxy = wrapt.ObjectProxy[Any]
else:
    _Proxy = wrapt.ObjectProxy  # takes no type arguments in older versions


class CountedAsync(AsyncIterator[Any]):
    """A callee's requests, counted as they are taken."""

    def __init__(self, requests: Any, exchange: Exchange) -> None:
        self._requests = requests
        self._iterator: AsyncIterator[Any] | None = None
        self._exchange = exchange

    async def __anext__(self) -> Any:
        """Return the next request."""
        if self._iterator is None:
            self._iterator = aiter(
                self._requests
            )  # not before: a handler may read through its context instead
        request = await anext(self._iterator)
        self._exchange.note_received()
        return request


class _CountingContext(_Proxy):
    """A context whose reads and writes are counted, for handlers that stream through it."""

    def __init__(self, context: Any, exchange: Exchange) -> None:
        super().__init__(context)
        self._self_exchange = exchange

    async def read(self) -> Any:
        """Read a request."""
        request = await self.__wrapped__.read()
        if request is not grpc.aio.EOF:
            self._self_exchange.note_received()
        return request

    async def write(self, response: Any) -> None:
        """Write a response."""
        await self.__wrapped__.write(response)
        self._self_exchange.note_sent()


def counting(context: Any, exchange: Exchange) -> Any:
    """Return a context that counts what is streamed through it."""
    return _CountingContext(context, exchange) if exchange.streams else context


class _TellingContext(_Proxy):
    """The context of a blocking handler on an asyncio server, which grpcio does not let tell its status."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self._self_code: grpc.StatusCode = grpc.StatusCode.OK
        self._self_details = ""

    def abort(self, code: grpc.StatusCode, details: str = "", *args: Any, **kwargs: Any) -> Any:
        """Note the status and abort."""
        self._self_code, self._self_details = code, details
        return self.__wrapped__.abort(code, details, *args, **kwargs)

    def set_code(self, code: grpc.StatusCode) -> None:
        """Note the status and set it."""
        self._self_code = code
        self.__wrapped__.set_code(code)

    def set_details(self, details: str) -> None:
        """Note the words and set them."""
        self._self_details = details
        self.__wrapped__.set_details(details)

    def code(self) -> grpc.StatusCode:
        """Return the status noted."""
        return self._self_code

    def details(self) -> str:
        """Return the words noted."""
        return self._self_details


def telling(context: Any) -> Any:
    """Return a context that can tell its status."""
    return context if hasattr(context, "code") else guarded(_TellingContext)(context) or context


def said(context: Any) -> tuple[grpc.StatusCode | None, str]:
    """Return the status a handler set that is not OK, and its words."""
    try:
        code, details = context.code(), context.details()
    except Exception:  # noqa: BLE001 — contexts of older and mixed servers cannot tell
        return None, ""
    found = CODES.get(code) if isinstance(code, int) else code
    words = details.decode(errors="replace") if isinstance(details, bytes) else details
    return (None, "") if found is grpc.StatusCode.OK else (found, words or "")


def kept(context: Any) -> grpc.StatusCode:
    """Return OK, unless the caller of a blocking handler has not waited for it."""
    left = context.time_remaining()
    active = getattr(context, "is_active", None)
    waits = (left is None or left > 0) and (active is None or active())
    return grpc.StatusCode.OK if waits else gone(context)


def gone(context: Any) -> grpc.StatusCode:
    """Return why the caller is gone: its time was over, or it cancelled."""
    left = context.time_remaining()
    return grpc.StatusCode.DEADLINE_EXCEEDED if left is not None and left <= 0 else grpc.StatusCode.CANCELLED


def metadata_of(context: Any) -> Any:
    """Return what a caller sent before its request, pairs of name and value."""
    try:
        return context.invocation_metadata() or ()
    except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
        swallowed("metadata", fault)
        return ()


def peer_of(context: Any) -> str:
    """Return the caller's address: `ipv4:127.0.0.1:5000`, `ipv6:%5B::1%5D:5000`, `unix:`."""
    try:
        return _address(str(context.peer()))
    except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
        swallowed("peer", fault)
        return ""


@lru_cache(maxsize=1_024)
def _address(peer: str) -> str:
    family, _, address = peer.partition(":")
    if family not in ("ipv4", "ipv6"):
        return ""
    return address.rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]")
