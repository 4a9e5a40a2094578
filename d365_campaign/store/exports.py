"""Daily opt-out files on their way into the staging file."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import duckdb
import polars as pl

from d365_campaign.binding import BoundMapping
from d365_campaign.opt_out import PROFILE_CHANGED
from d365_campaign.opt_out_changes import Export, ExportContent
from d365_campaign.opt_out_files import KEY, ExportSettings
from d365_campaign.store import sql_opt_outs as sql
from d365_campaign.store.opt_outs import OptOutStore
from d365_campaign.store.sql import relation as own_relation
from d365_campaign.store.transaction import registered, transaction
from d365_campaign.store.values import quote, text

_COLUMNS = "name, rows, unreadable, without_key, missing, refused, cut, exported_at, taken_at"
_TEMPORARY = ("lines", "typed", "seen", "merged", "reject_scans", "reject_errors")


class ExportStore:
    """The daily files that were taken in, and the way in for the next ones. Each public method is one transaction."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: BoundMapping,
        opt_outs: OptOutStore,
        settings: ExportSettings,
    ) -> None:
        self._connection, self._table, self._opt_outs, self._settings = connection, table, opt_outs, settings

    @property
    def attributes(self) -> Sequence[str]:
        """The opt-outs that a file must tell."""
        return [pair.target for pair in self._opt_outs.bound.pairs]

    def known(self, name: str, digest: str) -> Export | None:
        """The file with this content, if it was taken in under whatever name, or refused by the very same settings."""
        query = f"""select {_COLUMNS} from {sql.relation("export")}
                    where digest = $1 and (refused is null or (name = $2 and format = $3)) order by taken_at limit 1"""
        found = self._rows(query, [digest, name, self._settings.model_dump_json()])
        return _export(*found[0]) if found else None

    def latest(self, limit: int) -> Sequence[Export]:
        """What became of the latest files, last one first."""
        query = f"select {_COLUMNS} from {sql.relation('export')} order by taken_at desc, name desc limit $1"
        return [_export(*row) for row in self._rows(query, [limit])]

    def latest_at(self) -> datetime:
        """When the last file came that could be read, or since when such files are waited for (UTC)."""
        query = f"""select coalesce((select max(taken_at) from {sql.relation("export")} where refused is null), since)
                    from {sql.relation("setting")}"""
        latest: datetime = self._rows(query)[0][0]
        return latest.replace(tzinfo=UTC)

    def refuse(self, name: str, digest: str, size: int, reason: str) -> Export:
        """Remember that nothing of a file was taken in, and why."""
        with transaction(self._connection):
            return self._book(digest, size, Export(name, refused=reason))

    def take(self, content: ExportContent) -> Export:
        """Take in a daily file, all or nothing.

        Rows that can't be read are set aside; where they name a contact, Campaign's word on it is in doubt, and read
        live before long. A file of which too much can't be read is refused as a whole.
        """
        try:
            with transaction(self._connection):
                return self._book(content.digest, content.bytes, self._take(content))
        finally:
            for name in _TEMPORARY:
                self._run(f"drop table if exists temp.{name}")

    def _take(self, content: ExportContent) -> Export:
        self._read_lines(content)
        columns = self._columns(content.header)
        spellings = {True: self._settings.true, False: self._settings.false}
        typed = sql.typed_lines(columns, spellings, self._settings.time_formats)
        self._run(f"create or replace temp table typed as {typed}")
        rows, without_key, changed = self._rows(
            "select count(*), count(*) filter (key is null), max(changed_at) from typed"
        )[0]
        unreadable = self._unreadable(content)
        total = rows + unreadable.filter(pl.col("broken")).height
        if unreadable.height > max(1, self._settings.max_bad_share * total):
            return Export(content.name, refused=_too_many(unreadable, total))
        self._run(f"create or replace temp table seen as {sql.seen_in_file()}")
        for statement in sql.merge_seen(live=False):
            self._run(statement)
        self._set_aside(content.name, unreadable)
        return Export(
            content.name,
            total,
            unreadable.height,
            without_key,
            self._missing(columns),
            cut=content.cut_row is not None,
            exported_at=changed and changed.replace(tzinfo=UTC),
        )

    def _read_lines(self, content: ExportContent) -> None:
        """All text; what has more or fewer columns than the header is kept in `reject_errors`."""
        columns = "{" + ", ".join(f"{text(name)}: 'varchar'" for name in content.header) + "}"
        quoted = text(self._settings.quote)
        self._run(
            f"""create or replace temp table lines as
select * from read_csv({text(str(content.path))}, delim = {text(self._settings.delimiter)}, header = true,
  auto_detect = false, quote = {quoted}, escape = {quoted}, columns = {columns}, null_padding = false,
  ignore_errors = true, store_rejects = true)"""
        )

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
        return [*missing, *([] if "changed_at" in columns else [self._settings.column(PROFILE_CHANGED)])]

    def _unreadable(self, content: ExportContent) -> pl.DataFrame:
        """Line (where it is known), key, reason, and whether the row as such is *broken*, of each row to set aside."""
        at = content.header.index(self._settings.column(KEY))
        faulty = [
            (None, key, reason, False)
            for key, reason in self._rows("select key, fault from typed where fault is not null")
        ]
        broken = [
            (line, _field(part, at, self._settings.delimiter), reason, True)
            for line, csv_line, reason in self._rows(
                """select line, any_value(csv_line), lower(any_value(error_type)::varchar)
                   from reject_errors group by line"""
            )
            for part in csv_line.splitlines() or [""]
        ]
        if content.cut_row is not None:
            broken.append(
                (None, _field(content.cut_row, at, self._settings.delimiter), "the file ends in its middle", True)
            )
        schema = {"line": pl.Int64, "key": pl.String, "reason": pl.String, "broken": pl.Boolean}
        return pl.DataFrame([*faulty, *broken], schema=schema, orient="row")

    def _set_aside(self, name: str, unreadable: pl.DataFrame) -> None:
        """Keep them, with keys of contacts only: of a broken row, anything might stand in the key's place."""
        if unreadable.is_empty():
            return
        key = quote(self._table.mapping.key.source)
        contact = f"select {key} from {own_relation(self._table, 'snapshot')}"
        with registered(self._connection, set_aside=unreadable):
            self._run(
                f"""insert into {sql.relation("unreadable")}
select $1, line, case when key in ({contact}) then key end, reason from set_aside""",
                [name],
            )
            for statement in sql.doubt(f"select distinct key from set_aside where key in ({contact})"):
                self._run(statement)

    def _book(self, digest: str, size: int, export: Export) -> Export:
        booked = Export(
            export.name, export.rows, export.unreadable, export.without_key, export.missing, export.refused,
            export.cut, export.exported_at, datetime.now(UTC),
        )  # fmt: skip
        self._run(
            f"insert into {sql.relation('export')} values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            [
                booked.name, digest, self._settings.model_dump_json(), size, booked.rows, booked.unreadable,
                booked.without_key, list(booked.missing), booked.refused, booked.cut,
                booked.exported_at and booked.exported_at.replace(tzinfo=None), datetime.now(UTC).replace(tzinfo=None),
            ],
        )  # fmt: skip
        return booked

    def _rows(self, query: str, parameters: object = None) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, parameters).fetchall()

    def _run(self, statement: str, parameters: object = None) -> None:
        self._connection.execute(statement, parameters)


def _too_many(unreadable: pl.DataFrame, rows: int) -> str:
    reason = unreadable["reason"].value_counts(sort=True)["reason"][0]
    return f"{unreadable.height} of {rows} rows can't be read, most often because: {reason}"


def _field(line: str, at: int, delimiter: str) -> str | None:
    """A column of a broken row, if it is there as a whole."""
    fields = line.split(delimiter)
    return fields[at].strip() or None if at < len(fields) - 1 else None


def _export(
    name: str,
    rows: int,
    unreadable: int,
    without_key: int,
    missing: Sequence[str],
    refused: str | None,
    cut: bool,
    exported_at: datetime | None,
    taken_at: datetime,
) -> Export:
    exported = exported_at and exported_at.replace(tzinfo=UTC)
    return Export(name, rows, unreadable, without_key, missing, refused, cut, exported, taken_at.replace(tzinfo=UTC))
