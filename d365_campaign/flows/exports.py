"""Take Campaign's daily opt-out files from the SFTP server into the staging file."""

import codecs
import gzip
import hashlib
import logging
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from d365_campaign.errors import ConfigurationError, RetriableError
from d365_campaign.flows.ports import FileArea
from d365_campaign.opt_out_changes import Export, ExportContent
from d365_campaign.opt_out_files import KEY, ExportSettings, RemoteFile
from d365_campaign.store.exports import ExportStore
from d365_campaign.store.staging import private_files

log = logging.getLogger(__name__)

PROCESSED = "processed"
PIECE = 1 << 20
# What is longer is no row of an export; one is some 500 characters.
LONGEST_ROW = 100_000
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
    staging: Path,
    sleep: Callable[[float], None] = time.sleep,
) -> Taken:
    """Take in every complete file of the exports folder, oldest name first, and move or delete what was taken.

    A file is complete when its size did not change for a while. One that was taken in before, under whatever name, is
    put away again and changes nothing; one that is refused stays where it is for a person to look at. Beside the
    *staging* file a file stands meanwhile, readable by this user only.
    """
    _remove_leftovers(staging)
    listed = sorted(area.files(settings.folder), key=lambda file: file.name)
    found = [file for file in listed if settings.takes(file.name)]
    hostile = list(area.hostile_names)
    met = {file.name: export for file in found if (export := store.met(file)) is not None}
    complete, uploading = _complete(area, settings, [file for file in found if file.name not in met], sleep)
    exports = []
    for file in found:
        if file.name in met or file in complete:
            export = met.get(file.name) or _take(area, store, settings, file, staging)
            exports.append(_put_away(area, settings, file, export))
    _clean_up(area, settings)
    return Taken(exports, uploading, hostile)


def _room(staging: Path) -> str:
    """How the folders begin in which files stand that are taken into this staging file, and no other."""
    return f"{staging.name}.export-"


def _remove_leftovers(staging: Path) -> None:
    """What a run that was killed left behind; the staging file is open here, so none is at work there now."""
    for left in staging.parent.iterdir():
        if left.name.startswith(_room(staging)):
            shutil.rmtree(left, ignore_errors=True)


def _complete(
    area: FileArea, settings: ExportSettings, found: Sequence[RemoteFile], sleep: Callable[[float], None]
) -> tuple[Sequence[RemoteFile], Sequence[str]]:
    if not found:
        return [], []
    sleep(settings.stable_seconds)
    later = {file.name: file for file in area.files(settings.folder)}
    stable = [file for file in found if later.get(file.name) == file]
    return stable, [file.name for file in found if file.name in later and file not in stable]


def _take(area: FileArea, store: ExportStore, settings: ExportSettings, file: RemoteFile, staging: Path) -> Export:
    with private_files(), tempfile.TemporaryDirectory(dir=staging.parent, prefix=_room(staging)) as room:
        raw = Path(room) / "raw"
        try:
            with raw.open("wb") as into:
                area.download(settings.folder, file.name, into)
            digest = _digest(raw)
            known = store.known(file.name, digest)
            if known is not None:
                log.info("export %s was looked at before", file.name)
                return known
            content = _content(file, raw, digest, settings, Path(room) / "lines")
            _refuse_without(content.header, [KEY, *store.attributes], settings)
        except _Refused as reason:
            return store.refuse(file, digest, str(reason))
        except ConfigurationError as denied:  # this one can't be downloaded, the others may
            return Export(file.name, refused=str(denied))
        except OSError as error:
            raise RetriableError(
                f"{file.name} can't be kept beside the staging file ({error.strerror}): check free space and rights of "
                "its folder."
            ) from error
        return store.take(content)


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _content(file: RemoteFile, raw: Path, digest: str, settings: ExportSettings, lines: Path) -> ExportContent:
    """The file as lines of UTF-8 that all end; raises _Refused."""
    rest, cut = _write_lines(raw, lines, settings.encoding)
    with lines.open(encoding="utf-8", newline="") as content_lines:
        first = content_lines.readline()
    if not first.strip():
        raise _Refused(
            "it is cut off before its first row. Let the workflow export it again."
            if cut
            else "it is empty, without even a header. Look at the workflow's extract activity, and run it again."
        )
    header, cut_row = _header(first, settings), rest if cut or rest.strip() else None
    return ExportContent(file.name, lines, digest, file.size, header, cut_row, file.modified_at)


def _write_lines(raw: Path, lines: Path, encoding: str) -> tuple[str, bool]:
    """What stands behind the last end of a line, and whether the file is known to be cut there."""
    rest, lines_end, cut = "", False, False
    with raw.open("rb") as content, lines.open("w", encoding="utf-8", newline="") as into:
        try:
            for text in _decoded(_unzipped(content), encoding):
                whole, newline, rest = (rest + text).replace("\r\n", "\n").rpartition("\n")
                into.write(whole + newline)
                lines_end = lines_end or bool(newline)
                if len(rest) > LONGEST_ROW:
                    raise _Refused("its lines don't end. Let the workflow end each row by a line feed.")
        except EOFError:
            cut = True
        if not lines_end and not cut and rest.strip():  # a header that is all there is by now
            into.write(rest + "\n")
            rest, cut = "", True
    return rest, cut


def _unzipped(content: BinaryIO) -> Iterator[bytes]:
    """The file's bytes, out of a gzip file if it is one. Raises EOFError at the end of one that is cut."""
    zipped = content.read(2) == GZIP_BEGINS
    content.seek(0)
    try:
        # Up to the very byte where it is cut, which `read` would not give.
        read = gzip.GzipFile(fileobj=content).read1 if zipped else content.read
        while piece := read(PIECE):
            yield piece
    except (gzip.BadGzipFile, zlib.error):
        raise _Refused("it is a damaged gzip file. Let the workflow export it again.") from None


def _decoded(pieces: Iterator[bytes], encoding: str) -> Iterator[str]:
    """Raises EOFError where the file ends inside a character."""
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
    except UnicodeError:
        raise _Refused(
            f"it is no {encoding}. Set opt_outs.exports.encoding to what the workflow writes, or change the workflow."
        ) from None
    try:
        yield decoder.decode(b"", final=True)
    except UnicodeError:
        raise EOFError from None


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


def _put_away(area: FileArea, settings: ExportSettings, file: RemoteFile, export: Export) -> Export:
    """Out of the way, if it was taken in; one that is cut only when its rest is no longer to be expected."""
    may_grow = datetime.now(UTC) - file.modified_at < timedelta(hours=settings.grace_hours)
    if export.refused is not None or (export.cut and may_grow):
        return export
    try:
        if settings.after_reading == "archive":
            area.move(settings.folder, file.name, f"{settings.folder}/{PROCESSED}")
        else:
            area.delete(settings.folder, file.name)
    except ConfigurationError as denied:  # it was taken in, and so are the next ones
        return replace(export, stuck=str(denied))
    return export


def _clean_up(area: FileArea, settings: ExportSettings) -> None:
    """Leave nothing behind on the server for longer than it is meant for."""
    archive = f"{settings.folder}/{PROCESSED}"
    oldest = datetime.now(UTC) - timedelta(days=settings.keep_days)
    try:
        for file in area.files(archive) if area.has_folder(archive) else ():
            if file.modified_at < oldest:
                area.delete(archive, file.name)
    except ConfigurationError as denied:
        log.warning(str(denied))
