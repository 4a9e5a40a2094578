"""Whether deleting a profile reaches the personal data in another resource: each answer's sides."""

from collections.abc import Sequence
from typing import Any

import pytest

from d365_campaign.checks import Verdict, privacy_warnings
from d365_campaign.mapping import TableMapping
from d365_campaign.schemas import ResourceLink, TargetResource
from tests.mappings import contact_mapping

Mapped = tuple[TableMapping, TargetResource]


def resource(name: str, *links: ResourceLink, endpoint: str = "profileAndServicesExt") -> TargetResource:
    return TargetResource(name, endpoint, {}, links)


PROFILE: Mapped = (contact_mapping(contains_personal_data=True), resource("profile"))


def table(source: str, parent: str | None = None, *, cascades: bool = False, **changes: Any) -> TableMapping:
    """A table `x` to resource `cusX`; linked to *parent* by the lookup `parentid`."""
    links = [{"source": "parentid", "parent": parent, "deletes_cascade": cascades}] if parent else []
    return TableMapping.model_validate(
        {
            "source": source,
            "target": f"cus{source.capitalize()}",
            "key": {"source": f"{source}id", "target": "cusD365id"},
            "fields": [{"source": "parentid", "target": "cusParentId"}, {"source": "note", "target": "cusNote"}],
            "links": links,
            "contains_personal_data": True,
            **changes,
        }
    )


def told(parent: str, *, cascades: bool | None, column: str = "cusParentId", cardinality: Any = "0..1") -> ResourceLink:
    return ResourceLink("parentLink", parent, column, cardinality, cascades)


def failed(verdicts: Sequence[Verdict]) -> list[tuple[str, bool]]:
    """Name, and whether it is a warning only, of what doesn't hold."""
    return [(verdict.name, verdict.warn) for verdict in verdicts if not verdict.passed]


def judged(mapping: TableMapping, *links: ResourceLink, others: Sequence[Mapped] = (), **facts: Any) -> list[Verdict]:
    own = (mapping, resource(mapping.target, *links, **facts))
    return list(privacy_warnings(mapping, [PROFILE, own, *others]))


def test_the_profile_itself_and_tables_without_personal_data_are_fine() -> None:
    assert privacy_warnings(PROFILE[0], [PROFILE]) == []
    assert judged(table("store", contains_personal_data=False)) == []


@pytest.mark.parametrize(
    "links",
    [
        pytest.param([told("profile", cascades=True)], id="Campaign tells that it cascades"),
        pytest.param([told("profile", cascades=True, column="")], id="Campaign tells it, and not the column"),
        pytest.param([told("profile", cascades=None)], id="Campaign doesn't tell, the mapping says so"),
        pytest.param([], id="Campaign tells of no link at all, the mapping says so"),
    ],
)
def test_a_linked_resource_that_goes_with_its_profile_is_fine(links: Sequence[ResourceLink]) -> None:
    """R11."""
    verdicts = judged(table("purchase", "contact", cascades=True), *links)

    assert [verdict.name for verdict in verdicts] == ["deleted_with_profile", "covered_by_privacy_tool"]
    assert failed(verdicts) == []


def test_a_link_that_only_campaign_tells_of_counts() -> None:
    """R11: the mapping need not keep the order of a link that Campaign joins by another column."""
    assert failed(judged(table("purchase"), told("profile", cascades=True, column="cusOther"))) == []


@pytest.mark.parametrize(
    ("stated", "links", "says_so_instead"),
    [
        pytest.param(True, [told("profile", cascades=False)], False, id="Campaign's word counts for more"),
        pytest.param(False, [told("profile", cascades=None)], True, id="nobody says so"),
        pytest.param(False, [], True, id="the mapping's link alone"),
    ],
)
def test_a_link_that_does_not_cascade_is_an_error_that_names_the_option(
    stated: bool, links: Sequence[ResourceLink], says_so_instead: bool
) -> None:
    """R11, R121."""
    verdicts = judged(table("purchase", "contact", cascades=stated), *links)

    assert failed(verdicts) == [("deleted_with_profile", False)]
    said = verdicts[0].description
    assert "of 'cusPurchase'" in said
    assert "'deleting the target record implies deleting records referenced by the link'" in said
    assert ("set deletes_cascade: true" in said) is says_so_instead


@pytest.mark.parametrize(
    ("first", "second", "stops_at"),
    [
        pytest.param(True, True, None, id="both cascade"),
        pytest.param(False, True, "'cusItem'", id="the first doesn't"),
        pytest.param(True, False, "'cusPurchase'", id="the second doesn't"),
    ],
)
def test_every_link_on_the_way_to_the_profile_must_cascade(first: bool, second: bool, stops_at: str | None) -> None:
    """R11: linked through another resource."""
    purchase = table("purchase", "contact", cascades=second)

    verdicts = judged(table("item", "purchase", cascades=first), others=[(purchase, resource("cusPurchase"))])

    assert failed(verdicts) == ([] if stops_at is None else [("deleted_with_profile", False)])
    assert stops_at is None or f"of {stops_at} is not told" in verdicts[0].description


def test_one_way_that_cascades_is_enough() -> None:
    """R11: of two links to the profile."""
    links = [told("profile", cascades=False), ResourceLink("other", "profile", "cusOther", "0..1", True)]

    assert failed(judged(table("purchase", "contact"), *links)) == []


@pytest.mark.parametrize(
    "links",
    [
        pytest.param([], id="no link"),
        pytest.param([told("cusStore", cascades=True)], id="a link to a resource that isn't linked either"),
        pytest.param([told("profile", cascades=True, cardinality="N")], id="a list of profiles: they are the children"),
    ],
)
def test_personal_data_without_a_way_to_the_profile_is_refused(links: Sequence[ResourceLink]) -> None:
    """R11, R12."""
    verdicts = judged(table("lead"), *links, endpoint="customResources")

    assert failed(verdicts) == [("linked_to_profile", False)]
    assert "set accept_unlinked_personal_data: true" in verdicts[0].description


def test_fields_that_are_tagged_personal_are_named() -> None:
    """R12: a tagged field makes a table personal by itself."""
    fields = [{"source": "note", "target": "cusNote", "personal": True}, {"source": "size", "target": "cusSize"}]

    [verdict] = judged(table("lead", contains_personal_data=False, fields=fields))

    assert not verdict.passed
    assert "holds personal data (cusNote) and no link" in verdict.description


def test_what_somebody_accepted_is_a_warning_only() -> None:
    """R12: the explicit override."""
    [verdict] = judged(table("lead", accept_unlinked_personal_data=True))

    assert (verdict.passed, verdict.warn) == (False, True)
    assert "Delete what it holds of a person there yourself" in verdict.description


def test_a_resource_that_campaign_serves_as_unlinked_is_not_covered_whatever_the_mapping_says() -> None:
    """R119."""
    verdicts = judged(table("purchase", "contact", cascades=True), endpoint="customResources")

    assert failed(verdicts) == [("covered_by_privacy_tool", False)]
    assert "customResources" in verdicts[1].description


def test_links_that_go_in_a_circle_lead_nowhere() -> None:
    store = (table("store"), resource("cusStore", told("cusLead", cascades=True)))

    assert failed(judged(table("lead"), told("cusStore", cascades=True), others=[store])) == [
        ("linked_to_profile", False)
    ]
