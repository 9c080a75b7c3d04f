"""aiokafka: sends, batches and transactions with their true outcome; consuming; commits; seeks and rebalances.

`processing` is for loops that want a failing body seen, and for workers that records are handed on to: what becomes of them
there cannot be seen from here.
"""

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.cluster import ClusterMetadata
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.producer.message_accumulator import MessageBatch

from hopwatch.conventions import System
from hopwatch.handover import looping, processing
from hopwatch.instrumentor import TransportInstrumentor
from hopwatch.recorder import Recorder
from hopwatch.transports.aiokafka.batch import Batching
from hopwatch.transports.aiokafka.commit import Committing
from hopwatch.transports.aiokafka.consume import Consuming
from hopwatch.transports.aiokafka.outcomes import Answers
from hopwatch.transports.aiokafka.places import clusters
from hopwatch.transports.aiokafka.position import Moving
from hopwatch.transports.aiokafka.produce import Producing
from hopwatch.transports.aiokafka.transaction import Transactions
from hopwatch.wrapping import Patches

__all__ = ["AioKafkaInstrumentor", "processing"]


class AioKafkaInstrumentor(TransportInstrumentor):
    """Wraps the classes of aiokafka; producers and consumers made before and after are covered alike."""

    system = System.KAFKA
    library = "aiokafka"
    requires = "aiokafka >= 0.12, < 1"

    def wrap(self, patches: Patches, recorder: Recorder) -> None:
        """Put the wrappers around producers, consumers and the commits of groups."""
        patches.wrap(ClusterMetadata, "update_metadata", clusters.update)
        answers = Answers(recorder)
        for answer in ("done", "done_noack", "failure"):
            patches.wrap(MessageBatch, answer, answers.batch)
        transactions = Transactions(recorder, answers)
        batching = Batching(recorder, patches, transactions)
        patches.around(AIOKafkaProducer, "send", Producing(recorder, patches, transactions).send)
        patches.wrap(AIOKafkaProducer, "create_batch", batching.create)
        patches.wrap(AIOKafkaProducer, "send_batch", batching.send)
        patches.wrap(AIOKafkaProducer, "commit_transaction", transactions.commit)
        patches.wrap(AIOKafkaProducer, "abort_transaction", transactions.abort)
        patches.wrap(AIOKafkaProducer, "send_offsets_to_transaction", transactions.offsets)
        patches.wrap(AIOKafkaProducer, "stop", transactions.stop)

        consuming = Consuming(recorder, patches)
        patches.wrap(AIOKafkaConsumer, "start", consuming.start)
        patches.wrap(AIOKafkaConsumer, "subscribe", consuming.subscribe)
        patches.wrap(AIOKafkaConsumer, "assign", consuming.subscribe)
        patches.around(AIOKafkaConsumer, "__aiter__", looping(patches, lambda consumer: consumer))
        patches.around(AIOKafkaConsumer, "getone", consuming.getone)
        patches.around(AIOKafkaConsumer, "getmany", consuming.getmany)
        patches.wrap(AIOKafkaConsumer, "commit", consuming.commit)
        patches.wrap(AIOKafkaConsumer, "stop", consuming.stop)
        patches.wrap(GroupCoordinator, "_on_join_complete", consuming.joined)

        moving = Moving(recorder)
        patches.wrap(AIOKafkaConsumer, "seek", moving.seek)
        patches.wrap(AIOKafkaConsumer, "seek_to_beginning", moving.seek_later)
        patches.wrap(AIOKafkaConsumer, "seek_to_end", moving.seek_later)
        patches.wrap(AIOKafkaConsumer, "seek_to_committed", moving.seek_later)

        patches.wrap(GroupCoordinator, "_do_commit_offsets", Committing(recorder).commit)
