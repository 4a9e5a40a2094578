"""What the pages point at is there: tests, files and headings; and docs/contract.md leaves no rule out."""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")), *ROOT.glob("docs/*.md")]
CONTRACT = ROOT / "docs" / "contract.md"
# The rules and readings that have a row of their own, first and last of each run.
RULES = [(1, 67), (69, 71), (78, 109), (111, 121)]
READINGS = [(1, 22)]
LAST_RULE, LAST_READING = 121, 22


def numbers(*runs: tuple[int, int]) -> set[int]:
    return {number for first, last in runs for number in range(first, last + 1)}


def named(letter: str, text: str) -> set[int]:
    """The numbers of the rules (R) or readings (A) that *text* names, those in between of "R13 to R31" included."""
    found = re.findall(rf"\b{letter}(\d+)(?: to {letter}(\d+))?\b", text)
    return numbers(*((int(first), int(last or first)) for first, last in found))


def rows(page: Path) -> Iterator[Sequence[str]]:
    """The cells of every row of a table of rules."""
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.match(r"\| [RA]\d", line):
            yield cells


def section(page: Path, heading: str) -> str:
    """What stands under a heading, up to the next one."""
    return page.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]


def named_tests(text: str) -> Sequence[tuple[str, str]]:
    """File, below tests/, and name of every test in *text*."""
    return re.findall(r"`([\w/]+\.py)::(\w+)`", text)


@cache
def defined_tests(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


# --- the contract ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("file", "test"), sorted(set(named_tests(CONTRACT.read_text(encoding="utf-8")))))
def test_every_test_that_the_contract_names_is_there(file: str, test: str) -> None:
    assert (ROOT / "tests" / file).is_file()
    assert test in defined_tests(ROOT / "tests" / file), f"{file} has no {test}: name the one that shows it now"


def test_every_rule_has_a_row_or_is_said_not_to_be_built() -> None:
    in_rows: Mapping[str, set[int]] = {
        letter: {number for rule, *_ in rows(CONTRACT) for number in named(letter, rule)} for letter in "RA"
    }
    assert in_rows["R"] == numbers(*RULES)
    assert in_rows["A"] == numbers(*READINGS)
    not_built = section(CONTRACT, "Not built yet")
    assert in_rows["R"] | named("R", not_built) == numbers((1, LAST_RULE))
    assert in_rows["A"] | named("A", not_built) == numbers((1, LAST_READING))


@pytest.mark.parametrize("row", list(rows(CONTRACT)), ids=lambda row: row[0])
def test_every_row_says_what_is_done_and_what_shows_it(row: Sequence[str]) -> None:
    _, done, shown = row
    assert len(done.split()) > 3
    assert named_tests(shown) or shown in ("no test", "documentation only")
    assert not re.sub(r"`[\w/]+\.py::test_\w+`|, |no test|documentation only", "", shown), "something else stands there"


# --- links ----------------------------------------------------------------------------------------------------------


def links(page: Path) -> Sequence[str]:
    """Where the links of a page lead, other than to another host."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def headings(page: Path) -> set[str]:
    """What a link may name behind `#`, by the way in which headings become names."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_pages_have_links_to_look_at() -> None:
    assert sum(len(links(page)) for page in PAGES) > 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_to_a_file_and_its_heading(page: Path) -> None:
    for target in links(page):
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target} leads nowhere"
        assert not heading or heading in headings(file), f"{page.name}: {target} leads to no heading"
