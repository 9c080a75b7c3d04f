"""What a question is about: a stretch of time, and for a search what to look for."""

from dataclasses import dataclass
from datetime import datetime

from hopwatch_collector.api.models import Verdict


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time, both ends included."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What to look for: `q` as a person typed it, and filters; None: any."""

    q: str
    service: str | None
    destination: str | None
    receiver: str | None
    verdicts: frozenset[Verdict] | None
    window: Window
    limit: int
