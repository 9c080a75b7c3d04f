"""The two stores that `make bench-query` asks: hopwatch's, and the table of the OpenTelemetry Collector's ClickHouse exporter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import Any, Final, Protocol

import clickhouse_connect
from pydantic import BaseModel

from benchmarks.traffic import Story
from hopwatch_collector.api.models import Flow, Message, SearchResult, Verdict
from hopwatch_collector.engine import Store, schema
from hopwatch_collector.engine.sqlfiles import sql_text
from hopwatch_collector.query import Queries, SearchQuery, Window

_MESSAGE: Final = "hopwatch.message.id"
_KEY: Final = "order_id"
_LIMIT: Final = 100


class Kind(StrEnum):
    """What is asked for."""

    FLOW = "flow"
    """A flow, by its trace id."""
    MESSAGE = "message"
    """A message, by its id."""
    KEY = "key"
    """Messages, by name and value of their business key."""
    SEARCH = "search"
    """Whatever a person pastes without saying what it is: the value of a key, a message id or a trace id, in turn."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question, and what is true."""

    kind: Kind
    text: str
    must: frozenset[str]
    """Ids of messages and flows that the answer has to name."""
    may: frozenset[str]
    """Those it may name."""
    spans: int
    """That those messages have."""


@dataclass(frozen=True, slots=True)
class Found:
    """What an answer says."""

    ids: frozenset[str]
    spans: int | None = None
    """None: the answer lists none."""
    settled: bool = True
    """Whether all of it was delivered, as it was put in; True where the answer does not judge."""


def question(kind: Kind, story: Story, number: int) -> Question:
    """Return the question of that kind about a story; `number` decides what a search is given."""
    everything = frozenset({story.trace_id, *story.messages})
    message = story.messages[number % len(story.messages)]
    about_message = frozenset({story.trace_id, message})
    if kind is Kind.MESSAGE or (kind is Kind.SEARCH and number % 3 == 1):
        return Question(kind, message, about_message, about_message, 2)
    spans = 2 * len(story.messages)
    if kind is Kind.SEARCH and number % 3 == 2:
        # The answer to a trace id may be the flow alone.
        return Question(kind, story.trace_id, frozenset({story.trace_id}), everything, spans)
    text = story.trace_id if kind is Kind.FLOW else story.order_id
    return Question(kind, text, everything, everything, spans)


class Side(Protocol):
    """A store that can be filled and asked."""

    name: str
    database: str
    table: str

    def insert(self, payload: bytes, token: str) -> None:
        """Takes one OTLP request; all spans are there afterwards."""

    def ask(self, asked: Question, window: Window) -> Any:
        """The answer, whole, as its users get it; this is what is timed."""

    def read(self, answer: Any) -> Found:
        """What an answer says."""


class Hopwatch:
    """The real store, asked by what the API's routes call; the JSON they answer with is made too."""

    name = "hopwatch"
    database = "hopwatch"
    table = "spans"

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queries = Queries(store)

    def insert(self, payload: bytes, token: str) -> None:
        self._store.insert_otlp(payload, token)

    def ask(self, asked: Question, window: Window) -> BaseModel | None:
        found = self._found(asked, window)
        if found is not None:
            found.model_dump_json().encode()
        return found

    def _found(self, asked: Question, window: Window) -> BaseModel | None:
        if asked.kind is Kind.FLOW:
            return self._queries.flow(asked.text)
        if asked.kind is Kind.MESSAGE:
            return self._queries.message(asked.text)
        text = f"{_KEY}={asked.text}" if asked.kind is Kind.KEY else asked.text
        return self._queries.search(SearchQuery(text, None, None, None, None, window, _LIMIT))

    def read(self, answer: BaseModel | None) -> Found:
        match answer:
            case Flow():
                ids = {answer.summary.flow_id, *(hop.message_id for hop in answer.hops)}
                settled = all(hop.verdict is Verdict.SETTLED for hop in answer.hops)
                return Found(frozenset(ids), len(answer.spans), settled)
            case Message():
                ids = {answer.message_id, answer.flow_id}
                settled = [one.verdict for one in answer.deliveries] == [Verdict.SETTLED]
                return Found(frozenset(ids), settled=settled)
            case SearchResult():
                ids = {hit.id for hit in answer.hits} | {hit.flow_id for hit in answer.hits}
                settled = all(hit.state in ("settled", "done") for hit in answer.hits)
                return Found(frozenset(ids), settled=settled)
        return Found(frozenset())


class OtelTraces:
    """The exporter's tables in the same engine, filled with the same requests, asked as its readme and Grafana do."""

    name = "otel"
    database = "otel"
    table = "otel_traces"

    def __init__(self, dsn: str, indexes: str) -> None:
        """`indexes`: `bloom`, or `text` as newer exporters make on ClickHouse 26.2 and later."""
        self._by_attribute = "by_item" if indexes == "text" else "by_attribute"
        with clickhouse_connect.get_client(dsn=dsn) as first:
            first.command(f"CREATE DATABASE {self.database}")
        self._client = clickhouse_connect.get_client(dsn=dsn, database=self.database, tz_mode="aware")
        landing = schema.migrations()[0].text
        tables = _sql("tables").replace("{{indexes}}", _sql(f"indexes_{indexes}").strip())
        for statement in (*schema.statements(landing), *schema.statements(tables + ";\n")):
            nested = {} if statement.startswith("CREATE TABLE otel") else {"flatten_nested": 0}
            self._client.command(statement.rstrip(";"), settings=nested)
        proto = resources.files("hopwatch_collector.engine").joinpath("otlp.proto").read_text("utf-8")
        self._insert_settings = {
            "format_schema_source": "string",
            "format_schema": proto,
            "format_schema_message_name": "Request",
            "input_format_protobuf_oneof_presence": 1,
        }

    def insert(self, payload: bytes, token: str) -> None:
        self._client.raw_insert("otlp", None, payload, fmt="ProtobufSingle", settings=self._insert_settings)

    def ask(self, asked: Question, window: Window) -> Sequence[Mapping[str, Any]]:
        is_trace = len(asked.text) == 32
        bounds = {"since": window.since, "until": window.until}
        if is_trace:
            return self._rows("by_trace", {"trace": asked.text})
        if asked.kind is Kind.SEARCH:
            return self._rows("by_value", {**bounds, "value": asked.text})
        key = _MESSAGE if asked.kind is Kind.MESSAGE else f"hopwatch.key.{_KEY}"
        return self._rows(self._by_attribute, {**bounds, "key": key, "value": asked.text})

    def _rows(self, name: str, parameters: dict[str, Any]) -> Sequence[Mapping[str, Any]]:
        return list(self._client.query(_sql(name), parameters=parameters).named_results())

    def read(self, answer: Sequence[Mapping[str, Any]]) -> Found:
        messages = {row["SpanAttributes"][_MESSAGE] for row in answer}
        traces = {row["TraceId"] for row in answer}
        return Found(frozenset(messages | traces), len({row["SpanId"] for row in answer}))

    def close(self) -> None:
        """Lets go of the engine."""
        self._client.close()


def _sql(name: str) -> str:
    return sql_text(name, "benchmarks", "otel_sql")
