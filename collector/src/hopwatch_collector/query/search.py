"""Finding messages and flows by whatever is known of them: ids, aliases, business keys, filters."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hopwatch_collector.api.models import UNDELIVERED, FlowSummary, SearchHit, SearchResult, Verdict
from hopwatch_collector.engine import Row, Store
from hopwatch_collector.query.rows import key_of, message_id, trace_of
from hopwatch_collector.query.window import SearchQuery

if TYPE_CHECKING:
    from hopwatch_collector.query.queries import Queries

_CANDIDATES = 500
"""Messages looked at to find those that pass the filters."""

_WORST_FIRST = tuple(Verdict.__members__.values())


def run(queries: "Queries", store: Store, query: SearchQuery) -> SearchResult:
    """Return what matches, the latest first."""
    text = query.q.strip()
    if not text:
        return _by_filters(queries, query)
    hits = {
        **_by_id(queries, query, text),
        **_by_flow(queries, query, text),
        **_by_key(queries, store, query, text),
    }
    ordered = sorted(hits.values(), key=lambda hit: (hit.at, hit.id), reverse=True)
    return SearchResult(query=query.q, hits=ordered[: query.limit], truncated=len(ordered) > query.limit)


Hits = dict[tuple[str, str], SearchHit]


def _by_filters(queries: "Queries", query: SearchQuery) -> SearchResult:
    found = queries.deliveries(
        query.window, query.verdicts, query.destination, query.receiver, query.service, query.limit
    )
    why = _filters_in_words(query)
    hits: Hits = {}
    for one in found.deliveries:
        hits.setdefault(
            ("message", one.message_id),
            SearchHit(
                kind="message",
                id=one.message_id,
                why=why,
                title=_title(one.destination, one.receiver),
                at=one.sent_at or one.since,
                state=one.verdict,
                flow_id=one.flow_id,
            ),
        )
    return SearchResult(query=query.q, hits=list(hits.values()), truncated=found.truncated)


def _filters_in_words(query: SearchQuery) -> str:
    named = {"service": query.service, "destination": query.destination, "receiver": query.receiver}
    words = [name for name, value in named.items() if value]
    if query.verdicts:
        words.append("verdict")
    return ", ".join(words) or "time"


def _by_id(queries: "Queries", query: SearchQuery, text: str) -> Hits:
    """An id is looked for at any time, not only in the window: it means one thing."""
    itself = key_of(text)
    keys = [*([itself.lower()] if itself else []), *queries.other_keys(text)]
    rows = queries.hits_of(keys, _CANDIDATES * 10)
    return _messages(rows, query, {key: _id_in_words(key, text) for key in keys})


def _id_in_words(key: str, text: str) -> str:
    return "message id" if text.lower().replace("-", "") == key else "alias"


def _by_flow(queries: "Queries", query: SearchQuery, text: str) -> Hits:
    trace = trace_of(text)
    if trace is None or any((query.receiver, query.destination, query.verdicts)):
        return {}
    flow, found = trace, queries.summaries([trace], query.window)
    if not found:
        flow = queries.flow_of(trace) or ""
        found = queries.summaries([flow], query.window) if flow else []
    return _flows(found, query, "flow id" if flow == trace else "trace id")


def _by_key(queries: "Queries", store: Store, query: SearchQuery, text: str) -> Hits:
    name, mark, value = text.partition("=")
    params = {
        "since": query.window.since,
        "until": query.window.until,
        "key": name.strip() if mark else "",
        "value": value.strip() if mark else text,
        "top": _CANDIDATES,
    }
    rows = store.query("search_keys", params)
    why = {row["message"].lower(): f"key {row['key']}" for row in rows if row["message"].strip("0")}
    filtered = any((query.receiver, query.destination, query.verdicts))
    flows = [] if filtered else list(dict.fromkeys(row["flow_id"] for row in rows))[: query.limit + 1]
    summaries = queries.summaries(flows, query.window)
    judged = queries.hits_of(list(why)[:_CANDIDATES], _CANDIDATES * 10)
    hits = _messages(judged, query, why)
    return hits | _flows(summaries, query, f"key {rows[0]['key']}") if summaries else hits


def _messages(rows: Iterable[Row], query: SearchQuery, why: dict[str, str]) -> Hits:
    found: dict[bytes, list[Row]] = {}
    for row in rows:
        if _passes(row, query):
            found.setdefault(row["message"], []).append(row)
    return {("message", message_id(key)): _message_hit(rows, why[key.hex()]) for key, rows in found.items()}


def _passes(row: Row, query: SearchQuery) -> bool:
    return (
        (not query.verdicts or Verdict(row["verdict"]) in query.verdicts)
        and (not query.destination or row["destination"] == query.destination)
        and (not query.receiver or row["receiver"] == query.receiver)
        and (not query.service or query.service in (row["producer"], row["consumer"]))
    )


def _message_hit(rows: list[Row], why: str) -> SearchHit:
    first = rows[0]
    return SearchHit(
        kind="message",
        id=message_id(first["message"]),
        why=why,
        title=_title(first["destination"], ", ".join(row["receiver"] for row in rows if row["receiver"])),
        at=first["first_at"],
        state=worst(Verdict(row["verdict"]) for row in rows),
        flow_id=first["flow"].hex(),
    )


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict a person should see first: an undelivered one, else one on its way, else settled."""
    return min(verdicts, key=lambda v: (v not in UNDELIVERED, v is Verdict.SETTLED, _WORST_FIRST.index(v)))


def _flows(flows: Iterable[FlowSummary], query: SearchQuery, why: str) -> Hits:
    return {
        ("flow", flow.flow_id): SearchHit(
            kind="flow",
            id=flow.flow_id,
            why=why,
            title=f"{flow.service}: {flow.name}",
            at=flow.started_at,
            state=flow.state,
            flow_id=flow.flow_id,
        )
        for flow in flows
        if not query.service or query.service in flow.services
    }


def _title(destination: str, receivers: str) -> str:
    return f"{destination} → {receivers}" if receivers else destination
