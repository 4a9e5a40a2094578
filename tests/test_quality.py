"""Each verdict of data quality: where it holds, where it doesn't, and what it then says."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from d365_campaign import quality
from d365_campaign.quality import CheckSettings, Drifted, DriftLook, Unfit, Waiting

SETTINGS = CheckSettings()
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
KEYS = [f"c{n}" for n in range(9)]


@pytest.mark.parametrize(
    ("records", "usual", "passed"),
    [
        pytest.param(5000, None, True, id="nothing known yet"),
        pytest.param(10_000, 10_000, True, id="as usual"),
        pytest.param(14_999, 10_000, True, id="grown by just under a half"),
        pytest.param(15_000, 10_000, False, id="grown by a half"),
        pytest.param(5_001, 10_000, True, id="shrunk by just under a half"),
        pytest.param(5_000, 10_000, False, id="shrunk by a half"),
        pytest.param(0, 10_000, False, id="all gone"),
        pytest.param(10_000, 0, False, id="from nothing to much"),
        pytest.param(900, 10, True, id="small tables may do as they like"),
        pytest.param(0, 1000, True, id="small tables may empty"),
    ],
)
def test_volume_jumps_either_way(records: int, usual: float | None, passed: bool) -> None:
    verdict = quality.volume(records, usual, SETTINGS, KEYS)

    assert verdict.passed is passed
    assert ("checks.volume_change" in verdict.description) is not passed
    assert list(verdict.keys) == ([] if passed else KEYS[:5])


def test_unfit_values_are_told_by_field_in_the_check_they_belong_to() -> None:
    unfit = [
        Unfit("birthDate", False, 2, ["c1", "c2"]),
        Unfit("firstName", True, 7, ["c2", "c3"]),
        Unfit("lastName", True, 1, ["c9"]),
    ]
    converted, fits = quality.values_convert(unfit), quality.texts_fit(unfit)

    assert (converted.passed, converted.metadata, converted.keys) == (
        False,
        {"values": 2, "birthDate": 2},
        ["c1", "c2"],
    )
    assert fits.metadata == {"values": 8, "firstName": 7, "lastName": 1}
    assert "firstName (7), lastName (1)" in fits.description
    assert fits.keys == ["c2", "c3", "c9"]
    assert quality.values_convert([]).passed
    assert quality.texts_fit([]).passed


@pytest.mark.parametrize(
    ("waiting", "long", "orphans"),
    [
        pytest.param(Waiting(), True, True, id="nobody waits"),
        pytest.param(Waiting(3, 24 * 3600, ["c1"]), True, True, id="for a day"),
        pytest.param(Waiting(3, 24 * 3600 + 1, ["c1"]), False, True, id="for more than a day"),
        pytest.param(Waiting(3, 0, ["c1"], 1, ["c1"]), True, False, id="for what Dynamics doesn't have"),
    ],
)
def test_records_wait_for_a_while_only_and_for_what_there_is(waiting: Waiting, long: bool, orphans: bool) -> None:
    assert quality.none_waits_long(waiting, SETTINGS).passed is long
    assert quality.no_orphans(waiting).passed is orphans


@pytest.mark.parametrize(
    ("predicted", "made", "passed"),
    [
        pytest.param(0, 0, True, id="nothing"),
        pytest.param(100, 60, True, id="fewer: identical records"),
        pytest.param(100, 110, True, id="at the limit"),
        pytest.param(100, 111, False, id="over it"),
        pytest.param(0, 1, False, id="none was predicted"),
    ],
)
def test_calls_made_stay_near_those_predicted(predicted: int, made: int, passed: bool) -> None:
    verdict = quality.calls_as_predicted(predicted, made, SETTINGS)

    assert (verdict.passed, verdict.metadata) == (passed, {"predicted": predicted, "made": made})


@pytest.mark.parametrize(
    ("minutes", "changes_wait", "passed"),
    [
        pytest.param(1, True, True, id="changes came a minute ago"),
        pytest.param(60, True, True, id="at the limit"),
        pytest.param(61, True, False, id="changes wait for too long"),
        pytest.param(60 * 24 * 30, False, True, id="a quiet table is as fresh as it gets"),
        pytest.param(None, True, False, id="never read to its end"),
    ],
)
def test_snapshot_is_fresh_while_no_change_waits_for_long(
    minutes: float | None, changes_wait: bool, passed: bool
) -> None:
    caught_up = None if minutes is None else NOW - timedelta(minutes=minutes)
    verdict = quality.snapshot_fresh(caught_up, changes_wait=changes_wait, now=NOW, settings=SETTINGS)

    assert verdict.passed is passed


@pytest.mark.parametrize(
    ("age", "days", "passed", "warn", "says"),
    [
        pytest.param(None, 7, True, True, "no delta token yet", id="none yet"),
        pytest.param(timedelta(days=4.8), 7, True, True, "4.8 days old", id="below seventy percent"),
        pytest.param(timedelta(days=4.9), 7, False, True, "A sync renews it", id="seventy percent"),
        pytest.param(timedelta(days=4.9), 30, True, True, "for 30 days", id="an organisation that keeps it longer"),
        pytest.param(timedelta(days=7), 7, False, False, "reads the whole table anew", id="expired"),
    ],
)
def test_delta_token_warns_before_dynamics_forgets_it(
    age: timedelta | None, days: int, passed: bool, warn: bool, says: str
) -> None:
    verdict = quality.token_age(None if age is None else NOW - age, days, NOW, SETTINGS)

    assert (verdict.passed, verdict.warn) == (passed, warn)
    assert says in verdict.description


@pytest.mark.parametrize(
    ("drifted", "repair", "says"),
    [
        pytest.param([], False, ["50 of 9,000 records", "0 of them"], id="in step"),
        pytest.param(
            [Drifted("c1", ["email"]), Drifted("c2", ["email", "city"])],
            False,
            ["2 of them", "city (1), email (2)", "d365-campaign replay contact"],
            id="changed in Campaign",
        ),
        pytest.param([Drifted("c1", ["email"])], True, ["The next run brings them back"], id="to be repaired"),
        pytest.param([Drifted("c1", missing=True)], True, ["1 are gone", "--force"], id="gone, and left so"),
    ],
)
def test_drift_is_told_by_field_and_what_becomes_of_it(
    drifted: Sequence[Drifted], repair: bool, says: list[str]
) -> None:
    settings = CheckSettings(repair_drift=repair)
    verdict = quality.mirror_drift(DriftLook(50, 9000, drifted), settings, "contact")

    assert (verdict.passed, verdict.warn) == (not drifted, True)
    assert [told for told in says if told not in verdict.description] == []
    assert verdict.keys == [each.key for each in drifted]


@pytest.mark.parametrize("at", ["24:00", "4:00", "04:60", "noon"])
def test_time_of_the_daily_job_is_a_time(at: str) -> None:
    with pytest.raises(ValidationError, match="verify_at"):
        CheckSettings(verify_at=at)
