"""What a table mapping may say, whatever the two systems hold."""

from typing import Any

import pytest
from pydantic import ValidationError

from d365_campaign.mapping import FieldMapping, KeyMapping, LinkMapping, TableMapping
from tests.builders import mapping
from tests.mappings import contact_mapping

PURCHASE = {
    "source": "new_purchase",
    "target": "cusPurchase",
    "key": {"source": "new_purchaseid", "target": "cusD365id"},
    "fields": [{"source": "new_name", "target": "cusName"}, {"source": "new_contactid", "target": "cusContact"}],
}
LINK = {"source": "new_contactid", "parent": "contact"}
OPEN_ONLY = {"conditions": [{"source": "statecode", "comparison": "equals", "value": 0}]}


def purchase(**changes: Any) -> TableMapping:
    return TableMapping.model_validate(PURCHASE | changes)


def refusal(**changes: Any) -> str:
    """What is told of the mapping as a whole."""
    with pytest.raises(ValidationError) as refused:
        purchase(**changes)
    [fault] = refused.value.errors()
    assert fault["loc"] == ()
    return fault["msg"].removeprefix("Value error, ")


def test_least_that_can_be_said_means_the_careful_thing() -> None:
    """R83, R86, R91, R92, A1, A14, A18."""
    table = purchase()
    [field, _] = table.fields

    assert (table.apply_deletes, table.delete_filtered_out, table.deletes) == (False, False, False)
    assert (table.adopt_existing, table.filter, table.on_create) == ("by_key", None, {})
    assert (field.apply_updates, field.picklist, field.too_long) == (True, "label", "reject")
    assert table.key.declared_unique is False


def test_shipped_mapping_names_no_opt_out() -> None:
    """R13: opt-outs are never paired unasked."""
    assert not [f.target for f in contact_mapping().fields if f.target.lower().startswith(("black", "deny", "ccpa"))]


@pytest.mark.parametrize("name", ["", "1st", "first name", "a.b.c", "a.", ".a", "a-b", "a;drop", 'a"', "a\n", "ä"])
def test_name_that_neither_system_could_have_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        FieldMapping(source="firstname", target=name)
    with pytest.raises(ValidationError):
        FieldMapping(source=name, target="firstName")


def test_only_fields_may_have_a_dot() -> None:
    """R81."""
    assert FieldMapping(source="address1_city", target="location.city").target == "location.city"
    for changes in ({"target": "cus.Purchase"}, {"key": {"source": "a", "target": "cus.Id"}}):
        with pytest.raises(ValidationError, match="should match pattern"):
            purchase(**changes)


def test_dynamics_names_are_in_lower_case() -> None:
    with pytest.raises(ValidationError, match="should match pattern"):
        FieldMapping(source="FirstName", target="firstName")


@pytest.mark.parametrize("part", ["key", "fields"])
def test_mapping_needs_a_key_and_fields(part: str) -> None:
    """R35."""
    with pytest.raises(ValidationError, match=f"{part}\n  Field required"):
        TableMapping.model_validate({name: value for name, value in PURCHASE.items() if name != part})


def test_mapping_without_fields_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        TableMapping(source="contact", target="profile", key=KeyMapping(source="a", target="b"), fields=[])


# --- each Campaign field once -----------------------------------------------------------------------------------------


def test_column_may_become_two_fields_but_no_field_has_two_columns() -> None:
    """R81."""
    mapping(("firstname", "firstName"), ("firstname", "middleName"))

    with pytest.raises(ValidationError, match="'email' is mapped twice, from 'a' and 'b'"):
        mapping(("a", "email"), ("b", "email"))
    with pytest.raises(ValidationError, match="'email' is mapped 3 times, from 'a' and 'b' and 'c'"):
        mapping(("a", "email"), ("b", "email"), ("c", "email"))


def test_key_among_the_fields_is_refused() -> None:
    """R79."""
    with pytest.raises(ValidationError, match="'externalId' is the key; remove it from fields and on_create"):
        mapping(("firstname", "externalId"))


@pytest.mark.parametrize(
    ("constant", "fault"),
    [
        ("cusName", "Campaign field 'cusName' stands in fields and in on_create. Keep one of them."),
        ("cusD365id", "Campaign field 'cusD365id' is the key; remove it from fields and on_create, it is always sent."),
    ],
)
def test_constant_in_the_place_of_a_field_or_the_key_is_refused(constant: str, fault: str) -> None:
    assert refusal(on_create={constant: "x"}) == fault


def test_constants_keep_their_types() -> None:
    """R120."""
    given = {"orgUnit": "emea", "cusScore": 1, "cusRate": 0.5, "cusFlag": True, "location.city": "Bonn"}

    held = purchase(on_create=given).on_create

    assert held == given
    assert [type(value) for value in held.values()] == [str, int, float, bool, str]


def test_units_are_told_from_constants() -> None:
    """R120: Campaign takes the link to a unit by its PKey alone, so its name is looked up first."""
    mapping = purchase(on_create={"orgUnit": "emea", "geoUnit": "eu", "cusScore": 1})

    assert mapping.units == {"orgUnit": "emea", "geoUnit": "eu"}
    assert mapping.constants == {"cusScore": 1}


# --- replacements -----------------------------------------------------------------------------------------------------


def test_values_are_replaced_as_text_however_they_are_written() -> None:
    """R84."""
    field = FieldMapping.model_validate(
        {
            "source": "gendercode",
            "target": "gender",
            "replacements": [
                {"existing": 1, "new": "F"},
                {"existing": "#00FF00", "new": "green"},
                {"existing": True, "new": 1},
                {"existing": 1.5, "new": False},
            ],
        }
    )

    assert [(r.existing, r.new) for r in field.replacements] == [
        ("1", "F"),
        ("#00FF00", "green"),
        ("true", "1"),
        ("1.5", "false"),
    ]


def test_value_replaced_twice_is_refused() -> None:
    """R84."""
    with pytest.raises(ValidationError, match="'1' of 'gendercode' is replaced twice"):
        FieldMapping.model_validate(
            {
                "source": "gendercode",
                "target": "gender",
                "replacements": [{"existing": 1, "new": "F"}, {"existing": "1", "new": "M"}],
            }
        )


@pytest.mark.parametrize("value", [None, [1], {"a": 1}], ids=repr)
def test_what_is_no_text_can_not_be_replaced(value: Any) -> None:
    with pytest.raises(ValidationError, match="should be a valid string"):
        FieldMapping.model_validate({"source": "a", "target": "b", "replacements": [{"existing": value, "new": "x"}]})


# --- filter and deletes -----------------------------------------------------------------------------------------------


def test_deletes_and_deletes_of_what_was_filtered_out_are_two_switches() -> None:
    """R91, A18."""
    assert purchase(apply_deletes=True).deletes
    assert purchase(filter=OPEN_ONLY, delete_filtered_out=True).deletes
    assert not purchase(filter=OPEN_ONLY, delete_filtered_out=True).apply_deletes


def test_deletes_of_what_was_filtered_out_need_a_filter() -> None:
    """R86."""
    assert refusal(delete_filtered_out=True) == "delete_filtered_out needs a filter. Add one, or remove the line."


def test_filter_may_ask_of_a_column_that_is_not_mapped() -> None:
    """R85."""
    table = purchase(filter=OPEN_ONLY)

    assert table.filter is not None
    assert [c.source for c in table.filter.conditions] == ["statecode"]


# --- links ------------------------------------------------------------------------------------------------------------


def test_foreign_key_is_the_field_that_the_lookup_is_mapped_to() -> None:
    table = purchase(links=[LINK])

    assert table.foreign_key(table.links[0]) == "cusContact"


@pytest.mark.parametrize(("written", "cardinality"), [("0..1", "0..1"), ("1", "1"), (1, "1")])
def test_cardinality_of_one_may_be_written_as_number(written: Any, cardinality: str) -> None:
    """R58."""
    assert LinkMapping.model_validate(LINK | {"cardinality": written}).cardinality == cardinality


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        pytest.param(
            {"links": [LINK | {"source": "new_storeid"}]},
            "link 'new_storeid' must be mapped in fields once, to the column that holds the parent's key.",
            id="not mapped",
        ),
        pytest.param(
            {"links": [LINK], "fields": [*PURCHASE["fields"], {"source": "new_contactid", "target": "cusOther"}]},
            "link 'new_contactid' must be mapped in fields once, to the column that holds the parent's key.",
            id="mapped twice",
        ),
        pytest.param(
            {
                "links": [LINK],
                "fields": [{"source": "new_contactid", "target": "cusContact", "apply_updates": False}],
            },
            "'new_contactid' is a link: its field can have neither replacements nor apply_updates: false.",
            id="without updates",
        ),
        pytest.param(
            {
                "links": [LINK],
                "fields": [
                    {
                        "source": "new_contactid",
                        "target": "cusContact",
                        "replacements": [{"existing": "a", "new": "b"}],
                    }
                ],
            },
            "'new_contactid' is a link: its field can have neither replacements nor apply_updates: false.",
            id="with replacements",
        ),
        pytest.param(
            {"links": [LINK | {"parent": "new_purchase"}]},
            "link 'new_contactid' leads to its own table; such a link can't be kept in order. Remove it.",
            id="to itself",
        ),
        pytest.param(
            {"links": [LINK, LINK | {"parent": "account"}]},
            "link 'new_contactid' stands twice. Keep one of them; a record waits for every parent.",
            id="twice",
        ),
    ],
)
def test_link_that_can_not_work_is_refused(changes: dict[str, Any], fault: str) -> None:
    assert refusal(**changes) == fault


def test_all_that_does_not_fit_together_is_told_at_once() -> None:
    told = refusal(delete_filtered_out=True, on_create={"cusName": "x"}, links=[LINK | {"source": "new_storeid"}])

    assert [part in told for part in ("stands in fields and in on_create", "must be mapped", "needs a filter")] == [
        True,
        True,
        True,
    ]


# --- the rest ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "personal"),
    [
        ({}, False),
        ({"contains_personal_data": True}, True),
        ({"fields": [{"source": "new_name", "target": "cusName", "personal": True}]}, True),
    ],
)
def test_table_with_one_personal_field_is_personal(changes: dict[str, Any], personal: bool) -> None:
    """R11."""
    assert purchase(**changes).personal is personal


def test_identity_is_both_tables_and_both_keys() -> None:
    """R79, R80: what can't change once records were written."""
    assert purchase().identity() == {
        "source": "new_purchase",
        "target": "cusPurchase",
        "source_key": "new_purchaseid",
        "target_key": "cusD365id",
    }


def test_values_of_a_mapping_do_not_change_once_it_is_read() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        mapping().target = "other"
