"""Waiting: the shared gate on a clock of its own, and Retry-After in both its forms."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d365_campaign.clients.throttle import ThrottleGate, http_date, retry_after_seconds
from d365_campaign.errors import RetriableError


class FakeTime:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


def gate_on(time: FakeTime, rate: float | None = None) -> ThrottleGate:
    return ThrottleGate(rate, clock=time.clock, sleep=time.sleep)


def test_an_open_gate_makes_nobody_wait(time: FakeTime) -> None:
    gate = gate_on(time)

    for _ in range(100):
        gate.pass_through(0)

    assert time.now == 100.0


def test_a_rate_spreads_requests_evenly(time: FakeTime) -> None:
    gate = gate_on(time, rate=4)

    for _ in range(9):
        gate.pass_through(60)

    assert time.now == pytest.approx(102.0)


def test_a_hold_closes_the_gate_for_everybody_until_it_ends(time: FakeTime) -> None:
    gate = gate_on(time)
    gate.hold(3)

    gate.pass_through(10)

    assert time.now == 103.0


def test_the_longest_of_several_holds_counts(time: FakeTime) -> None:
    gate = gate_on(time)
    gate.hold(5)
    gate.hold(2)

    gate.pass_through(10)

    assert time.now == 105.0


def test_a_hold_longer_than_one_may_wait_is_refused_at_once_and_tells_how_long(time: FakeTime) -> None:
    gate = gate_on(time)
    gate.hold(600)

    with pytest.raises(RetriableError) as caught:
        gate.pass_through(60)

    assert caught.value.retry_after_seconds == 600
    assert time.now == 100.0


def test_a_hold_that_comes_while_one_waits_is_waited_for_too() -> None:
    time = FakeTime()

    def sleep_and_be_held(seconds: float) -> None:
        time.now += seconds
        if time.now < 103:
            gate.hold(4)

    gate = ThrottleGate(None, clock=time.clock, sleep=sleep_and_be_held)
    gate.hold(2)

    gate.pass_through(60)

    assert time.now == 106.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({"Retry-After": "7"}, 7.0, id="seconds"),
        pytest.param({"Retry-After": " 0 "}, 0.0, id="zero"),
        pytest.param(
            {"Retry-After": "Wed, 21 Oct 2015 07:28:10 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"},
            10.0,
            id="a date, against the answer's own clock",
        ),
        pytest.param(
            {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT", "Date": "Wed, 21 Oct 2015 07:29:00 GMT"},
            0.0,
            id="a date that has passed",
        ),
        pytest.param({"Retry-After": "soon"}, None, id="unreadable"),
        pytest.param({"Retry-After": "-5"}, None, id="negative"),
        pytest.param({}, None, id="absent"),
    ],
)
def test_retry_after_is_read_in_both_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers) == seconds


def test_a_retry_date_without_a_date_header_is_held_against_our_clock() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)

    assert retry_after_seconds({"Retry-After": later}) == pytest.approx(29.5, abs=1.5)


@given(st.text(max_size=40))
def test_no_retry_after_text_ever_breaks_a_run(text: str) -> None:
    seconds = retry_after_seconds({"Retry-After": text})

    assert seconds is None or seconds >= 0


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2100, 1, 1)))
def test_http_dates_come_back_to_the_second(moment: datetime) -> None:
    moment = moment.replace(tzinfo=UTC, microsecond=0)

    assert http_date(format_datetime(moment, usegmt=True)) == moment
