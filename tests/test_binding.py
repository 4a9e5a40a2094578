"""Table mappings held against what both systems say of themselves: every fault at once, each with its remedy."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from d365_campaign.binding import BoundMapping, Relation, bind, duckdb_type
from d365_campaign.errors import ConfigurationError
from d365_campaign.field_types import CampaignType, SourceType
from d365_campaign.mapping import TableMapping
from d365_campaign.schemas import ResourceField, ResourceLink, SourceColumn, SourceTable, TargetResource
from tests.builders import bound, mapping, source_table, target_resource

LABELS = {1: "Female", 2: "Male"}
CHOICE = SourceColumn("gendercode", "choice", "gendercode", labels=LABELS)
LOOKUP = SourceColumn("accountid", "reference", "_accountid_value", refers_to=("account",))
CUSTOMER = replace(LOOKUP, name="customerid", refers_to=("account", "contact"))


def table_with(*columns: SourceColumn, **types: SourceType) -> SourceTable:
    """Contacts with these columns besides their key."""
    plain = source_table(contactid="reference", **types)
    return replace(plain, columns={**plain.columns, **{column.name: column for column in columns}})


def resource_with(*fields: ResourceField, **types: CampaignType) -> TargetResource:
    """Profiles with these fields besides their key."""
    plain = target_resource(externalId="string", **types)
    return replace(plain, fields={**plain.fields, **{field.name: field for field in fields}})


def configured(*fields: Mapping[str, Any], **settings: Any) -> TableMapping:
    return TableMapping.model_validate(
        {
            "source": "contact",
            "target": "profile",
            "key": {"source": "contactid", "target": "externalId"},
            "fields": fields or [{"source": "a", "target": "b"}],
        }
        | settings
    )


def refusal(
    configured: TableMapping, source: SourceTable | None = None, target: TargetResource | None = None
) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        bind(configured, source or source_table(), target or target_resource())
    head, *faults = str(refused.value).splitlines()
    assert head == "table mapping 'contact' does not fit the two systems:"
    return [fault.removeprefix("  - ") for fault in faults]


# --- what fits --------------------------------------------------------------------------------------------------------


def test_good_mapping_is_bound_with_both_types_known() -> None:
    table = bound(("birthdate", "lastContact"), ("firstname", "location.city"))

    assert [(f.source.type, f.target.type) for f in table.fields] == [("date", "datetime"), ("text", "string")]


def test_snapshot_holds_each_column_once_with_key_first_and_modification_stamp_last() -> None:
    """R79: the key is listed first."""
    table = bound(("firstname", "firstName"), ("firstname", "location.city"), ("contactid", "email"))

    assert [column.name for column in table.columns] == ["contactid", "firstname", "modifiedon"]
    assert [duckdb_type(column) for column in table.columns] == ["varchar", "varchar", "timestamp"]


def test_table_without_modification_stamp_is_read_without_it() -> None:
    columns = source_table(contactid="reference", firstname="text")
    table = bind(mapping(("firstname", "firstName")), columns, target_resource())

    assert [column.name for column in table.columns] == ["contactid", "firstname"]


def test_column_that_is_only_filtered_on_is_read_but_not_sent() -> None:
    """R85."""
    conditions = [{"source": "donotemail", "comparison": "equals", "value": False}]
    table = bound(("firstname", "firstName"), filter={"conditions": conditions})

    assert "donotemail" in [column.name for column in table.columns]
    assert [f.source.name for f in table.fields] == ["firstname"]


@pytest.mark.parametrize(
    ("field", "kind", "sent"),
    [
        pytest.param({}, "string", "text", id="label"),
        pytest.param({"picklist": "technical"}, "integer", "choice", id="number"),
        pytest.param({"picklist": "technical"}, "string", "choice", id="number as text"),
        pytest.param(
            {"replacements": [{"existing": "Female", "new": "1"}]}, "integer", "text", id="label that is replaced"
        ),
        pytest.param(
            {"picklist": "technical", "replacements": [{"existing": 1, "new": "F"}]},
            "string",
            "text",
            id="number that is replaced",
        ),
    ],
)
def test_choice_is_sent_as_its_label_or_its_number(field: dict[str, Any], kind: CampaignType, sent: str) -> None:
    """R92, A9: label or number, then replacement, then conversion."""
    [made] = bind(
        configured({"source": "gendercode", "target": "b", **field}), table_with(CHOICE), resource_with(b=kind)
    ).fields

    assert (made.converted_from, made.labelled) == (sent, field.get("picklist") != "technical")


def test_no_value_is_turned_round() -> None:
    """A13."""
    assert [f.conversion.sql for f in bound(("donotemail", "cusFlag")).fields] == ["{0}"]


# --- what doesn't: tables and keys ------------------------------------------------------------------------------------


def test_table_without_change_tracking_is_refused_by_name() -> None:
    """R44."""
    assert refusal(mapping(), source=replace(source_table(), change_tracking=False)) == [
        "Dynamics table 'contact' has change tracking off. Switch on 'Track changes' in the table's properties and "
        "publish it."
    ]


def test_key_other_than_the_primary_key_is_refused() -> None:
    """R79."""
    assert refusal(mapping(), source=replace(source_table(), primary_id="id")) == [
        "key.source is 'contactid', but the primary key of 'contact' is 'id'. Set key.source to it."
    ]


def test_campaign_resource_without_the_key_column_is_refused() -> None:
    """R35."""
    assert refusal(mapping(), target=target_resource(firstName="string", email="string")) == [
        "Campaign resource 'profile' has no field 'externalId' for the key. Add it as an identification key, publish "
        "the resource and its API."
    ]


@pytest.mark.parametrize(
    "field",
    [
        pytest.param(ResourceField("externalId", "integer"), id="number"),
        pytest.param(ResourceField("externalId", "string", read_only=True), id="read-only"),
        pytest.param(ResourceField("externalId", "string", length=35), id="too short"),
    ],
)
def test_field_that_can_not_hold_a_dynamics_key_is_refused(field: ResourceField) -> None:
    """R79."""
    assert refusal(configured(), table_with(a="text"), resource_with(field, b="string")) == [
        "Campaign field 'externalId' can't hold a Dynamics key. Set key.target to a string field of 36 characters at "
        "least that may be written."
    ]


@pytest.mark.parametrize(
    ("unique_keys", "fits"), [(("externalId",), True), (None, True), (("email",), False), ((), False)]
)
def test_key_is_declared_unique_only_where_campaign_does_not_deny_it(
    unique_keys: Sequence[str] | None, fits: bool
) -> None:
    """R79, A10."""
    target = replace(target_resource(), unique_keys=unique_keys)
    if fits:
        bind(mapping(), source_table(), target)
    else:
        assert refusal(mapping(), target=target) == [
            "key.declared_unique is true, but Campaign doesn't declare 'externalId' of 'profile' as an identification "
            "key: an insert could double a record. Declare it there, or set declared_unique to false."
        ]
    bind(mapping(declared_unique=False), source_table(), target)


# --- what doesn't: fields ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pair", "fault"),
    [
        pytest.param(
            ("frstname", "firstName"), "Dynamics table 'contact' has no readable column 'frstname'.", id="column"
        ),
        pytest.param(
            ("firstname", "cusNickname"),
            "Campaign resource 'profile' has no field 'cusNickname'. Check the name, and for a cus field that the "
            "Profiles & Services Ext API is published.",
            id="field (R105)",
        ),
        pytest.param(
            ("donotemail", "birthDate"),
            "'donotemail' (boolean) can't become 'birthDate' (date): true and false are no dates. Map it to a field of "
            "another type.",
            id="pair of types (R59)",
        ),
    ],
)
def test_field_that_does_not_fit_is_refused_with_its_remedy(pair: tuple[str, str], fault: str) -> None:
    assert refusal(mapping(("firstname", "email"), pair)) == [f"fields[1]: {fault}"]


def test_read_only_field_is_refused() -> None:
    target = resource_with(ResourceField("b", "string", read_only=True))

    assert refusal(configured(), table_with(a="text"), target) == [
        "fields[0]: Campaign field 'b' is read-only. Remove the line."
    ]


def test_labels_for_a_field_that_is_no_text_are_refused() -> None:
    """R92."""
    field = {"source": "gendercode", "target": "b"}

    assert refusal(configured(field), table_with(CHOICE), resource_with(b="integer")) == [
        "fields[0]: the labels of 'gendercode' are text, but 'b' is integer. Set picklist: technical, or give "
        "replacements."
    ]


def test_labels_that_dynamics_does_not_tell_are_refused() -> None:
    """R92."""
    bare = replace(CHOICE, labels={})
    field = {"source": "gendercode", "target": "b"}

    assert refusal(configured(field), table_with(bare), resource_with(b="string")) == [
        "fields[0]: Dynamics tells no labels for 'gendercode'. Set picklist: technical."
    ]
    bind(configured({**field, "picklist": "technical"}), table_with(bare), resource_with(b="string"))


def test_all_faults_are_told_at_once() -> None:
    faults = refusal(
        mapping(("frstname", "firstName"), ("firstname", "cusNickname"), ("donotemail", "birthDate")),
        source=replace(source_table(), change_tracking=False),
    )

    assert [fault[:10] for fault in faults] == ["Dynamics t", "fields[0]:", "fields[1]:", "fields[2]:"]


# --- what doesn't: filters --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "fault"),
    [
        pytest.param(
            {"source": "statecod", "comparison": "equals", "value": 0},
            "Dynamics table 'contact' has no readable column 'statecod'.",
            id="unknown column",
        ),
        pytest.param(
            {"source": "gendercode", "comparison": "equals", "value": "Female"},
            "'Female' can't be compared with 'gendercode' (choice). Correct it.",
            id="label for a number",
        ),
        pytest.param(
            {"source": "gendercode", "comparison": "starts_with", "value": "F"},
            "'starts_with' can't be asked of 'gendercode' (choice). Use one of equals, not_equals, in, not_in, "
            "is_empty, is_not_empty, greater_than, greater_or_equal, less_than, less_or_equal.",
            id="text comparison of a number",
        ),
        pytest.param(
            {"source": "a", "comparison": "equals", "value": ""},
            "'a' is compared with empty text. Use is_empty or is_not_empty.",
            id="empty text",
        ),
    ],
)
def test_filter_that_can_not_be_asked_is_refused(condition: dict[str, Any], fault: str) -> None:
    """R85, A9: it looks at the technical value."""
    good = {"source": "a", "comparison": "is_not_empty"}
    asked = configured(filter={"conditions": [good, condition]})

    assert refusal(asked, table_with(CHOICE, a="text"), resource_with(b="string")) == [f"filter.conditions[1]: {fault}"]


def test_each_operand_of_a_list_is_looked_at() -> None:
    asked = configured(
        filter={"conditions": [{"source": "gendercode", "comparison": "in", "values": [1, "x", 2, "y"]}]}
    )

    assert refusal(asked, table_with(CHOICE, a="text"), resource_with(b="string")) == [
        f"filter.conditions[0]: '{operand}' can't be compared with 'gendercode' (choice). Correct it."
        for operand in "xy"
    ]


# --- what doesn't: constants ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        pytest.param("cusNone", "x", "Campaign resource 'profile' has no field 'cusNone'.", id="unknown"),
        pytest.param("cusFixed", "x", "Campaign field 'cusFixed' is read-only. Remove the line.", id="read-only"),
        pytest.param("cusScore", "one", "'one' doesn't fit into 'cusScore' (integer). Correct it.", id="text"),
        pytest.param("cusScore", 1.5, "'1.5' doesn't fit into 'cusScore' (integer). Correct it.", id="fraction"),
        pytest.param("cusScore", True, "'True' doesn't fit into 'cusScore' (integer). Correct it.", id="truth"),
        pytest.param("cusRate", "1.10", "'1.10' doesn't fit into 'cusRate' (double). Correct it.", id="text of number"),
        pytest.param("cusFlag", 1, "'1' doesn't fit into 'cusFlag' (boolean). Correct it.", id="number for a truth"),
    ],
)
def test_constant_that_does_not_fit_is_refused(name: str, value: Any, fault: str) -> None:
    """R120."""
    target = resource_with(
        ResourceField("cusFixed", "string", read_only=True),
        b="string",
        cusScore="integer",
        cusRate="double",
        cusFlag="boolean",
    )

    [told] = refusal(configured(on_create={name: value}), table_with(a="text"), target)

    assert told.startswith(f"on_create.{name}: {fault}")


@pytest.mark.parametrize(
    ("constant", "fault"),
    [
        ({"orgUnit": 7}, "on_create.orgUnit: '7' is no name of a unit. Give its ID as Campaign shows it."),
        (
            {"geoUnit": "eu"},
            "on_create.geoUnit: Campaign resource 'profile' has no link 'geoUnit'. It comes with the extended profile: "
            "publish the Profiles & Services Ext API, or remove the line.",
        ),
        (
            {"country": "fr"},
            "on_create.country: 'country' is a link, which can't be set here. Map the column that holds its key, or "
            "remove the line.",
        ),
    ],
)
def test_link_that_can_not_be_set_with_the_insert_is_refused(constant: Mapping[str, object], fault: str) -> None:
    """R120."""
    target = replace(
        resource_with(b="string"), links=[ResourceLink("orgUnit", "orgUnitBase"), ResourceLink("country", "")]
    )

    assert refusal(configured(on_create=constant), table_with(a="text"), target) == [fault]


def test_constant_may_be_a_value_of_its_field_or_a_unit() -> None:
    """R120."""
    constants = {
        "orgUnit": "emea",
        "cusScore": 1,
        "cusRate": 1,
        "cusFlag": True,
        "cusText": "x",
        "cusDay": "2026-01-01",
    }
    target = resource_with(
        b="string", cusScore="integer", cusRate="double", cusFlag="boolean", cusText="string", cusDay="date"
    )

    bind(
        configured(on_create=constants),
        table_with(a="text"),
        replace(target, links=[ResourceLink("orgUnit", "orgUnit")]),
    )


# --- links ------------------------------------------------------------------------------------------------------------


def linked(column: SourceColumn, parent: str, **link: Any) -> TableMapping:
    return configured(
        {"source": column.name, "target": "cusParent"}, links=[{"source": column.name, "parent": parent, **link}]
    )


def account(**changes: Any) -> TableMapping:
    return configured(
        source="account", target="cusAccount", key={"source": "accountid", "target": "cusD365id"}, **changes
    )


def bound_link(column: SourceColumn, parent: str, *others: TableMapping, **link: Any) -> BoundMapping:
    child = linked(column, parent, **link)
    return bind(child, table_with(column), resource_with(cusParent="string"), [child, *others])


@pytest.mark.parametrize(
    ("column", "fault"),
    [
        pytest.param(LOOKUP, "lookup 'accountid' leads to 'account', not to 'lead'. Correct parent.", id="one table"),
        pytest.param(
            CUSTOMER,
            "lookup 'customerid' leads to 'account' or 'contact', not to 'lead'. Correct parent.",
            id="two tables",
        ),
        pytest.param(
            SourceColumn("nickname", "text", "nickname"),
            "'nickname' is no lookup (text). Name one, or remove the link.",
            id="no lookup",
        ),
    ],
)
def test_link_whose_lookup_leads_elsewhere_is_refused(column: SourceColumn, fault: str) -> None:
    """R56."""
    target = resource_with(cusParent="string")

    assert refusal(linked(column, "lead"), table_with(column), target) == [f"links[0]: {fault}"]


def test_link_may_lead_to_any_table_that_its_lookup_tells() -> None:
    """R42."""
    untold = replace(LOOKUP, refers_to=())
    for column, parent in ((LOOKUP, "account"), (CUSTOMER, "account"), (untold, "account")):
        assert [p.table for p in bound_link(column, parent, account()).parents] == ["account"]


def test_both_ends_of_a_link_know_each_other() -> None:
    child = linked(LOOKUP, "account")
    parent = account()

    below = bind(child, table_with(LOOKUP), resource_with(cusParent="string"), [child, parent])
    above = bind(
        parent,
        replace(table_with(a="text", accountid="reference"), name="account", primary_id="accountid"),
        resource_with(b="string", cusD365id="string"),
        [child, parent],
    )

    assert (below.parents, below.children) == ([Relation("account", "cusD365id", "cusParent")], [])
    assert (above.parents, above.children) == ([], [Relation("contact", "externalId", "cusParent")])


def test_link_to_a_table_that_is_not_mapped_has_no_other_end() -> None:
    assert bound_link(LOOKUP, "account").parents == []


@pytest.mark.parametrize(
    ("configured_as", "told", "hides"),
    [("0..1", None, False), ("0..1", "0..1", False), ("0..1", "1", True), ("1", None, True), ("1", "0..1", True)],
)
def test_record_may_be_hidden_when_either_side_says_cardinality_one(configured_as: str, told: Any, hides: bool) -> None:
    """R46, R58."""
    table = bound_link(LOOKUP, "account", cardinality=configured_as)
    links = [ResourceLink("account", "cusAccount", "cusParent", cardinality=told)]

    assert replace(table, target=replace(table.target, links=links)).may_hide is hides


# --- what a change of it means ----------------------------------------------------------------------------------------


def one(column: SourceColumn = CHOICE, field: ResourceField | None = None, **settings: Any) -> BoundMapping:
    """Choices to texts, with one thing changed."""
    pair = {"source": column.name, "target": "b", **settings.pop("pair", {})}
    target = field or ResourceField("b", "string", length=10)
    return bind(configured(pair, **settings), table_with(column), resource_with(target))


FILTER = {"conditions": [{"source": "gendercode", "comparison": "equals", "value": 1}]}


def test_fingerprint_changes_with_what_could_make_a_record_differ() -> None:
    others = {
        "its choice of label or number": one(pair={"picklist": "technical"}),
        "replacements": one(pair={"replacements": [{"existing": "Female", "new": "F"}]}),
        "apply_updates": one(pair={"apply_updates": False}),
        "too_long": one(pair={"too_long": "truncate"}),
        "labels": one(replace(CHOICE, labels={1: "Woman", 2: "Man"})),
        "the column's type": one(replace(CHOICE, type="text", labels={})),
        "the field's type": one(
            replace(CHOICE, type="integer"), ResourceField("b", "integer", bounds=(-(2**31), 2**31 - 1))
        ),
        "the field's bounds": one(replace(CHOICE, type="integer"), ResourceField("b", "integer", bounds=(-128, 127))),
        "the field's length": one(field=ResourceField("b", "string", length=20)),
        "the filter": one(filter=FILTER),
        "deletes": one(apply_deletes=True),
        "deletes of what was filtered out": one(filter=FILTER, delete_filtered_out=True),
        "adoption": one(adopt_existing="never"),
    }

    prints = {name: table.fingerprint() for name, table in others.items()} | {"nothing": one().fingerprint()}
    assert len(set(prints.values())) == len(prints)


def test_fingerprint_stays_with_what_makes_no_record_differ() -> None:
    same = [
        one(contains_personal_data=True),
        one(key={"source": "contactid", "target": "externalId", "declared_unique": True}),
        one(replace(CHOICE, labels=dict(reversed(LABELS.items())))),
    ]

    assert {table.fingerprint() for table in same} == {one().fingerprint()}
    technical = [one(replace(CHOICE, labels=labels), pair={"picklist": "technical"}) for labels in (LABELS, {})]
    assert technical[0].fingerprint() == technical[1].fingerprint()


@pytest.mark.parametrize("operand", ["2026-01-01", date(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)], ids=repr)
def test_fingerprint_takes_any_operand(operand: Any) -> None:
    asked = {"conditions": [{"source": "at", "comparison": "equals", "value": operand}]}
    table = bind(configured(filter=asked), table_with(a="text", at="datetime"), resource_with(b="string"))

    assert table.fingerprint() == table.fingerprint()
    assert table.fingerprint() != replace(table, mapping=configured()).fingerprint()


def test_schema_facts_tell_every_column_and_field_that_is_used() -> None:
    """R89."""
    field = ResourceField("b", "string", length=30, data_policy="smartCase")
    table = bind(
        configured(filter={"conditions": [{"source": "gendercode", "comparison": "equals", "value": 1}]}),
        table_with(CHOICE, a="text", unused="text"),
        resource_with(field, unused="string"),
    )

    assert table.schema_facts() == {
        "contact.contactid": "reference",
        "contact.a": "text",
        "contact.gendercode": "choice",
        "profile.b": "string(30), data policy smartCase",
    }
