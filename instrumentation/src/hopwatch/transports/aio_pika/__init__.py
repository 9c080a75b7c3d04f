"""aio-pika: publish with its true outcome; consuming by callback, iterator and get; acknowledgement; bindings."""

from aio_pika import queue as queues
from aio_pika.channel import Channel
from aio_pika.exchange import Exchange
from aio_pika.message import IncomingMessage, ProcessContext
from aio_pika.queue import Queue, QueueIterator
from aio_pika.robust_queue import RobustQueueIterator
from aio_pika.transaction import Transaction
from aiormq import Connection
from aiormq.channel import Channel as ProtocolChannel

from hopwatch.conventions import System
from hopwatch.handover import looping, processing
from hopwatch.instrumentor import TransportInstrumentor
from hopwatch.recorder import Recorder
from hopwatch.transports.aio_pika.consume import Consuming, HeldMessage
from hopwatch.transports.aio_pika.declare import Declaring
from hopwatch.transports.aio_pika.marks import Marks
from hopwatch.transports.aio_pika.publish import Publishing
from hopwatch.transports.aio_pika.transaction import Transactions
from hopwatch.wrapping import Patches

__all__ = ["AioPikaInstrumentor", "processing"]


class AioPikaInstrumentor(TransportInstrumentor):
    """Wraps the classes of aio-pika, robust ones included; channels opened before and after are covered alike."""

    system = System.RABBITMQ
    library = "aio_pika"
    requires = "aio-pika >= 9.5, < 11"

    def wrap(self, patches: Patches, recorder: Recorder) -> None:
        """Put the wrappers around exchanges, queues and messages."""
        transactions = Transactions()
        patches.wrap(Transaction, "select", transactions.select)
        patches.wrap(Transaction, "commit", transactions.commit)
        patches.wrap(Transaction, "rollback", transactions.rollback)

        publishing = Publishing(recorder, patches, transactions)
        patches.around(Exchange, "publish", publishing.publish)
        patches.wrap(ProtocolChannel, "_on_return_frame", publishing.returned)

        consuming = Consuming(recorder, patches, transactions)
        if IncomingMessage.__weakrefoffset__ == 0:  # fully slotted since aio-pika 10
            patches.replace(queues, "IncomingMessage", HeldMessage)
        patches.wrap(Queue, "consume", consuming.consume)
        patches.wrap(Queue, "get", consuming.get)
        patches.around(QueueIterator, "__aiter__", looping(patches, lambda iterator: iterator))
        patches.wrap(QueueIterator, "__anext__", consuming.iterate)
        if "__anext__" in vars(RobustQueueIterator):  # since 9.6 it has a loop of its own
            patches.wrap(RobustQueueIterator, "__anext__", consuming.iterate)
        patches.wrap(QueueIterator, "__aexit__", consuming.leave)
        patches.wrap(QueueIterator, "close", consuming.close)
        patches.wrap(ProcessContext, "__aexit__", consuming.processed)
        patches.around(IncomingMessage, "ack", consuming.ack)
        patches.wrap(IncomingMessage, "nack", consuming.nack)
        patches.wrap(IncomingMessage, "reject", consuming.reject)

        marks = Marks()
        patches.wrap(Connection, "_client_properties", marks.mark)
        declaring = Declaring(recorder, marks)
        patches.wrap(Queue, "declare", declaring.declare)
        patches.wrap(Queue, "bind", declaring.bind)
        patches.wrap(Queue, "unbind", declaring.unbind)
        patches.wrap(Queue, "delete", declaring.delete)
        patches.wrap(Channel, "queue_delete", declaring.queue_delete)
        patches.wrap(Exchange, "declare", declaring.exchange_declare)
        patches.wrap(Exchange, "bind", declaring.exchange_bind)
        patches.wrap(Exchange, "unbind", declaring.exchange_unbind)
        patches.wrap(Exchange, "delete", declaring.exchange_delete)
        patches.wrap(Channel, "exchange_delete", declaring.exchange_delete_named)
