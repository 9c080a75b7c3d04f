"""Senders of messages that were received under nothing but the span that sent them: what other instrumentations do.

Facts of such receivers come under a key made of that span's ids, in the order in which they were told (`senders_wanted`). Their
sender may be known already, or come later: it is looked for when the facts come, for a minute whenever anything else does, and
again after ever longer times, so that all there is of them costs a few look-ups each, however many there are and however long
their sender keeps them waiting.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

AGES_S: Final = (0, 3, 10, 60, 600, 3_600, 21_600, 86_400, 172_800)
"""How old facts are when their sender is looked for."""
_OFTEN: Final = 2
"""Facts of an age are looked up together: a look is made so many times while they reach it."""
_RARELY_S: Final = 900
_AWAY_S: Final = 3_600
"""A collector that was started takes up what it would have looked for had it run for so long."""
_AT_ONCE: Final = 20_000
_PAGES: Final = 10
"""Pages of facts that are looked up in a row; what is left comes with the next look."""
_LATELY_S: Final = 60
"""For so long the senders of facts are looked for with all that comes in, which exporters send in any order; after a start, of
what was told last before it, however long ago that was."""
_LATELY: Final = 10_000
"""Of so many facts at most, the latest ones."""
_DUTY: Final = 20.0
_REST_S: Final = 3.0
"""These looks rest for so many times as long as they take, but never longer than this."""
_VISIBLE_S: Final = 10
"""What others write can be read so long after the moment it bears: facts younger than that are given once more when they are older."""
_US: Final = 1_000_000


class Engine(Protocol):
    """Of the engine, what the search asks of it: statements of upkeep_sql."""

    def rows(self, name: str, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """Return the rows of a statement."""
        ...

    def run_statement(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Run a statement that has none."""
        ...


@dataclass(slots=True)
class _Look:
    """Facts of one age: up to which moment (µs) they have been looked up, and when that is due again (s)."""

    age_s: int
    upto: int
    due: float = 0.0

    @property
    def every_s(self) -> float:
        """Seconds between two looks."""
        return min(self.age_s / _OFTEN, _RARELY_S)


class SenderSearch:
    """Finds them. One call at a time; what it remembers is only up to when it has looked."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        """`clock`: seconds since 1970."""
        self._engine = engine
        self._clock = clock
        now = clock()
        self._last_told = int(now * _US)
        """When the last fact was told that is known of; µs."""
        self._looks = [_Look(age_s, int((now - age_s - _AWAY_S) * _US)) for age_s in AGES_S]
        self._lately: dict[str, int] | None = None
        """Keys (hex) under which something was told lately and whose sender had not come, with when that was (µs). None: not looked
        yet."""
        self._lately_due = 0.0
        self._started = 0

    def run(self, news: bool = True, complete_until: float | None = None) -> int:
        """Give facts to the messages whose senders are found; return how many keys they had been told under.

        `news`: whether something may have come in since the last time; else only what grew older is looked for.
        `complete_until`: the moment up to which everything that came in can be read, where nobody else writes: then of times
        in which nothing was told nothing is asked.
        """
        now = self._clock()
        given = self._again(now, 0 if complete_until is not None else _VISIBLE_S * _US) if news else 0
        for look in self._looks:
            if now < look.due or not (news or look.age_s):
                continue
            until = int((now - look.age_s) * _US)
            if complete_until is not None:
                until = min(until, int(complete_until * _US))
                if look.age_s and look.upto >= self._last_told:
                    look.upto = max(look.upto, until)
                    continue
            margin = 0 if complete_until is not None or look.age_s >= _VISIBLE_S else _VISIBLE_S * _US
            given += self._take(look, until, margin)
            if look.upto >= until:
                look.due = now + look.every_s
        return given

    def _take(self, look: _Look, until: int, margin: int) -> int:
        given = 0
        for _ in range(_PAGES):
            asked = {"after": look.upto, "until": until, "top": _AT_ONCE}
            facts, last = self._engine.rows("wanted_page", asked)[0]
            if facts:
                self._last_told = max(self._last_told, last)
                stretch = {"after": look.upto, "until": last}
                senders = self._found("found_senders", stretch)
                given += self._give(stretch, senders, margin)
                if not look.age_s:
                    self._lately = self._remember(stretch, senders, self._lately or {})
            # Of the last moment all has been taken, though there may be more of it than make a page.
            look.upto = last if facts == _AT_ONCE else max(look.upto, until)
            if facts < _AT_ONCE:
                break
        return given

    def _remember(
        self, stretch: Mapping[str, int], senders: Mapping[str, str], known: Mapping[str, int]
    ) -> dict[str, int]:
        """Return whose senders are to be looked for with whatever else comes in: those known, and who told something in a stretch."""
        wanted = self._engine.rows("wanted_lately", {**stretch, "top": _LATELY})
        found = {**known, **{message: told_at for message, told_at in wanted if message not in senders}}
        return dict(sorted(found.items(), key=lambda one: one[1])[-_LATELY:])

    def _again(self, now: float, margin: int) -> int:
        """Look once more for senders of what was told lately: they may have come in meanwhile."""
        until = int(now * _US)
        if self._lately is None:
            everything = {"after": until - AGES_S[-1] * _US, "until": until}
            self._lately = self._remember(everything, {}, {})
            self._started = until
        since = until - _LATELY_S * _US
        if self._started < since:
            self._lately = {message: told_at for message, told_at in self._lately.items() if told_at > since}
        if not self._lately or now < self._lately_due:
            return 0
        began = time.monotonic()
        stretch = {"after": min(self._lately.values()) - 1, "until": max(self._lately.values())}
        senders = self._found("senders_of", {"messages": list(self._lately)})
        given = self._give(stretch, senders, margin)
        for message in senders:
            del self._lately[message]
        self._lately_due = now + min(_DUTY * (time.monotonic() - began), _REST_S)
        return given

    def _found(self, statement: str, asked: Mapping[str, Any]) -> dict[str, str]:
        return {row[0]: row[1] for row in self._engine.rows(statement, asked)}

    def _give(self, stretch: Mapping[str, int], senders: Mapping[str, str], margin: int) -> int:
        """Give what was told in a stretch of time (µs) to the messages of its senders, where that has not been done."""
        if not senders:
            return 0
        due = self._engine.rows("told_again", {**stretch, "messages": list(senders)})
        if not due:
            return 0
        messages = [message for (message,) in due]
        moved = {"messages": messages, "known_as": [senders[message] for message in messages]}
        self._engine.run_statement("move_facts", moved)
        self._engine.run_statement("note_known", {"upto": stretch["until"] - margin, **moved})
        return len(messages)
