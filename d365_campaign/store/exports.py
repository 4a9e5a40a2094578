"""Daily opt-out files on their way into the staging file."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import duckdb

from d365_campaign.binding import BoundMapping
from d365_campaign.opt_out import PROFILE_CHANGED
from d365_campaign.opt_out_changes import Export, ExportContent
from d365_campaign.opt_out_files import KEY, ExportSettings, RemoteFile
from d365_campaign.store import sql_exports
from d365_campaign.store import sql_opt_outs as sql
from d365_campaign.store.opt_out_records import EXPORTS, export_of
from d365_campaign.store.opt_outs import OptOutStore
from d365_campaign.store.part import FilePart, naive, utc
from d365_campaign.store.sql import relation as own_relation
from d365_campaign.store.values import quote, text

_TEMPORARY = ("typed", "seen", "merged", "set_aside", "reject_scans", "reject_errors")
# What a file may bring about that is no fault of ours or of the disk's.
_UNREADABLE = (duckdb.DataError, duckdb.ProgrammingError)


class ExportStore(FilePart):
    """The daily files that were taken in, and the way in for the next ones. Each public method is one transaction."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: BoundMapping,
        opt_outs: OptOutStore,
        settings: ExportSettings,
    ) -> None:
        super().__init__(connection)
        self._table, self._opt_outs, self._settings = table, opt_outs, settings

    @property
    def attributes(self) -> Sequence[str]:
        """The opt-outs that a file must tell."""
        return [pair.target for pair in self._opt_outs.bound.pairs]

    def known(self, name: str, digest: str) -> Export | None:
        """The file with this content, if it was taken in under whatever name, or refused by the very same settings."""
        return self._first(
            "digest = $1 and (refused is null or (name = $2 and format = $3))", [digest, name, self._format]
        )

    def met(self, file: RemoteFile) -> Export | None:
        """The file as it lies there, if it was met before and left there: refused by the very same settings, or cut."""
        return self._first(
            "name = $1 and bytes = $2 and modified_at = $3 and (cut or (refused is not null and format = $4))",
            [file.name, file.size, naive(file.modified_at), self._format],
        )

    def _first(self, condition: str, parameters: Sequence[object]) -> Export | None:
        found = self._rows(f"{EXPORTS} where {condition} order by taken_at limit 1", parameters)
        return export_of(*found[0]) if found else None

    @property
    def _format(self) -> str:
        """Changes with anything by which a file may be refused."""
        return f"{self._settings.model_dump_json()} {self._opt_outs.bound.fingerprint()}"

    def latest_at(self) -> datetime:
        """When the last file came that could be read, or since when such files are waited for (UTC)."""
        query = f"""select coalesce((select max(taken_at) from {sql.relation("export")} where refused is null), since)
                    from {sql.relation("setting")}"""
        latest: datetime = self._rows(query)[0][0]
        return latest.replace(tzinfo=UTC)

    def refuse(self, file: RemoteFile, digest: str, reason: str) -> Export:
        """Remember that nothing of a file was taken in, and why."""
        with self._transaction():
            return self._book(digest, file.size, file.modified_at, Export(file.name, refused=reason))

    def take(self, content: ExportContent) -> Export:
        """Take in a daily file, all or nothing.

        Rows that can't be read are set aside; where they name a contact, Campaign's word on it is in doubt, and read
        live before long. A file of which too much can't be read is refused as a whole.
        """
        try:
            with self._transaction():
                return self._booked(content, self._take(content))
        except _UNREADABLE as error:  # its message holds values
            refused = f"DuckDB can't read it ({type(error).__name__}). Let the workflow export it again."
        finally:
            for name in _TEMPORARY:
                self._run(f"drop table if exists temp.{name}")
        with self._transaction():
            return self._booked(content, Export(content.name, refused=refused))

    def _take(self, content: ExportContent) -> Export:
        columns = self._columns(content.header)
        spellings = {True: self._settings.opted_out, False: self._settings.opted_in}
        typed = sql_exports.typed_lines(columns, spellings, self._settings.time_formats)
        self._run(f"create or replace temp table typed as with lines as ({self._lines(content)})\n{typed}")
        rows, without_key, changed = self._rows(
            "select count(*), count(*) filter (key is null), max(changed_at) from typed"
        )[0]
        self._find_unreadable(content)
        unreadable, broken = self._rows("select count(*), count(*) filter (broken) from set_aside")[0]
        if unreadable > max(1, self._settings.max_bad_share * (rows + broken)):
            return Export(content.name, refused=self._too_many(unreadable, rows + broken))
        self._run(f"create or replace temp table seen as {sql_exports.seen_in_file()}")
        for statement in sql.merge_seen(live=False):
            self._run(statement)
        self._set_aside(content.name)
        return Export(
            content.name,
            rows + broken,
            unreadable,
            without_key,
            self._missing(columns),
            cut=content.cut_row is not None,
            exported_at=utc(changed),
        )

    def _lines(self, content: ExportContent) -> str:
        """All text; what has more or fewer columns than the header is kept in `reject_errors`."""
        columns = "{" + ", ".join(f"{text(name)}: 'varchar'" for name in content.header) + "}"
        quoted = text(self._settings.quote)
        return f"""select * from read_csv({text(_literal(str(content.path)))}, delim = {text(self._settings.delimiter)},
  header = true, auto_detect = false, quote = {quoted}, escape = {quoted}, columns = {columns}, null_padding = false,
  ignore_errors = true, store_rejects = true)"""

    def _columns(self, header: Sequence[str]) -> Mapping[str, str]:
        """What leads from a column of `SEEN` to one of the file, as far as it has it."""
        told = {"key": [KEY], "changed_at": [PROFILE_CHANGED]}
        for name, stamps in self._opt_outs.bound.stamps.items():
            told |= {name: [name], name + sql.AT: list(stamps)}
        there = {
            name: [c for a in attributes if (c := self._settings.column(a)) in header]
            for name, attributes in told.items()
        }
        return {name: columns[0] for name, columns in there.items() if columns}

    def _missing(self, columns: Mapping[str, str]) -> Sequence[str]:
        """Times that the file doesn't tell: without one, no opt-in of Campaign's wins."""
        wanted = {
            pair.target + sql.AT: stamps
            for pair in self._opt_outs.bound.pairs
            if (stamps := self._opt_outs.bound.stamps[pair.target])
        }
        missing = [self._settings.column(stamps[0]) for name, stamps in wanted.items() if name not in columns]
        return (*missing, *([] if "changed_at" in columns else [self._settings.column(PROFILE_CHANGED)]))

    def _find_unreadable(self, content: ExportContent) -> None:
        """Each row to set aside, as `set_aside`."""
        at, delimiter, mark = (
            content.header.index(self._settings.column(KEY)),
            self._settings.delimiter,
            self._settings.quote,
        )
        self._run(f"create or replace temp table set_aside as {sql_exports.unreadable_lines(at, delimiter, mark)}")
        if content.cut_row is not None:
            key = _field(content.cut_row, at, delimiter, mark)
            self._run("insert into set_aside values (null, $1, 'the file ends in its middle', true)", [key])

    def _too_many(self, unreadable: int, rows: int) -> str:
        reason = self._rows("select reason from set_aside group by reason order by count(*) desc, reason limit 1")[0][0]
        return f"{unreadable} of {rows} rows can't be read, most often because: {reason}"

    def _set_aside(self, name: str) -> None:
        """Keep them, with keys of contacts only: of a broken row, anything might stand in the key's place."""
        key = quote(self._table.mapping.key.source)
        contact = f"select {key} from {own_relation(self._table, 'snapshot')}"
        self._run(
            f"""insert into {sql.relation("unreadable")}
select $1, line, case when key in ({contact}) then key end, reason from set_aside""",
            [name],
        )
        for statement in sql.doubt(f"select distinct key from set_aside where key in ({contact})"):
            self._run(statement)

    def _booked(self, content: ExportContent, export: Export) -> Export:
        return self._book(content.digest, content.bytes, content.modified_at, export)

    def _book(self, digest: str, size: int, modified_at: datetime | None, export: Export) -> Export:
        booked = replace(export, taken_at=datetime.now(UTC))
        self._run(
            f"insert into {sql.relation('export')} values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
            [
                booked.name, digest, self._format, size, naive(modified_at), booked.rows, booked.unreadable,
                booked.without_key, list(booked.missing), booked.refused, booked.cut, naive(booked.exported_at),
                naive(booked.taken_at),
            ],
        )  # fmt: skip
        return booked


def _literal(path: str) -> str:
    """A path that stands for itself where a pattern may stand."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def _field(line: str, at: int, delimiter: str, mark: str) -> str | None:
    """A column of a broken row, if it is there as a whole."""
    fields = line.split(delimiter)
    return fields[at].strip(f" {mark}") or None if at < len(fields) - 1 else None
