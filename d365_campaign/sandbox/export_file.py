"""The daily opt-out export as bytes. No page describes this file, so its form is ours and much of it a setting.

What is documented are its building blocks: "Extract file" and the layout in "Import best practices".
"""

import codecs
import csv
import gzip
import io
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .campaign_schema import OPT_OUT_STAMPS
from .settings import Settings

STAMP = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\.\d{3}Z")
PUSH_STAMP = "blackListPushnotificationLastModified"


def columns(settings: Settings) -> list[str]:
    """The record's key and time, then each opt-out followed by the time of its last change."""
    pairs = [name for opt_out, stamps in OPT_OUT_STAMPS.items() for name in (opt_out, stamps[0])]
    return ["externalId", "lastModified", *(name for name in pairs if name != PUSH_STAMP or settings.export_push_stamp)]


def file_bytes(records: Iterable[Mapping[str, Any]], settings: Settings, fault: str = "") -> bytes:
    """The file over these profiles' stored values, with what *fault* does to its content."""
    if fault == "empty":
        return b""
    text = FAULTY.get(fault, _unharmed)(_text(records, settings))
    encoding = "utf-16" if fault == "wrong_encoding" else settings.export_encoding
    data = text.encode(encoding, errors="replace")
    if settings.export_bom and codecs.lookup(encoding).name == "utf-8":
        data = codecs.BOM_UTF8 + data
    return gzip.compress(data, mtime=0) if settings.export_gzip else data


def _text(records: Iterable[Mapping[str, Any]], settings: Settings) -> str:
    names, lines = columns(settings), io.StringIO()
    writer = csv.writer(lines, delimiter=settings.export_delimiter, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_shown(name, record) for name in names] for record in records)
    text = lines.getvalue()
    return STAMP.sub(r"\1Z", text) if settings.export_seconds_only else text


def _shown(name: str, record: Mapping[str, Any]) -> str:
    """An opt-out as 0 or 1; a stamp that was never set is empty."""
    value = record.get(name, "")
    return str(int(bool(value))) if name in OPT_OUT_STAMPS else str(value)


# --- faults


def _unharmed(text: str) -> str:
    return text


def _header_only(text: str) -> str:
    return text[: text.index("\n") + 1]


def _cut(text: str) -> str:
    """Half of the last line is missing, its end of line too."""
    start = text.rindex("\n", 0, -1) + 1 if text.count("\n") > 1 else 0
    return text[: start + (len(text) - start) // 2]


def _renamed_columns(text: str) -> str:
    header, rows = text.split("\n", 1)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", header).lower() + "\n" + rows


def _bad_times(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{3})?Z", "not a time", text)


FAULTY: dict[str, Callable[[str], str]] = {
    "header_only": _header_only,
    "cut": _cut,
    "renamed_columns": _renamed_columns,
    "bad_times": _bad_times,
}
