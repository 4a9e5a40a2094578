"""Microsoft's own Python client (`PowerPlatform-Dataverse-Client`) can't tell the sandbox from Dataverse.

Each test names what of the Web API the client relies on there; "wire notes" are our notes on Microsoft's pages.
"""

from collections.abc import Callable
from typing import Any

import pytest
from PowerPlatform.Dataverse.client import DataverseClient
from PowerPlatform.Dataverse.core.errors import HttpError
from PowerPlatform.Dataverse.models.filters import col
from PowerPlatform.Dataverse.models.query_builder import ExpandOption
from PowerPlatform.Dataverse.models.upsert import UpsertItem

from d365_campaign.sandbox import Sandbox

from .conftest import ClientSecret

MISSING = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def contacts(sandbox: Sandbox) -> list[str]:
    return [sandbox.dataverse.create("contact", {"firstname": "Ada", "lastname": f"L{n}"}) for n in range(3)]


# --- records


def test_list_follows_next_links_over_several_pages(sandbox: Sandbox, client: DataverseClient) -> None:
    """ "Page results using OData": the client follows `@odata.nextLink` as it is, with the same `Prefer`."""
    sandbox.seed(25)
    pages = [len(page) for page in client.records.list_pages("contact", select=["lastname"], page_size=10)]
    assert pages == [10, 10, 5]
    assert len({record["contactid"] for record in client.records.list("contact", page_size=7)}) == 25


def test_list_filters_orders_and_counts(client: DataverseClient, contacts: list[str]) -> None:
    """ "Filter rows using OData", "Order rows using OData", sent as `%24filter` with `+` for spaces."""
    found = client.records.list("contact", filter="lastname ne 'L1'", orderby=["lastname desc"], top=2, count=True)
    assert [record["lastname"] for record in found] == ["L2", "L0"]


def test_retrieve_knows_annotations_and_missing_rows(client: DataverseClient, contacts: list[str]) -> None:
    """ "Retrieve a table row": 404 becomes None; formatted values come when asked for."""
    record = client.records.retrieve("contact", contacts[0], select=["statecode"], include_annotations="*")
    assert record is not None
    assert record["statecode@OData.Community.Display.V1.FormattedValue"] == "Active"
    assert client.records.retrieve("contact", MISSING) is None


def test_retrieve_expands(sandbox: Sandbox, client: DataverseClient, contacts: list[str]) -> None:
    """ "Join tables using OData", single-valued and collection-valued."""
    account = sandbox.dataverse.create("account", {"name": "Contoso", "primarycontactid": contacts[0]})
    expand = ["primarycontactid($select=lastname)"]
    record = client.records.retrieve("account", account, select=["name"], expand=expand)
    assert record is not None
    assert record["primarycontactid"]["lastname"] == "L0"
    owner = client.records.retrieve("contact", contacts[0], expand=["account_primary_contact($select=name)"])
    assert owner is not None
    assert [row["name"] for row in owner["account_primary_contact"]] == ["Contoso"]


def test_create_one_and_many(sandbox: Sandbox, client: DataverseClient) -> None:
    """ "Create a table row": the key comes in `OData-EntityId`. CreateMultiple answers `Ids` in order."""
    one = client.records.create("contact", {"lastname": "One"})
    many = client.records.create("contact", [{"lastname": "Two"}, {"lastname": "Three"}])
    assert [sandbox.dataverse.get("contact", row_id)["lastname"] for row_id in (one, *many)] == ["One", "Two", "Three"]


def test_choices_are_written_by_label(sandbox: Sandbox, client: DataverseClient) -> None:
    """The client reads the PicklistAttributeMetadata cast and turns labels into numbers."""
    row_id = client.records.create("contact", {"lastname": "Label", "gendercode": "Female"})
    assert sandbox.dataverse.get("contact", row_id)["gendercode"] == 2


def test_update_one_and_many(sandbox: Sandbox, client: DataverseClient, contacts: list[str]) -> None:
    """PATCH with `If-Match: *`; UpdateMultiple with one change for all rows, or one for each."""
    client.records.update("contact", contacts[0], {"jobtitle": "Nurse"})
    client.records.update("contact", contacts[1:], {"jobtitle": "Writer"})
    assert [row["jobtitle"] for row in _stored(sandbox, contacts)] == ["Nurse", "Writer", "Writer"]
    client.records.update("contact", contacts[1:], [{"jobtitle": "A"}, {"jobtitle": "B"}])
    assert [row["jobtitle"] for row in _stored(sandbox, contacts[1:])] == ["A", "B"]


def test_upsert_one_and_many(sandbox: Sandbox, client: DataverseClient) -> None:
    """ "Use an alternate key to reference a record", "Upsert a table row"; quotes in keys are doubled."""
    client.records.upsert("new_store", [UpsertItem({"new_code": "o'k"}, {"new_name": "One"})])
    items: list[UpsertItem | dict[str, Any]] = [
        UpsertItem({"new_code": "o'k"}, {"new_name": "Again"}),
        UpsertItem({"new_code": "c2"}, {"new_name": "Two"}),
    ]
    client.records.upsert("new_store", items)
    names = {row["new_code"]: row["new_name"] for row in sandbox.dataverse.rows("new_store")}
    assert names == {"o'k": "Again", "c2": "Two"}


def test_upsert_many_refuses_the_key_in_the_body_of_a_new_row(client: DataverseClient) -> None:
    """Reported in the client's pull request 127: "An unexpected error occurred." where the row is new."""
    items: list[UpsertItem | dict[str, Any]] = [
        UpsertItem({"new_code": code}, {"new_code": code, "new_name": "x"}) for code in ("n1", "n2")
    ]
    with pytest.raises(HttpError) as refused:
        client.records.upsert("new_store", items)
    assert refused.value.details["service_error_code"] == "0x80040216"


def test_delete_one_and_many(sandbox: Sandbox, client: DataverseClient, contacts: list[str]) -> None:
    """DELETE with `If-Match: *`; BulkDelete with a QueryExpression answers the job's id."""
    client.records.delete("contact", contacts[0])
    job = client.records.delete("contact", contacts[1:])
    assert isinstance(job, str)
    assert len(job) == 36
    assert sandbox.dataverse.rows("contact") == []


def test_bulk_messages_roll_back_as_a_whole(sandbox: Sandbox, client: DataverseClient, contacts: list[str]) -> None:
    """ "Use bulk operation messages": on standard tables any error rolls back everything."""
    with pytest.raises(HttpError, match="outside the valid range"):
        client.records.create("contact", [{"lastname": "Good"}, {"lastname": "Bad", "gendercode": 99}])
    with pytest.raises(HttpError, match="Do Not Exist"):
        client.records.update("contact", [contacts[0], MISSING], {"jobtitle": "x"})
    assert [row["jobtitle"] for row in sandbox.dataverse.rows("contact")] == [None] * 3


# --- queries


def test_query_builder(client: DataverseClient, contacts: list[str]) -> None:
    """Conditions, `In` with property values, order and pages as the builder writes them."""
    query = client.query.builder("contact").select("lastname").where(col("lastname").in_(["L0", "L2"]))
    assert [record["lastname"] for record in query.order_by("lastname").execute()] == ["L0", "L2"]
    starts = client.query.builder("contact").select("lastname").where(col("lastname").like("L%")).page_size(2)
    assert [len(page) for page in starts.execute_pages()] == [2, 1]


def test_query_builder_walks_lookups(sandbox: Sandbox, client: DataverseClient, contacts: list[str]) -> None:
    """Paths through single-valued navigation properties in `$filter`; `$expand` with nested options."""
    for row_id in contacts[:2]:
        sandbox.dataverse.create("account", {"name": f"A {row_id}", "primarycontactid": row_id})
    query = client.query.builder("account").select("name").where(col("primarycontactid/lastname") == "L1")
    found = list(query.expand(ExpandOption("primarycontactid").select("fullname")).execute())
    assert [record["primarycontactid"]["fullname"] for record in found] == ["Ada L1"]


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda query: query.sql("SELECT lastname FROM contact"), id="sql"),
        pytest.param(lambda query: query.fetchxml("<fetch><entity name='contact'/></fetch>").execute(), id="fetchxml"),
    ],
)
def test_other_query_languages_are_refused_aloud(client: DataverseClient, ask: Callable[[Any], object]) -> None:
    """The sandbox speaks OData only; it must not answer FetchXML or SQL with a plain list."""
    with pytest.raises(HttpError, match="The sandbox does not implement") as refused:
        ask(client.query)
    assert refused.value.status_code == 501


# --- batches


def test_batch_answers_in_order(sandbox: Sandbox, client: DataverseClient, contacts: list[str]) -> None:
    """ "Execute batch operations using the Web API": one part per operation, in the order asked."""
    batch = client.batch.new()
    batch.records.create("contact", {"lastname": "In a batch"})
    batch.records.update("contact", contacts[0], {"jobtitle": "Nurse"})
    batch.records.retrieve("contact", contacts[0], select=["jobtitle"])
    batch.records.list("contact", filter="lastname eq 'In a batch'")
    batch.records.create("contact", [{"lastname": "Bulk 1"}, {"lastname": "Bulk 2"}])
    batch.records.delete("contact", contacts[2])
    batch.tables.get("contact")
    result = batch.execute()
    assert [item.status_code for item in result.responses] == [204, 204, 200, 200, 200, 204, 200]
    read, listed, bulk = result.responses[2].data, result.responses[3].data, result.responses[4].data
    assert read is not None
    assert read["jobtitle"] == "Nurse"
    assert listed is not None
    assert [row["contactid"] for row in listed["value"]] == [result.responses[0].entity_id]
    assert bulk is not None
    assert len(bulk["Ids"]) == 2
    assert len(sandbox.dataverse.rows("contact")) == 5
    assert [call.operation for call in sandbox.calls("dataverse") if call.path.endswith("$batch")] == ["batch"]


def test_change_sets_refer_to_earlier_operations(sandbox: Sandbox, client: DataverseClient) -> None:
    """ "Reference URIs in an operation": `$1` in a binding and as the address of a later PATCH."""
    batch = client.batch.new()
    with batch.changeset() as changes:
        contact = changes.records.create("contact", {"lastname": "Boss"})
        changes.records.create("account", {"name": "Contoso", "primarycontactid@odata.bind": contact})
        changes.records.update("contact", contact, {"jobtitle": "Director"})
    result = batch.execute()
    assert [(item.status_code, item.content_id) for item in result.responses] == [(204, "1"), (204, "2"), (204, "3")]
    boss = sandbox.dataverse.get("contact", result.entity_ids[0])
    assert boss["jobtitle"] == "Director"
    assert sandbox.dataverse.rows("account")[0]["_primarycontactid_value"] == boss["contactid"]


def test_a_failing_change_set_leaves_nothing_behind(sandbox: Sandbox, client: DataverseClient) -> None:
    """ "Change sets": all or nothing; one error part stands for the whole set."""
    batch = client.batch.new()
    with batch.changeset() as changes:
        changes.records.create("contact", {"lastname": "Undone"})
        changes.records.create("contact", {"lastname": "x" * 51})
    result = batch.execute()
    assert [(item.status_code, item.error_code) for item in result.failed] == [(400, "0x80044331")]
    assert sandbox.dataverse.rows("contact") == []


@pytest.mark.parametrize(("go_on", "statuses"), [(False, [400]), (True, [400, 204])], ids=["stop", "continue"])
def test_continue_on_error(client: DataverseClient, go_on: bool, statuses: list[int]) -> None:
    """`Prefer: odata.continue-on-error`: without it the batch ends at the first failure."""
    batch = client.batch.new()
    batch.records.create("contact", {"lastname": "x" * 51})
    batch.records.create("contact", {"lastname": "Fine"})
    result = batch.execute(continue_on_error=go_on)
    assert [item.status_code for item in result.responses] == statuses


# --- tables


def test_tables_are_found_and_listed(client: DataverseClient) -> None:
    """ "Query table definitions using the Web API": filters on LogicalName and IsPrivate."""
    contact = client.tables.get("contact")
    assert contact is not None
    assert (contact.entity_set_name, contact.primary_id_attribute) == ("contacts", "contactid")
    assert client.tables.get("nothing") is None
    names = {table["LogicalName"] for table in client.tables.list(select=["LogicalName"])}
    assert {"contact", "account", "new_purchase"} <= names
    custom = client.tables.list(filter="startswith(LogicalName,'new_')")
    assert {table["LogicalName"] for table in custom} == {"new_purchase", "new_store", "new_untracked"}


@pytest.mark.parametrize("typed", [False, True])
def test_columns_are_listed(client: DataverseClient, typed: bool) -> None:
    """Base properties from `/Attributes`; typed ones from RetrieveMetadataChanges in one request."""
    columns = {column["LogicalName"]: column for column in client.tables.list_columns("contact", typed=typed)}
    assert columns["firstname"]["AttributeType"] == "String"
    assert ("MaxLength" in columns["firstname"]) is typed
    assert columns["gendercodename"]["AttributeType"] == "Virtual"


def test_one_column_is_found(client: DataverseClient) -> None:
    """`Attributes(LogicalName='...')`, and None for a column that is not there."""
    column = client.tables.get_column("contact", "lastname")
    assert column is not None
    assert column["SchemaName"] == "Lastname"
    assert client.tables.get_column("contact", "nothing") is None


def test_relationships_are_listed(client: DataverseClient) -> None:
    """One-to-many, many-to-one and many-to-many of a table, together."""
    names = {relation["SchemaName"] for relation in client.tables.list_table_relationships("contact")}
    assert {"contact_customer_accounts", "account_primary_contact"} <= names
    assert client.tables.get_relationship("account_primary_contact") is not None


def test_alternate_keys_are_made_used_and_removed(sandbox: Sandbox, client: DataverseClient) -> None:
    """ "Work with alternate keys": the definition is made over HTTP, then addresses rows."""
    made = client.tables.create_alternate_key("contact", "new_external_key", ["externaluseridentifier"])
    keys = client.tables.get_alternate_keys("contact")
    assert [(key.schema_name, key.status) for key in keys] == [("new_external_key", "Active")]
    client.records.upsert("contact", [UpsertItem({"externaluseridentifier": "e-1"}, {"lastname": "Keyed"})])
    assert [row["lastname"] for row in sandbox.dataverse.rows("contact")] == ["Keyed"]
    client.tables.delete_alternate_key("contact", made.metadata_id)
    assert client.tables.get_alternate_keys("contact") == []


# --- tokens and errors


def test_the_token_is_asked_for_the_environment(
    sandbox: Sandbox, client: DataverseClient, credential: ClientSecret
) -> None:
    """Client credentials flow: scope is the environment's address and `/.default`."""
    client.records.list("contact")
    assert set(credential.scopes) == {sandbox.endpoints["dataverse"] + "/.default"}


REFUSED_VALUES = [
    pytest.param({"lastname": "x" * 51}, 400, "0x80044331", "maximum allowed length", id="length"),
    pytest.param({"gendercode": 99}, 400, "0x8004431A", "outside the valid range", id="choice"),
    pytest.param({"Nothing": 1}, 400, "0x0", "Invalid property 'nothing'", id="property"),
]


@pytest.mark.parametrize(("values", "status", "code", "text"), REFUSED_VALUES)
def test_error_shapes(client: DataverseClient, values: dict[str, Any], status: int, code: str, text: str) -> None:
    """ "Compose HTTP requests and handle errors": code, message and request id reach `HttpError`."""
    with pytest.raises(HttpError, match=text) as refused:
        client.records.create("contact", values)
    error = refused.value
    assert (error.status_code, error.subcode, error.is_transient) == (status, f"http_{status}", False)
    assert error.details["service_error_code"] == code
    assert len(error.details["service_request_id"]) == 36


def test_a_duplicate_key_is_412(client: DataverseClient) -> None:
    """ "Web service error codes": DuplicateRecordEntityKey."""
    client.records.create("new_store", {"new_name": "One", "new_code": "S1"})
    with pytest.raises(HttpError) as refused:
        client.records.create("new_store", {"new_name": "Two", "new_code": "S1"})
    assert (refused.value.status_code, refused.value.details["service_error_code"]) == (412, "0x80060892")


def test_an_update_of_a_missing_row_is_404(client: DataverseClient) -> None:
    """`If-Match: *` keeps a PATCH from creating the row."""
    with pytest.raises(HttpError, match="Does Not Exist") as refused:
        client.records.update("contact", MISSING, {"lastname": "x"})
    assert refused.value.status_code == 404


def test_throttling_is_transient_and_says_how_long(sandbox: Sandbox, client: DataverseClient) -> None:
    """ "Service protection API limits": 429 with `Retry-After` in seconds."""
    client.records.list("contact")
    sandbox.settings.update({"service_protection": True, "service_protection_requests": 1})
    client.records.list("contact")
    with pytest.raises(HttpError, match="Number of requests exceeded the limit of 1 over time window") as refused:
        client.records.list("contact")
    error = refused.value
    assert (error.status_code, error.is_transient) == (429, True)
    assert error.details["service_error_code"] == "0x80072322"
    assert 290 <= error.details["retry_after"] <= 300


@pytest.mark.parametrize("body", ["empty", "json"])
def test_an_expired_token_is_401(sandbox: Sandbox, client: DataverseClient, body: str) -> None:
    """The body of a 401 is unconfirmed: the client copes with both."""
    sandbox.settings.update({"unauthorized_body": body})
    sandbox.settings.entra_token_seconds = 0
    with pytest.raises(HttpError) as refused:
        client.records.list("contact")
    assert refused.value.status_code == 401


def _stored(sandbox: Sandbox, ids: list[str]) -> list[dict[str, Any]]:
    return [sandbox.dataverse.get("contact", row_id) for row_id in ids]
