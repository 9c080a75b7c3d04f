"""A collector that was away for longer than its services could hold back knows afterwards what it missed."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from support.collector import Collector, Ports
from support.process import Process
from support.waiting import eventually

from hopwatch_collector.api.models import LossList
from hopwatch_demo.patience import scale_wait

HELD, MADE = 200, 1_500


def dealt_with(told: dict[str, Any]) -> bool:
    """Whether every span is delivered or lost."""
    return not told["waiting"] and told["delivered"] + sum(told["dropped"].values()) == MADE + 1


def test_what_was_lost_while_the_collector_was_away_is_known_to_the_span(tmp_path: Path) -> None:
    """Its absence cost the service spans; API and metrics show exactly what the service itself counted, and when."""
    with Collector(tmp_path, ports=Ports.free()) as collector:
        settings = {"OTEL_BSP_MAX_QUEUE_SIZE": str(HELD), "OTEL_BSP_SCHEDULE_DELAY": "50"}
        began = datetime.now(UTC)
        with Process.service("hoarder", "hoarder", env=collector.environment(**settings)) as service:
            service.ask(do="work", count=1)
            eventually(lambda: service.ask(do="stats"), lambda told: told["delivered"] == 1)
            collector.kill()
            service.ask(do="work", count=MADE)
            eventually(lambda: service.ask(do="stats"), lambda told: told["dropped"])
            collector.start()
            told = eventually(lambda: service.ask(do="stats"), dealt_with, within=60)
            lost = told["dropped"]["queue full"]
            assert lost >= MADE - HELD
            found = eventually(
                lambda: collector.api.read(LossList, "losses").losses,
                lambda losses: losses and losses[0].spans == lost,
                within=60,
            )
        assert len(found) == 1
        assert (found[0].service, found[0].processes) == ("hoarder", 1)
        assert found[0].reasons == {"queue_full": lost}
        assert began <= found[0].first_at <= found[0].last_at <= datetime.now(UTC)
        assert collector.api.read(LossList, "losses", since="2199-01-01T00:00:00Z").losses == []
        line = f'hopwatch_service_spans_lost_total{{reason="queue_full",service="hoarder"}} {float(lost)}'
        eventually(
            lambda: httpx.get(f"{collector.api_url}/metrics", timeout=scale_wait(20)).text,
            lambda page: line in page,
        )
