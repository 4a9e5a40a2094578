"""Take Campaign's daily opt-out files from the SFTP server into the staging file."""

import codecs
import gzip
import hashlib
import logging
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from d365_campaign.flows.ports import FileArea
from d365_campaign.opt_out_changes import Export, ExportContent
from d365_campaign.opt_out_files import KEY, ExportSettings, RemoteFile
from d365_campaign.store.exports import ExportStore
from d365_campaign.store.staging import private_files

log = logging.getLogger(__name__)

PROCESSED = "processed"
PIECE = 1 << 20
GZIP_BEGINS = b"\x1f\x8b"
# How a text in another encoding begins (codecs.BOM_UTF16_LE and _BE); as UTF-8 it makes no sense.
UTF16_BEGINS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Taken:
    """What one look at the exports folder brought: files with what became of each, *uploading* ones that are left for
    the next look, and names that no harmless file has."""

    exports: Sequence[Export] = ()
    uploading: Sequence[str] = ()
    hostile: Sequence[str] = ()


class _Refused(Exception):
    """Nothing can be read of the file; the message says why and what to do."""


def take_exports(
    area: FileArea,
    store: ExportStore,
    settings: ExportSettings,
    folder: Path,
    sleep: Callable[[float], None] = time.sleep,
) -> Taken:
    """Take in every complete file of the exports folder, oldest name first, and move or delete what was taken.

    A file is complete when its size did not change for a while. One that was taken in before, under whatever name, is
    put away again and changes nothing; one that is refused stays where it is for a person to look at. *folder* is where
    a file stands meanwhile, readable by this user only.
    """
    found = [file for file in area.files(settings.folder) if settings.takes(file.name)]
    complete, uploading = _complete(area, settings, found, sleep)
    exports = []
    for file in sorted(complete, key=lambda file: file.name):
        export = _take(area, store, settings, file, folder)
        exports.append(export)
        if export.refused is None:
            _put_away(area, settings, file.name)
    _clean_up(area, settings)
    return Taken(exports, uploading, list(area.hostile_names))


def _complete(
    area: FileArea, settings: ExportSettings, found: Sequence[RemoteFile], sleep: Callable[[float], None]
) -> tuple[Sequence[RemoteFile], Sequence[str]]:
    if not found:
        return [], []
    sleep(settings.stable_seconds)
    later = {file.name: file for file in area.files(settings.folder)}
    stable = [file for file in found if later.get(file.name) == file]
    return stable, [file.name for file in found if file.name in later and file not in stable]


def _take(area: FileArea, store: ExportStore, settings: ExportSettings, file: RemoteFile, folder: Path) -> Export:
    with private_files(), tempfile.TemporaryDirectory(dir=folder, prefix="export-") as room:
        raw = Path(room) / "raw"
        with raw.open("wb") as into:
            area.download(settings.folder, file.name, into)
        digest = _digest(raw)
        known = store.known(file.name, digest)
        if known is not None:
            log.info("export %s was looked at before", file.name)
            return known
        try:
            content = _content(file, raw, digest, settings, Path(room) / "lines")
            _refuse_without(content.header, [KEY, *store.attributes], settings)
        except _Refused as reason:
            return store.refuse(file.name, digest, file.size, str(reason))
        return store.take(content)


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _content(file: RemoteFile, raw: Path, digest: str, settings: ExportSettings, lines: Path) -> ExportContent:
    """The file as lines of UTF-8 that all end; raises _Refused."""
    with raw.open("rb") as content, lines.open("w", encoding="utf-8", newline="") as into:
        rest = ""
        for text in _decoded(_unzipped(content), settings.encoding):
            whole, newline, rest = (rest + text).replace("\r\n", "\n").rpartition("\n")
            into.write(whole + newline)
    with lines.open(encoding="utf-8", newline="") as content_lines:
        first = content_lines.readline()
    if not first.strip():
        raise _Refused("it is empty, without even a header. Look at the workflow's extract activity, and run it again.")
    header = _header(first, settings)
    return ExportContent(file.name, lines, digest, file.size, header, rest if rest.strip() else None)


def _unzipped(content: BinaryIO) -> Iterator[bytes]:
    """The file's bytes, out of a gzip file if it is one; of one that is cut, as far as it goes."""
    zipped = content.read(2) == GZIP_BEGINS
    content.seek(0)
    try:
        with gzip.open(content) if zipped else content as source, suppress(EOFError):
            while piece := source.read(PIECE):
                yield piece
    except (gzip.BadGzipFile, zlib.error):
        raise _Refused("it is a damaged gzip file. Let the workflow export it again.") from None


def _decoded(pieces: Iterator[bytes], encoding: str) -> Iterator[str]:
    decoder, first = codecs.getincrementaldecoder(encoding)(), True
    try:
        for piece in pieces:
            if first and piece.startswith(UTF16_BEGINS) and "16" not in encoding:
                raise _Refused(f"it is UTF-16, not {encoding}. Set opt_outs.exports.encoding, or change the workflow.")
            text = decoder.decode(piece)
            if "\0" in text:
                raise _Refused(f"it holds zero bytes, so it is no {encoding} text. Set opt_outs.exports.encoding.")
            yield text.removeprefix("\ufeff") if first else text
            first = False
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise _Refused(
            f"it is no {encoding}. Set opt_outs.exports.encoding to what the workflow writes, or change the workflow."
        ) from None


def _header(line: str, settings: ExportSettings) -> Sequence[str]:
    header = [name.strip().strip(settings.quote or " ") for name in line.strip("\r\n").split(settings.delimiter)]
    if len(set(header)) < len(header):
        raise _Refused("two of its columns have the same name. Correct the workflow's extract activity.")
    return header


def _refuse_without(header: Sequence[str], attributes: Sequence[str], settings: ExportSettings) -> None:
    missing = [column for a in attributes if (column := settings.column(a)) not in header]
    if missing:
        raise _Refused(
            f"it has no column {', '.join(map(repr, missing))}; it has {len(header)} columns. Were they renamed? "
            "Correct opt_outs.exports.columns or delimiter, or the workflow's extract activity."
        )


def _put_away(area: FileArea, settings: ExportSettings, name: str) -> None:
    if settings.after_reading == "archive":
        area.move(settings.folder, name, f"{settings.folder}/{PROCESSED}")
    else:
        area.delete(settings.folder, name)


def _clean_up(area: FileArea, settings: ExportSettings) -> None:
    """Leave nothing behind on the server for longer than it is meant for."""
    archive = f"{settings.folder}/{PROCESSED}"
    if not area.has_folder(archive):
        return
    oldest = datetime.now(UTC) - timedelta(days=settings.keep_days)
    for file in area.files(archive):
        if file.modified_at < oldest:
            area.delete(archive, file.name)
