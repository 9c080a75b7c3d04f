"""The page Prometheus scrapes."""

import asyncio
import threading

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from hopwatch_collector.api.exposition import QueryDerived, render
from hopwatch_collector.api.ports import Family, Sample
from hopwatch_collector.api.routes import metrics as metrics_route
from hopwatch_collector.errors import EngineUnavailable
from hopwatch_demo.patience import scale_wait

LOST = ("hopwatch_service_spans_lost_total", {"service": "orders", "reason": "queue_full"}, 7.0)
CALLS = ("traces_spanmetrics_calls_total", {"service": "orders"}, 2.0)


def values(page: str) -> dict[str, float]:
    """Sample names with the sum of their values."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def group(*samples: Sample, name: str = "everything") -> Family:
    """Samples that are asked for together."""
    return name, lambda: samples


def test_a_group_that_fails_takes_no_other_with_it():
    """Its last numbers stay, the others are renewed, and a gauge names it."""
    registry = CollectorRegistry()
    derived = QueryDerived(registry)
    lag = ("hopwatch_lag_messages", {}, 3.0)
    assert derived.replace([group(CALLS, name="spans"), group(lag, name="lag")]) == []

    def failing() -> list[Sample]:
        raise EngineUnavailable("no engine")

    later = (CALLS[0], CALLS[1], 5.0)
    assert derived.replace([group(later, name="spans"), ("lag", failing)]) == ["lag"]
    page = render("", registry, derived)[0].decode()
    assert (values(page)[CALLS[0]], values(page)["hopwatch_lag_messages"]) == (5.0, 3.0)
    assert 'hopwatch_metrics_group_failed{group="lag"} 1.0' in page
    assert 'hopwatch_metrics_group_failed{group="spans"} 0.0' in page


async def test_the_page_has_both_our_own_and_derived_numbers(client, answers):
    """One scrape tells of the collector and of what it watches."""
    answers.samples = [CALLS, LOST, ("unheard_of", {}, 1.0)]
    await client.get("/api/v1/lag")
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    found = values(response.text)
    assert found["traces_spanmetrics_calls_total"] == 2
    assert found["hopwatch_service_spans_lost_total"] == 7
    assert found["hopwatch_query_seconds_count"] >= 1
    assert found["hopwatch_journal_backlog_bytes"] == 0
    assert "unheard_of" not in found
    assert not [name for name in found if name.endswith("_created")]


async def test_open_metrics_are_spoken_when_asked_for(client):
    """Prometheus prefers them; the page ends as they must."""
    response = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")


async def test_two_scrapes_in_a_row_ask_once(client, answers):
    """Derived numbers are kept for a few seconds."""
    await client.get("/metrics")
    await client.get("/metrics")
    assert answers.count("metrics") == 1


async def test_our_own_numbers_survive_a_failing_engine(client, answers):
    """That is when they are needed; of the derived ones there are none yet."""
    answers.samples = [CALLS]
    answers.error = RuntimeError("no engine")
    found = values((await client.get("/metrics")).text)
    assert found["hopwatch_query_errors_total"] == 1
    assert "hopwatch_ingest_spans_total" in found
    assert "traces_spanmetrics_calls_total" not in found


async def test_a_slow_engine_does_not_hold_up_a_scrape(client, answers, monkeypatch):
    """Our own numbers come at once, the derived ones with a later scrape; meanwhile nobody asks twice."""
    monkeypatch.setattr(metrics_route, "PATIENCE_S", 0.05)
    answers.samples = [CALLS]
    answers.hold = threading.Event()
    for _ in range(3):
        found = values((await client.get("/metrics")).text)
        assert "hopwatch_ingest_spans_total" in found
        assert CALLS[0] not in found
    answers.hold.set()
    async with asyncio.timeout(scale_wait(20)):
        while CALLS[0] not in values((await client.get("/metrics")).text):
            await asyncio.sleep(0.01)
    assert answers.count("metrics") == 1


def test_old_numbers_are_not_shown():
    """None says more than what was true a while ago."""
    registry = CollectorRegistry()
    derived = QueryDerived(registry, shown_s=0)
    derived.replace([group(CALLS)])
    assert CALLS[0] not in values(render("", registry, derived)[0].decode())


@pytest.mark.parametrize("most", [1, 3])
def test_too_many_series_are_left_out_and_counted(most):
    """A histogram's buckets are one series here."""
    registry = CollectorRegistry()
    derived = QueryDerived(registry, most_series=most)
    derived.replace(
        [
            group(
                *(
                    ("traces_spanmetrics_latency_bucket", {"service": f"s{number}", "le": le}, 1.0)
                    for number in range(5)
                    for le in ("0.1", "+Inf")
                )
            )
        ]
    )
    page = render("", registry, derived)[0].decode()
    assert page.count("traces_spanmetrics_latency_bucket{") == 2 * most
    assert f'hopwatch_metrics_series_dropped{{family="traces_spanmetrics_latency"}} {5 - most}.0' in page


def test_labels_are_escaped():
    """Names come from outside."""
    registry = CollectorRegistry()
    derived = QueryDerived(registry)
    hostile = 'a"} 1\nhopwatch_fake 9\n\\'
    derived.replace([group(("hopwatch_lag_messages", {"receiver": hostile}, 1.0))])
    page = render("", registry, derived)[0].decode()
    assert "hopwatch_fake" not in values(page)
    [sample] = next(
        f for f in text_string_to_metric_families(page) if f.name == "hopwatch_lag_messages"
    ).samples
    assert sample.labels["receiver"] == hostile


def test_counters_never_shrink():
    """Totals shrink when old days are dropped; Prometheus would take that for a restart and count them twice."""
    registry = CollectorRegistry()
    derived = QueryDerived(registry)
    seen = []
    for total in (10.0, 15.0, 4.0, 6.0):
        derived.replace([group((CALLS[0], CALLS[1], total), ("hopwatch_lag_messages", {}, total))])
        page = values(render("", registry, derived)[0].decode())
        seen.append((page[CALLS[0]], page["hopwatch_lag_messages"]))
    assert seen == [(10.0, 10.0), (15.0, 15.0), (15.0, 4.0), (17.0, 6.0)]
