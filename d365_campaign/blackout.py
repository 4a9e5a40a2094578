"""Times at which nothing is written to Campaign, for instance while it is maintained; opt-outs pass them."""

import re
from collections.abc import Iterator, Sequence
from datetime import MAXYEAR, UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    WrapValidator,
    field_validator,
    model_validator,
)

Day = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
DAYS: Sequence[Day] = get_args(Day)
LOCAL_TIME = r"^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$"


def _local_time(value: object) -> object:
    """Only what is written as a time of day; pydantic would take a number for seconds, and an offset from UTC."""
    if not isinstance(value, time) and not (isinstance(value, str) and re.fullmatch(LOCAL_TIME, value)):
        raise ValueError("must be a local time from 00:00 to 23:59, as HH:MM.")
    return value


LocalTime = Annotated[time, BeforeValidator(_local_time), WithJsonSchema({"type": "string", "pattern": LOCAL_TIME})]


def _moment(value: object) -> datetime:
    """Only what is written as a moment, and tells its offset; pydantic would take a number for seconds since 1970."""
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        moment.astimezone(UTC)
    except (ValueError, OverflowError):
        moment = datetime.min
    if moment.tzinfo is None:
        raise ValueError("must be a moment with its offset from UTC, e.g. 2026-12-01T20:00:00Z.")
    return moment


Moment = Annotated[AwareDatetime, BeforeValidator(_moment)]


class SingleBlackout(BaseModel):
    """Once, from a moment to another; both tell their offset from UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    starts: Moment = Field(description="First moment without writes, e.g. 2026-12-01T20:00:00Z.")
    ends: Moment = Field(description="First moment with writes again, e.g. 2026-12-02T06:00:00Z.")

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> "SingleBlackout":
        if self.ends <= self.starts:
            raise ValueError("a blackout window must end after it starts. Correct starts or ends.")
        if self.ends.year == MAXYEAR:
            raise ValueError("a blackout window must end one day. Name a moment that may come.")
        return self

    def end_at(self, moment: datetime) -> datetime | None:
        """When the window that covers *moment* ends; None outside."""
        return self.ends.astimezone(UTC) if self.starts <= moment < self.ends else None


class WeeklyBlackout(BaseModel):
    """Every week on the same days; a window that ends before it starts goes on into the next day.

    Where a change of clocks skips or repeats its start or its end, the window is the longer one of the two that could
    be meant.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: Sequence[Day] = Field(default=DAYS, min_length=1, description="Days on which it starts; default every day.")
    starts: LocalTime = Field(description="Local time of its start, e.g. 22:00.")
    ends: LocalTime = Field(description="Local time of its end, e.g. 06:00; the same as its start is a whole day.")
    time_zone: str = Field(default="UTC", description="IANA name of the zone of both times, e.g. Europe/Berlin.")

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ValueError, OSError, KeyError):
            raise ValueError(f"'{name}' is no time zone. Use an IANA name, e.g. Europe/Berlin.") from None
        return name

    def end_at(self, moment: datetime) -> datetime | None:
        """When the window that covers *moment* ends; None outside."""
        today = moment.astimezone(ZoneInfo(self.time_zone)).date()
        for day in (today + timedelta(days=shift) for shift in (-1, 0, 1)):
            if DAYS[day.weekday()] not in self.days:
                continue
            last_day = day if self.ends > self.starts else day + timedelta(days=1)
            ends = max(self._readings(last_day, self.ends))
            if min(self._readings(day, self.starts)) <= moment < ends:
                return ends
        return None

    def _readings(self, day: date, local: time) -> Sequence[datetime]:
        """The one or two moments that a local time can mean."""
        zone = ZoneInfo(self.time_zone)
        return [datetime.combine(day, local.replace(fold=fold), zone).astimezone(UTC) for fold in (0, 1)]


def _by_shape(value: Any, _: object) -> SingleBlackout | WeeklyBlackout:
    """The kind of window that is meant, so that a fault is told of that kind only."""
    if isinstance(value, SingleBlackout):
        return value
    single = isinstance(value, dict) and not value.keys() & {"days", "time_zone"}
    moments = [value.get(name) for name in ("starts", "ends")] if single else []
    dated = any(isinstance(moment, datetime) or "-" in str(moment) for moment in moments)
    return (SingleBlackout if dated else WeeklyBlackout).model_validate(value)


BlackoutWindow = Annotated[SingleBlackout | WeeklyBlackout, WrapValidator(_by_shape)]


def blackout_end(windows: Sequence[BlackoutWindow], moment: datetime) -> datetime | None:
    """When the blackout that covers *moment* is over, windows that overlap or adjoin taken as one; None outside."""
    return [None, *_ends(windows, moment)][-1]


def _ends(windows: Sequence[BlackoutWindow], moment: datetime) -> Iterator[datetime]:
    """The end of the windows that cover *moment*, of those that cover that end, and so on."""
    while ends := [end for window in windows if (end := window.end_at(moment))]:
        moment = max(ends)
        yield moment


def _leave_time_to_write(windows: Sequence[BlackoutWindow]) -> Sequence[BlackoutWindow]:
    weekly = [window for window in windows if isinstance(window, WeeklyBlackout)]
    start = datetime(2026, 1, 5, tzinfo=UTC)
    if any(end - start > timedelta(days=8) for end in _ends(weekly, start)):
        raise ValueError("the windows leave no time in a week to write. Shorten one, or remove it.")
    return windows


BlackoutWindows = Annotated[Sequence[BlackoutWindow], AfterValidator(_leave_time_to_write)]
