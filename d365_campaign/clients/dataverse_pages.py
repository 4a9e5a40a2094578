"""Pages of Dataverse rows and of changes, from bytes to columns."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from urllib.parse import unquote

import polars as pl

from d365_campaign.changes import ChangePage
from d365_campaign.clients.http import Answer
from d365_campaign.clients.json_columns import Types, items, read_object, wrong_type
from d365_campaign.errors import RetriableError
from d365_campaign.field_types import HELD, RAW_NUMBERS
from d365_campaign.schemas import SourceColumn, SourceTable

NEXT_LINK, DELTA_LINK = "@odata.nextLink", "@odata.deltaLink"
# Only the entry of a deleted record has a context of its own ("Use change tracking to synchronize data").
ENTRY_CONTEXT, REMOVED_KEY, REMOVED_REASON = "@odata.context", "id", "reason"
NUMBER = r"-?[0-9][0-9.eE+-]*"


def is_delta_link(link: str) -> bool:
    """Whether *link* asks for changes; clients and proxies are known to encode its `$`."""
    return "$deltatoken=" in unquote(link).lower()


def read_page(
    answer: Answer, table: SourceTable, columns: Sequence[SourceColumn], *, changed_only: bool = False
) -> ChangePage:
    """One page. "Nothing changed" (*changed_only*) may come without any `value` at all; other pages always have one.

    Raises RetriableError for a body that was cut, ConfigurationError for a value that has another type than the
    metadata told.
    """
    subject = f"Dynamics, table {table.name}"
    held: Types = {
        REMOVED_KEY: pl.String,
        REMOVED_REASON: pl.String,
        ENTRY_CONTEXT: pl.String,
        **{column.wire_name: HELD[column.type].page for column in columns},
    }
    raw = [column.wire_name for column in columns if column.type in RAW_NUMBERS]
    body = with_numbers_as_text(answer.body, raw, subject) if raw else answer.body
    page = read_object(body, {"value": pl.List(pl.Struct(held)), NEXT_LINK: pl.String, DELTA_LINK: pl.String}, subject)
    if page.item(0, "value") is None and not changed_only:
        raise RetriableError(f"{subject}: an answer that is something else than a page.")
    found = items(page, "value").struct.unnest()
    removed = pl.col(ENTRY_CONTEXT).is_not_null() & pl.col(REMOVED_REASON).is_not_null()
    rows = found.filter(~removed).select(_typed(column) for column in columns)
    removed_keys = found.filter(removed)[REMOVED_KEY].cast(pl.String).str.to_lowercase()
    _check(rows, removed_keys, table, columns)
    return ChangePage(
        rows=rows,
        removed=removed_keys.to_list(),
        next_link=page.item(0, NEXT_LINK),
        delta_link=page.item(0, DELTA_LINK),
        served_at=answer.served_at or datetime.now(UTC),
    )


def with_numbers_as_text(body: bytes, names: Iterable[str], subject: str) -> bytes:
    """*body* with the numbers under these names quoted, so that none of their digits is lost on the way to a column.

    Polars reads JSON numbers as binary ones: 20 digits and trailing zeros would not survive. Nothing in a text can be
    taken for such a number: a quotation mark in a text has a backslash before it, the one that opens a name a brace or
    a comma.
    """
    named = "|".join(re.escape(name) for name in names)
    try:
        text = pl.Series([body]).cast(pl.String)
    except pl.exceptions.PolarsError:
        raise RetriableError(f"{subject}: an answer that is no UTF-8.") from None
    quoted: str = text.str.replace_all(rf'([{{,]\s*"(?:{named})"\s*:\s*)({NUMBER})', '${1}"${2}"').item()
    return quoted.encode()


def _typed(column: SourceColumn) -> pl.Expr:
    """Under its logical name. Ids in lower case: Dataverse sends them so, except inside paging cookies."""
    expression = pl.col(column.wire_name).alias(column.name)
    return expression.str.to_lowercase() if column.type == "reference" else expression


def _check(rows: pl.DataFrame, removed: pl.Series, table: SourceTable, columns: Sequence[SourceColumn]) -> None:
    if rows[table.primary_id].null_count() or removed.null_count():
        raise RetriableError(f"table {table.name}: Dynamics sent an entry without a key.")
    for column in columns:
        if column.type in RAW_NUMBERS and not rows[column.name].str.contains(f"^{NUMBER}$").all():
            raise wrong_type(f"Dynamics, table {table.name}, column {column.name}")
