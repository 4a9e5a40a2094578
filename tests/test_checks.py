"""Each verdict's two sides."""

import pytest

from d365_campaign import checks
from d365_campaign.changes import ChangeSummary


def test_snapshot_without_repeated_keys_passes() -> None:
    assert checks.keys_unique(0).passed


def test_repeated_keys_are_counted_and_stop_the_run() -> None:
    verdict = checks.keys_unique(3)

    assert not verdict.passed
    assert not verdict.warn
    assert verdict.metadata == {"repeated": 3}


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
