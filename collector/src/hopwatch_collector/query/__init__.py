"""Questions to the store, answered with the API's models. The SQL is in `sql/`, one question per file."""

from hopwatch_collector.query.queries import Queries
from hopwatch_collector.query.window import SearchQuery, Window

__all__ = ["Queries", "SearchQuery", "Window"]
