"""The pictures in docs/images, taken anew: `make images`. They show the sandbox, made the same way each time."""

import sys
import tempfile
from pathlib import Path

from d365_campaign.rehearsal import Seed
from tests.browser.control_room import CHROMIUM, ROOT, ControlRoom, control_room
from tests.browser.pages import Browser, browsing

FOLDER = ROOT / "docs" / "images"
SEED = Seed(contacts=300, accounts=20, purchases=120, story=True)
# What happens between one run and the next, so that the plots have a course.
DAYS = [
    {"contacts": {"update": 25, "create": 6}, "purchases": {"create": 8}, "activate": True},
    {"contacts": {"update": 12, "create": 15}, "purchases": {"update": 5}},
]
# Edits of a column that is not mapped, each day: Adobe's own integration pays for them.
NOT_MAPPED = 15
MASS_DELETE = {"contacts": {"delete": 90}}
# Plots stand in the order of the alphabet; this one and what follows it are the ones to see.
FIRST_PLOT = "engine_calls"
WIDTH, LINEAGE_HEIGHT = 1600, 1100


def main() -> None:
    """Take every picture. Ends with a word where there is no Chromium."""
    if CHROMIUM is None:
        sys.exit("there is no Chromium here. Install it, for instance: apt-get install chromium")
    FOLDER.mkdir(parents=True, exist_ok=True)
    limits = {"min_deletes": 20}
    with (
        tempfile.TemporaryDirectory() as folder,
        control_room(Path(folder), SEED, guardrails=limits) as room,
        browsing(room, WIDTH) as browser,
    ):
        take_all(browser, room)


def take_all(browser: Browser, room: ControlRoom) -> None:
    for day in [None, *DAYS]:
        if day:
            room.ask("POST", "change", **day)
            for _ in range(NOT_MAPPED):
                room.ask("PATCH", "dataverse/contacts/any", description="Called back.")
        assert browser.materialize_all() == "Success"
    _make_room(browser)
    browser.lineage()
    browser.page.wait_for_timeout(8000)  # nodes learn their state one after the other
    _take(browser, "lineage", LINEAGE_HEIGHT)
    browser.plots("campaign/profile")
    browser.page.set_viewport_size({"width": WIDTH, "height": 1440})
    browser.page.get_by_text(FIRST_PLOT, exact=True).last.evaluate("heading => heading.scrollIntoView()")
    _take(browser, "plots", 1440)
    browser.open_last_run()
    _take(browser, "run", 900)
    room.ask("POST", "change", **MASS_DELETE)
    browser.materialize_all()
    browser.check("change_set/contact", "delete_share")
    _take(browser, "checks", 900)


def _make_room(browser: Browser) -> None:
    """Fold the navigation; it stays folded."""
    browser.page.set_viewport_size({"width": WIDTH, "height": LINEAGE_HEIGHT})
    browser.open("/asset-groups")
    browser.shows("Hide navigation").click()


def _take(browser: Browser, name: str, height: int) -> None:
    browser.page.set_viewport_size({"width": WIDTH, "height": height})
    browser.page.wait_for_timeout(2000)
    browser.page.screenshot(path=str(FOLDER / f"{name}.png"))
    print(f"docs/images/{name}.png")


if __name__ == "__main__":
    main()
