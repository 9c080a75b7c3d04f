"""`hopwatch.instrument(...)`: one line that turns everything on, and says aloud what it could not."""

import logging
import os
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module, util
from importlib.metadata import entry_points, packages_distributions, version
from typing import TYPE_CHECKING, Any, Final, cast

import wrapt
from opentelemetry.propagators.textmap import TextMapPropagator

from hopwatch.hooks import Hook, hook_for
from hopwatch.hooks import forget as forget_hooks
from hopwatch.hooks import install as install_hooks
from hopwatch.importing import once_whole
from hopwatch.optin import choose_calls, misspelt
from hopwatch.reports import reporter

# OpenTelemetry's propagators and SDK read their `OTEL_*` variables as they are imported, and raise where one makes no sense:
# what needs them is loaded in `_set_up`, which says so and lets the application go on.
if TYPE_CHECKING:
    from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

    from hopwatch.lean.ledger import ExportStats

ENTRY_POINTS = "hopwatch.transports"
"""Entry-point group: name of the library's import package → its instrumentor class."""

_SYSTEMS: Final = {"aio_pika": "rabbitmq", "aiokafka": "kafka", "nats": "nats"}
"""Of whose messages a process tells nothing where a library could not be instrumented, by its name."""

_log = logging.getLogger("hopwatch")


@dataclass(frozen=True, slots=True)
class Transport:
    """One library hopwatch knows how to instrument, and where the code for it lives."""

    name: str
    instrumentor: str

    @property
    def installed(self) -> bool:
        """Whether the library can be imported here."""
        return util.find_spec(self.name) is not None

    @property
    def release(self) -> str:
        """What of it is installed, as `distribution version`."""
        named = packages_distributions().get(self.name, ())
        return ", ".join(f"{name} {version(name)}" for name in dict.fromkeys(named)) or "of unknown version"

    def load(self) -> "BaseInstrumentor":
        """Import and return the instrumentor; a singleton, as OpenTelemetry's are."""
        module, _, name = self.instrumentor.partition(":")
        return cast("BaseInstrumentor", getattr(import_module(module), name)())


class _State:
    """What `instrument` has done in this process, so that `uninstrument` can take it back."""

    def __init__(self) -> None:
        self.wanted: set[str] = set()
        self.active: dict[str, BaseInstrumentor] = {}
        self.before: TextMapPropagator | None = None


_state = _State()


def transports() -> list[Transport]:
    """Return the transports known here, ours and those other packages bring as entry points, by name."""
    return sorted(
        (Transport(found.name, found.value) for found in entry_points(group=ENTRY_POINTS)),
        key=lambda transport: transport.name,
    )


def instrument(
    service: str | None = None,
    *,
    endpoint: str | None = None,
    only: Collection[str] | None = None,
    exclude: Collection[str] = (),
    calls: str | None = None,
    hooks: Mapping[str, Hook] | None = None,
) -> None:
    """Give every call and message of this process an id, a flow and an outcome.

    `service` names the process (`OTEL_SERVICE_NAME` wins); `endpoint` is the collector's OTLP/HTTP address,
    `http://127.0.0.1:4318` unless an `OTEL_*` variable says otherwise; `only` and `exclude` choose transports by
    the import name of their library (`nats`, `aio_pika`, `aiokafka`, `fastapi`, `grpc`, `httpx` …).
    `calls` says who records the calls of servers and gRPC: `native`, our wrappers, or `contrib`, OpenTelemetry's own
    packages (`HOPWATCH_CALLS` says the same). `hooks` are a team's say in what is recorded of its messages and calls, by the
    import name of the library (see `hopwatch.Hook`).

    Libraries are instrumented as they are imported, so call it as early as you like. A second call adds
    transports, names the service if nobody has, and changes nothing else. Does nothing where `OTEL_SDK_DISABLED` is true;
    where another variable of the environment cannot be followed, it says so on stderr, and the process is not instrumented.

    Raises:
        ValueError: `only`, `exclude` or `hooks` names a transport that does not exist, `calls` a path that does not.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return
    chosen = _choose(transports(), only, exclude, hooks or {})
    install_hooks(hooks or {})
    choose_calls(calls)
    if _state.before is None:
        if not _set_up(service, endpoint):
            return
        for odd in misspelt():
            _say(odd)
    elif service is not None:
        from hopwatch.export import name_service

        name_service(service)
    for transport in chosen:
        _when_imported(transport)


def uninstrument() -> None:
    """Take back what `instrument` did to libraries and propagators; a provider once set stays, as the API demands."""
    _state.wanted.clear()
    for instrumentor in _state.active.values():
        instrumentor.uninstrument()
    _state.active.clear()
    forget_hooks()
    reporter.stop()
    if _state.before is not None:
        from opentelemetry import propagate

        propagate.set_global_textmap(_state.before)
        _state.before = None


def stats() -> "ExportStats | None":
    """Return what became of this process's spans; None where another provider than ours has them, or none has."""
    if "hopwatch.export" not in sys.modules:
        return None  # nothing was set up
    from hopwatch.export import stats as of_our_provider

    return of_our_provider()


def _choose(
    known: Iterable[Transport],
    only: Collection[str] | None,
    exclude: Collection[str],
    hooked: Collection[str],
) -> list[Transport]:
    by_name = {transport.name: transport for transport in known}
    unknown = {*(only or ()), *exclude, *hooked} - set(by_name)
    if unknown:
        raise ValueError(f"no such transport: {', '.join(sorted(unknown))}; there are: {', '.join(by_name)}")
    return [t for name, t in by_name.items() if (only is None or name in only) and name not in exclude]


def _set_up(service: str | None, endpoint: str | None) -> bool:
    """Have spans go out and ids travel; whether it could be done."""
    try:
        from hopwatch.export import set_up_tracing

        set_up_tracing(service, endpoint)
        _install_propagator()
    except Exception as error:  # noqa: BLE001 — a guest never breaks its host, whatever the environment says
        _say(f"this process is not instrumented: {type(error).__name__}: {error}")
        _log.debug("setting up failed", exc_info=error)
        return False
    return True


def _install_propagator() -> None:
    from opentelemetry import propagate

    from hopwatch.propagation import HopwatchPropagator

    _state.before = propagate.get_global_textmap()
    hosts = frozenset(h.strip() for h in os.environ.get("HOPWATCH_BAGGAGE_HOSTS", "").split(",") if h.strip())
    propagate.set_global_textmap(HopwatchPropagator(_state.before, hosts))


def _when_imported(transport: Transport) -> None:
    """Instrument a library now if it is loaded, else right after its first import."""
    if transport.name in _state.wanted or not transport.installed:
        return
    _state.wanted.add(transport.name)

    def hook(_: Any) -> None:
        packages = ("hopwatch", transport.instrumentor.partition(":")[0].partition(".")[0])
        once_whole(packages, activate)

    def activate() -> None:
        if transport.name in _state.wanted:
            _activate(transport)

    wrapt.register_post_import_hook(hook, transport.name)


def _activate(transport: Transport) -> None:
    if transport.name in _state.active:
        return
    try:
        instrumentor = transport.load()
        conflict = instrumentor._check_dependency_conflicts()
        if conflict is not None:
            _say(f"{transport.name} is not instrumented: {conflict}")
            _untold(transport)
            return
        if not instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.instrument(skip_dep_check=True)
        _state.active[transport.name] = instrumentor
        if hook_for(transport.name) is not None and not getattr(instrumentor, "takes_hooks", False):
            _say(f"{transport.name} takes no hook: OpenTelemetry's own instrumentation records its calls")
    except Exception as error:  # noqa: BLE001 — a guest never breaks its host; the rest still works
        _say(f"{transport.name} is not instrumented ({transport.release}): {type(error).__name__}: {error}")
        _log.debug("instrumenting %s failed", transport.name, exc_info=error)
        _untold(transport)


def _untold(transport: Transport) -> None:
    """Tell the collector that this process is silent on a broker's messages: its silence is no evidence."""
    system = _SYSTEMS.get(transport.name)
    if system is None:
        return
    from opentelemetry import trace

    from hopwatch.recorder import Recorder

    Recorder(system, trace.get_tracer(f"hopwatch.{transport.name}")).untold()


def _say(text: str) -> None:
    """Say it where the person starting the process looks."""
    print(f"hopwatch: {text}", file=sys.stderr)  # noqa: T201 — meant for the terminal, loggers may not be set up yet
