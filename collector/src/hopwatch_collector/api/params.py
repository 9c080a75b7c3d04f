"""The query parameters of every route: bounded, and refused with what would have been accepted."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from hopwatch_collector.api.models import UNDELIVERED, FlowState, Verdict
from hopwatch_collector.query.window import Window

MAX_LIMIT = 1000
DEFAULT_LIMIT = 100
MAX_TEXT = 512
"""Characters of a name or id asked for; longer than any broker allows."""

ACCEPTED_TIMES = (
    "a time is RFC 3339 with an offset, such as 2026-01-31T08:00:00Z or 2026-01-31T09:00:00%2B01:00, "
    "or how long ago it was: 30s, 15m, 2h, 7d, 2w, now"
)
_RELATIVE = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d{1,9})?(?:([Zz])|([+\- ])(\d\d:\d\d))", re.ASCII
)
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)
"""What the store's clock columns hold, with room."""


def parse_time(text: str, now: datetime) -> datetime:
    """The moment `text` names, in UTC; `now` is what relative times count back from.

    Raises ValueError that says what is accepted.
    """
    text = text.strip()
    if text == "now":
        return now
    if relative := _RELATIVE.fullmatch(text):
        back = timedelta(**{_UNITS[relative[2]]: int(relative[1])})
        return max(now - min(back, now - EARLIEST), EARLIEST)
    if absolute := _RFC3339.fullmatch(text):
        return _absolute(absolute)
    raise ValueError(ACCEPTED_TIMES)


def _absolute(found: re.Match[str]) -> datetime:
    date, time, fraction, zulu, sign, offset = found.groups()
    # A plus sign that nobody escaped arrives as a blank.
    zone = "+00:00" if zulu else f"{'-' if sign == '-' else '+'}{offset}"
    try:
        moment = datetime.fromisoformat(f"{date}T{time}{(fraction or '')[:7]}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"there is no such time; {ACCEPTED_TIMES}") from None
    if not EARLIEST <= moment <= LATEST:
        raise ValueError(f"the time must be from {EARLIEST:%Y} to {LATEST:%Y}")
    return moment


def _parse(value: object) -> datetime:
    if not isinstance(value, str):
        raise ValueError(ACCEPTED_TIMES)
    return parse_time(value, datetime.now(UTC))


def _time_schema(example: str) -> dict[str, Any]:
    return {"type": "string", "examples": [example, "2026-01-31T08:00:00Z"]}


Since = Annotated[datetime, BeforeValidator(_parse), WithJsonSchema(_time_schema("15m"))]
Until = Annotated[datetime, BeforeValidator(_parse), WithJsonSchema(_time_schema("now"))]


def _plain(text: str) -> str | None:
    if "\x00" in text:
        raise ValueError("a NUL character is never part of a name")
    return text or None


Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_plain)]
"""A name asked for; empty means not asked for."""
Limit = Annotated[
    int, Field(ge=1, le=MAX_LIMIT, description="How many rows at most", examples=[DEFAULT_LIMIT])
]
VERDICTS_ASKED = ("undelivered", *Verdict)


def _known(verdict: str) -> str:
    if verdict not in VERDICTS_ASKED:
        raise ValueError(f"a verdict is one of {', '.join(VERDICTS_ASKED)}")
    return verdict


VerdictAsked = Annotated[
    str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": list(VERDICTS_ASKED)})
]


class Asked(BaseModel):
    """Base of all parameter sets: an unknown parameter is a mistake worth telling."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TimeAsked(Asked):
    """A stretch of time."""

    since: Since = Field(default="1h", validate_default=True, description=f"Start; {ACCEPTED_TIMES}")
    until: Until = Field(default="now", validate_default=True, description="End, like `since`")

    @field_validator("until")
    @classmethod
    def _after_since(cls, until: datetime, others: ValidationInfo) -> datetime:
        since: datetime | None = others.data.get("since")
        if since is not None and since >= until:
            raise ValueError(f"until must be after since, but {until:%FT%TZ} is not after {since:%FT%TZ}")
        return until

    @property
    def window(self) -> Window:
        """The same, as the queries take it."""
        return Window(since=self.since, until=self.until)


class FlowsAsked(TimeAsked):
    """Parameters of /flows."""

    service: Text | None = Field(
        default=None, description="Flows this service took part in", examples=["orders"]
    )
    destination: Text | None = Field(
        default=None, description="Flows with a hop to this destination", examples=["orders.placed"]
    )
    state: FlowState | None = Field(
        default=None, description="Flows in this state only", examples=["undelivered"]
    )
    limit: Limit = DEFAULT_LIMIT


class DeliveriesAsked(TimeAsked):
    """Parameters of /deliveries."""

    destination: Text | None = Field(
        default=None, description="Where it was sent", examples=["orders.placed"]
    )
    receiver: Text | None = Field(default=None, description="Who was owed it", examples=["billing"])
    service: Text | None = Field(
        default=None, description="Its producer or its consumer", examples=["orders"]
    )
    limit: Limit = DEFAULT_LIMIT
    verdict: list[VerdictAsked] = Field(
        default=[],
        max_length=len(Verdict) + 1,
        description="Repeatable; `undelivered` stands for every verdict a person should look at",
        examples=[["undelivered"]],
    )

    @property
    def verdicts(self) -> frozenset[Verdict] | None:
        """The single verdicts asked for; None: any."""
        if not self.verdict:
            return None
        single = frozenset(Verdict(one) for one in self.verdict if one != "undelivered")
        return single | UNDELIVERED if "undelivered" in self.verdict else single


class DeliveryPageAsked(DeliveriesAsked):
    """Parameters of /deliveries, one page of them."""

    cause: list[Text] = Field(
        default=[],
        max_length=100,
        description="Repeatable: causes as answers have them",
        examples=[["overdue.held"]],
    )

    cursor: Annotated[str, Field(max_length=4 * MAX_TEXT)] | None = Field(
        default=None, description="`next_cursor` of the page before"
    )

    @property
    def causes(self) -> frozenset[str] | None:
        """The causes asked for; None: any."""
        return frozenset(self.cause) or None


class UndeliveredAsked(DeliveriesAsked):
    """Parameters of /undelivered; of the verdicts asked for, those count that mean undelivered."""


class SearchAsked(DeliveriesAsked):
    """Parameters of /search."""

    q: Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(lambda q: _plain(q) or "")] = Field(
        default="",
        description="Message id, alias, trace id, flow id or the value of a business key; "
        "`key=value` asks for one business key. May be empty where another parameter is given.",
        examples=["order_id=4711"],
    )


class LagAsked(Asked):
    """Parameters of /lag."""

    since: Since | None = Field(
        default=None,
        description="Receivers for which something waits that was sent since then, or that received something since "
        f"then; none given: all of the last hour; {ACCEPTED_TIMES}",
    )


class TopologyAsked(TimeAsked):
    """Parameters of /topology."""


class LossesAsked(Asked):
    """Parameters of /losses."""

    since: Since = Field(default="1h", validate_default=True, description=f"Start; {ACCEPTED_TIMES}")
    limit: Limit = DEFAULT_LIMIT


class ClocksAsked(Asked):
    """Parameters of /clocks."""

    at: Until = Field(
        default="now", validate_default=True, description=f"Around which moment; {ACCEPTED_TIMES}"
    )


class LiveAsked(Asked):
    """Parameters of one live snapshot."""

    window: float = Field(
        default=300, ge=1, le=86_400, description="How many seconds back a snapshot looks", examples=[300]
    )


class LiveStreamAsked(LiveAsked):
    """Parameters of the live stream."""

    interval: float = Field(
        default=1,
        ge=0.2,
        le=60,
        description="Seconds between snapshots; a quarter of that where something new has come in",
        examples=[1],
    )
