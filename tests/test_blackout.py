"""Blackout windows: when they begin, when they are over, and which ones make no sense. R61."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from d365_campaign.blackout import DAYS, BlackoutWindow, BlackoutWindows, WeeklyBlackout, blackout_end

NIGHT = {"starts": "22:00", "ends": "06:00"}
BERLIN = {"time_zone": "Europe/Berlin"}
MAINTENANCE = {"starts": "2026-12-01T20:00:00Z", "ends": "2026-12-02T06:00:00+01:00"}


def windows(*given: dict[str, Any]) -> Any:
    return TypeAdapter(BlackoutWindows).validate_python(list(given))


def end(moment: str, *given: dict[str, Any]) -> str | None:
    """When the blackout at *moment* is over, both in UTC."""
    found = blackout_end(windows(*given), datetime.fromisoformat(moment).replace(tzinfo=UTC))
    return found and found.replace(tzinfo=None).isoformat(timespec="minutes")


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-12-01T19:59:59", None),
        ("2026-12-01T20:00", "2026-12-02T05:00"),
        ("2026-12-02T04:59:59", "2026-12-02T05:00"),
        ("2026-12-02T05:00", None),
        ("2027-12-01T21:00", None),
    ],
)
def test_single_window_covers_its_start_and_not_its_end(moment: str, expected: str | None) -> None:
    assert end(moment, MAINTENANCE) == expected


@pytest.mark.parametrize(
    ("window", "moment", "expected"),
    [
        pytest.param(NIGHT, "2026-01-05T21:59:59", None, id="just before"),
        pytest.param(NIGHT, "2026-01-05T22:00", "2026-01-06T06:00", id="first moment"),
        pytest.param(NIGHT, "2026-01-06T00:00", "2026-01-06T06:00", id="midnight"),
        pytest.param(NIGHT, "2026-01-06T05:59:59", "2026-01-06T06:00", id="last moment"),
        pytest.param(NIGHT, "2026-01-06T06:00", None, id="just after"),
        pytest.param({**NIGHT, "days": ["monday"]}, "2026-01-05T23:00", "2026-01-06T06:00", id="evening of its day"),
        pytest.param({**NIGHT, "days": ["monday"]}, "2026-01-06T05:00", "2026-01-06T06:00", id="morning after"),
        pytest.param({**NIGHT, "days": ["monday"]}, "2026-01-05T05:00", None, id="morning of its day"),
        pytest.param({**NIGHT, "days": ["monday"]}, "2026-01-06T23:00", None, id="evening after"),
        pytest.param({**NIGHT, "days": ["sunday"]}, "2026-01-05T01:00", "2026-01-05T06:00", id="from one week on"),
        pytest.param({"starts": "12:00", "ends": "13:00"}, "2026-01-05T12:30", "2026-01-05T13:00", id="in one day"),
        pytest.param({"starts": "12:00", "ends": "13:00"}, "2026-01-05T00:30", None, id="outside, in one day"),
        pytest.param(
            {"starts": "08:00", "ends": "08:00", "days": ["sunday"]}, "2026-01-05T07:59", "2026-01-05T08:00", id="a day"
        ),
        pytest.param({"starts": "00:00:30", "ends": "00:01"}, "2026-01-05T00:00:29", None, id="to the second"),
        pytest.param({**NIGHT, **BERLIN}, "2026-01-05T21:00", "2026-01-06T05:00", id="winter in Berlin"),
        pytest.param({**NIGHT, **BERLIN}, "2026-07-06T20:00", "2026-07-07T04:00", id="summer in Berlin"),
        pytest.param(
            {**NIGHT, "time_zone": "Pacific/Kiritimati", "days": ["tuesday"]},
            "2026-01-06T08:00",
            "2026-01-06T16:00",
            id="far east of Greenwich",
        ),
        pytest.param(
            {**NIGHT, "time_zone": "America/Los_Angeles", "days": ["monday"]},
            "2026-01-06T13:59",
            "2026-01-06T14:00",
            id="far west of Greenwich",
        ),
    ],
)
def test_weekly_window_goes_by_the_clock_on_the_wall(window: Any, moment: str, expected: str | None) -> None:
    assert end(moment, window) == expected


# Berlin, 2026: at 01:00 UTC on 29 March the clock goes from 02:00 to 03:00, on 25 October from 03:00 to 02:00.
@pytest.mark.parametrize(
    ("starts", "ends", "begin", "over"),
    [
        pytest.param("22:00", "06:00", "2026-03-28T21:00", "2026-03-29T04:00", id="short night of spring"),
        pytest.param("22:00", "06:00", "2026-10-24T20:00", "2026-10-25T05:00", id="long night of autumn"),
        pytest.param("02:30", "04:00", "2026-03-29T00:30", "2026-03-29T02:00", id="start that is skipped"),
        pytest.param("01:00", "02:30", "2026-03-29T00:00", "2026-03-29T01:30", id="end that is skipped"),
        pytest.param("02:15", "02:45", "2026-03-29T00:15", "2026-03-29T01:45", id="both skipped"),
        pytest.param("02:30", "04:00", "2026-10-25T00:30", "2026-10-25T03:00", id="start that comes twice"),
        pytest.param("01:00", "02:30", "2026-10-24T23:00", "2026-10-25T01:30", id="end that comes twice"),
        pytest.param("02:15", "02:45", "2026-10-25T00:15", "2026-10-25T01:45", id="both twice"),
    ],
)
def test_window_at_a_change_of_clocks_is_the_longer_one(starts: str, ends: str, begin: str, over: str) -> None:
    night = {"starts": starts, "ends": ends, **BERLIN}
    just_before = (datetime.fromisoformat(begin) - timedelta(seconds=1)).isoformat()

    assert end(just_before, night) is None
    assert end(begin, night) == over
    assert end(over, night) is None


def test_window_that_a_change_of_clocks_at_midnight_moves_to_the_day_before_is_seen() -> None:
    """In Cairo 24 April 2026 begins at 01:00, which is 22:00 UTC; half past midnight is then half past eleven too."""
    night = {"starts": "00:30", "ends": "02:00", "time_zone": "Africa/Cairo", "days": ["friday"]}

    assert end("2026-04-23T21:29:59", night) is None
    assert end("2026-04-23T21:30", night) == "2026-04-23T23:00"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param([NIGHT, {"starts": "06:00", "ends": "07:00"}], "2026-12-02T07:00", id="adjoining"),
        pytest.param([NIGHT, {"starts": "05:00", "ends": "07:00"}], "2026-12-02T07:00", id="overlapping"),
        pytest.param([NIGHT, {"starts": "23:00", "ends": "23:30"}], "2026-12-02T06:00", id="one inside the other"),
        pytest.param([NIGHT, {"starts": "06:01", "ends": "07:00"}], "2026-12-02T06:00", id="a minute between"),
        pytest.param(
            [{"starts": "06:00", "ends": "07:00"}, MAINTENANCE, {"starts": "05:00", "ends": "06:00"}],
            "2026-12-02T07:00",
            id="single and weekly in a chain",
        ),
        pytest.param(
            [{"starts": "00:00", "ends": "00:00", "days": ["tuesday", "wednesday"]}], "2026-12-03T00:00", id="two days"
        ),
        pytest.param([], None, id="none at all"),
    ],
)
def test_windows_that_touch_are_one(given: list[dict[str, Any]], expected: str | None) -> None:
    assert end("2026-12-01T23:00", *given) == expected


TIMES = st.times().map(lambda time: time.replace(second=0, microsecond=0, fold=0))
WEEKLY = st.builds(
    WeeklyBlackout,
    days=st.lists(st.sampled_from(DAYS), min_size=1, max_size=2),
    starts=TIMES,
    ends=TIMES,
    time_zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns"]),
)


@given(
    st.lists(WEEKLY, max_size=3),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)).map(
        lambda moment: moment.replace(microsecond=0)
    ),
    st.floats(0, 0.999),
)
def test_blackout_has_no_gap_before_its_end_and_is_over_then(
    given_windows: list[BlackoutWindow], moment: datetime, part: float
) -> None:
    over = blackout_end(given_windows, moment)

    if over is None:
        assert not any(window.end_at(moment) for window in given_windows)
    else:
        between = moment + part * (over - moment)
        assert moment <= between < over
        assert blackout_end(given_windows, between) == over
        assert blackout_end(given_windows, over) is None


@given(WEEKLY, st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.timezones()))
def test_moment_may_come_in_any_time_zone(window: WeeklyBlackout, moment: datetime) -> None:
    found = blackout_end([window], moment)

    assert found == blackout_end([window], moment.astimezone(UTC))
    assert found is None or found.tzinfo is UTC


# --- what is refused --------------------------------------------------------------------------------------------------

LOCAL = "Value error, must be a local time from 00:00 to 23:59, as HH:MM."
MOMENT = "Value error, must be a moment with its offset from UTC, e.g. 2026-12-01T20:00:00Z."


@pytest.mark.parametrize(
    ("window", "faults"),
    [
        pytest.param({**NIGHT, "starts": 1320}, {"starts": LOCAL}, id="number for a time"),
        pytest.param({**NIGHT, "starts": "2200"}, {"starts": LOCAL}, id="time without a colon"),
        pytest.param({**NIGHT, "ends": "24:00"}, {"ends": LOCAL}, id="no such hour"),
        pytest.param({**NIGHT, "ends": "06:00Z"}, {"ends": LOCAL}, id="time with an offset"),
        pytest.param({"starts": "22h", "ends": "6h"}, {"starts": LOCAL, "ends": LOCAL}, id="two faults"),
        pytest.param({**MAINTENANCE, **BERLIN}, {"starts": LOCAL, "ends": LOCAL}, id="moments in a time zone"),
        pytest.param({**MAINTENANCE, "starts": "2026-12-01T20:00:00"}, {"starts": MOMENT}, id="moment without offset"),
        pytest.param({**MAINTENANCE, "starts": "2026-12-01"}, {"starts": MOMENT}, id="day for a moment"),
        pytest.param({**MAINTENANCE, "ends": 1796155200}, {"ends": MOMENT}, id="number for a moment"),
        pytest.param({**MAINTENANCE, "ends": "06:00"}, {"ends": MOMENT}, id="local time for a moment"),
        pytest.param(
            {**MAINTENANCE, "ends": "2026-12-01T20:00:00Z"},
            {"": "Value error, a blackout window must end after it starts. Correct starts or ends."},
            id="ends when it starts",
        ),
        pytest.param(
            {**MAINTENANCE, "ends": "9999-12-31T23:59:59Z"},
            {"": "Value error, a blackout window must end one day. Name a moment that may come."},
            id="never ends",
        ),
        pytest.param(
            {**NIGHT, "time_zone": "Europe/Bonn"},
            {"time_zone": "Value error, 'Europe/Bonn' is no time zone. Use an IANA name, e.g. Europe/Berlin."},
            id="unknown time zone",
        ),
        pytest.param(
            {**NIGHT, "time_zone": "Europe"},
            {"time_zone": "Value error, 'Europe' is no time zone. Use an IANA name, e.g. Europe/Berlin."},
            id="folder of time zones",
        ),
        pytest.param(
            {**NIGHT, "time_zone": "../UTC"},
            {"time_zone": "Value error, '../UTC' is no time zone. Use an IANA name, e.g. Europe/Berlin."},
            id="path for a time zone",
        ),
        pytest.param({"starts": "22:00"}, {"ends": "Field required"}, id="no end"),
        pytest.param({}, {"starts": "Field required", "ends": "Field required"}, id="nothing"),
        pytest.param({**NIGHT, "until": 1}, {"until": "Extra inputs are not permitted"}, id="unknown key"),
    ],
)
def test_window_that_makes_no_sense_is_told_once_for_each_fault(window: Any, faults: dict[str, str]) -> None:
    with pytest.raises(ValidationError) as refused:
        windows(window)

    told = refused.value.errors()
    assert [(".".join(map(str, fault["loc"][1:])), fault["msg"]) for fault in told] == list(faults.items())


@pytest.mark.parametrize(
    "given",
    [
        pytest.param([{"starts": "00:00", "ends": "00:00"}], id="every whole day"),
        pytest.param([NIGHT, {"starts": "06:00", "ends": "22:00"}], id="night and day"),
        pytest.param([{"starts": "03:00", "ends": "03:00", **BERLIN}, MAINTENANCE], id="elsewhere"),
    ],
)
def test_windows_that_leave_no_time_to_write_are_refused(given: list[dict[str, Any]]) -> None:
    with pytest.raises(ValidationError, match=r"leave no time in a week to write\. Shorten one, or remove it"):
        windows(*given)


def test_windows_may_cover_all_of_a_week_but_an_hour() -> None:
    hour = {"starts": "01:00", "ends": "00:00", "days": ["wednesday"]}
    rest = {"starts": "00:00", "ends": "00:00", "days": [day for day in DAYS if day != "wednesday"]}

    assert end("2026-01-08T12:00", hour, rest) == "2026-01-14T00:00"


def test_windows_come_back_as_they_were_given() -> None:
    adapter = TypeAdapter(BlackoutWindows)
    given_windows = windows({**NIGHT, "days": ["monday"]}, MAINTENANCE)

    assert adapter.validate_python(given_windows) == given_windows
    assert adapter.validate_json(adapter.dump_json(given_windows)) == given_windows
