"""Each verdict's two sides."""

import pytest

from d365_campaign import checks
from d365_campaign.changes import ChangeSummary, KeyFaults


@pytest.mark.parametrize(
    ("faults", "unique", "present"),
    [
        pytest.param(KeyFaults(), True, True, id="sound keys"),
        pytest.param(KeyFaults(repeated=3, keys=("c1", "c2")), False, True, id="repeated"),
        pytest.param(KeyFaults(missing=2), True, False, id="missing"),
    ],
)
def test_keys_are_unique_and_present(faults: KeyFaults, unique: bool, present: bool) -> None:
    repeated, missing = checks.keys_unique(faults, "contact"), checks.keys_present(faults, "contact")

    assert (repeated.passed, missing.passed) == (unique, present)
    assert (repeated.metadata, missing.metadata) == ({"repeated": faults.repeated}, {"missing": faults.missing})
    assert repeated.keys == faults.keys
    for verdict in (repeated, missing):
        assert ("d365-campaign replay contact" in verdict.description) is not verdict.passed
        assert verdict.name in checks.BLOCKING
        assert not verdict.warn


def test_blocked_table_tells_what_stopped_it_and_names_a_few_keys() -> None:
    deletes = checks.delete_share(ChangeSummary(delete=9), 10, 0.2, 0, [f"c{n}" for n in range(9)])
    verdict = checks.not_blocked([checks.large_load(ChangeSummary(insert=9), 5, None, "contact"), deletes])

    assert not verdict.passed
    assert verdict.description.startswith("Nothing of this table was written. The plan writes 9 records")
    assert "The plan deletes 9 of 10" in verdict.description
    assert verdict.keys == ["c0", "c1", "c2", "c3", "c4"]
    assert checks.not_blocked([]).passed


@pytest.mark.parametrize(
    ("deletes", "mirrored", "passed"),
    [
        pytest.param(0, 0, True, id="nothing known, nothing deleted"),
        pytest.param(5, 5, True, id="few deletes pass whatever their share"),
        pytest.param(6, 30, True, id="exactly the allowed share"),
        pytest.param(6, 29, False, id="just over the share and the number"),
        pytest.param(1000, 1000, False, id="a table that came back empty"),
    ],
)
def test_plan_deletes_no_larger_share_than_allowed(deletes: int, mirrored: int, passed: bool) -> None:
    verdict = checks.delete_share(ChangeSummary(delete=deletes), mirrored, max_share=0.2, min_deletes=5)

    assert verdict.passed is passed
    assert ("raise guardrails.max_delete_share" in verdict.description) is not passed


def test_refused_records_are_a_warning_only() -> None:
    assert checks.none_refused(0).passed
    assert not checks.none_refused(2).passed
    assert checks.none_refused(2).warn


@pytest.mark.parametrize(
    ("spent", "budget", "passed", "warn"),
    [
        pytest.param(10**9, None, True, False, id="no budget"),
        pytest.param(79, 100, True, True, id="below the warning"),
        pytest.param(80, 100, False, True, id="from the warning on"),
        pytest.param(99, 100, False, True, id="one call left"),
        pytest.param(100, 100, False, False, id="spent"),
        pytest.param(0, 0, False, False, id="a budget of nothing is spent"),
    ],
)
def test_budget_warns_before_it_stops(spent: int, budget: int | None, passed: bool, warn: bool) -> None:
    verdict = checks.engine_call_budget(spent, budget, 0.8, "daily")

    assert (verdict.name, verdict.passed, verdict.warn) == ("daily_budget", passed, warn)
    assert ("No new work is started" in verdict.description) is (not passed and not warn)
