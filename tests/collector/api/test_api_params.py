"""What may be asked, and how."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopwatch_collector.api.models import UNDELIVERED, Verdict
from hopwatch_collector.api.params import parse_time

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", NOW),
        ("30s", NOW - timedelta(seconds=30)),
        ("15m", NOW - timedelta(minutes=15)),
        ("2h", NOW - timedelta(hours=2)),
        ("7d", NOW - timedelta(days=7)),
        ("2w", NOW - timedelta(weeks=2)),
        ("2026-01-31T08:00:00Z", datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("2026-01-31t08:00:00.123456789z", datetime(2026, 1, 31, 8, 0, 0, 123456, tzinfo=UTC)),
        ("2026-01-31 09:00:00+01:00", datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("2026-01-31T09:00:00 01:00", datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("999999w", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_times_are_relative_or_rfc_3339(text, moment):
    """Relative times count back from now; a plus sign may have become a blank on its way."""
    assert parse_time(text, NOW) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1y",
        "-5m",
        "5 m",
        "1.5h",
        "yesterday",
        "2026-01-31",
        "2026-01-31T08:00:00",
        "20260131T080000Z",
        "2026-02-30T00:00:00Z",
        "2026-01-01T24:01:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "٣m",
        "9999999999999999999d",
        "2026-01-31T08:00:00Z\n; DROP TABLE spans",
    ],
)
def test_any_other_time_is_refused_with_what_is_accepted(text):
    """The error teaches the format."""
    with pytest.raises(ValueError, match=r"RFC 3339|must be from"):
        parse_time(text, NOW)


@given(st.text(max_size=60))
def test_no_text_breaks_the_time_parser(text):
    """Either a time within bounds, or the one foreseen error."""
    try:
        moment = parse_time(text, NOW)
    except ValueError:
        return
    assert moment.year >= 1970


async def test_the_last_hour_is_the_default(client, answers):
    """Asking for nothing asks for the last hour, a hundred rows."""
    await client.get("/api/v1/flows")
    [(_, asked)] = answers.asked
    assert asked["window"].until - asked["window"].since == pytest.approx(
        timedelta(hours=1), abs=timedelta(seconds=1)
    )
    assert asked["limit"] == 100


async def test_until_must_come_after_since(client):
    """A stretch of time has a length."""
    response = await client.get("/api/v1/flows?since=1m&until=2m")
    assert response.status_code == 422
    assert [error["parameter"] for error in response.json()["errors"]] == ["until"]


async def test_lag_may_be_asked_since(client, answers):
    """Without `since` the question is as it was; with it the moment reaches the query."""
    await client.get("/api/v1/lag")
    await client.get("/api/v1/lag?since=2h")
    (_, whole), (_, since) = answers.asked
    assert whole is None
    assert datetime.now(UTC) - since == pytest.approx(timedelta(hours=2), abs=timedelta(seconds=9))
    assert (await client.get("/api/v1/lag?since=2x")).status_code == 422


async def test_undelivered_stands_for_its_verdicts(client, answers):
    """It may be mixed with single ones."""
    await client.get("/api/v1/deliveries?verdict=undelivered&verdict=settled")
    [(_, asked)] = answers.asked
    assert asked["verdicts"] == UNDELIVERED | {Verdict.SETTLED}


async def test_causes_may_be_asked_for_by_verdict(client, answers):
    """The verdicts reach the query; none: all that count as undelivered."""
    await client.get("/api/v1/undelivered?verdict=stuck")
    await client.get("/api/v1/undelivered")
    assert [asked["verdicts"] for _, asked in answers.asked] == [{Verdict.STUCK}, None]


async def test_an_unknown_verdict_is_told_which_there_are(client):
    """The error lists them."""
    response = await client.get("/api/v1/search?verdict=gone")
    assert response.status_code == 422
    assert "dead_lettered" in response.json()["detail"]


async def test_empty_filters_are_none(client, answers):
    """`service=` asks for any service."""
    await client.get("/api/v1/deliveries?service=&receiver=&destination=")
    [(_, asked)] = answers.asked
    assert (asked["service"], asked["receiver"], asked["destination"]) == (None, None, None)


HOSTILE = [
    "' OR 1=1 --",
    "'; DROP TABLE spans; --",
    "\\' OR 1=1 --",
    "{window:String}",
    "%(q)s",
    "\x1b[31mred",
    "\u202egnp.exe",
    "ключ=значение",
    "\ud7ff\U0010ffff",
    "=",
    "key=",
    "=value",
    "a" * 512,
    "../../../etc/passwd",
    "%00",
    "*",
    "\n\r\t",
]


async def test_hostile_text_arrives_unchanged(client, answers):
    """The API passes text on as text; the queries bind it as a parameter."""
    for text in HOSTILE:
        response = await client.get("/api/v1/search", params={"q": text})
        assert response.status_code == 200, text
    assert [asked.q for _, asked in answers.asked] == HOSTILE


@pytest.mark.parametrize(
    "query", ["q=" + "a" * 513, "q=%00", "service=a%00b", "limit=0", "limit=-1", "limit=1e3"]
)
async def test_text_out_of_bounds_is_refused(client, answers, query):
    """Length, NUL and numbers are checked before a query is made."""
    assert (await client.get(f"/api/v1/search?{query}")).status_code == 422
    assert not answers.asked


@pytest.mark.parametrize("query", ["q=%ff%fe", "q=%", "&&&", "q=%zz", "a" * 20000 + "=1", "q[]=1", "q=1&q=2"])
async def test_broken_query_strings_never_break_the_collector(client, query):
    """Whatever is sent, the answer is an answer or a client's error."""
    response = await client.get(f"/api/v1/search?{query}")
    assert response.status_code < 500
