"""What a person sees and does in Dagster's UI, in a real browser over `dagster dev` and the sandbox.

The tests are one story: each goes on where the one before it left off.
"""

from collections.abc import Iterator

import pytest

from d365_campaign.rehearsal import Seed
from tests.browser.control_room import CHROMIUM, ControlRoom, control_room
from tests.browser.pages import Browser, browsing

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
CONTACTS = 40


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlRoom]:
    """Few records, and a guard that stops what deletes a tenth of them."""
    limits = {"min_deletes": 3, "max_delete_share": 0.1}
    seed = Seed(contacts=CONTACTS, accounts=4, purchases=10)
    with control_room(tmp_path_factory.mktemp("room"), seed, guardrails=limits) as room:
        yield room


@pytest.fixture(scope="module")
def browser(room: ControlRoom) -> Iterator[Browser]:
    with browsing(room) as browser:
        yield browser


def test_lineage_shows_both_systems_and_what_is_between_them_in_its_order(browser: Browser) -> None:
    lefts = browser.lineage()
    in_dynamics, snapshot, change_set = lefts["contact"]
    written, in_campaign = lefts["profile"]
    assert in_dynamics < snapshot < change_set < written < in_campaign
    assert max(lefts["account"]) < min(lefts["cusAccount"]) < written
    assert max(lefts["new_purchase"]) < min(lefts["cusPurchase"]) < max(lefts["cusPurchase"])
    files = [lefts[name][0] for name in ("exports", "opt_out_exports", "state", "to_campaign", "to_dynamics")]
    assert files == sorted(files)
    assert snapshot < lefts["state"][0]


def test_a_column_says_where_it_comes_from_before_anything_ran(browser: Browser) -> None:
    browser.open("/assets/dataverse/contact?view=overview")
    browser.shows("becomes profile.email")
    browser.open("/assets/adobe_campaign/profile?view=overview")
    browser.shows("Dynamics contact.gendercode: sent otherwise: 'Male' as 'male', 'Female' as 'female'")


def test_a_click_on_materialize_brings_campaign_into_step(browser: Browser, room: ControlRoom) -> None:
    assert room.profiles() == 0
    assert browser.materialize_all() == "Success"
    assert room.profiles() == CONTACTS


def test_the_plan_of_a_run_is_shown_as_a_table(browser: Browser) -> None:
    browser.open("/assets/change_set/contact?view=events")
    browser.shows(f"{CONTACTS} to be written, at {CONTACTS} engine calls at most.")
    assert browser.page.locator("table", has_text="refused, until it or the mapping changes").count()


def test_figures_are_plotted_once_there_are_several_runs(browser: Browser, room: ControlRoom) -> None:
    room.ask("PATCH", "dataverse/contacts/any", lastname="Hopper")
    assert browser.materialize_all() == "Success"
    plotted = browser.plots("campaign/profile")
    for figure in ("engine_calls", "engine_calls_saved", "backlog", "latency_seconds"):
        assert figure in {heading.split("\n")[0] for heading in plotted}, plotted


def test_a_check_that_blocks_is_seen_with_its_words_and_nothing_is_deleted(browser: Browser, room: ControlRoom) -> None:
    gone = 12
    room.ask("POST", "change", contacts={"delete": gone})
    browser.materialize_all()
    said = browser.check("change_set/contact", "delete_share")
    assert "Failed" in said
    assert "max_delete_share" in said
    assert f"{gone}" in said
    assert room.profiles() == CONTACTS


def test_the_pages_complained_of_nothing(browser: Browser) -> None:
    assert browser.complaints == []
