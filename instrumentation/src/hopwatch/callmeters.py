"""The metrics of calls by the conventions of HTTP and RPC, through OpenTelemetry's metrics API.

They cost a look at one attribute per call until the application sets a MeterProvider; hopwatch sets none.
"""

from importlib.metadata import version
from time import perf_counter
from typing import Any, Final

from opentelemetry import metrics
from opentelemetry.metrics import Histogram, UpDownCounter

from hopwatch.conventions import (
    ERROR_TYPE,
    HTTP_METHOD,
    HTTP_ROUTE,
    HTTP_STATUS,
    METRIC_HTTP_ACTIVE,
    METRIC_HTTP_SERVER,
    METRIC_RPC_CLIENT,
    METRIC_RPC_SERVER,
    RPC_METHOD,
    RPC_STATUS,
    RPC_SYSTEM,
    SERVER_ADDRESS,
    SERVER_PORT,
    URL_SCHEME,
    CallHalf,
)
from hopwatch.meters import DURATION_BOUNDARIES
from hopwatch.places import Attributes

_HTTP_SERIES: Final = (HTTP_METHOD, URL_SCHEME, HTTP_ROUTE, HTTP_STATUS)
_ACTIVE_SERIES: Final = (HTTP_METHOD, URL_SCHEME)
_RPC_SERIES: Final = (RPC_SYSTEM, RPC_METHOD, RPC_STATUS)
_RPC_CLIENT_SERIES: Final = (*_RPC_SERIES, SERVER_ADDRESS, SERVER_PORT)


class CallMeters:
    """The instruments of one transport's calls."""

    def __init__(self) -> None:
        meter = metrics.get_meter("hopwatch.calls", version("hopwatch"))

        def durations(name: str, description: str) -> Histogram:
            return meter.create_histogram(
                name, "s", description, explicit_bucket_boundaries_advisory=DURATION_BOUNDARIES
            )

        self._http = durations(METRIC_HTTP_SERVER, "Duration of HTTP server requests.")
        self._served = durations(
            METRIC_RPC_SERVER, "Measures the duration of an incoming Remote Procedure Call."
        )
        self._called = durations(
            METRIC_RPC_CLIENT, "Measures the duration of an outgoing Remote Procedure Call."
        )
        self._active = meter.create_up_down_counter(
            METRIC_HTTP_ACTIVE, "{request}", "Number of active HTTP server requests."
        )

    @property
    def on(self) -> bool:
        """Whether somebody measures: until a MeterProvider is set, the API's stand-ins have nothing behind them."""
        return getattr(self._http, "_real_instrument", self._http) is not None

    def begin(self, half: CallHalf, attributes: Attributes) -> "Measured":
        """Begin to time a call."""
        if RPC_SYSTEM not in attributes:
            return Measured(self._http, _HTTP_SERIES, attributes, self._active)
        if half is CallHalf.SERVE:
            return Measured(self._served, _RPC_SERIES, attributes)
        return Measured(self._called, _RPC_CLIENT_SERIES, attributes)


class Measured:
    """A call being timed, with what distinguishes its series."""

    __slots__ = ("_active", "_active_series", "_began", "_histogram", "_names", "_series")

    def __init__(
        self,
        histogram: Histogram,
        names: tuple[str, ...],
        attributes: Attributes,
        active: UpDownCounter | None = None,
    ) -> None:
        self._histogram = histogram
        self._names = names
        self._series = _chosen(attributes, names)
        self._active = active
        self._active_series = _chosen(attributes, _ACTIVE_SERIES)
        self._began = perf_counter()
        if active is not None:
            active.add(1, self._active_series)

    def note(self, attributes: Attributes) -> None:
        """Take in what became known during the call."""
        self._series.update(_chosen(attributes, self._names))

    def done(self, error_type: str) -> None:
        """End the measurement; `error_type` is empty where nothing went wrong."""
        if error_type:
            self._series[ERROR_TYPE] = error_type
        self._histogram.record(perf_counter() - self._began, self._series)
        if self._active is not None:
            self._active.add(-1, self._active_series)


def _chosen(attributes: Attributes, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: attributes[name] for name in names if name in attributes}
