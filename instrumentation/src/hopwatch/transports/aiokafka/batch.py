"""Batches built by hand. Each record is a hop of its own, as it is for its receivers: they are owed it, and its
id travels in its own headers; the batch has one answer, and its records lie behind one another from there.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import wrapt
from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from hopwatch.recorder import Destination, Recorder, SendHop
from hopwatch.transports.aiokafka.headers import fresh, header_setter, originals
from hopwatch.transports.aiokafka.outcomes import Future, not_taken
from hopwatch.transports.aiokafka.places import servers
from hopwatch.transports.aiokafka.produce import described
from hopwatch.transports.aiokafka.transaction import Transactions
from hopwatch.wrapping import Args, Kwargs, Patches, argument, guarded

NOT_YET_KNOWN = Destination("", "")
"""The topic of a record that waits in a batch; one that is never sent is never reported."""


@dataclass(frozen=True, slots=True)
class _Record:
    hop: SendHop
    relative: int


class Batching:
    """The wrappers around `create_batch`, the builders it returns, and `send_batch`."""

    def __init__(self, recorder: Recorder, patches: Patches, transactions: Transactions) -> None:
        self._recorder = recorder
        self._patches = patches
        self._transactions = transactions
        self._built: WeakKeyDictionary[BatchBuilder, list[_Record]] = WeakKeyDictionary()

    def create(
        self, wrapped: Callable[..., BatchBuilder], producer: AIOKafkaProducer, args: Args, kwargs: Kwargs
    ) -> BatchBuilder:
        """Record what is appended to this builder; those that `send` fills by itself are not its business."""
        builder = wrapped(*args, **kwargs)
        self._watch(builder)
        return builder

    async def send(
        self,
        wrapped: Callable[..., Awaitable[Future]],
        producer: AIOKafkaProducer,
        args: Args,
        kwargs: Kwargs,
    ) -> Future:
        """Record the sends of a batch until its future resolves."""
        records = self._begin(producer, args, kwargs) or []
        try:
            future = await wrapped(*args, **kwargs)
        except BaseException as error:
            for record in records:
                not_taken(record.hop, error)
            raise
        for record in records:
            self._transactions.follow_batch(producer, record.hop, future, record.relative)
        return future

    @guarded
    def _watch(self, builder: BatchBuilder) -> None:
        self._built[builder] = []
        builder.append = wrapt.FunctionWrapper(builder.append, self._append, lambda: self._patches.active)

    def _append(self, wrapped: Callable[..., Any], builder: BatchBuilder, args: Args, kwargs: Kwargs) -> Any:
        hop, kwargs = self._begin_record(kwargs) or (None, kwargs)
        metadata = wrapped(*args, **kwargs)
        if hop is not None and metadata is not None:
            self._built.setdefault(builder, []).append(_Record(hop, metadata.offset))
        return metadata

    @guarded
    def _begin_record(self, kwargs: Kwargs) -> tuple[SendHop, Kwargs]:
        given = kwargs.get("headers")
        headers = fresh(given)
        hop = self._recorder.send(
            "send",
            NOT_YET_KNOWN,
            carrier=headers,
            setter=header_setter,
            attributes=described(headers, kwargs.get("value"), kwargs.get("key"), self._recorder.opted),
            links=originals(given, headers),
        )
        return hop, {**kwargs, "headers": headers}

    @guarded
    def _begin(self, producer: AIOKafkaProducer, args: Args, kwargs: Kwargs) -> list[_Record]:
        builder = argument(args, kwargs, 0, "batch")
        # An open batch takes records of `send` too, which are recorded there.
        vars(builder).pop("append", None)
        records = self._built.pop(builder, [])
        topic = argument(args, kwargs, 1, "topic")
        destination = Destination(topic, topic, servers.of(producer.client))
        for record in records:
            record.hop.address("send", destination)
        return records
