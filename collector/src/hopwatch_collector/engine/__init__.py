"""The engine: ClickHouse, embedded or served. Spans go in as OTLP bytes, rows come out of `.sql` files."""

from hopwatch_collector.engine.store import QueryLimits, Row, Store, StoreSettings
from hopwatch_collector.errors import QueryLimit

__all__ = ["QueryLimit", "QueryLimits", "Row", "Store", "StoreSettings"]
