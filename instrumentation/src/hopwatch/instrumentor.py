"""The shape all transports share: an instrumentor that patches a library's classes, and a recorded callback."""

import sys
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import wraps
from importlib.metadata import version
from sys import getrefcount
from typing import Any, ClassVar, TypeVar

from opentelemetry import trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
from opentelemetry.trace import Tracer

from hopwatch.conventions import System
from hopwatch.handover import handovers
from hopwatch.hooks import hook_for
from hopwatch.optin import CallsPath, calls_path
from hopwatch.recorder import ProcessHop, Recorder
from hopwatch.wrapping import Patches

M = TypeVar("M")


class PatchingInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # untyped base
    """Wraps the classes of one library; objects made before and after are covered alike."""

    library: ClassVar[str]
    """Import name of the library; its spans' scope is `hopwatch.<library>`."""
    requires: ClassVar[str]
    """The versions of the library this was written for, as a requirement."""

    takes_hooks: bool = False
    """Whether the hook of a team is asked about what is recorded."""

    _patches: Patches | None = None

    @abstractmethod
    def patch(self, patches: Patches, tracer: Tracer) -> None:
        """Put wrappers around the library; what was done before an error is undone."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the versions of the library this was written for."""
        return [self.requires]

    def _instrument(self, **kwargs: Any) -> None:
        scope = f"hopwatch.{self.library}"
        tracer = trace.get_tracer(scope, version("hopwatch"), kwargs.get("tracer_provider"))
        patches = Patches()
        try:
            self.patch(patches, tracer)
        except BaseException:
            patches.undo()
            raise
        self._patches = patches

    def _uninstrument(self, **kwargs: Any) -> None:
        if self._patches is not None:
            self._patches.undo()
            self._patches = None


class ContribInstrumentor(PatchingInstrumentor):
    """Turns on OpenTelemetry's own instrumentation of a library, with wrappers beneath it that know what it misses."""

    contrib: ClassVar[type[BaseInstrumentor]]

    _turned_on = False

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the versions of the library that OpenTelemetry's instrumentation supports."""
        return list(self.contrib().instrumentation_dependencies())

    def _instrument(self, **kwargs: Any) -> None:
        contrib = self.contrib()
        if contrib.is_instrumented_by_opentelemetry:
            return  # by somebody else, who will turn it off too
        super()._instrument(**kwargs)
        contrib.instrument(skip_dep_check=True, **self.hooks(), **kwargs)
        self._turned_on = True

    def _uninstrument(self, **kwargs: Any) -> None:
        if self._turned_on:
            self.contrib().uninstrument()
            self._turned_on = False
        super()._uninstrument(**kwargs)

    def hooks(self) -> dict[str, Any]:
        """Return what else OpenTelemetry's instrumentation is to be told; called after `patch`."""
        return {}


class EitherInstrumentor(PatchingInstrumentor):
    """Wraps a library by itself or, where `HOPWATCH_CALLS` says `contrib`, has OpenTelemetry's own packages do it."""

    _turned_on: Sequence[BaseInstrumentor] = ()

    @property
    def takes_hooks(self) -> bool:  # type: ignore[override]  # it depends on the path
        """Whether the hook of a team is asked: on our own path."""
        return calls_path() is CallsPath.NATIVE

    @abstractmethod
    def contribs(self, patches: Patches) -> Sequence[tuple[BaseInstrumentor, dict[str, Any]]]:
        """Return OpenTelemetry's instrumentations with what they are to be told; patch what they cannot be told."""

    def _instrument(self, **kwargs: Any) -> None:
        if calls_path() is CallsPath.NATIVE:
            if not self._taken():
                super()._instrument(**kwargs)
            return
        self._patches = Patches()
        free = [
            (contrib, said)
            for contrib, said in self.contribs(self._patches)
            if not contrib.is_instrumented_by_opentelemetry  # else by somebody who will turn it off too
        ]
        for contrib, said in free:
            contrib.instrument(skip_dep_check=True, **said, **kwargs)
        self._turned_on = [contrib for contrib, _ in free]

    def _uninstrument(self, **kwargs: Any) -> None:
        for contrib in self._turned_on:
            contrib.uninstrument()
        self._turned_on = ()
        super()._uninstrument(**kwargs)

    def _taken(self) -> bool:
        """Whether somebody has turned OpenTelemetry's own instrumentation on: then a call is not recorded twice."""
        if f"opentelemetry.instrumentation.{self.library}" not in sys.modules:
            return False
        patches = Patches()
        try:
            return any(contrib.is_instrumented_by_opentelemetry for contrib, _ in self.contribs(patches))
        finally:
            patches.undo()


class TransportInstrumentor(PatchingInstrumentor):
    """Wraps a library that sends and receives messages: all its span work is the recorder's."""

    takes_hooks = True
    system: ClassVar[System | str]
    """`messaging.system` of its messages; another package's library may have a name of its own."""

    @abstractmethod
    def wrap(self, patches: Patches, recorder: Recorder) -> None:
        """Put the transport's wrappers around the library."""

    def patch(self, patches: Patches, tracer: Tracer) -> None:
        """Hand the transport its recorder."""
        self.wrap(patches, Recorder(self.system, tracer, hook_for(self.library)))


def recorded(
    callback: Callable[[M], Awaitable[Any]], begin: Callable[[M], ProcessHop | None]
) -> Callable[[M], Awaitable[Any]]:
    """Return a callback around an application's own: what it is called with is a hop until it returns or raises.

    `begin` makes the hop current, or returns None for what is not to be recorded; where the handler may settle or answer
    the message, it has noted that with `handovers`.
    """

    @wraps(callback)
    async def handle(message: M) -> Any:
        hop = begin(message)
        if hop is None:
            return await callback(message)
        held = getrefcount(message)
        try:
            result = await callback(message)
        except BaseException as error:
            hop.end(error)
            raise
        else:
            if getrefcount(message) > held:  # somebody else in the process has it now
                handovers.handed_on(message, hop)
            else:
                hop.end()
            return result
        finally:
            if hop.before is not None:  # it ended while its handler went on
                hop.detach()

    return handle
