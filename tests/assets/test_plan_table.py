"""The plan that a run shows, as Markdown."""

from assets.plan_table import plan_table
from d365_campaign.changes import ChangeSummary, Plan

FULL = Plan(
    ChangeSummary(
        insert=1200, update=30, adopt=4, delete=2, unchanged=5000, refused=7, deferred=8, held=1, filtered_out=9
    ),
    mirrored=5032,
    engine_calls_adobe=2500,
    busiest_fields={"email": 25, "location.city": 8},
    sample_keys={"insert": ["k1", "k2"], "delete": ["k3"]},
    scanned=11,
    scan_calls=2,
)


def test_a_plan_shows_what_would_happen_and_what_it_costs() -> None:
    assert plan_table(FULL, "contact", "profile") == (
        "**Dynamics contact → Campaign profile**: 1,236 to be written, at 1,270 engine calls at most.\n"
        "\n"
        "| what | records | engine calls | for instance |\n"
        "| --- | ---: | ---: | --- |\n"
        "| insert | 1,200 | 1,200 | `k1`, `k2` |\n"
        "| update | 30 | 60 |  |\n"
        "| adopt (it was there before) | 4 | 8 |  |\n"
        "| delete | 2 | 2 | `k3` |\n"
        "| unchanged | 5,000 | 0 |  |\n"
        "| refused, until it or the mapping changes | 7 | 0 |  |\n"
        "| deferred, until the record it waits for is written or gone | 8 | 0 |  |\n"
        "| held for privacy | 1 | 0 |  |\n"
        "| not taken in by the filter | 9 | 0 |  |\n"
        "\n"
        "Adobe's own integration would spend 2,500 engine calls on what Dynamics reported since the last sync. "
        "Campaign's 11 records were listed first, with 2 engine calls.\n"
        "\n"
        "| field | updates that it is part of |\n"
        "| --- | ---: |\n"
        "| `email` | 25 |\n"
        "| `location.city` | 8 |"
    )


def test_the_calls_of_all_kinds_add_up_to_those_of_the_plan() -> None:
    rows = [line.split(" | ") for line in plan_table(FULL, "contact", "profile").splitlines() if line.startswith("| ")]
    calls = sum(int(row[2].replace(",", "")) for row in rows if len(row) > 3 and row[2][0].isdigit())
    assert calls == FULL.summary.engine_calls


def test_a_plan_of_nothing_says_so_and_names_no_record_that_waits() -> None:
    waiting = Plan(ChangeSummary(refused=1), 0, 0, {}, {"insert": ["refused-key"]})
    shown = plan_table(waiting, "contact", "profile")
    assert shown.splitlines()[0] == "**Dynamics contact → Campaign profile**: nothing is to be written."
    assert "refused-key" not in shown
