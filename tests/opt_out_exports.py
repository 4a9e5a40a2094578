"""Daily opt-out files for tests, the people whom they are about, and a folder that stands in for the SFTP area."""

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from d365_campaign.binding import BoundMapping, bind
from d365_campaign.errors import ConfigurationError
from d365_campaign.opt_out import ATTRIBUTES, OptOutDirection, OptOutPair, OptOuts
from d365_campaign.opt_out_changes import ExportContent
from d365_campaign.opt_out_files import ExportSettings, RemoteFile
from d365_campaign.store.table_store import TableStore
from tests.builders import CHANGES, contact, mapping, page, source_table, target_resource

FOLDER = "d365_loads/exports"
PAIRS = {"donotemail": "blackListEmail", "donotphone": "blackListPhone"}
COLUMNS = ("externalId", "lastModified", "blackListEmail", "blackListEmailLastModified", "blackListPhone",
           "blackListPhoneLastModified")  # fmt: skip
HEADER = ";".join(COLUMNS)


def people(direction: str = "bidirectional", pairs: Mapping[str, str] = PAIRS, *, stamped: bool = True) -> BoundMapping:
    """Contacts to profiles whose opt-outs are kept in step; not *stamped*: Campaign doesn't tell when one changed."""
    columns = source_table(
        contactid="reference", firstname="text", modifiedon="datetime", versionnumber="integer",
        **dict.fromkeys(pairs, "boolean"),
    )  # fmt: skip
    stamps = [stamp for target in pairs.values() for stamp in ATTRIBUTES[target].stamps] if stamped else []
    fields = target_resource(
        externalId="string", firstName="string", lastModified="datetime",
        **dict.fromkeys(pairs.values(), "boolean"), **dict.fromkeys(stamps, "datetime"),
    )  # fmt: skip
    kept = OptOuts(OptOutDirection(direction), [OptOutPair(source=s, target=t) for s, t in pairs.items()])
    return bind(mapping(("firstname", "firstName")), columns, fields, opt_outs=kept)


def read_in(store: TableStore, *contacts: Mapping[str, object]) -> TableStore:
    """The store once Dynamics told of these contacts, and Campaign of no profile."""
    store.absorb(page(store.table, *({"versionnumber": 1, **c} for c in contacts)), CHANGES)
    store.note_existing(iter(()))
    return store


def person(key: str, **values: object) -> dict[str, object]:
    """A contact who opts out of nothing, unless *values* say so."""
    return contact(key, **{"donotemail": False, "donotphone": False, **values})


def row(key: str, changed: str = "", email: str = "0", email_at: str = "", phone: str = "0", phone_at: str = "") -> str:
    """A line of a file; times as `10:00:00.000` of one day."""
    return ";".join((key, moment(changed), email, moment(email_at), phone, moment(phone_at)))


def moment(time: str) -> str:
    return f"2026-05-01 {time}Z" if time[:1].isdigit() else time


def lines(*rows: str, header: str = HEADER) -> str:
    """A whole file."""
    return "".join(f"{line}\n" for line in (header, *rows))


def content(folder: Path, text: str, name: str = "optout.csv", cut_row: str | None = None) -> ExportContent:
    """The file as the flow hands it on."""
    path = folder / sha256(f"{name}{text}".encode()).hexdigest()[:16]
    path.write_text(text, encoding="utf-8", newline="")
    digest = sha256(text.encode()).hexdigest()
    return ExportContent(name, path, digest, len(text), text.partition("\n")[0].split(";"), cut_row)


def told(store: TableStore, key: str, attribute: str = "blackListEmail") -> bool | None:
    """What Campaign is known to say of an opt-out; None of a profile that isn't known."""
    found = _campaign(store, key, f'"{attribute}"')
    return found and bool(found[0])


def in_doubt(store: TableStore, key: str) -> bool:
    return bool(_campaign(store, key, "in_doubt")[0])


def news(store: TableStore, key: str, attribute: str = "blackListEmail") -> bool:
    """Whether Campaign's word counts as one that was not acted on yet."""
    return bool(_campaign(store, key, f'"{attribute}_news"')[0])


def set_aside(store: TableStore) -> Sequence[tuple[Any, ...]]:
    """File, key and reason of the rows that could not be read."""
    query = 'select file, key, reason from "opt-outs"."unreadable" order by all'
    return store._connection.execute(query).fetchall()


def files_booked(store: TableStore) -> Sequence[str]:
    """Names of the files of which is kept what became of them."""
    return [name for (name,) in store._connection.execute('select name from "opt-outs"."export"').fetchall()]


def _campaign(store: TableStore, key: str, column: str) -> Any:
    query = f'select {column} from "opt-outs"."campaign" where key = $1'
    return store._connection.execute(query, [key]).fetchone()


class FolderArea:
    """An SFTP area over a local folder. What is among *denied* (`move optout.csv`) can't be done; *calls* keeps all."""

    def __init__(self, root: Path, denied: Iterable[str] = ()) -> None:
        self.root, self.denied, self.calls = root, set(denied), []  # type: ignore[var-annotated]
        self.hostile_names: Sequence[str] = ()
        (root / FOLDER).mkdir(parents=True)

    def put(self, name: str, content: bytes | str, modified_at: datetime | None = None) -> Path:
        path = self.root / FOLDER / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        if modified_at is not None:
            os.utime(path, (modified_at.timestamp(), modified_at.timestamp()))
        return path

    def names(self, folder: str = FOLDER) -> Sequence[str]:
        path = self.root / folder
        return sorted(file.name for file in path.iterdir() if file.is_file()) if path.is_dir() else []

    def files(self, folder: str) -> Sequence[RemoteFile]:
        self._call("files", folder)
        self.hostile_names = [name for name in self.names(folder) if "\\" in name]
        return [
            RemoteFile(file.name, file.stat().st_size, datetime.fromtimestamp(int(file.stat().st_mtime)).astimezone())
            for file in (self.root / folder).iterdir()
            if stat.S_ISREG(file.lstat().st_mode) and file.name not in self.hostile_names
        ]

    def has_folder(self, folder: str) -> bool:
        return (self.root / folder).is_dir()

    def make_folder(self, folder: str) -> None:
        (self.root / folder).mkdir(exist_ok=True)

    def download(self, folder: str, name: str, into: BinaryIO) -> None:
        self._call("download", name)
        into.write((self.root / folder / name).read_bytes())

    def upload(self, folder: str, name: str, content: bytes) -> None:
        self._call("upload", name)
        (self.root / folder / name).write_bytes(content)

    def move(self, folder: str, name: str, to: str) -> None:
        self._call("move", name)
        (self.root / to).mkdir(exist_ok=True)
        (self.root / folder / name).replace(self.root / to / name)

    def delete(self, folder: str, name: str) -> None:
        self._call("delete", name)
        (self.root / folder / name).unlink(missing_ok=True)

    def used_bytes(self, folder: str = ".") -> int:
        return sum(file.stat().st_size for file in (self.root / folder).rglob("*") if file.is_file())

    def _call(self, operation: str, name: str) -> None:
        self.calls.append(f"{operation} {name}")
        if f"{operation} {name}" in self.denied:
            raise ConfigurationError(f"{operation} {name}: permission denied.")


EXPORTS = ExportSettings(stable_seconds=0)
