"""Transactions: what is sent and committed in one counts only once the transaction does."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from aiokafka import AIOKafkaProducer

from hopwatch.conventions import PublishOutcome
from hopwatch.faults import swallowed
from hopwatch.recorder import Recorder, SendHop
from hopwatch.transports.aiokafka.outcomes import Answers, Future, What, answered
from hopwatch.transports.aiokafka.places import committed_at, offset_of
from hopwatch.wrapping import Args, Kwargs, argument, guarded

T = TypeVar("T")
Call = Callable[..., Awaitable[T]]

LIMIT: Final = 10_000
"""Records of one transaction that are followed to its end; of those beyond, the end is not known."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """A record that the broker has, or will have, for a reader that does not mind uncommitted ones."""

    hop: SendHop
    future: Future
    relative: int

    def committed(self) -> None:
        """Readers see it: where, its own answer tells, if somebody waited for that."""
        if self.future.cancelled():
            self.hop.end(PublishOutcome.CONFIRMED)
        else:
            answered(self.hop, self.future, self.relative)

    def ended(self, outcome: PublishOutcome, reason: str, error: BaseException | None) -> None:
        """They do not, or nobody knows."""
        self.hop.end(outcome, reason=reason, error=error)


class Transactions:
    """The transactions that producers of this process have open, with what is in them."""

    def __init__(self, recorder: Recorder, answers: Answers) -> None:
        self._recorder = recorder
        self._answers = answers
        self._sent: WeakKeyDictionary[AIOKafkaProducer, list[_Sent]] = WeakKeyDictionary()
        self._commits: WeakKeyDictionary[AIOKafkaProducer, list[Callable[[], None]]] = WeakKeyDictionary()

    def follow(self, producer: AIOKafkaProducer, hop: SendHop, future: Future, what: What) -> None:
        """End a send with its answer, or with its producer's transaction if it is part of one."""
        try:
            manager = producer._txn_manager
            if manager is None or manager.transactional_id is None:
                self._answers.wait(hop, future, what)
            else:
                self._keep_sent(producer, hop, future, 0)
        except Exception as fault:  # noqa: BLE001 — a guest never breaks its host
            swallowed("send", fault)

    @guarded
    def follow_batch(self, producer: AIOKafkaProducer, hop: SendHop, future: Future, relative: int) -> None:
        """Do the same for a record of a batch built by hand, which has one future for all of them."""
        manager = producer._txn_manager
        if manager is None or manager.transactional_id is None:
            future.add_done_callback(partial(answered, hop, relative=relative))
        else:
            self._keep_sent(producer, hop, future, relative)

    def _keep_sent(self, producer: AIOKafkaProducer, hop: SendHop, future: Future, relative: int) -> None:
        sent = self._sent.setdefault(producer, [])
        if len(sent) >= LIMIT:
            hop.end(PublishOutcome.UNCONFIRMED, reason="the transaction is too large to be followed")
            return
        sent.append(_Sent(hop, future, relative))
        future.add_done_callback(partial(_failed, hop))

    async def offsets(self, wrapped: Call[T], producer: AIOKafkaProducer, args: Args, kwargs: Kwargs) -> T:
        """Keep a group's positions until the transaction that moves them is committed."""
        result = await wrapped(*args, **kwargs)
        self._keep(producer, argument(args, kwargs, 0, "offsets"), argument(args, kwargs, 1, "group_id"))
        return result

    async def commit(self, wrapped: Call[T], producer: AIOKafkaProducer, args: Args, kwargs: Kwargs) -> T:
        """Confirm what the transaction holds; after an error that leaves it open, an abort is to come."""
        try:
            result = await wrapped(*args, **kwargs)
        except Exception as error:
            if producer._txn_manager is not None and producer._txn_manager.is_fatal_error():
                self._end(producer, PublishOutcome.REFUSED, "", error)
            raise
        except BaseException as error:
            self._end(producer, PublishOutcome.UNCONFIRMED, "the transaction's end was not waited for", error)
            raise
        self._committed(producer)
        return result

    async def abort(self, wrapped: Call[T], producer: AIOKafkaProducer, args: Args, kwargs: Kwargs) -> T:
        """Refuse what the transaction holds: nobody who reads committed records will see it."""
        try:
            return await wrapped(*args, **kwargs)
        finally:
            self._end(producer, PublishOutcome.REFUSED, "the transaction was aborted", None)

    async def stop(self, wrapped: Call[T], producer: AIOKafkaProducer, args: Args, kwargs: Kwargs) -> T:
        """Refuse what is left in an open transaction: without its producer, the broker aborts it."""
        try:
            return await wrapped(*args, **kwargs)
        finally:
            reason = "the producer stopped before the transaction was committed"
            self._end(producer, PublishOutcome.REFUSED, reason, None)

    @guarded
    def _keep(self, producer: AIOKafkaProducer, offsets: Mapping[Any, Any], group: str) -> None:
        commits = self._commits.setdefault(producer, [])
        commits.append(partial(guarded(self._move), producer.client, dict(offsets), group))

    @guarded
    def _committed(self, producer: AIOKafkaProducer) -> None:
        for sent in self._sent.pop(producer, ()):
            sent.committed()
        for moved in self._commits.pop(producer, ()):
            moved()

    @guarded
    def _end(
        self, producer: AIOKafkaProducer, outcome: PublishOutcome, reason: str, error: BaseException | None
    ) -> None:
        self._commits.pop(producer, None)
        for sent in self._sent.pop(producer, ()):
            sent.ended(outcome, reason, error)

    def _move(self, client: Any, offsets: dict[Any, Any], group: str) -> None:
        for partition, committed in offsets.items():
            self._recorder.commit(
                committed_at(partition.topic, client),
                receiver=group,
                partition=partition.partition,
                offset=offset_of(committed),
            )


def _failed(hop: SendHop, future: Future) -> None:
    """A record the broker did not take is not part of the transaction, whatever becomes of that."""
    if future.cancelled() or future._exception is None:
        return
    answered(hop, future)
