"""NATS: JetStream's streams, consumers and advisories; who is subscribed to plain subjects.

Needs to request `$JS.API.INFO`, `$JS.API.STREAM.LIST`, `$JS.API.CONSUMER.LIST.*` and to subscribe
`$JS.EVENT.ADVISORY.CONSUMER.>`; for plain subjects, the monitoring endpoint (`/connz?subs=1`).
"""

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from hopwatch_collector.witness.model import Claim, Look, Place, Position, Sighting, WitnessAway

_TIMEOUT_S: Final = 5.0
_ADVISORIES: Final = "$JS.EVENT.ADVISORY.CONSUMER.>"
_KINDS: Final = {
    "io.nats.jetstream.advisory.v1.max_deliver": "max_deliveries",
    "io.nats.jetstream.advisory.v1.terminated": "terminated",
}
_NO_MONITORING: Final = (
    "plain subscribers are not seen: name the server's monitoring endpoint (--watch-nats-monitoring)"
)
_OWN_STREAMS: Final = ("KV_", "OBJ_", "$")
_FROM_THE_START: Final = ("all", "by_start_sequence", "by_start_time", "last_per_subject")


class NatsWitness:
    """Asks a NATS server through JetStream's API and, where given, its monitoring endpoint."""

    system = "nats"

    def __init__(self, url: str, monitoring_url: str = "", **options: Any) -> None:
        """`options` go to `nats.connect`: user_credentials, tls, and the like."""
        parts = urlsplit(url)
        self.broker = f"{parts.hostname or url}:{parts.port or 4222}"
        self._url = url
        self._monitoring = monitoring_url.rstrip("/")
        self._options = options
        self._client: Client | None = None
        self._http: httpx.AsyncClient | None = None
        self._seen: list[Sighting] = []
        self._requests = 0

    async def look(self) -> Look:
        """See every consumer of every stream, what was given up since the last look, and plain subscribers."""
        self._requests = 0
        blind: list[str] = []
        try:
            async with asyncio.timeout(2 * _TIMEOUT_S):
                client = await self._connected()
                streams = await self._listed(client, "STREAM.LIST", "streams", blind)
                consumers = [
                    (stream, consumer)
                    for stream in streams
                    for consumer in await self._listed(
                        client, f"CONSUMER.LIST.{stream['config']['name']}", "consumers", blind
                    )
                ]
        except (NatsError, TimeoutError, OSError) as error:
            await self.close()
            raise WitnessAway(f"NATS at {self.broker}: {type(error).__name__}: {error}") from error
        claims = {claim for stream, consumer in consumers for claim in _claims(stream, consumer)}
        claims.update(await self._subscribers(blind))
        seen, self._seen = tuple(self._seen), []
        return Look(
            frozenset(claims),
            {_place(consumer): _position(stream, consumer) for stream, consumer in consumers},
            seen,
            self._requests,
            tuple(blind) if self._monitoring else (*blind, _NO_MONITORING),
            partial=bool(blind),
        )

    async def close(self) -> None:
        """Disconnect."""
        client, self._client = self._client, None
        http, self._http = self._http, None
        with suppress(NatsError, TimeoutError, OSError):
            if client is not None:
                await client.close()
        if http is not None:
            await http.aclose()

    async def _connected(self) -> Client:
        if self._client is None:
            client = await nats.connect(
                self._url,
                name="hopwatch-witness",
                allow_reconnect=False,
                connect_timeout=_TIMEOUT_S,
                error_cb=_ignore,
                **self._options,
            )
            self._client = client
            await client.subscribe(_ADVISORIES, cb=self._advised)
        if not self._client.is_connected:
            raise NatsError("the connection was lost")
        return self._client

    async def _advised(self, message: Msg) -> None:
        """An advisory came: what was given up is noted for the next look."""
        with suppress(ValueError, KeyError, TypeError):
            said = json.loads(message.data)
            kind = _KINDS.get(said["type"])
            if kind is not None:
                self._seen.append(
                    Sighting(
                        f"{said['stream']}/{said['consumer']}", said["stream"], int(said["stream_seq"]), kind,
                        int(said.get("deliveries", 0)), _moment(said["timestamp"]), str(said.get("reason", "")),
                    )
                )  # fmt: skip

    async def _listed(self, client: Client, what: str, field: str, blind: list[str]) -> list[dict[str, Any]]:
        """Every entry of one of JetStream's lists, page after page."""
        found: list[dict[str, Any]] = []
        while True:
            self._requests += 1
            try:
                answer = await client.request(
                    f"$JS.API.{what}", json.dumps({"offset": len(found)}).encode(), timeout=_TIMEOUT_S
                )
            except (nats.errors.NoRespondersError, nats.errors.TimeoutError) as error:
                if isinstance(error, nats.errors.NoRespondersError) and not _has_jetstream(client):
                    return found
                blind.append(
                    f"JetStream's {what} does not answer: off, or not allowed ({type(error).__name__})"
                )
                return found
            page = json.loads(answer.data)
            if "error" in page:
                blind.append(f"JetStream's {what}: {page['error'].get('description', 'refused')}")
                return found
            entries = page.get(field) or []
            found += entries
            if not entries or len(found) >= page.get("total", 0):
                return found

    async def _subscribers(self, blind: list[str]) -> set[Claim]:
        """Plain subscribers, as the monitoring endpoint tells them."""
        if not self._monitoring:
            return set()
        self._http = self._http or httpx.AsyncClient(timeout=_TIMEOUT_S)
        claims: set[Claim] = set()
        offset, total = 0, 1
        try:
            while offset < total:
                self._requests += 1
                answer = await self._http.get(
                    f"{self._monitoring}/connz", params={"subs": "detail", "limit": 1024, "offset": offset}
                )
                answer.raise_for_status()
                page = answer.json()
                connections = page.get("connections") or []
                claims.update(_plain(connections))
                total = page.get("total", 0)
                offset += max(1, len(connections))
        except (httpx.HTTPError, ValueError) as error:
            blind.append(f"the monitoring endpoint {self._monitoring}: {type(error).__name__}: {error}")
        return claims


def _place(consumer: Mapping[str, Any]) -> Place:
    return Place(f"{consumer['stream_name']}/{consumer['name']}", consumer["stream_name"])


def _position(stream: Mapping[str, Any], consumer: Mapping[str, Any]) -> Position:
    """Never from the floor of acknowledgements alone: it stays behind what was given up on."""
    state = stream["state"]
    acknowledges = consumer["config"].get("ack_policy", "none") != "none"
    delivered = consumer["delivered"]["stream_seq"]
    return Position(
        first=state["first_seq"],
        end=state["last_seq"] + 1,
        next=delivered + 1,
        done=(consumer["ack_floor"]["stream_seq"] if acknowledges else delivered) + 1,
        waiting=consumer["num_pending"],
        in_hand=consumer["num_ack_pending"],
        consumers=consumer.get("num_waiting", 0) + int(bool(consumer.get("push_bound"))),
        state="paused" if consumer.get("paused") else "",
    )


def _claims(stream: Mapping[str, Any], consumer: Mapping[str, Any]) -> Iterator[Claim]:
    """What a consumer is owed: its filters, or all of its stream's subjects; from its creation on, or from the start."""
    name = stream["config"]["name"]
    if name.startswith(_OWN_STREAMS):
        return
    config = consumer["config"]
    filters = config.get("filter_subjects") or [config.get("filter_subject") or ""]
    subjects = [subject for subject in filters if subject] or stream["config"].get("subjects") or []
    since = (
        datetime(1970, 1, 2, tzinfo=UTC)
        if config.get("deliver_policy") in _FROM_THE_START
        else _moment(consumer["created"])
    )
    for subject in subjects:
        yield Claim(subject, f"{name}/{consumer['name']}", since=since)


def _plain(connections: Iterable[Mapping[str, Any]]) -> Iterator[Claim]:
    """Queue groups, and clients on their own.

    These are spelled `client name:subject`: an instrumented service reports the same subscription as `service:subject`, and
    nothing tells which client is whose. So the ledger counts a client only where no service reports that subject itself.
    """
    for connection in connections:
        client = connection.get("name") or ""
        if client == "hopwatch-witness":
            continue
        for subscription in connection.get("subscriptions_list_detail") or []:
            subject = subscription["subject"]
            if subject.startswith(("_INBOX.", "$", "_R_")):
                continue
            receiver = subscription.get("qgroup") or f"client {client or connection['cid']}:{subject}"
            yield Claim(subject, receiver, durable=False, consumer=client)


def _has_jetstream(client: Client) -> bool:
    """Whether the server says it runs JetStream; if not, there is nothing to be seen of it."""
    return bool(client._server_info.get("jetstream"))


def _moment(text: str) -> datetime:
    """RFC 3339 with any number of digits, as Go writes it."""
    stamp, _, rest = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{stamp}.{(rest + '000000')[:6]}").replace(tzinfo=UTC)


async def _ignore(_: Exception) -> None:
    """The client's own log of what `look` raises anyway."""
