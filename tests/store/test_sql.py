"""The SQL of two mappings, kept as text: review it as SQL. `UPDATE_GOLDEN=1` writes the files anew."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import pytest

from d365_campaign.binding import BoundMapping, bind
from d365_campaign.changes import Reading
from d365_campaign.field_types import CampaignType, SourceType
from d365_campaign.mapping import FieldMapping, KeyMapping, TableMapping
from d365_campaign.schemas import ResourceField, SourceColumn, SourceTable, TargetResource
from d365_campaign.store import sql, sql_apply, sql_plan, sql_waiting
from d365_campaign.store.staging import Staging
from d365_campaign.store.values import quote
from tests.builders import bound, mapping, open_changes, page, source_table, target_resource

GOLDEN = Path(__file__).parents[1] / "golden"
RICH = bound(
    ("firstname", "firstName"),
    ("emailaddress1", "email"),
    ("birthdate", "birthDate"),
    ("firstname", "location.city"),
    ("numberofchildren", "cusChildren"),
    ("creditlimit", "cusCredit"),
    ("donotemail", "cusFlag"),
    ("modifiedon", "lastContact"),
)
WITHOUT_DELETES = bound(("firstname", "firstName"), apply_deletes=False)


def with_everything() -> BoundMapping:
    """A linked table that makes use of every rule a mapping knows."""
    purchase = TableMapping.model_validate(
        {
            "source": "new_purchase",
            "target": "cusPurchase",
            "key": {"source": "new_purchaseid", "target": "cusD365id", "declared_unique": True},
            "fields": [
                {"source": "new_name", "target": "cusName", "too_long": "truncate"},
                {"source": "new_channel", "target": "cusChannel", "replacements": [{"existing": "Web", "new": "W"}]},
                {"source": "new_quantity", "target": "cusQuantity", "apply_updates": False},
                {"source": "new_contactid", "target": "cusContactId"},
            ],
            "links": [{"source": "new_contactid", "parent": "contact"}],
            "filter": {"conditions": [{"source": "new_gift", "comparison": "equals", "value": False}]},
            "delete_filtered_out": True,
        }
    )
    kinds: dict[str, SourceType] = {
        "new_purchaseid": "reference",
        "new_name": "text",
        "new_channel": "choice",
        "new_quantity": "decimal",
        "new_contactid": "reference",
        "new_gift": "boolean",
    }
    columns = {name: SourceColumn(name, kind, name) for name, kind in kinds.items()}
    columns["new_channel"] = SourceColumn("new_channel", "choice", "new_channel", labels={1: "Web", 2: "Store"})
    fields = {
        "cusD365id": ResourceField("cusD365id", "string", length=36),
        "cusName": ResourceField("cusName", "string", length=100),
        "cusChannel": ResourceField("cusChannel", "string", length=30),
        "cusQuantity": ResourceField("cusQuantity", "integer", bounds=(-2147483648, 2147483647)),
        "cusContactId": ResourceField("cusContactId", "string", length=36),
    }
    source = SourceTable("new_purchase", "new_purchases", "new_purchaseid", change_tracking=True, columns=columns)
    target = TargetResource("cusPurchase", "profileAndServicesExt", fields)
    return bind(purchase, source, target, [mapping(), purchase])


EVERYTHING = with_everything()
TABLES = {"rich": RICH, "without_deletes": WITHOUT_DELETES, "everything": EVERYTHING}

BUILDERS: dict[str, Callable[[BoundMapping], str | Sequence[str]]] = {
    "create_desired": sql.create_desired,
    "insert_page": sql.insert_page,
    "compare_everything": lambda table: sql_plan.compare_everything(
        table, deletes=table.mapping.deletes, replaying=False
    ),
    "compare_touched": lambda table: sql_plan.compare_touched(
        table, planned_page=7, deletes=table.mapping.deletes, replaying=table is EVERYTHING
    ),
    "doubt": lambda table: sql_plan.doubt(table, deletes=table.mapping.deletes),
    "hold_back_unfit": lambda table: sql_waiting.hold_back_unfit(table, touched=True),
    "defer": lambda table: sql_waiting.defer(table, table.parents, table.children, coming=True),
    "take_window": sql_apply.take_window,
    "settle": sql_apply.settle,
    "book_rejects": sql_waiting.book_rejects,
}


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize(("name", "table"), TABLES.items(), ids=TABLES)
def test_sql_is_as_it_was_reviewed(name: str, table: BoundMapping, builder: str) -> None:
    built = BUILDERS[builder](table)
    text = ";\n\n".join([built] if isinstance(built, str) else built) + ";\n"
    file = GOLDEN / f"{builder}_{name}.sql"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text)

    assert text == file.read_text(), f"run again with UPDATE_GOLDEN=1 and review {file.name}"


def test_no_golden_file_is_left_over() -> None:
    expected = {f"{builder}_{name}.sql" for builder in BUILDERS for name in TABLES}

    assert {file.name for file in GOLDEN.iterdir()} == expected


@pytest.mark.parametrize("name", ['a"b', '"; drop table t; --', "select", "a b", "Zoë", "'"])
def test_quoted_identifier_means_just_its_characters(name: str) -> None:
    with duckdb.connect() as connection:
        connection.execute("create table t (a integer)")
        connection.execute(f"create table {quote(name)} ({quote(name)} integer)")
        found = connection.execute("select table_name, column_name from duckdb_columns() where not internal")
        assert set(found.fetchall()) == {("t", "a"), (name, name)}


def test_swapped_and_reserved_names_keep_their_meaning() -> None:
    """A source column and another field's target may share a name; so may the builders' own words."""
    pairs = {"name": "key", "key": "name", "kind": "changed", "changed": "kind", "order": "order"}
    swapped = TableMapping(
        source="contact",
        target="profile",
        key=KeyMapping(source="contactid", target="externalId"),
        fields=[FieldMapping(source=s, target=t) for s, t in pairs.items()],
        apply_deletes=True,
    )
    text: SourceType = "text"
    string: CampaignType = "string"
    columns = source_table(contactid="reference", **dict.fromkeys(pairs, text))
    resource = target_resource({}, externalId=string, **dict.fromkeys(pairs.values(), string))
    table = bind(swapped, columns, resource)
    with duckdb.connect() as connection:
        store = Staging(connection).table(table)
        store.absorb(page(table, {"contactid": "c1", **{name: f"from {name}" for name in pairs}}), Reading())
        store.plan()
        [change] = open_changes(store)
    assert change.values == {target: f"from {source}" for source, target in pairs.items()}
