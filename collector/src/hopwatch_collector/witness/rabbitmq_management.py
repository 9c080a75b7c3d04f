"""RabbitMQ's management API: asked over HTTP with a login, answers bounded, refusals in words for people."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

import httpx

from hopwatch_collector.witness.model import WitnessAway
from hopwatch_collector.witness.rabbitmq_answers import Nonsense, is_name, listed, table

LARGEST: Final = 64 << 20
"""Bytes of one answer; a list that is longer is not read."""
_TIMEOUT_S: Final = 10.0
_REFUSED: Final = (401, 403)


class LoginRefused(WitnessAway):
    """The login is not good enough for what was asked."""


class Management:
    """One virtual host, as the management API of a node tells it."""

    def __init__(self, url: str, vhost: str = "/") -> None:
        """`url`: `http://user:password@host:15672`."""
        parts = urlsplit(url)
        server = f"{parts.hostname}:{parts.port or 15672}"
        self.vhost = vhost
        self.broker = server if vhost == "/" else f"{server}/{vhost}"
        """Where it is, without a password."""
        self.requests = 0
        """Asked so far."""
        self.left_out: dict[str, int] = {}
        """How many entries of which lists made no sense."""
        self._auth = (unquote(parts.username or "guest"), unquote(parts.password or "guest"))
        self._base = f"{parts.scheme}://{server}{parts.path.rstrip('/')}/api"
        self._http: httpx.AsyncClient | None = None

    async def here(self, what: str, words: Sequence[str], **params: str) -> list[Mapping[str, Any]]:
        """Return what there is of something in the virtual host; in each, `words` are there and text.

        Raises:
            WitnessAway: no list of it can be had.
        """
        return await self._list(what, f"{what}/{quote(self.vhost, safe='')}", words, params)

    async def all(self, what: str, words: Sequence[str], **params: str) -> list[Mapping[str, Any]]:
        """Return what there is of something in the whole cluster.

        Raises:
            LoginRefused: the login may not see it.
            WitnessAway: no list of it can be had.
        """
        return await self._list(what, what, words, params)

    async def identity(self) -> str:
        """Return what AMQP clients are told of where they are: the cluster's name, and behind it the virtual host unless it is `/`.

        Empty where that is not told; whether anything else is, the lists say.
        """
        with suppress(WitnessAway, Nonsense, httpx.HTTPError, ValueError, RecursionError):
            told = table(json.loads(await self._ask("cluster-name", {}))).get("name")
            if told and is_name(told):
                return f"{told}/{'' if self.vhost == '/' else self.vhost}"
        return ""

    async def close(self) -> None:
        """Disconnect."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def _list(
        self, what: str, path: str, words: Sequence[str], params: dict[str, str]
    ) -> list[Mapping[str, Any]]:
        try:
            found = listed(await self._ask(path, params), words)
        except Nonsense as error:
            raise self._away(str(error)) from error
        except httpx.HTTPError as error:
            raise self._away(f"{type(error).__name__}: {error}") from error
        if found.left_out:
            self.left_out[what] = found.left_out
        return found.rows

    async def _ask(self, path: str, params: dict[str, str]) -> bytes:
        if self._http is None:
            self._http = httpx.AsyncClient(auth=self._auth, timeout=_TIMEOUT_S)
        self.requests += 1
        async with self._http.stream("GET", f"{self._base}/{path}", params=params) as answer:
            if answer.status_code in _REFUSED:
                raise LoginRefused(
                    f"RabbitMQ at {self.broker}: login refused: the witness needs a user with the tag `monitoring` "
                    "and a permission on the virtual host"
                )
            if answer.status_code != httpx.codes.OK:
                raise self._away(f"the management API answered {answer.status_code}")
            return await _body(answer)

    def _away(self, why: str) -> WitnessAway:
        return WitnessAway(f"RabbitMQ at {self.broker}: {why}")


async def _body(answer: httpx.Response) -> bytes:
    read = bytearray()
    async for piece in answer.aiter_bytes():
        read += piece
        if len(read) > LARGEST:
            raise Nonsense(f"an answer of more than {LARGEST >> 20} MiB")
    return bytes(read)
