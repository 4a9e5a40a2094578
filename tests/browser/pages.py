"""Dagster's pages as a person goes through them: what is clicked, what is waited for, what is read."""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Locator, Page, sync_playwright

from tests.browser.control_room import CHROMIUM, ControlRoom

PATIENCE_SECONDS = 240.0
PAGE_MILLISECONDS = 60_000
ENDS = ("Success", "Failure", "Canceled")
# The nodes of the graph, by what stands in them, and where each begins; groups are boxes around them.
NODES = """() => [...document.querySelectorAll('svg foreignObject:not(.group)')]
    .map(node => [node.textContent.trim(), node.getBoundingClientRect().x])
    .filter(([name]) => name)"""


@dataclass
class Browser:
    """A page of a browser of its own. *complaints* are errors in its console, in order."""

    room: ControlRoom
    page: Page
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        self.page.goto(f"{self.room.url}{path}")

    def shows(self, words: str | re.Pattern[str]) -> Locator:
        """The first place where *words* stand, once they do."""
        found = self.page.get_by_text(words).first
        found.wait_for()
        return found

    # --- lineage ------------------------------------------------------------------------------------------------------

    def lineage(self) -> Mapping[str, list[float]]:
        """The whole graph with its groups unfolded: where the nodes of each name stand, from left to right."""
        self.open("/asset-groups")
        self.shows(re.compile("Materialize all"))
        self.shows("dynamics_365")
        self.page.keyboard.press("Alt+e")
        self.shows("to_dynamics")
        self.page.wait_for_timeout(1500)  # it glides into place
        places: dict[str, list[float]] = {}
        for name, left in self.page.evaluate(NODES):
            places.setdefault(name, []).append(left)
        return {name: sorted(lefts) for name, lefts in places.items()}

    # --- runs ---------------------------------------------------------------------------------------------------------

    def materialize_all(self) -> str:
        """Click on the lineage page, and wait; how the run ended."""
        before = len(self._runs())
        self.open("/asset-groups")
        self.shows(re.compile("Materialize all")).click()
        self.shows(re.compile("Launched run"))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            ended = self._runs()
            if len(ended) > before:
                return ended[0]
        raise AssertionError("no run ended in time")

    def open_last_run(self) -> None:
        self.open("/runs")
        link = self.page.locator("a[href^='/runs/']", has_text=re.compile("^[0-9a-f]{8}$")).first
        self.open(str(link.get_attribute("href")))
        self.shows(re.compile(r"Succeeded \("))

    def _runs(self) -> list[str]:
        """How runs ended, latest first; those that go on are left out."""
        self.open("/runs")
        self.shows(re.compile("Created at|No runs"))
        self.page.wait_for_timeout(1500)
        return [str(text) for text in self.page.get_by_text(re.compile(f"^({'|'.join(ENDS)})$")).all_inner_texts()]

    # --- one asset ----------------------------------------------------------------------------------------------------

    def check(self, asset: str, name: str) -> str:
        """All that the tab of an asset's checks says, with the check *name* opened."""
        self.open(f"/assets/{asset}?view=checks")
        self.shows(name).click()
        self.shows("Latest execution")
        self.page.wait_for_timeout(500)
        return self.page.inner_text("body")

    def plots(self, asset: str) -> list[str]:
        """The figures that are plotted for an asset, each with its canvas."""
        self.open(f"/assets/{asset}?view=overview")
        self.page.get_by_role("button", name="Plots").click()
        self.page.locator("canvas").first.wait_for()
        plotted: list[str] = []
        for _ in range(20):  # they are drawn one after the other
            self.page.wait_for_timeout(1500)
            before, plotted = plotted, [str(text) for text in self.page.evaluate(PLOTTED)]
            if plotted == before:
                break
        return plotted


# The heading over each chart.
PLOTTED = """() => [...document.querySelectorAll('canvas')].map(canvas => {
    let box = canvas.parentElement;
    while (box && !box.textContent.trim()) box = box.parentElement;
    return box.textContent.trim();
})"""


@contextmanager
def browsing(room: ControlRoom, width: int = 1600, height: int = 1000) -> Iterator[Browser]:
    """Headless Chromium, looking at *room*."""
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            page = chromium.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(PAGE_MILLISECONDS)
            browser = Browser(room, page)
            page.on("console", lambda said: browser.complaints.append(said.text) if said.type == "error" else None)
            page.on("pageerror", lambda error: browser.complaints.append(str(error)))
            yield browser
        finally:
            chromium.close()
