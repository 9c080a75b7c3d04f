"""The four client metrics of the messaging conventions, through OpenTelemetry's metrics API.

They cost a look at one attribute per hop until the application sets a MeterProvider; hopwatch sets none.
"""

from collections.abc import Callable
from importlib.metadata import version
from time import perf_counter
from typing import Any, Final

from opentelemetry import metrics

from hopwatch.conventions import (
    ERROR_TYPE,
    MESSAGING_CONSUMER_GROUP_NAME,
    MESSAGING_DESTINATION_NAME,
    MESSAGING_DESTINATION_PARTITION_ID,
    MESSAGING_OPERATION_NAME,
    MESSAGING_OPERATION_TYPE,
    MESSAGING_SYSTEM,
    METRIC_CONSUMED_MESSAGES,
    METRIC_OPERATION_DURATION,
    METRIC_PROCESS_DURATION,
    METRIC_SENT_MESSAGES,
    SERVER_ADDRESS,
    SERVER_PORT,
)
from hopwatch.places import Attributes

DURATION_BOUNDARIES: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""What the conventions advise for durations in seconds."""

_KEPT: Final = (
    MESSAGING_SYSTEM,
    MESSAGING_OPERATION_NAME,
    MESSAGING_OPERATION_TYPE,
    MESSAGING_DESTINATION_NAME,
    MESSAGING_DESTINATION_PARTITION_ID,
    MESSAGING_CONSUMER_GROUP_NAME,
    SERVER_ADDRESS,
    SERVER_PORT,
)
"""What distinguishes series: nothing that a message has for itself."""


Done = Callable[[str | None], None]
"""Ends a measurement."""


class _Real:
    """In the place of a stand-in, where a MeterProvider was set before us."""

    _real_instrument = True


class Meters:
    """The instruments of one transport."""

    def __init__(self, system: str) -> None:
        meter = metrics.get_meter(f"hopwatch.{system}", version("hopwatch"))
        self._sent = meter.create_counter(
            METRIC_SENT_MESSAGES, "{message}", "Messages a producer attempted to send to the broker."
        )
        self._consumed = meter.create_counter(
            METRIC_CONSUMED_MESSAGES, "{message}", "Messages that were delivered to the application."
        )
        self._operation = meter.create_histogram(
            METRIC_OPERATION_DURATION,
            "s",
            "Duration of a messaging operation initiated by a producer or consumer client.",
            explicit_bucket_boundaries_advisory=DURATION_BOUNDARIES,
        )
        self._process = meter.create_histogram(
            METRIC_PROCESS_DURATION,
            "s",
            "Duration of processing operation.",
            explicit_bucket_boundaries_advisory=DURATION_BOUNDARIES,
        )

        self.behind: Any = self._sent if hasattr(self._sent, "_real_instrument") else _Real
        """Its `_real_instrument` is None until somebody measures: the API's stand-ins have nothing behind them until then."""

    @property
    def on(self) -> bool:
        """Whether somebody measures."""
        return self.behind._real_instrument is not None

    def sending(self, attributes: Attributes) -> Done:
        """Begin to time a send; what is returned counts it, with the type of its error if it had one."""
        series, began = _series(attributes), perf_counter()

        def done(error_type: str | None) -> None:
            said = series if error_type is None else {**series, ERROR_TYPE: error_type}
            self._sent.add(1, said)
            self._operation.record(perf_counter() - began, said)

        return done

    def processing(self, attributes: Attributes) -> Done:
        """Count a message handed to the application and begin to time its attempt."""
        series, began = _series(attributes), perf_counter()
        self._consumed.add(1, series)

        def done(error_type: str | None) -> None:
            said = series if error_type is None else {**series, ERROR_TYPE: error_type}
            self._process.record(perf_counter() - began, said)

        return done


def _series(attributes: Attributes) -> dict[str, Any]:
    return {name: attributes[name] for name in _KEPT if name in attributes}
