"""Table mappings, held against what both systems say of themselves."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from d365_campaign.errors import ConfigurationError
from d365_campaign.mapping import FieldMapping, KeyMapping, TableMapping, bind
from d365_campaign.schemas import SourceTable, TargetResource
from tests.builders import bound, mapping, source_table, target_resource


def refusal(configured: TableMapping, source: SourceTable | None = None, target: TargetResource | None = None) -> str:
    with pytest.raises(ConfigurationError) as refused:
        bind(configured, source or source_table(), target or target_resource())
    return str(refused.value)


def test_good_mapping_is_bound_with_both_types_known() -> None:
    table = bound(("birthdate", "lastContact"), ("firstname", "location.city"))

    assert [(f.source.type, f.target.type) for f in table.fields] == [("date", "datetime"), ("text", "string")]


def test_snapshot_holds_each_column_once_with_key_first_and_modification_stamp_last() -> None:
    table = bound(("firstname", "firstName"), ("firstname", "location.city"), ("contactid", "email"))

    assert [column.name for column in table.columns] == ["contactid", "firstname", "modifiedon"]


def test_table_without_modification_stamp_is_read_without_it() -> None:
    columns = source_table(contactid="reference", firstname="text")
    table = bind(mapping(("firstname", "firstName")), columns, target_resource())

    assert [column.name for column in table.columns] == ["contactid", "firstname"]


@pytest.mark.parametrize(
    ("configured", "fault"),
    [
        pytest.param(
            mapping(("frstname", "firstName")),
            "fields[0]: Dynamics table 'contact' has no readable column 'frstname'.",
            id="unknown column",
        ),
        pytest.param(
            mapping(("firstname", "cusNickname")),
            "fields[0]: Campaign resource 'profile' has no field 'cusNickname'. Check the name, and for a cus field "
            "that the Profiles & Services Ext API is published.",
            id="unknown field",
        ),
        pytest.param(
            mapping(("firstname", "birthDate")),
            "fields[0]: a text ('firstname') can't become a date ('birthDate'). Map it to a field of another type.",
            id="unsupported pair",
        ),
    ],
)
def test_field_that_does_not_fit_is_refused_with_its_remedy(configured: TableMapping, fault: str) -> None:
    assert refusal(configured) == f"table mapping 'contact' does not fit the two systems:\n  - {fault}"


def test_read_only_field_is_refused() -> None:
    resource = target_resource()
    read_only = {name: replace(f, read_only=name == "email") for name, f in resource.fields.items()}

    assert refusal(mapping(), target=replace(resource, fields=read_only)).endswith(
        "fields[1]: Campaign field 'email' is read-only. Remove the line."
    )


def test_table_without_change_tracking_is_refused_by_name() -> None:
    assert "'contact' has change tracking off. Switch on 'Track changes'" in refusal(
        mapping(), source=replace(source_table(), change_tracking=False)
    )


def test_key_other_than_the_primary_key_is_refused() -> None:
    assert "key.source is 'contactid', but the primary key of 'contact' is 'id'. Set key.source to it." in refusal(
        mapping(), source=replace(source_table(), primary_id="id")
    )


def test_campaign_resource_without_the_key_column_is_refused() -> None:
    target = target_resource(firstName="string", email="string")

    assert "has no field 'externalId' for the key. Add it as an identification key" in refusal(mapping(), target=target)


def test_all_faults_are_told_at_once() -> None:
    faults = refusal(
        mapping(("frstname", "firstName"), ("firstname", "cusNickname"), ("firstname", "birthDate")),
        source=replace(source_table(), change_tracking=False),
    )

    assert faults.count("\n  - ") == 4


@pytest.mark.parametrize("name", ["", "1st", "first name", "a.b.c", "a.", "a-b", "a;drop"])
def test_name_that_neither_system_could_have_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        FieldMapping(source="firstname", target=name)


def test_key_among_the_fields_is_refused() -> None:
    with pytest.raises(ValidationError, match="'externalId' is the key; remove it from fields"):
        mapping(("firstname", "externalId"))


def test_mapping_without_fields_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        TableMapping(source="contact", target="profile", key=KeyMapping(source="a", target="b"), fields=[])


def test_fingerprint_changes_with_what_could_make_a_record_differ() -> None:
    one = bound()

    others = [
        bound(("firstname", "firstName")),
        bound(("emailaddress1", "firstName"), ("firstname", "email")),
        bound(apply_deletes=False),
    ]
    assert len({table.fingerprint() for table in (one, *others)}) == 4
    assert bound(declared_unique=False).fingerprint() == one.fingerprint()


def test_values_of_a_mapping_do_not_change_once_it_is_read() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        mapping().target = "other"
