"""What the API needs from its neighbours, and nothing more of them."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Protocol

from prometheus_client import CollectorRegistry

from hopwatch_collector.api.models import (
    CauseList,
    ClockList,
    DeliveryList,
    Flow,
    FlowList,
    FlowState,
    Health,
    LagList,
    Live,
    LossList,
    Message,
    SearchResult,
    Topology,
    Verdict,
    Why,
)
from hopwatch_collector.query.window import SearchQuery, Window

Sample = tuple[str, Mapping[str, str], float]
"""One exported number: sample name (with `_total`, `_bucket`, … where it has one), labels, value."""


Family = tuple[str, Callable[[], Iterable[Sample]]]
"""What a group of exported numbers is about, and what asks for them: each may fail alone."""


class QueryPort(Protocol):
    """The questions the API asks; every method blocks and is called in a worker thread."""

    def flows(
        self,
        window: Window,
        *,
        service: str | None,
        destination: str | None,
        state: FlowState | None,
        limit: int,
    ) -> FlowList: ...

    def flow(self, flow_id: str) -> Flow | None: ...

    def message(self, id_or_alias: str) -> Message | None: ...

    def deliveries(
        self,
        window: Window,
        *,
        verdicts: frozenset[Verdict] | None,
        destination: str | None,
        receiver: str | None,
        service: str | None,
        limit: int,
        causes: frozenset[str] | None,
        cursor: str | None,
    ) -> DeliveryList: ...

    def undelivered(
        self,
        window: Window,
        *,
        verdicts: frozenset[Verdict] | None,
        destination: str | None,
        receiver: str | None,
        service: str | None,
        limit: int,
    ) -> CauseList: ...

    def why(self, id_or_alias: str) -> Why | None: ...

    def lag(self, since: datetime | None = None) -> LagList: ...

    def losses(self, since: datetime, *, limit: int) -> LossList: ...

    def topology(self, window: Window) -> Topology: ...

    def search(self, query: SearchQuery) -> SearchResult: ...

    def live(self, window_s: float) -> Live: ...

    def clocks(self, at: datetime | None = None) -> ClockList: ...

    def metrics(self) -> Iterable[Family]: ...


class ApiSettings(Protocol):
    """Of the collector's settings, what the API looks at."""

    @property
    def listen(self) -> str:
        """Address or host name listened on; a loopback one without a read token checks the Host header."""

    @property
    def read_token(self) -> str | None:
        """Bearer token every reader must show; None or empty: reading is open."""


class SelfMetrics(Protocol):
    """The collector's own metrics; the API adds `hopwatch_query_*` and `hopwatch_live_viewers` itself."""

    @property
    def registry(self) -> CollectorRegistry:
        """Where they are registered; rendered at /metrics before the query-derived ones."""


HealthCheck = Callable[[], Health]
"""How the collector is right now; called on the event loop, so it must not block."""
