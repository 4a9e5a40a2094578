"""Holds and forgetting: what nothing may write, and what must be gone for good."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import duckdb
import polars as pl
import pytest

from d365_campaign.binding import BoundMapping, bind
from d365_campaign.changes import ChangePage, Kind, Outcome, Result
from d365_campaign.errors import ConfigurationError, RetriableError
from d365_campaign.field_types import HELD
from d365_campaign.mapping import TableMapping
from d365_campaign.schemas import ResourceField, SourceColumn, SourceTable, TargetResource
from d365_campaign.store.rewrite import rewrite
from d365_campaign.store.staging import Staging, open_staging
from d365_campaign.store.table_store import TableStore
from tests.builders import CHANGES, FULL, SERVED_AT, answer, contact, in_step, kinds

ADA, GRACE = "a0000000-0000-4000-8000-000000000001", "b0000000-0000-4000-8000-000000000002"
MARKER = "marker.of.ada@example.com"
TARGETS = {
    "account": ("cusAccount", "cusD365id"),
    "contact": ("profile", "externalId"),
    "purchase": ("cusPurchase", "cusD365id"),
    "item": ("cusItem", "cusD365id"),
}


def mapped(source: str, *pairs: tuple[str, str], links: Mapping[str, str] | None = None) -> TableMapping:
    target, key = TARGETS[source]
    return TableMapping.model_validate(
        {
            "source": source,
            "target": target,
            "key": {"source": f"{source}id", "target": key, "declared_unique": True},
            "fields": [{"source": column, "target": field} for column, field in pairs],
            "links": [{"source": column, "parent": parent} for column, parent in (links or {}).items()],
            "apply_deletes": True,
        }
    )


MAPPINGS = [
    mapped("account", ("name", "cusName"), ("primarycontactid", "cusPrimary")),
    mapped(
        "contact",
        ("firstname", "firstName"),
        ("emailaddress1", "email"),
        ("accountid", "cusAccountId"),
        links={"accountid": "account"},
    ),
    mapped("purchase", ("name", "cusName"), ("contactid", "cusContactId"), links={"contactid": "contact"}),
    mapped("item", ("name", "cusName"), ("purchaseid", "cusPurchaseId"), links={"purchaseid": "purchase"}),
]


def bound(source: str) -> BoundMapping:
    """One of the four tables; a column whose name ends with `id` is a reference, any other text."""
    table = next(table for table in MAPPINGS if table.name == source)
    names = {table.key.source, *(f.source for f in table.fields)}
    columns = {name: SourceColumn(name, "reference" if name.endswith("id") else "text", name) for name in names}
    fields = {name: ResourceField(name, "string") for name in (table.key.target, *(f.target for f in table.fields))}
    source_table = SourceTable(source, f"{source}s", table.key.source, change_tracking=True, columns=columns)
    return bind(table, source_table, TargetResource(table.target, "profileAndServicesExt", fields), MAPPINGS)


def page(store: TableStore, *rows: Mapping[str, object], removed: tuple[str, ...] = ()) -> ChangePage:
    schema = {column.name: HELD[column.type].page for column in store.table.columns}
    frame = pl.DataFrame([dict(row) for row in rows], schema=schema, orient="row")
    return ChangePage(frame, list(removed), None, "https://d365.example/delta", SERVED_AT)


def read(staging: Staging, source: str, *rows: Mapping[str, object]) -> TableStore:
    """The table after these rows came in."""
    store = staging.table(bound(source))
    store.absorb(page(store, *rows), CHANGES)
    store.plan()
    return store


def synced(staging: Staging, source: str, *rows: Mapping[str, object]) -> TableStore:
    """The table after these rows were read and written."""
    store = read(staging, source, *rows)
    answer(store)
    return store


def two_people(staging: Staging) -> None:
    """Ada and Grace with their purchases and an item of each, all of it written."""
    synced(staging, "account", {"accountid": "acc", "name": "Harbour"})
    synced(staging, "contact", person(ADA), person(GRACE))
    synced(staging, "purchase", purchase("p-ada-1", ADA), purchase("p-ada-2", ADA), purchase("p-grace", GRACE))
    synced(staging, "item", item("i-ada", "p-ada-1"), item("i-grace", "p-grace"))


def person(key: str, **values: object) -> dict[str, object]:
    address = MARKER if key == ADA else "grace@example.com"
    return {"contactid": key, "firstname": "Ada", "emailaddress1": address, "accountid": "acc", **values}


def purchase(key: str, buyer: str) -> dict[str, object]:
    return {"purchaseid": key, "name": f"Lamp of {buyer[:1]}", "contactid": buyer}


def item(key: str, of: str) -> dict[str, object]:
    return {"itemid": key, "name": "Shade", "purchaseid": of}


def where(staging: Staging, told: str) -> set[str]:
    """Every relation of the file in which a column tells of it, whatever that column is called."""
    found = staging._connection.execute(
        """select schema_name, table_name, column_name from duckdb_columns()
           where database_name = current_database() and not internal"""
    ).fetchall()
    return {
        f"{schema}.{relation}"
        for schema, relation, column in found
        if staging._connection.execute(
            f'select 1 from "{schema}"."{relation}" where contains("{column}"::varchar, $1) limit 1', [told]
        ).fetchall()
    }


# --- holds ----------------------------------------------------------------------------------------------------------


def test_record_on_hold_is_not_handed_out_until_it_is_released(store: TableStore, staging: Staging) -> None:
    """R10."""
    in_step(store, contact("c1", firstname="Ada"), contact("c2"))
    staging.privacy.hold("c1", by="Grace")
    store.absorb(_changed(store, contact("c1", firstname="Augusta"), contact("c2", firstname="B")), CHANGES)

    assert store.plan().held == 1
    assert set(kinds(store)) == {"c2"}
    assert staging.privacy.release("c1")
    assert set(kinds(store)) == {"c1", "c2"}


def _changed(store: TableStore, *contacts: Mapping[str, object]) -> ChangePage:
    schema = {column.name: HELD[column.type].page for column in store.table.columns}
    return ChangePage(pl.DataFrame([dict(c) for c in contacts], schema=schema), [], None, "delta", SERVED_AT)


def test_key_is_held_and_released_however_it_was_copied(staging: Staging) -> None:
    staging.privacy.hold(f" {{{ADA.upper()}}}", by="Grace")

    assert [hold.key for hold in staging.privacy.holds()] == [ADA]
    assert staging.privacy.release(f"{{{ADA}}}")
    assert not staging.privacy.release(ADA)


def test_first_hold_of_a_key_stands(staging: Staging) -> None:
    first = staging.privacy.hold(ADA, by="Grace")

    assert staging.privacy.hold(ADA, by="Edith") == first
    assert [hold.held_by for hold in staging.privacy.holds()] == ["Grace"]


# --- forgetting -----------------------------------------------------------------------------------------------------


def test_person_leaves_every_relation_with_all_that_is_linked(staging: Staging) -> None:
    """R10: and nobody else's records do."""
    two_people(staging)
    staging.privacy.hold(ADA, by="Grace")
    store = read(staging, "contact", person(ADA, firstname="Augusta"), person(GRACE, firstname="Grace B."))
    store.begin_writing()
    store.claim(store.take_window(10))
    purchases = read(staging, "purchase", purchase("p-ada-1", ADA) | {"name": "Another lamp"})
    assert {"contact.snapshot", "purchase.deferred", "main.privacy_hold"} <= where(staging, ADA)
    assert purchases.plan().deferred == 1

    assert staging.privacy.forget(ADA.upper()) == {"contact": 1, "purchase": 2, "item": 1}

    assert [where(staging, told) for told in (ADA, MARKER, "p-ada-1", "p-ada-2", "i-ada")] == [set()] * 5
    assert where(staging, GRACE) >= {"contact.snapshot", "contact.mirror", "purchase.mirror"}
    assert where(staging, "i-grace") >= {"item.snapshot", "item.mirror"}


def test_relations_are_found_in_the_catalogue_of_the_file(staging: Staging) -> None:
    """One that a later version adds, under whatever name, is emptied too."""
    two_people(staging)
    staging._connection.execute("create table contact.added_later (since timestamp, key varchar, other varchar)")
    staging._connection.execute("insert into contact.added_later values (null, $1, 'x'), (null, 'y', $1)", [ADA])
    staging._connection.execute("create table main.decision (key varchar)")
    staging._connection.execute("insert into main.decision values ($1), ($2)", [ADA, GRACE])

    staging.privacy.forget(ADA)

    assert where(staging, ADA) == set()
    assert "main.decision" in where(staging, GRACE)


def test_rejects_and_what_was_deleted_are_forgotten_too(staging: Staging) -> None:
    two_people(staging)
    store = read(staging, "contact", person(ADA, firstname="Augusta"), person(GRACE, firstname="Grace B."))
    for key in (ADA, GRACE):
        answer(store, Result.REFUSED, key, reason=f"Campaign refused profile {key}")
    read(staging, "purchase", purchase("p-ada-1", ADA))
    purchases = staging.table(bound("purchase"))
    purchases.absorb(page(purchases, removed=("p-ada-2",)), CHANGES)
    purchases.plan()
    answer(purchases)
    assert "contact.reject" in where(staging, ADA)
    assert "purchase.deleted" in where(staging, "p-ada-2")

    staging.privacy.forget(ADA)
    staging.privacy.forget("p-ada-2")

    assert where(staging, ADA) == set()
    assert where(staging, "p-ada-2") == set()
    assert [reject.key for reject in store.rejects(10)] == [GRACE]


def test_no_full_read_brings_a_forgotten_person_back_nor_what_refers_to_them(staging: Staging) -> None:
    """R9: Dynamics may hold them for a while yet. What hangs on a record that refers to them waits, and isn't sent."""
    two_people(staging)
    staging.privacy.forget(ADA)
    everything: Mapping[str, list[dict[str, object]]] = {
        "contact": [person(ADA), person(GRACE)],
        "purchase": [purchase("p-ada-1", ADA), purchase("p-grace", GRACE)],
        "item": [item("i-ada", "p-ada-1"), item("i-grace", "p-grace")],
    }

    for source, rows in everything.items():
        store = staging.table(bound(source))
        store.absorb(page(store, *rows), replace(CHANGES, generation=store.read_everything_again().generation))
        store.plan()
        assert kinds(store) == {}

    assert [where(staging, told) for told in (ADA, MARKER)] == [set(), set()]
    assert staging.table(bound("item")).summary().deferred == 1


def test_scan_of_campaign_does_not_bring_a_forgotten_person_back(staging: Staging) -> None:
    staging.table(bound("contact"))
    staging.privacy.forget(ADA)
    existing = {
        "contact": {"_key": [ADA, GRACE], "firstName": ["A", "G"], "email": [MARKER, ""], "cusAccountId": ["", ""]},
        "purchase": {"_key": ["p1", "p2"], "cusName": ["Lamp", "Lamp"], "cusContactId": [ADA, GRACE]},
    }
    for source, columns in existing.items():
        staging.table(bound(source)).note_existing(iter([pl.DataFrame(columns)]))

    assert where(staging, ADA) == set()
    assert where(staging, MARKER) == set()
    assert "contact.existing" in where(staging, GRACE)
    assert "purchase.existing" in where(staging, GRACE)


def test_deletion_that_dynamics_reports_afterwards_leaves_no_trace(staging: Staging) -> None:
    two_people(staging)
    staging.privacy.forget(ADA)
    store = staging.table(bound("contact"))

    store.absorb(page(store, removed=(ADA, GRACE)), CHANGES)

    assert where(staging, ADA) == set()
    store.plan()
    assert kinds(store) == {GRACE: Kind.DELETE}


def test_purchase_that_goes_to_somebody_else_afterwards_comes_in_again(staging: Staging) -> None:
    """So no more than the person is remembered: whose a record is, is told by the record."""
    two_people(staging)
    staging.privacy.forget(ADA)

    store = read(staging, "purchase", purchase("p-ada-1", GRACE))

    assert kinds(store) == {"p-ada-1": Kind.INSERT}


def test_key_in_a_field_of_an_unlinked_record_is_cleared_there_and_in_campaign(staging: Staging) -> None:
    """An account isn't its main contact's; it must not go with the person, nor keep the key."""
    store = synced(staging, "account", {"accountid": "acc", "name": "Harbour", "primarycontactid": ADA})

    assert staging.privacy.forget(ADA) == {}

    assert where(staging, ADA) == set()
    store.plan()
    [change] = [*_open(store)]
    assert (change.key, change.kind) == ("acc", Kind.ADOPT), "what Campaign holds is read before it is written"
    assert change.values == {"cusName": "Harbour", "cusPrimary": None}
    store.settle([Outcome("acc", Kind.ADOPT, Result.DONE, 2)])
    assert store.plan().open == 0


def _open(store: TableStore) -> list[object]:
    store.begin_writing()
    return list(store.take_window(10))


def test_account_that_people_are_linked_to_is_not_forgotten_with_them(staging: Staging) -> None:
    two_people(staging)

    with pytest.raises(ConfigurationError, match=r"2 records of 'contact' are linked to acc\..*Nothing was removed"):
        staging.privacy.forget("acc")

    assert staging.table(bound("contact")).mirrored() == 2
    assert where(staging, "acc") >= {"account.snapshot", "account.mirror"}


def test_link_to_the_next_page_that_holds_the_key_is_dropped_and_the_reading_starts_again(staging: Staging) -> None:
    """Dynamics' paging cookie names the last record of a page."""
    store = staging.table(bound("contact"))
    link = f"https://d365.example/contacts?$skiptoken=contactid%20last=%22%7B{ADA.upper()}%7D%22"
    store.absorb(page(store, person(ADA)), replace(FULL, next_link=link))

    staging.privacy.forget(ADA)

    assert where(staging, ADA.upper()) == set()
    assert store.reading == FULL


def test_links_are_known_to_a_file_that_is_opened_without_any_mapping(file: Path) -> None:
    with open_staging(file) as staging:
        two_people(staging)

    with open_staging(file) as staging:
        assert staging.privacy.records_of(ADA) == {
            "contact": [ADA],
            "item": ["i-ada"],
            "purchase": ["p-ada-1", "p-ada-2"],
        }


def test_person_of_whom_nothing_is_known_is_kept_out_from_then_on(staging: Staging) -> None:
    """A run may have deleted them before; forgetting twice is forgetting once."""
    assert staging.privacy.forget(ADA) == {}
    assert staging.privacy.forget(ADA) == {}

    assert read(staging, "contact", person(ADA)).records() == 0
    assert staging._connection.execute("select count(*) from main.forgotten").fetchall() == [(1,)]


def test_forgetting_that_fails_removes_nothing(staging: Staging) -> None:
    two_people(staging)
    staging._connection.execute("alter table main.forgotten rename to lost")

    with pytest.raises(duckdb.Error):
        staging.privacy.forget(ADA)

    assert staging.table(bound("purchase")).mirrored() == 3
    assert where(staging, ADA) >= {"contact.snapshot", "contact.mirror"}


# --- the file's bytes -----------------------------------------------------------------------------------------------


def holding(file: Path, *told: str) -> set[str]:
    """Files beside the staging file, itself included, among whose bytes one of these stands."""
    beside = [each for each in file.parent.rglob("*") if each.is_file()]
    return {each.name for each in beside if any(word.encode() in each.read_bytes().lower() for word in told)}


def test_forgotten_values_are_gone_from_the_bytes_of_the_file(file: Path) -> None:
    """Deleting alone would leave them there: that is what the rewriting is for."""
    with open_staging(file) as staging:
        two_people(staging)
    with open_staging(file) as staging:
        staging.privacy.forget(ADA)
    assert holding(file, MARKER) == {file.name}

    rewrite(file)

    assert holding(file, MARKER, ADA, "p-ada-1", "i-ada") == set()
    assert holding(file, "grace@example.com", GRACE) == {file.name}
    assert [each.name for each in file.parent.iterdir()] == [file.name]
    assert oct(file.stat().st_mode & 0o777) == "0o600"


def test_file_that_was_written_anew_goes_on_as_before(file: Path) -> None:
    with open_staging(file) as staging:
        two_people(staging)
        staging.privacy.hold(GRACE, by="Edith")
        staging.privacy.forget(ADA)

    rewrite(file)

    with open_staging(file) as staging:
        assert [hold.key for hold in staging.privacy.holds()] == [GRACE]
        store = read(staging, "contact", person(ADA), person(GRACE, emailaddress1="new@example.com"), person("c3"))
        assert (store.summary().held, set(kinds(store)), store.mirrored()) == (1, {"c3"}, 1)
        assert store.reading == CHANGES
        assert store.scanned == staging.table(bound("purchase")).scanned
        assert staging.table(bound("item")).plan().open == 0


def test_what_a_killed_run_left_beside_the_file_goes_too(file: Path) -> None:
    with open_staging(file) as staging:
        two_people(staging)
    spilled = file.with_name(f"{file.name}.tmp")
    spilled.mkdir()
    (spilled / "duckdb_temp_storage_0.tmp").write_text(MARKER)
    file.with_name(f"{file.name}.fresh").write_text(MARKER)
    with open_staging(file) as staging:
        staging.privacy.forget(ADA)

    rewrite(file)

    assert holding(file, MARKER) == set()


def test_changes_that_stand_in_the_log_of_a_killed_run_are_not_lost(file: Path) -> None:
    with open_staging(file) as staging:
        two_people(staging)
    code = f"""
import os
from pathlib import Path
from d365_campaign.store.staging import open_staging
with open_staging(Path({str(file)!r})) as staging:
    staging.privacy.hold({GRACE!r}, by="Edith")
    os._exit(9)
"""
    subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert file.with_name(f"{file.name}.wal").exists()

    rewrite(file)

    with open_staging(file) as staging:
        assert [hold.key for hold in staging.privacy.holds()] == [GRACE]


def test_file_that_a_run_works_on_is_left_alone(file: Path) -> None:
    code = f"""
import time
from pathlib import Path
from d365_campaign.store.staging import open_staging
with open_staging(Path({str(file)!r})):
    print("open", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        run.stdout.readline()
        inode = file.stat().st_ino
        with pytest.raises(RetriableError, match="in use by another process"):
            rewrite(file)
        assert file.stat().st_ino == inode
        run.kill()


def test_disk_without_room_leaves_the_file_as_it_was_and_names_the_remedy(file: Path) -> None:
    with open_staging(file) as staging:
        two_people(staging)
    code = f"""
import resource
from pathlib import Path
from d365_campaign.errors import ConfigurationError
from d365_campaign.store.rewrite import rewrite
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    rewrite(Path({str(file)!r}))
except ConfigurationError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout

    assert "could not be written anew" in said
    assert "Make room for" in said
    assert [each.name for each in file.parent.iterdir()] == [file.name]
    with open_staging(file) as staging:
        assert staging.table(bound("contact")).mirrored() == 2
