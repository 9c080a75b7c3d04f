"""A client of the collector's query API: plain calls for the commands, asynchronous ones for the live view.

Errors say what happened, why, and what to do next:

ApiError
├── Unreachable      nobody answers at the address, or the answer broke off
├── NotAllowed       the collector wants a token, or another one
├── NotFound         there is no such thing
├── Refused          the collector says no, in its own words (over a limit, fault)
│   └── Invalid      what was asked makes no sense, parameter by parameter
└── UnexpectedAnswer what answers is not a collector, or not one of this age
"""

import ipaddress
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import SplitResult, quote, urlsplit

import httpx

from hopwatch_tui import answers
from hopwatch_tui.answers import CauseList, DeliveryList, Flow, LagList, Live, Message, SearchResult
from hopwatch_tui.text import clean

DEFAULT_COLLECTOR: Final = "http://127.0.0.1:4319"
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Largest answer read; a collector's limits are far below, so a larger one comes from something else."""

_INVALID: Final = "urn:hopwatch:problem:invalid-parameter"

Params = Mapping[str, str | int | Sequence[str] | None]
T = TypeVar("T")


class ApiError(Exception):
    """Something between us and an answer: `title` in a few words, `message` in one sentence, `hint` what to do next."""

    def __init__(self, title: str, message: str, hint: str = "") -> None:
        super().__init__(title)
        self.title = clean(title)
        self.message = clean(message, lines=True)
        self.hint = clean(hint, lines=True)


class Unreachable(ApiError):
    """Nobody answers at the address, or the answer broke off."""


class NotAllowed(ApiError):
    """The collector wants a token, or another one."""


class NotFound(ApiError):
    """There is no such thing."""


class Refused(ApiError):
    """The collector says no, in its own words."""


class Invalid(Refused):
    """What was asked makes no sense; `parameters` are names and what would have been accepted."""

    def __init__(self, title: str, message: str, parameters: Sequence[tuple[str, str]]) -> None:
        super().__init__(title, message)
        self.parameters = tuple((clean(name), clean(detail)) for name, detail in parameters)


class UnexpectedAnswer(ApiError):
    """What answers does not speak this API."""


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer as it came, for `--json`, and decoded."""

    body: bytes
    data: Any


class _Endpoint:
    """What both clients share: address, headers, and what an answer or a failure means."""

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url.rstrip("/")
        parts = _parts(self.url)
        if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
            raise Unreachable(
                f"Not a collector's address: {url}",
                "An address looks like http://127.0.0.1:4319.",
                "Say --collector URL or set HOPWATCH_COLLECTOR.",
            )
        self.host = clean(parts.netloc.rpartition("@")[2])
        headers = {"Accept": "application/json", "User-Agent": "hopwatch-tui"}
        if token:
            if not (token.isascii() and token.isprintable() and " " not in token):
                raise NotAllowed(
                    "This is no token",
                    "A token is made of printable ASCII characters without spaces.",
                    "Say --token TOKEN or set HOPWATCH_READ_TOKEN to the collector's read token.",
                )
            headers["Authorization"] = f"Bearer {token}"
        self.options: dict[str, Any] = {
            "base_url": self.url + "/api/v1/",
            "headers": headers,
            "timeout": httpx.Timeout(30.0, connect=5.0),
            # a proxy from the environment is for the world outside, not for a collector on this machine
            "trust_env": not _is_loopback(parts.hostname),
        }

    def unreachable(self, error: httpx.HTTPError | httpx.InvalidURL) -> Unreachable:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.InvalidURL):
            return Unreachable(
                f"No collector at {self.url}",
                str(error) or "The connection could not be opened.",
                "Start one with `hopwatch collect`, or name another with --collector URL (HOPWATCH_COLLECTOR).",
            )
        if isinstance(error, httpx.TimeoutException):
            return Unreachable(
                f"The collector at {self.url} did not answer in time",
                "It may be busy, or the question too wide.",
                "Ask for a shorter time, e.g. --since 5m, or try again.",
            )
        return Unreachable(
            f"The connection to {self.url} broke off",
            str(error) or type(error).__name__,
            "Try again; the collector's own output says why if it stopped.",
        )

    def check(self, status: int, content_type: str, body: bytes) -> Raw:
        """The decoded answer, or the error it stands for."""
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            data = None
        if status < 300 and isinstance(data, dict):
            return Raw(body, data)
        raise self._error(status, content_type, data if isinstance(data, dict) else {})

    def _error(self, status: int, content_type: str, problem: dict[str, Any]) -> ApiError:
        is_problem = content_type.startswith("application/problem+json")
        title = str(problem.get("title") or f"HTTP status {status}")
        detail = str(problem.get("detail") or "")
        if status in {401, 403}:
            hint = "Say --token TOKEN or set HOPWATCH_READ_TOKEN to the collector's read token."
            return NotAllowed(
                "The collector wants a read token", detail or "It refused ours, or we sent none.", hint
            )
        if status == 404 and is_problem:
            return NotFound(
                "Nothing is known by this id",
                detail,
                "It may be older than what the collector keeps, or not have arrived yet: try again.",
            )
        if is_problem and str(problem.get("type")) == _INVALID:
            return Invalid(title, detail, _parameters(problem))
        if is_problem:
            return Refused(title, detail, "" if status < 500 else "Try again, or ask for a shorter time.")
        return UnexpectedAnswer(
            f"What answers at {self.url} is not a hopwatch collector",
            f"It answered with HTTP status {status} and no hopwatch answer.",
            "Check the address; the API's port is 4319 unless the collector was told otherwise.",
        )

    def parse(self, cls: type[T], raw: Raw) -> T:
        try:
            return answers.parse(cls, raw.data)
        except answers.UnexpectedShape as error:
            raise UnexpectedAnswer(
                "The collector's answer is not understood",
                str(error),
                "Use a collector and a terminal view of the same version.",
            ) from error

    def too_large(self) -> UnexpectedAnswer:
        return UnexpectedAnswer(
            "The answer is too large",
            f"It is over {MAX_ANSWER_BYTES // 1024**2} MiB.",
            "Ask for less, e.g. with --limit or --since.",
        )


def _parameters(problem: Mapping[str, Any]) -> list[tuple[str, str]]:
    errors = problem.get("errors")
    told = [one for one in errors if isinstance(one, dict)] if isinstance(errors, list) else []
    return [(str(one.get("parameter") or ""), str(one.get("detail") or "")) for one in told]


def _parts(url: str) -> SplitResult | None:
    """An address in parts, None where the standard library or httpx cannot make sense of it."""
    try:
        parts = urlsplit(url)
        _ = parts.port, httpx.URL(url).host  # raise where there is none such
    except (ValueError, httpx.InvalidURL):
        return None
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _given(params: Params) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value not in (None, "", [], ())}


def _part(value: str) -> str:
    # a name of dots alone would be resolved away as a relative path
    return quote(value, safe="") if value.strip(".") else value.replace(".", "%2E")


class Client:
    """Blocking calls, one answer each. Every method raises `ApiError`."""

    def __init__(self, url: str = DEFAULT_COLLECTOR, token: str = "") -> None:
        self._endpoint = _Endpoint(url, token)
        self._http = httpx.Client(**self._endpoint.options)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, params: Params | None = None) -> Raw:
        """The answer to `GET /api/v1/{path}`, as it came and decoded."""
        return self._endpoint.check(*self._fetch(path, params or {}))

    def _fetch(self, path: str, params: Params) -> tuple[int, str, bytes]:
        """Status, content type and body."""
        body = bytearray()
        try:
            with self._http.stream("GET", path, params=_given(params)) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        raise self._endpoint.too_large()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._endpoint.unreachable(error) from error
        return response.status_code, response.headers.get("content-type", ""), bytes(body)

    def parse(self, cls: type[T], raw: Raw) -> T:
        """An answer as a value."""
        return self._endpoint.parse(cls, raw)

    def health(self) -> Raw:
        """How the collector itself is; it answers this without a token, and with 503 where it is failing."""
        status, content_type, body = self._fetch(f"{self._endpoint.url}/healthz", {})
        tells = status == 503 and content_type.startswith("application/json")
        return self._endpoint.check(200 if tells else status, content_type, body)

    def snapshot(self, window_s: int) -> Raw:
        """The last seconds, as the live view shows them."""
        return self.get("live/snapshot", {"window": window_s})

    def flows(self, **filters: str | int | None) -> Raw:
        """Flows of a stretch of time in brief."""
        return self.get("flows", filters)

    def topology(self, **filters: str | None) -> Raw:
        """Who reached whom through what."""
        return self.get("topology", filters)

    def flow(self, flow_id: str) -> Raw:
        """One flow, whole."""
        return self.get(f"flows/{_part(flow_id)}")

    def message(self, message_id: str) -> Raw:
        """One message by its id or an alias."""
        return self.get(f"messages/{_part(message_id)}")

    def search(self, query: str, **filters: str | int | Sequence[str] | None) -> Raw:
        """Messages and flows by id, key, service, destination, receiver, verdict and time."""
        return self.get("search", {"q": query, **filters})

    def deliveries(self, **filters: str | int | Sequence[str] | None) -> Raw:
        """Deliveries by verdict."""
        return self.get("deliveries", filters)

    def why(self, message_id: str) -> Raw:
        """Why every delivery of a message stands as it does."""
        return self.get(f"why/{_part(message_id)}")

    def undelivered(self, **filters: str | int | Sequence[str] | None) -> Raw:
        """What was not delivered, by cause."""
        return self.get("undelivered", filters)

    def lag(self, since: str = "") -> Raw:
        """How far each receiver is behind; with `since` only those that had something to do since then."""
        return self.get("lag", {"since": since})

    def clocks(self, at: str = "") -> Raw:
        """How far each host's clock is off, now or around another moment."""
        return self.get("clocks", {"at": at})


class AsyncClient:
    """What the live view asks, without blocking the screen. Every method raises `ApiError`."""

    def __init__(self, url: str = DEFAULT_COLLECTOR, token: str = "") -> None:
        self._endpoint = _Endpoint(url, token)
        self._http = httpx.AsyncClient(**self._endpoint.options)

    @property
    def host(self) -> str:
        """Host and port of the collector, clean."""
        return self._endpoint.host

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def get(self, path: str, params: Params | None = None) -> Raw:
        """The answer to `GET /api/v1/{path}`, as it came and decoded."""
        body = bytearray()
        try:
            async with self._http.stream("GET", path, params=_given(params or {})) as response:
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        raise self._endpoint.too_large()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._endpoint.unreachable(error) from error
        return self._endpoint.check(
            response.status_code, response.headers.get("content-type", ""), bytes(body)
        )

    async def flow(self, flow_id: str) -> Flow:
        """One flow, whole."""
        return self._endpoint.parse(Flow, await self.get(f"flows/{_part(flow_id)}"))

    async def message(self, message_id: str) -> Message:
        """One message by its id or an alias."""
        return self._endpoint.parse(Message, await self.get(f"messages/{_part(message_id)}"))

    async def search(self, query: str, limit: int = 100) -> SearchResult:
        """Messages and flows that match."""
        return self._endpoint.parse(SearchResult, await self.get("search", {"q": query, "limit": limit}))

    async def deliveries(self, **filters: str | int | Sequence[str] | None) -> DeliveryList:
        """Deliveries by verdict."""
        return self._endpoint.parse(DeliveryList, await self.get("deliveries", filters))

    async def undelivered(self, **filters: str | int | Sequence[str] | None) -> CauseList:
        """What was not delivered, by cause."""
        return self._endpoint.parse(CauseList, await self.get("undelivered", filters))

    async def lag(self) -> LagList:
        """How far each receiver is behind."""
        return self._endpoint.parse(LagList, await self.get("lag"))

    async def live(self, *, window_s: float, silence_s: float) -> AsyncIterator[Live | ApiError]:
        """Snapshots as they come, until the connection ends; an `ApiError` in the place of one that failed.

        Raises `Unreachable` when the stream ends or nothing at all came for `silence_s` seconds.
        """
        try:
            async with self._http.stream(
                "GET",
                "live",
                params={"window": window_s, "interval": 1},
                headers={"Accept": "text/event-stream"},
                timeout=httpx.Timeout(silence_s, connect=5.0),
            ) as response:
                content_type = response.headers.get("content-type", "")
                if response.status_code >= 300 or not content_type.startswith("text/event-stream"):
                    self._endpoint.check(
                        response.status_code if response.status_code >= 300 else 599,
                        content_type,
                        await response.aread(),
                    )
                async for event, data in self._events(response):
                    yield self._snapshot(event, data)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._endpoint.unreachable(error) from error
        raise Unreachable(
            f"The collector at {self._endpoint.url} ended the stream",
            "It may be restarting.",
            "Nothing to do: the view connects again by itself.",
        )

    async def _events(self, response: httpx.Response) -> AsyncIterator[tuple[bytes, bytes]]:
        """Name and data of each event, by the rules of server-sent events."""
        event = b""
        data: list[bytes] = []
        async for line in self._lines(response):
            if not line:
                if data:
                    yield event, b"\n".join(data)
                event, data = b"", []
            elif line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif line.startswith(b"event:"):
                event = line[6:].strip()

    async def _lines(self, response: httpx.Response) -> AsyncIterator[bytes]:
        # not httpx's aiter_lines: it also splits at U+2028, U+0085 and the like, which JSON strings may hold as they are
        rest = bytearray()
        async for chunk in response.aiter_bytes():
            rest += chunk
            if b"\n" in chunk:
                *whole, last = rest.split(b"\n")
                rest = bytearray(last)
                for line in whole:
                    yield bytes(line).removesuffix(b"\r")
            elif len(rest) > MAX_ANSWER_BYTES:
                raise self._endpoint.too_large()

    def _snapshot(self, event: bytes, data: bytes) -> Live | ApiError:
        try:
            if event == b"problem":
                self._endpoint.check(500, "application/problem+json", data)
            return self._endpoint.parse(Live, self._endpoint.check(200, "application/json", data))
        except ApiError as error:
            return error
