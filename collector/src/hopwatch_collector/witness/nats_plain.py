"""Plain NATS subscribers, as the server's monitoring endpoint tells them."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import httpx

from hopwatch_collector.witness.answers import MALFORMED, name, number, words
from hopwatch_collector.witness.model import Claim

_TIMEOUT_S: Final = 5.0
_PAGE: Final = 1024
"""Connections asked for at a time."""
_MAX_PAGES: Final = 64
_MAX_BYTES: Final = 64 * 1024 * 1024
"""Of one answer."""


class Monitoring:
    """Asks one monitoring endpoint."""

    def __init__(self, url: str) -> None:
        """`url`: `http://host:8222`."""
        self._url = url.rstrip("/")
        self._http: httpx.AsyncClient | None = None

    async def subscribers(self) -> tuple[set[Claim], str, int]:
        """Return who is subscribed, why that may not be all ('' if it is), and how many requests it took."""
        claims: set[Claim] = set()
        odd = ""
        offset = asked = 0
        try:
            while asked < _MAX_PAGES:
                asked += 1
                page = await self._page(offset)
                connections = page.get("connections") or []
                for connection in connections:
                    try:
                        claims.update(_plain(connection))
                    except MALFORMED as error:
                        odd = f"tells of a connection what makes no sense ({type(error).__name__}: {error})"
                offset += len(connections)
                total = number(page.get("total", 0))
                if not connections and offset < total:
                    odd = f"promises {total} connections and tells of {offset}"
                if not connections or offset >= total:
                    return claims, self._words(odd), asked
            odd = f"is asked for {_MAX_PAGES * _PAGE} connections and no more"
        except httpx.HTTPStatusError as error:
            odd = f"answers with status {error.response.status_code}"
        except httpx.HTTPError as error:
            odd = f"cannot be asked ({type(error).__name__}: {error})"
        except MALFORMED as error:
            odd = f"answers what makes no sense ({type(error).__name__}: {error})"
        return claims, self._words(odd), asked

    async def servers(self) -> tuple[set[str], int]:
        """Return the ids of this server and of those it is in a cluster with, and how many requests it took.

        Where the endpoint does not tell, there are none: whoever is subscribed could not be asked either, and that is said.
        """
        found: set[str] = set()
        with suppress(httpx.HTTPError, *MALFORMED):
            found.add(name((await self._answer("varz", {}))["server_id"]))
            routes = (await self._answer("routez", {}))["routes"]
            found |= {name(route["remote_id"]) for route in routes or ()}
        return found, 2

    async def close(self) -> None:
        """Disconnect."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    def _words(self, trouble: str) -> str:
        where = self._url.rpartition("@")[2].rpartition("//")[2]  # without what may be a password
        return words(f"plain subscribers are not all seen: {where} {trouble}") if trouble else ""

    async def _page(self, offset: int) -> Any:
        return await self._answer("connz", {"subs": "detail", "limit": _PAGE, "offset": offset})

    async def _answer(self, what: str, params: Mapping[str, str | int]) -> Any:
        self._http = self._http or httpx.AsyncClient(timeout=_TIMEOUT_S)
        body = bytearray()
        async with self._http.stream("GET", f"{self._url}/{what}", params=params) as answer:
            answer.raise_for_status()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > _MAX_BYTES:
                    raise ValueError(f"more than {_MAX_BYTES} bytes")
        return json.loads(body)


def _plain(connection: Mapping[str, Any]) -> Iterator[Claim]:
    """Queue groups, and clients on their own.

    These are spelled `client name:subject`: an instrumented service reports the same subscription as `service:subject`, and
    nothing tells which client is whose. So the ledger counts a client only where no service reports that subject itself.
    """
    client = connection.get("name") or ""
    if client == "hopwatch-witness":
        return
    who = name(client or str(number(connection["cid"])))
    for subscription in connection.get("subscriptions_list_detail") or ():
        subject = name(subscription["subject"])
        if subject.startswith(("_INBOX.", "$", "_R_")):
            continue
        group = subscription.get("qgroup")
        receiver = name(group) if group else name(f"client {who}:{subject}")
        yield Claim(subject, receiver, durable=False, consumer=who if client else "")
