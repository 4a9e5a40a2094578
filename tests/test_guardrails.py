"""The limits of Adobe's integration: what is allowed to the last one, and refused from the next one on."""

from itertools import pairwise, permutations

import pytest
from pydantic import ValidationError

from d365_campaign.guardrails import GuardrailSettings, faults, parents_first, warnings
from d365_campaign.mapping import FieldMapping, KeyMapping, LinkMapping, TableMapping

LIMITS = GuardrailSettings()


def table(name: str, *parents: str, columns: int = 2, cardinality: str = "0..1") -> TableMapping:
    """A mapping with so many columns, its key and its links among them; a link's column is called after its parent."""
    lookups = [f"{parent}id" for parent in parents]
    others = [f"column{n}" for n in range(columns - 1 - len(lookups))]
    return TableMapping(
        source=name,
        target="profile" if name == "contact" else f"cus{name}",
        key=KeyMapping(source=f"{name}key", target="externalId"),
        fields=[FieldMapping(source=column, target=column) for column in lookups + others],
        links=[LinkMapping(source=f"{parent}id", parent=parent, cardinality=cardinality) for parent in parents],
    )


def told(*tables: TableMapping, **limits: int) -> list[str]:
    return [*faults(tables, GuardrailSettings(**limits))]


def test_contact_alone_breaks_nothing() -> None:
    assert told(table("contact")) == []
    assert [*warnings([table("contact")], LIMITS)] == []


# --- how many -------------------------------------------------------------------------------------------------------


def test_twenty_custom_entities_of_fifty_columns_are_allowed_besides_contacts() -> None:
    """R54, A15: contact is no custom entity, whatever the number of its columns."""
    entities = [table(f"entity{n}", columns=50) for n in range(20)]

    assert told(table("contact", columns=120), *entities) == []


def test_one_and_twentieth_custom_entity_is_refused() -> None:
    """R54."""
    assert told(table("contact"), *(table(f"entity{n}") for n in range(21))) == [
        "21 custom entities are mapped; allowed are 20 (guardrails.max_custom_entities). Remove some."
    ]


def test_one_and_fiftieth_column_of_a_custom_entity_is_refused() -> None:
    """R54, A15: the key counts as one."""
    assert told(table("purchase", columns=51)) == [
        "table 'purchase' maps 51 columns with its key; allowed are 50 (guardrails.max_columns). Remove some."
    ]


def test_sixth_link_of_a_table_is_refused() -> None:
    """R57."""
    parents = [f"entity{n}" for n in range(6)]
    entities = [table(name) for name in parents]

    assert told(table("purchase", *parents[:5], columns=9), *entities) == []
    assert told(table("purchase", *parents, columns=9), *entities) == [
        "table 'purchase' has 6 links; allowed are 5 (guardrails.max_links). Remove some."
    ]


def test_limits_are_settings() -> None:
    tables = [table("contact"), table("purchase", "contact", columns=4)]

    assert told(*tables, max_custom_entities=1, max_columns=4, max_links=1, max_link_depth=1) == []
    assert len(told(*tables, max_custom_entities=0, max_columns=3, max_links=0, max_link_depth=0)) == 4


@pytest.mark.parametrize("limit", sorted(GuardrailSettings.model_fields))
def test_no_limit_is_below_nothing(limit: str) -> None:
    with pytest.raises(ValidationError, match=limit):
        GuardrailSettings(**{limit: -1})


def test_defaults_are_the_figures_of_the_published_guardrails() -> None:
    """R53, R54, R56, R57, R88."""
    assert LIMITS.max_initial_records == 15_000_000
    assert (LIMITS.max_custom_entities, LIMITS.max_columns) == (20, 50)
    assert (LIMITS.max_links, LIMITS.warn_links, LIMITS.max_link_depth) == (5, 3, 2)
    assert LIMITS.max_replay_records == 2_000_000


# --- how they hang together -------------------------------------------------------------------------------------------


def test_three_tables_in_a_row_are_allowed_and_four_refused() -> None:
    """R56, A16: the depth counts links."""
    three = [table("a", "b"), table("b", "c"), table("c")]

    assert told(*three) == []
    assert told(*three[:2], table("c", "d"), table("d")) == [
        "links go 3 deep: a > b > c > d; allowed are 2 in a row (guardrails.max_link_depth). Remove one of them."
    ]


def test_row_that_is_too_deep_is_told_once_from_its_end() -> None:
    """R56."""
    [fault] = told(table("c", "d"), table("a", "b"), table("d", "e"), table("b", "c", "e", columns=4), table("e"))

    assert "links go 4 deep: a > b > c > d > e;" in fault


def test_each_table_at_the_end_of_a_row_that_is_too_deep_is_told() -> None:
    """R56."""
    rows = told(table("a", "c"), table("b", "c"), table("c", "d"), table("d", "e"), table("e"))

    assert [fault.split(";")[0] for fault in rows] == [
        "links go 3 deep: a > c > d > e",
        "links go 3 deep: b > c > d > e",
    ]


def test_tables_that_share_parents_are_no_circle() -> None:
    diamond = [table("a", "b", "c", columns=4), table("b", "d"), table("c", "d"), table("d")]

    assert told(*diamond) == []


@pytest.mark.parametrize(
    ("tables", "circle"),
    [
        pytest.param([table("a", "b"), table("b", "a")], {"a", "b"}, id="two"),
        pytest.param([table("a", "b"), table("b", "c"), table("c", "a")], {"a", "b", "c"}, id="three"),
        pytest.param([table("z", "a"), table("a", "b"), table("b", "a")], {"a", "b"}, id="with a way that leads in"),
        pytest.param(
            [table("a", "b"), table("b", "c"), table("c", "d"), table("d", "a")], {"a", "b", "c", "d"}, id="four"
        ),
    ],
)
def test_links_in_a_circle_are_refused(tables: list[TableMapping], circle: set[str]) -> None:
    """R56."""
    [fault] = [fault for fault in told(*tables) if "circle" in fault]
    way = fault.removeprefix("links go round in a circle: ").removesuffix(". Remove one of them.").split(" > ")

    assert (set(way), way[0]) == (circle, way[-1])
    linked = {(child.name, link.parent) for child in tables for link in child.links}
    assert set(pairwise(way)) <= linked


def test_every_circle_is_told_beside_every_row_that_is_too_deep() -> None:
    """R56."""
    circles = [table("a", "b"), table("b", "a"), table("c", "d"), table("d", "c")]
    row = [table("w", "x"), table("x", "y"), table("y", "z"), table("z")]

    rows = told(*circles, *row)

    assert [fault.split(":")[0] for fault in rows] == ["links go round in a circle"] * 2 + ["links go 3 deep"]


def test_tables_that_are_all_linked_with_each_other_are_refused_at_once() -> None:
    """The number of ways through them is beyond counting."""
    names = [f"entity{n:02}" for n in range(20)]
    tables = [table(name, *(names[(n + k) % 20] for k in range(1, 6)), columns=10) for n, name in enumerate(names)]

    assert any("circle" in fault for fault in told(*tables))


def test_link_to_a_table_that_is_not_mapped_is_refused() -> None:
    """R67."""
    assert told(table("purchase", "contact")) == [
        "link 'contactid' of table 'purchase' leads to 'contact', which is not mapped. Map it too, or remove the link."
    ]


def test_nothing_is_missed_among_mappings_that_are_not_complete() -> None:
    """A mapping whose file is at fault may be the parent."""
    assert [*faults([table("purchase", "contact")], LIMITS, complete=False)] == []


def test_parents_come_before_their_children_whatever_the_order_of_files() -> None:
    tables = [table("a", "b", "c", columns=4), table("b", "c"), table("c"), table("d", "a")]

    for order in permutations(tables):
        names = [t.name for t in parents_first(order)]
        assert sorted(names) == ["a", "b", "c", "d"]
        assert names.index("c") < names.index("b") < names.index("a") < names.index("d")


def test_tables_without_links_keep_their_order() -> None:
    assert [t.name for t in parents_first([table("b"), table("a"), table("c")])] == ["b", "a", "c"]


# --- warnings -------------------------------------------------------------------------------------------------------


def test_third_link_of_a_table_is_warned_of() -> None:
    """R57."""
    assert [*warnings([table("purchase", "a", "b", columns=5)], LIMITS)] == []
    assert [*warnings([table("purchase", "a", "b", "c", columns=5)], LIMITS)] == [
        "table 'purchase' has 3 links: several links can make Campaign slow."
    ]


def test_each_link_of_cardinality_one_is_warned_of() -> None:
    """R58."""
    assert [*warnings([table("purchase", "contact", "store", columns=4, cardinality="1")], LIMITS)] == [
        f"link '{parent}id' of table 'purchase' has cardinality 1: Campaign hides a record until its parent is there. "
        "Prefer 0..1."
        for parent in ("contact", "store")
    ]
