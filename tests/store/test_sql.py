"""The SQL of two mappings, kept as text: review it as SQL. `UPDATE_GOLDEN=1` writes the files anew."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import pytest

from d365_campaign.changes import Reading
from d365_campaign.field_types import CampaignType, SourceType
from d365_campaign.mapping import BoundMapping, FieldMapping, KeyMapping, TableMapping, bind
from d365_campaign.store import sql
from d365_campaign.store.staging import Staging
from tests.builders import bound, page, source_table, target_resource

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

BUILDERS: dict[str, Callable[[BoundMapping], str | Sequence[str]]] = {
    "create_desired": sql.create_desired,
    "insert_page": sql.insert_page,
    "compare_everything": lambda table: sql.compare_everything(table, deletes=table.mapping.apply_deletes),
    "compare_touched": lambda table: sql.compare_touched(table, planned_page=7, deletes=table.mapping.apply_deletes),
    "doubt": lambda table: sql.doubt(table, deletes=table.mapping.apply_deletes),
    "pending": sql.pending,
    "settle": sql.settle,
}


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize(
    ("name", "table"), [("rich", RICH), ("without_deletes", WITHOUT_DELETES)], ids=["rich", "without_deletes"]
)
def test_sql_is_as_it_was_reviewed(name: str, table: BoundMapping, builder: str) -> None:
    built = BUILDERS[builder](table)
    text = ";\n\n".join([built] if isinstance(built, str) else built) + ";\n"
    file = GOLDEN / f"{builder}_{name}.sql"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text)

    assert text == file.read_text(), f"run again with UPDATE_GOLDEN=1 and review {file.name}"


def test_no_golden_file_is_left_over() -> None:
    expected = {f"{builder}_{name}.sql" for builder in BUILDERS for name in ("rich", "without_deletes")}

    assert {file.name for file in GOLDEN.iterdir()} == expected


@pytest.mark.parametrize("name", ['a"b', '"; drop table t; --', "select", "a b", "Zoë", "'"])
def test_quoted_identifier_means_just_its_characters(name: str) -> None:
    with duckdb.connect() as connection:
        connection.execute("create table t (a integer)")
        connection.execute(f"create table {sql.quote(name)} ({sql.quote(name)} integer)")
        found = connection.execute("select table_name, column_name from duckdb_columns() where not internal")
        assert set(found.fetchall()) == {("t", "a"), (name, name)}


def test_swapped_and_reserved_names_keep_their_meaning() -> None:
    """A source column and another field's target may share a name; so may the builders' own words."""
    pairs = {"name": "key", "key": "name", "kind": "changed", "changed": "kind", "order": "order"}
    mapping = TableMapping(
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
    table = bind(mapping, columns, resource)
    with duckdb.connect() as connection:
        store = Staging(connection).table(table)
        store.absorb(page(table, {"contactid": "c1", **{name: f"from {name}" for name in pairs}}), Reading())
        store.plan()
        [change] = store.pending(10)
    assert change.values == {target: f"from {source}" for source, target in pairs.items()}
