"""Dataverse over real sockets: tables, full reads, deltas, and what can go wrong with them."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import polars as pl
import pytest

from d365_campaign.changes import ChangePage
from d365_campaign.clients.dataverse import DataverseClient, WhoAmI
from d365_campaign.errors import ConfigurationError, DeltaTokenExpired, ForeignOrigin, RetriableError
from d365_campaign.sandbox import Column, Sandbox, TableDefinition
from d365_campaign.schemas import SourceColumn, SourceTable

NAMES = ("contactid", "firstname", "emailaddress1", "donotbulkemail", "modifiedon")


def contact_of(client: DataverseClient, names: Sequence[str] = NAMES) -> tuple[SourceTable, list[SourceColumn]]:
    table = client.describe("contact")
    return table, [table.columns[name] for name in names]


def read_all(client: DataverseClient, link: str | None = None) -> list[ChangePage]:
    return list(client.changes(*contact_of(client), link))


def keys_of(pages: list[ChangePage]) -> list[str]:
    return [key for page in pages for key in page.rows["contactid"].to_list()]


def last_link(pages: list[ChangePage]) -> str:
    assert pages[-1].delta_link is not None
    return pages[-1].delta_link


# --- metadata


def test_a_table_is_described_by_its_metadata(connect: Any) -> None:
    contact = connect.dataverse().describe("contact")

    assert (contact.name, contact.entity_set, contact.primary_id) == ("contact", "contacts", "contactid")
    assert contact.change_tracking
    assert contact.columns["birthdate"].type == "date"
    assert contact.columns["modifiedon"].type == "datetime"
    assert contact.columns["contactid"].type == "reference"


def test_everything_about_a_table_is_one_request(sandbox: Sandbox, connect: Any) -> None:
    connect.dataverse().describe("contact")

    assert len(sandbox.calls("dataverse")) == 1


def test_choices_come_with_their_labels(connect: Any) -> None:
    columns = connect.dataverse().describe("contact").columns

    assert columns["gendercode"].labels == {1: "Male", 2: "Female"}
    assert columns["statecode"].labels == {0: "Active", 1: "Inactive"}
    assert columns["statuscode"].labels == {1: "Active", 2: "Inactive"}
    assert not any(column.labels for column in columns.values() if column.type != "choice")


def test_lookups_come_with_the_tables_they_lead_to(connect: Any) -> None:
    columns = connect.dataverse().describe("contact").columns

    assert columns["parentcustomerid"].refers_to == ("account", "contact")
    assert columns["ownerid"].refers_to == ("systemuser", "team")
    assert columns["contactid"].refers_to == columns["firstname"].refers_to == ()


def test_lookups_travel_under_another_name_and_virtual_companions_do_not_travel(sandbox: Sandbox, connect: Any) -> None:
    columns = (
        Column("new_name"),
        Column("new_contact", "Lookup", targets=("contact",)),
        Column("new_colours", "MultiSelectPicklist"),
    )
    sandbox.dataverse.register(TableDefinition("new_pet", "new_pets", columns, "new_name"))

    pet = connect.dataverse().describe("new_pet")

    assert pet.columns["new_contact"] == SourceColumn(
        "new_contact", "reference", "_new_contact_value", refers_to=("contact",)
    )
    assert pet.columns["new_colours"].type == "text"


@pytest.mark.parametrize("body", [{}, [], {"EntityMetadata": None}], ids=str)
def test_an_answer_without_definitions_is_no_missing_table(sandbox: Sandbox, connect: Any, body: object) -> None:
    sandbox.add_fault(
        system="dataverse", path="RetrieveMetadataChanges", times=9, replace=["(?s)^.*$", json.dumps(body)]
    )

    with pytest.raises(RetriableError, match="table contact"):
        connect.dataverse().describe("contact")


@pytest.mark.parametrize("name", ["nowhere", "o'brien", "a/b?c", 'a"b'])
def test_an_unknown_table_is_refused_with_a_remedy(connect: Any, name: str) -> None:
    with pytest.raises(ConfigurationError, match="Check the table's logical name"):
        connect.dataverse().describe(name)


# --- reading


def test_a_first_read_brings_every_record_and_the_delta_link_on_its_last_page(sandbox: Sandbox, connect: Any) -> None:
    sandbox.seed(contacts=25)

    pages = read_all(connect.dataverse(page_size=10))

    assert [page.rows.height for page in pages] == [10, 10, 5]
    assert sorted(keys_of(pages)) == sorted(row["contactid"] for row in sandbox.dataverse.rows("contact"))
    assert [page.next_link is None for page in pages] == [False, False, True]
    assert [page.delta_link is None for page in pages] == [True, True, False]
    assert abs(datetime.now(UTC) - pages[0].served_at) < timedelta(seconds=5)


def test_values_arrive_as_they_are_held(sandbox: Sandbox, connect: Any) -> None:
    sandbox.seed(contacts=40, hostile=True)
    held = {row["contactid"]: row for row in sandbox.dataverse.rows("contact")}

    rows = pl.concat(page.rows for page in read_all(connect.dataverse()))

    assert rows.height == len(held)
    for row in rows.select("contactid", "firstname", "emailaddress1", "donotbulkemail").to_dicts():
        assert row == {name: held[row["contactid"]][name] for name in row}


def test_pages_are_asked_for_only_as_they_are_taken(sandbox: Sandbox, connect: Any) -> None:
    sandbox.seed(contacts=30)
    client = connect.dataverse(page_size=10)
    pages = client.changes(*contact_of(client), None)
    sandbox.clear_calls()

    next(pages)

    assert len(sandbox.calls("dataverse")) == 1


def test_only_the_asked_columns_travel_and_the_key_always_does(sandbox: Sandbox, connect: Any) -> None:
    sandbox.seed(contacts=2)
    client = connect.dataverse()
    table = client.describe("contact")
    sandbox.clear_calls()

    [page] = client.changes(table, [table.columns["firstname"]], None)

    assert page.rows.columns == ["contactid", "firstname"]
    assert sandbox.calls("dataverse")[0].query == "$select=contactid,firstname"


def test_a_read_goes_on_from_any_next_link(sandbox: Sandbox, connect: Any) -> None:
    sandbox.seed(contacts=25)
    client = connect.dataverse(page_size=10)
    first = next(client.changes(*contact_of(client), None))

    rest = read_all(connect.dataverse(page_size=10), first.next_link)

    assert len(set(keys_of([first, *rest]))) == 25
    assert rest[-1].delta_link


def test_from_first_read_to_changes_to_deletions(sandbox: Sandbox, connect: Any) -> None:
    sandbox.seed(contacts=25)
    client = connect.dataverse(page_size=10)
    link = last_link(read_all(client))
    changed = sandbox.change_contacts(update=8, create=9, delete=5)

    pages = read_all(client, link)

    assert sorted(keys_of(pages)) == sorted([*changed["updated"], *changed["created"]])
    assert sorted(key for page in pages for key in page.removed) == sorted(changed["deleted"])
    assert read_all(client, last_link(pages))[0].rows.is_empty()


def test_nothing_new_under_no_new_link_keeps_the_old_one(sandbox: Sandbox, connect: Any) -> None:
    client = connect.dataverse()
    link = last_link(read_all(client))
    sandbox.add_fault(system="dataverse", path="contacts", replace=["(?s)^.*$", "{}"])

    [page] = read_all(client, link)

    assert page.rows.is_empty()
    assert page.delta_link == link


def test_a_full_read_without_a_delta_link_is_not_taken_for_complete(sandbox: Sandbox, connect: Any) -> None:
    sandbox.add_fault(system="dataverse", path="contacts", replace=["@odata.deltaLink", "@odata.other"])

    with pytest.raises(RetriableError, match="without a delta link"):
        read_all(connect.dataverse())


def test_records_modified_since_a_moment_come_without_deletions(sandbox: Sandbox, connect: Any) -> None:
    sandbox.seed(contacts=12)
    sandbox.advance_clock(2)
    since = sandbox.clock.now()
    changed = sandbox.change_contacts(update=5, delete=1)
    client = connect.dataverse(page_size=2)

    pages = list(client.modified_since(*contact_of(client), since.replace(microsecond=0), None))

    assert sorted(keys_of(pages)) == sorted(changed["updated"])
    assert len(pages) == 3
    assert pages[-1].next_link is pages[-1].delta_link is None


def test_links_are_followed_as_they_came(sandbox: Sandbox, connect: Any) -> None:
    sandbox.seed(contacts=4)
    client = connect.dataverse(page_size=2)
    first = next(client.changes(*contact_of(client), None))
    assert first.next_link is not None
    sandbox.clear_calls()

    next(client.changes(*contact_of(client), first.next_link))

    assert sandbox.calls("dataverse")[-1].query.lower() == first.next_link.partition("?")[2].lower()


# --- waking up


def test_whether_anything_changed_is_told_by_one_small_request(sandbox: Sandbox, connect: Any) -> None:
    sandbox.seed(contacts=5)
    client = connect.dataverse()
    link = last_link(read_all(client))
    sandbox.clear_calls()

    before = client.has_changes(link)
    sandbox.change_contacts(update=3)
    after = client.has_changes(link)

    assert (before, after) == (False, True)
    assert len(sandbox.calls("dataverse")) == 2
    assert sum(page.rows.height for page in read_all(client, link)) == 3


def test_a_deletion_counts_as_a_change(sandbox: Sandbox, connect: Any) -> None:
    sandbox.seed(contacts=5)
    client = connect.dataverse()
    link = last_link(read_all(client))
    sandbox.change_contacts(delete=1)

    assert client.has_changes(link)


def test_an_expired_delta_link_counts_as_a_change(sandbox: Sandbox, connect: Any) -> None:
    client = connect.dataverse()
    link = last_link(read_all(client))
    sandbox.expire_delta_tokens()

    assert client.has_changes(link)


# --- before the first sync


def test_we_are_told_who_we_are(connect: Any) -> None:
    me = connect.dataverse().who_am_i()

    assert isinstance(me, WhoAmI)
    assert me.user_id
    assert me.organization_id not in ("", me.user_id)


PROBES: list[Callable[[DataverseClient], object]] = [
    DataverseClient.who_am_i,
    DataverseClient.clock_skew_seconds,
    lambda client: client.record_count("contact"),
]


@pytest.mark.parametrize("probe", PROBES, ids=["who am I", "clock", "count"])
@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        pytest.param({"status": 401, "times": 2}, ConfigurationError, r"dynamics\.client_id", id="401 twice"),
        pytest.param({"code": "0x80072560"}, ConfigurationError, "Add an application user", id="no application user"),
        pytest.param({"code": "0x80040220"}, ConfigurationError, "security role", id="no right"),
        pytest.param({"status": 404, "code": ""}, ConfigurationError, r"dynamics\.url", id="another server"),
        pytest.param({"status": 503, "times": 9}, RetriableError, "503", id="down"),
    ],
)
def test_a_refused_probe_says_what_to_change(
    sandbox: Sandbox,
    connect: Any,
    probe: Callable[[DataverseClient], object],
    fault: dict[str, Any],
    kind: type[Exception],
    words: str,
) -> None:
    known = {"status": 403, "code": "", **fault}
    body = {"error": {"code": known.pop("code"), "message": "refused"}}
    sandbox.add_fault(system="dataverse", body=body, **known)

    with pytest.raises(kind, match=words):
        probe(connect.dataverse())


@pytest.mark.parametrize("probe", [PROBES[0], PROBES[2]], ids=["who am I", "count"])
@pytest.mark.parametrize("body", ["<html>", "[]", "{}"])
def test_another_page_under_200_proves_nothing(
    sandbox: Sandbox, connect: Any, probe: Callable[[DataverseClient], object], body: str
) -> None:
    sandbox.add_fault(system="dataverse", status=200, times=9, body=body)

    with pytest.raises(RetriableError):
        probe(connect.dataverse())


def test_an_application_without_a_user_is_told_so(sandbox: Sandbox, connect: Any) -> None:
    sandbox.settings.application_user = False

    with pytest.raises(ConfigurationError, match="Add an application user"):
        connect.dataverse().who_am_i()


@pytest.mark.parametrize("ahead", [-7200, 0, 600])
def test_dynamics_clock_is_compared_with_ours(sandbox: Sandbox, connect: Any, ahead: int) -> None:
    told = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)
    sandbox.add_fault(system="dataverse", headers={"Date": told})

    assert connect.dataverse().clock_skew_seconds() == pytest.approx(ahead, abs=3)


def test_an_answer_without_a_date_tells_no_clock(sandbox: Sandbox, connect: Any) -> None:
    sandbox.add_fault(system="dataverse", headers={"Date": "yesterday"})

    assert connect.dataverse().clock_skew_seconds() is None


def test_the_snapshot_of_totals_tells_how_many_records_there_are(sandbox: Sandbox, connect: Any) -> None:
    sandbox.seed(contacts=12)
    client = connect.dataverse()

    assert client.record_count("contact") == 12
    assert client.record_count("nowhere") is None


def test_a_table_that_can_be_pulled_passes_a_try_of_one_request(sandbox: Sandbox, connect: Any) -> None:
    sandbox.seed(contacts=12)
    client = connect.dataverse()
    contact = client.describe("contact")
    sandbox.clear_calls()

    client.try_read(contact)

    [call] = sandbox.calls("dataverse")
    assert (call.status, call.query) == (200, "$select=contactid")


def test_a_try_names_the_missing_right(sandbox: Sandbox, connect: Any) -> None:
    client = connect.dataverse()
    contact = client.describe("contact")
    sandbox.settings.change_tracking_privilege = False

    with pytest.raises(ConfigurationError, match=r"may not read 'contact'.*organization-level read"):
        client.try_read(contact)


def test_a_try_names_the_switch_of_change_tracking(connect: Any) -> None:
    client = connect.dataverse()

    with pytest.raises(ConfigurationError, match=r"'new_untracked'.*Track changes"):
        client.try_read(client.describe("new_untracked"))


# --- what goes wrong


def test_an_expired_delta_token_asks_for_a_full_read(sandbox: Sandbox, connect: Any) -> None:
    client = connect.dataverse()
    link = last_link(read_all(client))
    sandbox.expire_delta_tokens()

    with pytest.raises(DeltaTokenExpired, match="contact"):
        read_all(client, link)


def test_a_table_that_is_not_tracked_names_the_switch(sandbox: Sandbox, connect: Any) -> None:
    columns = (Column("new_name"),)
    sandbox.dataverse.register(TableDefinition("new_pet", "new_pets", columns, "new_name", change_tracking=False))
    client = connect.dataverse()
    pet = client.describe("new_pet")

    assert not pet.change_tracking
    with pytest.raises(ConfigurationError, match="Track changes"):
        list(client.changes(pet, [pet.columns["new_petid"]], None))


def test_an_unknown_column_is_named(connect: Any) -> None:
    client = connect.dataverse()
    table, columns = contact_of(client)

    with pytest.raises(ConfigurationError, match="new_gone"):
        list(client.changes(table, [*columns, SourceColumn("new_gone", "text", "new_gone")], None))


@pytest.mark.parametrize(
    "fault",
    [{"truncate": 700}, {"replace": [r"(?s).{40}$", ""]}, {"reset": True}, {"status": 503}, {"lose_answer": True}],
    ids=str,
)
def test_a_page_that_was_cut_is_read_again_and_nothing_is_lost(
    sandbox: Sandbox, connect: Any, fault: dict[str, Any]
) -> None:
    sandbox.seed(contacts=30)
    sandbox.add_fault(system="dataverse", path="contacts", skip=1, times=2, **fault)

    assert len(set(keys_of(read_all(connect.dataverse(page_size=10))))) == 30


def test_a_token_that_ends_between_pages_goes_unnoticed(sandbox: Sandbox, connect: Any) -> None:
    sandbox.seed(contacts=30)
    client = connect.dataverse(page_size=10)
    pages = client.changes(*contact_of(client), None)
    first = next(pages)
    sandbox.expire_tokens()

    assert len(keys_of([first, *pages])) == 30


@pytest.mark.parametrize("kind", ["nextLink", "deltaLink"])
def test_a_foreign_link_is_neither_followed_nor_handed_out(
    sandbox: Sandbox, connect: Any, foreign: Any, kind: str
) -> None:
    sandbox.seed(contacts=5)
    pattern = rf'("@odata.{kind}":\s*")https://localhost:\d+'
    sandbox.add_fault(system="dataverse", path="contacts", replace=[pattern, rf"\g<1>{foreign.origin}"])

    with pytest.raises(ForeignOrigin, match="contact"):
        read_all(connect.dataverse(page_size=2 if kind == "nextLink" else 10))
    assert not foreign.was_visited()


def test_a_stored_link_that_leads_elsewhere_is_not_followed(connect: Any, foreign: Any) -> None:
    client = connect.dataverse()

    with pytest.raises(ForeignOrigin):
        read_all(client, f"{foreign.origin}/api/data/v9.2/contacts?$deltatoken=1")
    with pytest.raises(ForeignOrigin):
        client.has_changes(f"{foreign.origin}/api/data/v9.2/contacts?$deltatoken=1")
    assert not foreign.was_visited()


def test_pages_that_lead_in_a_circle_come_to_an_end(sandbox: Sandbox, connect: Any) -> None:
    sandbox.seed(contacts=30)
    client = connect.dataverse(page_size=10)
    first = next(client.changes(*contact_of(client), None))
    assert first.next_link is not None
    again = first.next_link.replace("\\", "\\\\")
    pattern = r'(?<="@odata.nextLink":")[^"]*'
    sandbox.add_fault(system="dataverse", path="contacts", times=99, replace=[pattern, again])

    with pytest.raises(RetriableError, match=r"contact.*next link a second time"):
        read_all(client)


def test_no_right_to_read_names_the_right(sandbox: Sandbox, connect: Any) -> None:
    body = {"error": {"code": "0x80040220", "message": "SecLib::CheckPrivilege failed."}}
    sandbox.add_fault(system="dataverse", path="contacts", status=403, body=body)

    with pytest.raises(ConfigurationError, match="organization-level read"):
        read_all(connect.dataverse())


def test_service_protection_limits_are_waited_out(sandbox: Sandbox, connect: Any) -> None:
    sandbox.seed(contacts=30)
    body = {"error": {"code": "0x80072322", "message": "Number of requests exceeded the limit of 6000"}}
    sandbox.add_fault(system="dataverse", path="contacts", skip=1, status=429, retry_after=1, body=body)

    assert len(keys_of(read_all(connect.dataverse(page_size=10)))) == 30


def test_a_page_shows_no_values(sandbox: Sandbox, connect: Any) -> None:
    sandbox.seed(contacts=2)

    [page] = read_all(connect.dataverse())

    assert page.rows["emailaddress1"][0] not in repr(page)
