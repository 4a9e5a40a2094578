"""No personal value leaves the staging file: not into anything Dagster stores, nor into a log, an output or an answer.

A marker stands in every column of people to whom everything happens that may happen; then it is searched for (R6).
"""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner

from assets.ingress import TableKeys
from assets.steps import Foreign
from d365_campaign import definitions
from d365_campaign.cli import main
from d365_campaign.sandbox import Sandbox
from d365_campaign.store.table_store import TableStore
from tests.checking import write_files
from tests.integration import Integration
from tests.mappings import account_mapping, contact_mapping, purchase_mapping
from tests.opting_out import EMAIL

ROOT = Path(__file__).parents[2]
MARKER = "zqcanary7"
MAIL = f"{MARKER}@example.com"
CONTACT = TableKeys.of(contact_mapping())


def person(**values: Any) -> dict[str, Any]:
    """A contact with the marker in whatever is said of a person."""
    texts = ("firstname", "lastname", "jobtitle", "address1_line1", "address1_city", "description")
    return {**dict.fromkeys(texts, f"{MARKER} of old"), "emailaddress1": MAIL, "mobilephone": f"+49 {MARKER}", **values}


class House:
    """An integration with a DAGSTER_HOME of its own, and all that its commands and runs said."""

    def __init__(self, integration: Integration, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.integration, self.home, self.said = integration, home, home / "said.txt"
        home.mkdir()
        shutil.copy(ROOT / "dagster.yaml", home)
        monkeypatch.chdir(home)
        monkeypatch.setenv("DAGSTER_HOME", str(home))
        monkeypatch.setenv(definitions.FROM_FILE_VARIABLE, "{}")
        monkeypatch.setenv(definitions.CONFIG_VARIABLE, str(write_files(integration)))

    def say(self, *arguments: str) -> str:
        """A command in this process; what it prints is kept."""
        ended = CliRunner().invoke(main, arguments)
        assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
        return self._keep(f"{arguments}\n{ended.output}\n{ended.exception!r}\n")

    def launch(self, job: str) -> str:
        """A run in a process of its own, as Dagster launches it, with its output captured by step."""
        command = [str(Path(sys.executable).with_name("dagster")), "job", "execute", "-j", job]
        command += ["-m", "d365_campaign.definitions"]
        environment = dict(os.environ, PYTHONPATH=str(ROOT))
        ended = subprocess.run(command, env=environment, cwd=self.home, capture_output=True, text=True, check=False)
        return self._keep(ended.stdout + ended.stderr)

    def _keep(self, words: str) -> str:
        with self.said.open("a", encoding="utf-8") as file:
            file.write(words)
        return words


def texts_below(folder: Path) -> Iterator[tuple[Path, str]]:
    """Everything in a folder's files, as it lies there; of databases each row besides, unpacked where it is packed."""
    for file in folder.rglob("*"):
        if file.is_file():
            yield file, file.read_bytes().decode("latin-1")
            if file.suffix == ".db":
                yield from ((file, text) for text in _rows(file))


def _rows(file: Path) -> Iterator[str]:
    connection = sqlite3.connect(file)
    try:
        tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        for table in tables:
            for row in connection.execute(f'select * from "{table}"'):
                yield " ".join(_unpacked(value) for value in row)
    finally:
        connection.close()


def _unpacked(value: object) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return zlib.decompress(value).decode("utf-8")
    except (zlib.error, UnicodeDecodeError):
        return value.decode("latin-1")


def hits(folder: Path, marker: str) -> set[str]:
    """What stands around each find, with the file it was found in."""
    around = re.compile(f".{{0,80}}{re.escape(marker)}.{{0,40}}", re.IGNORECASE | re.DOTALL)
    return {
        f"{file.relative_to(folder)}: {found.group()!r}"
        for file, text in texts_below(folder)
        for found in around.finditer(text)
    }


@pytest.fixture
def house(sandbox: Sandbox, integration: Integration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    integration.tables = [account_mapping(), contact_mapping(apply_deletes=True), purchase_mapping()]
    integration.keep_opt_outs("bidirectional", EMAIL)
    integration.set("sftp", output_logs=True)
    integration.set("run", reject_attempts=2)
    return House(integration, tmp_path / "home", monkeypatch)


def test_the_search_finds_what_is_there(house: House) -> None:
    """Packed, in a database and in a log: otherwise finding nothing would mean nothing."""
    with sqlite3.connect(house.home / "one.db") as connection:
        connection.execute("create table packed (content blob)")
        connection.execute("insert into packed values (?)", [zlib.compress(MAIL.encode())])
    connection.close()
    (house.home / "logs").mkdir()
    (house.home / "logs" / "step.err").write_text(f"refused: {MAIL.upper()}", encoding="utf-8")
    found = hits(house.home, MARKER)
    assert {hit.split(":")[0] for hit in found} == {"one.db", "logs/step.err"}


def test_no_personal_value_is_in_anything_dagster_stores_nor_in_any_log(
    sandbox: Sandbox,
    house: House,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level("DEBUG")
    ada, eve, too_long, no_address = people(sandbox)
    house.say("plan")
    campaign_answers_with_what_it_was_sent(sandbox, house)
    files_come_that_nobody_can_read(sandbox, house, ada, eve, no_address)
    a_step_crashes_with_a_record_in_its_words(house, monkeypatch)
    sandbox.dataverse.delete("contact", no_address)
    house.say("sync")
    a_person_asks_for_everything(house, ada, too_long)
    house.said.with_name("caught.txt").write_text(caplog.text + "".join(capfd.readouterr()), encoding="utf-8")

    assert sandbox.faults.as_dicts() == [], "each of them was met"
    assert [*_held_in(house.integration.staging)] == [True], "it did go through"
    assert any(".sqlite" in hit or ".db" in hit for hit in hits(house.home, too_long)), "keys are told, and found"
    assert any("compute_logs" in str(file) or ".err" in file.suffix for file in house.home.rglob("*"))
    assert hits(house.home, MARKER) == set()
    assert hits(sandbox.sftp.root / "d365_loads" / "logs", ada)
    assert hits(sandbox.sftp.root / "d365_loads" / "logs", MARKER) == set()


def people(sandbox: Sandbox) -> tuple[str, str, str, str]:
    """Two as they should be, one whose name is too long, one whose address is none; and purchases."""
    ada = sandbox.dataverse.create("contact", person(firstname="Ada"))
    eve = sandbox.dataverse.create("contact", person(firstname="Eve"))
    too_long = sandbox.dataverse.create("contact", person(firstname=f"{MARKER} " * 5))
    no_address = sandbox.dataverse.create("contact", person(emailaddress1=f"{MARKER} has none"))
    hidden = sandbox.dataverse.create("contact", person(statecode=1, statuscode=2))
    for buyer in (ada, hidden):
        purchase = {"new_name": MARKER, "new_note": MARKER, "new_contactid": buyer}
        sandbox.dataverse.create("new_purchase", purchase)
    sandbox.settings.update({"email_check": True})
    return ada, eve, too_long, no_address


def campaign_answers_with_what_it_was_sent(sandbox: Sandbox, house: House) -> None:
    refusal = {"system": "campaign", "method": "POST", "path": "profile", "status": 400}
    sandbox.add_fault(**refusal, times=1, content_type="text/plain", body=f"email = '{MAIL}' is wrong")
    house.launch("sync")
    house.say("sync")  # who was refused is sent once more


def files_come_that_nobody_can_read(sandbox: Sandbox, house: House, ada: str, eve: str, no_address: str) -> None:
    """And one that can be; both systems refuse what is to be written then, in the record's own words."""
    sandbox.campaign.update("profile", eve, {"blackListEmail": True})
    sandbox.export_opt_outs()
    exports = sandbox.sftp.root / "d365_loads" / "exports"
    header = "externalId;lastModified;blackListEmail;blackListEmailLastModified"
    stamp = "2026-05-01 10:00:00.000Z"
    rows = [f"{ada};{stamp};{MARKER};{stamp}", f"{MAIL};{stamp};1;{stamp}", f"{no_address};{MARKER};1;{MARKER}"]
    (exports / "optout_1.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    (exports / "optout_2.csv").write_text(f"{MARKER};email\n{MAIL};{MAIL}\n", encoding="utf-8")
    (exports / "optout_3.csv").write_text(f'{header}\n"{ada};{stamp};1;{MAIL}', encoding="utf-8")
    sandbox.dataverse.update("contact", ada, {"donotemail": True, "lastname": f"{MARKER} by now"})
    echo = {"error": {"code": "0x80040203", "message": f"{MAIL} is not valid"}}
    sandbox.add_fault(system="dataverse", method="POST", path="batch", times=1, status=400, body=echo)
    sandbox.add_fault(
        system="campaign", method="PATCH", times=1, status=500, body=f"{MAIL} failed", content_type="text/plain"
    )
    house.say("sync")
    house.say("sync")


def a_step_crashes_with_a_record_in_its_words(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(store: TableStore, **_: object) -> None:
        raise duckdb.ConversionException(f"Conversion Error: Could not convert string '{MAIL}' to INT32")

    with monkeypatch.context() as broken:
        broken.setattr(TableStore, "plan", crash)
        crashed = house.say("sync")
    assert "ConversionException" in crashed, "its kind is told"


def a_person_asks_for_everything(house: House, ada: str, too_long: str) -> None:
    for command in (
        ("rejects", "contact"),
        ("trace", ada),
        ("trace", too_long),
        ("opt-out", "explain", ada),
        ("opt-out", "exports"),
        ("opt-out", "audit"),
        ("engine-calls",),
        ("status",),
        ("check",),
    ):
        house.say(*command)
        house.say(*command, "--json")


def _held_in(staging: Path) -> Iterator[bool]:
    with duckdb.connect(str(staging), read_only=True) as connection:
        [(found,)] = connection.execute(
            "select count(*) > 0 from contact.snapshot where emailaddress1 = $1", [MAIL]
        ).fetchall()
        yield bool(found)


def test_an_error_of_somebody_else_keeps_its_kind_and_its_stack_and_loses_its_words() -> None:
    from assets.steps import withheld

    try:
        int(MAIL)
    except ValueError as error:
        told = withheld(error)
    assert isinstance(told, Foreign)
    assert type(told).__name__ == "ValueError"
    assert told.__traceback__ is not None
    assert "test_canary.py" in str(told)
    assert MARKER not in str(told)
