"""Who of this process's clients holds which subscription, each told once, and ended with the last that holds it."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from hopwatch.beside import Beside
from hopwatch.recorder import Holding, Recorder


class Holders:
    """The subscriptions of a transport's consumers, by the client's own object for each."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._held: Beside[tuple[Holding, ...]] = Beside()
        self._count: Counter[Holding] = Counter()

    def of(self, owner: Any) -> tuple[Holding, ...]:
        """Return what an object holds."""
        return self._held.get(owner) or ()

    def hold(self, owner: Any, holdings: Iterable[Holding]) -> None:
        """Report what an object holds from now on, and what it held before as moved or left."""
        before, now = self.of(owner), tuple(dict.fromkeys(holdings))
        self._held.put(owner, now)
        self._count.update(set(now).difference(before))
        gone = {
            (holding.pattern, holding.receiver): holding
            for holding in set(before).difference(now)
            if self._is_last(holding)
        }
        for holding in now:
            known = gone.pop((holding.pattern, holding.receiver), None)
            if known is None:
                self._recorder.holds(holding)
            else:
                self._recorder.moved(known, holding)
        for holding in gone.values():
            self._recorder.left(holding)

    def release(self, owner: Any) -> None:
        """Report that an object holds nothing any more."""
        if self.of(owner):
            self.hold(owner, ())

    def _is_last(self, holding: Holding) -> bool:
        self._count[holding] -= 1
        if self._count[holding] > 0:
            return False
        del self._count[holding]
        return True
