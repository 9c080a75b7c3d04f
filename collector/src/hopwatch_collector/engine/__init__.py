"""The engine: ClickHouse, embedded or served. Spans go in as OTLP bytes, rows come out of `.sql` files."""

from hopwatch_collector.engine.store import QueryLimits, Row, Store, StoreSettings
from hopwatch_collector.engine.upkeep import OUR_HOST
from hopwatch_collector.errors import QueryLimit

__all__ = ["OUR_HOST", "QueryLimit", "QueryLimits", "Row", "Store", "StoreSettings"]
