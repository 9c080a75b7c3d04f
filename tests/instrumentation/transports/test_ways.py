"""Every public way to send or receive of each library is counted, or known not to be, and why.

A version that brings a way that nobody has looked at fails here: a send by such a way would be a message that is not told of.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import aio_pika.channel
import aio_pika.exchange
import aio_pika.queue
import aiohttp
import aiokafka
import grpc
import grpc.aio
import httpx
import nats.aio.client
import nats.aio.msg
import nats.aio.subscription
import pytest
import requests
import websockets
from nats.js import JetStreamContext, JetStreamManager
from websockets.asyncio import connection as aio_connection
from websockets.sync import connection as sync_connection

from hopwatch.setup import transports


@dataclass(frozen=True)
class Ways:
    """What is known of the public functions of a class or module."""

    owner: Any
    counted: str = ""
    """They send or receive, and are wrapped."""
    through: str = ""
    """They do so by way of others that are: in the library's own code, or by what they return."""
    other: str = ""
    """They neither send nor receive a message or call of the application's."""
    uncounted: dict[str, str] = field(default_factory=dict)
    """They do, and are not told of on purpose: why."""

    @property
    def known(self) -> list[str]:
        """All of them."""
        return [*self.counted.split(), *self.through.split(), *self.other.split(), *self.uncounted]

    def __str__(self) -> str:
        """Its name, for tests."""
        module = getattr(self.owner, "__module__", "")
        return f"{module}.{self.owner.__name__}" if module else str(self.owner.__name__)


def because(reason: str, names: str) -> dict[str, str]:
    """Return functions that are not counted, with the reason they have in common."""
    return dict.fromkeys(names.split(), reason)


_ADMIN = (
    "asks the server about streams and consumers: JetStream's own API is none of the application's messages"
)
_STORE = "key-value and object stores keep state, they hand nothing on"
_PEEK = "reads from the stream beside all consumers: nobody is owed it"
_ADMIN_WAYS = (
    "account_info add_stream consumers_info delete_stream find_stream_name_by_subject pause_consumer purge_stream"
    " reset_consumer resume_consumer stream_info streams_info streams_info_iterator update_stream delete_msg"
)
_HTTP_VERBS = "delete get head options patch post put request"

WAYS = [
    Ways(
        aiokafka.AIOKafkaProducer,
        counted="send send_batch create_batch commit_transaction abort_transaction send_offsets_to_transaction stop",
        through="send_and_wait transaction",
        other="begin_transaction flush partitions_for start",
    ),
    Ways(
        aiokafka.AIOKafkaConsumer,
        counted="getone getmany commit seek seek_to_beginning seek_to_end seek_to_committed start stop subscribe assign",
        other="assignment beginning_offsets committed end_offsets highwater last_poll_timestamp last_stable_offset offsets_for_times"
        " partitions_for_topic pause paused position resume subscription topics unsubscribe",
    ),
    Ways(aio_pika.exchange.Exchange, counted="publish bind declare delete unbind"),
    Ways(
        aio_pika.queue.Queue,
        counted="consume get bind declare delete unbind",
        through="iterator",
        other="cancel purge",
    ),
    Ways(aio_pika.queue.QueueIterator, counted="close", through="consume on_message"),
    Ways(
        aio_pika.channel.Channel,
        counted="queue_delete exchange_delete",
        through="declare_exchange declare_queue transaction",
        other="close closed flow get_exchange get_queue get_underlay_channel initialize reopen set_qos",
    ),
    Ways(aio_pika.IncomingMessage, counted="ack nack reject", through="process", other="info lock"),
    Ways(
        nats.aio.client.Client,
        counted="publish request subscribe",
        through="close drain jetstream jsm",
        other="connect flush force_reconnect new_inbox rtt set_server_pool",
    ),
    Ways(nats.aio.subscription.Subscription, counted="next_msg", through="drain unsubscribe"),
    Ways(nats.aio.msg.Msg, counted="ack ack_sync nak term respond", other="in_progress"),
    Ways(
        JetStreamContext,
        counted="publish publish_async subscribe_bind pull_subscribe_bind",
        through="subscribe pull_subscribe add_consumer consumer_info delete_consumer",
        other="publish_async_completed publish_async_pending is_status_msg",
        uncounted={
            **because(_ADMIN, _ADMIN_WAYS),
            **because(_PEEK, "get_msg get_last_msg"),
            **because(
                _STORE,
                "create_key_value create_object_store delete_key_value delete_object_store key_value object_store",
            ),
        },
    ),
    Ways(JetStreamContext.PullSubscription, counted="fetch unsubscribe", other="consumer_info"),
    Ways(JetStreamContext.PushSubscription, through="next_msg drain unsubscribe", other="consumer_info"),
    Ways(
        JetStreamManager,
        counted="add_consumer consumer_info delete_consumer",
        uncounted={
            **because(_ADMIN, _ADMIN_WAYS),
            **because(_PEEK, "get_msg get_last_msg"),
        },
    ),
    Ways(
        aio_connection.Connection,
        counted="send recv recv_streaming close connection_lost",
        other="acknowledge_pings connection_made data_received drain eof_received keepalive pause_writing ping pong process_event"
        " resume_writing send_context send_data set_connection_exc start_keepalive terminate_pending_pings wait_closed",
    ),
    Ways(
        sync_connection.Connection,
        counted="send recv recv_streaming close recv_events",
        other="acknowledge_pings close_socket keepalive maybe_raise_legacy_warning ping pong process_event send_context send_data"
        " set_connection_exc start_keepalive terminate_pending_pings wait_closed",
    ),
    Ways(
        websockets,
        through="broadcast serve unix_serve unix_connect route unix_route",
        other="basic_auth",
    ),
    Ways(httpx.Client, through=f"{_HTTP_VERBS} send stream", other="build_request close"),
    Ways(httpx.AsyncClient, through=f"{_HTTP_VERBS} send stream", other="build_request aclose"),
    Ways(httpx, through=f"{_HTTP_VERBS} stream", other="create_ssl_context"),
    Ways(
        requests.Session,
        counted="send",
        through=f"{_HTTP_VERBS} resolve_redirects",
        other="close get_adapter get_redirect_target merge_environment_settings mount prepare_request rebuild_auth rebuild_method"
        " rebuild_proxies should_strip_auth",
    ),
    Ways(requests, through=_HTTP_VERBS, other="session check_compatibility"),
    Ways(
        aiohttp.ClientSession,
        through=_HTTP_VERBS,
        other="close detach",
        uncounted={
            "ws_connect": "its handshake is a call; the messages after it are not numbered: use the library `websockets`"
        },
    ),
    Ways(
        aiohttp,
        through="request",
        other="content_disposition_filename encode_basic_auth get_payload parse_content_disposition set_zlib_backend",
    ),
    Ways(
        grpc.Channel,
        through="stream_stream stream_unary unary_stream unary_unary",
        other="close subscribe unsubscribe",
    ),
    Ways(
        grpc.aio.Channel,
        through="stream_stream stream_unary unary_stream unary_unary",
        other="channel_ready close get_state wait_for_state_change",
    ),
]


def public(owner: Any) -> set[str]:
    """Return the names of the public functions of a class, or of those a module offers."""
    names = dir(owner) if inspect.isclass(owner) else getattr(owner, "__all__", dir(owner))
    is_function: Callable[[Any], bool] = (
        (lambda found: callable(found) and not inspect.isclass(found))
        if inspect.isclass(owner)
        else inspect.isfunction
    )
    return {name for name in names if not name.startswith("_") and is_function(getattr(owner, name, None))}


@pytest.mark.parametrize("ways", WAYS, ids=str)
def test_every_public_way_is_known(ways: Ways) -> None:
    """One that is not is to be looked at: does it send or receive, and is that counted?"""
    assert sorted(public(ways.owner) - set(ways.known)) == []
    assert len(ways.known) == len(set(ways.known))


@pytest.fixture
def instrumented() -> Iterator[None]:
    """All libraries, instrumented for one test."""
    with ExitStack() as stack:
        for transport in transports():
            instrumentor = transport.load()
            if not instrumentor.is_instrumented_by_opentelemetry:
                instrumentor.instrument(skip_dep_check=True)
                stack.callback(instrumentor.uninstrument)
        yield


@pytest.fixture
def before() -> dict[str, dict[str, Any]]:
    """What is counted, as the libraries have it."""
    return {
        str(ways): {name: inspect.getattr_static(ways.owner, name) for name in ways.counted.split()}
        for ways in WAYS
    }


@pytest.mark.parametrize("ways", [ways for ways in WAYS if ways.counted], ids=str)
def test_what_is_counted_is_wrapped(
    before: dict[str, dict[str, Any]], instrumented: None, ways: Ways
) -> None:
    """Each of the functions themselves."""
    left = [
        name
        for name, original in before[str(ways)].items()
        if inspect.getattr_static(ways.owner, name) is original
    ]
    assert left == []
