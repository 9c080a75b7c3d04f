"""hopwatch for the library `parcels`: what its boxes are given, who takes it, and how that ends."""

from collections.abc import Awaitable, Callable
from typing import Any

from parcels import Box, Parcel

from hopwatch.conventions import PublishOutcome, SettleOutcome
from hopwatch.handover import handovers
from hopwatch.instrumentor import TransportInstrumentor
from hopwatch.recorder import Destination, Recorder
from hopwatch.wrapping import Args, Kwargs, Patches, Wrapper, argument, fresh_headers, with_argument


class ParcelsInstrumentor(TransportInstrumentor):
    """Wraps boxes and parcels; boxes made before and after are covered alike."""

    system = "parcels"
    library = "parcels"
    requires = "parcels >= 1, < 2"

    def wrap(self, patches: Patches, recorder: Recorder) -> None:
        """Put the wrappers around the library's methods; `uninstrument` takes them away."""
        boxes = Boxes(recorder)
        patches.wrap(Box, "put", boxes.put)
        patches.wrap(Box, "take", boxes.take)
        patches.wrap(Parcel, "accept", settles(SettleOutcome.ACK))
        patches.wrap(Parcel, "refuse", settles(SettleOutcome.REQUEUE))


class Boxes:
    """The wrappers around a box. The recorder never raises, so only the library's own errors come out of them."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def put(
        self, wrapped: Callable[..., Awaitable[None]], box: Box, args: Args, kwargs: Kwargs
    ) -> None:
        """Record a send: its ids travel on a copy of the label, in place of what an earlier hop left there."""
        label = fresh_headers(argument(args, kwargs, 1, "label"))
        hop = self._recorder.send("put", Destination(box.name, box.name), carrier=label)
        args, kwargs = with_argument(args, kwargs, 1, "label", label)
        try:
            await wrapped(*args, **kwargs)
        except BaseException as error:
            hop.end(PublishOutcome.REFUSED, error=error)
            raise
        hop.end(PublishOutcome.CONFIRMED)

    async def take(
        self, wrapped: Callable[..., Awaitable[Parcel]], box: Box, args: Args, kwargs: Kwargs
    ) -> Parcel:
        """Record an attempt: it lasts until it is settled, or its taker is back for more."""
        handovers.back(box)
        parcel = await wrapped(*args, **kwargs)
        destination = Destination(box.name, box.name)
        hop = self._recorder.process("take", destination, receiver=box.name, carrier=parcel.label)
        handovers.gave(box, [(parcel, hop)])
        return parcel


def settles(outcome: SettleOutcome) -> Wrapper:
    """Return a wrapper around a method that settles a parcel."""

    def settle(wrapped: Callable[..., None], parcel: Parcel, args: Args, kwargs: Kwargs) -> Any:
        wrapped(*args, **kwargs)
        handovers.settled(parcel, outcome)

    return settle
