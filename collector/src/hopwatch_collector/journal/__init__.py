"""The journal: what makes an acknowledgement true. Bytes are on disk here before a sender hears yes."""

from hopwatch_collector.journal.batches import BatchLog, Stretch
from hopwatch_collector.journal.journal import Chunk, Journal

__all__ = ["BatchLog", "Chunk", "Journal", "Stretch"]
