"""The SFTP area of the Campaign instance: one connection, and the files behind it."""

import posixpath
import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, BinaryIO, Self

from paramiko import Message, SFTPAttributes, SFTPClient, Transport
from paramiko.sftp import CMD_NAME

from d365_campaign.clients.ssh import SSH_ERRORS, SftpLogin, ended_on_error, explained, hang_up, in_time, log_in
from d365_campaign.errors import ConfigurationError, RetriableError
from d365_campaign.opt_out_files import RemoteFile

__all__ = ["SftpArea", "SftpLogin"]

PIECE = 1 << 15
MAX_DEPTH = 16


class SftpArea:
    """One connection, from the start of a `with` block to its end. Not for several threads.

    Folders come from the settings and may have several parts; they are relative to where the user lands. Names of files
    must be plain: one that could lead elsewhere or hide something is never sent. A ConfigurationError tells of a
    missing folder or right, a RetriableError of anything that the connection or the server failed in.
    """

    def __init__(self, login: SftpLogin) -> None:
        self._login = login
        self._hostile_names: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        self._transport = log_in(self._login)
        with ended_on_error(self._transport), explained(f"Opening SFTP on {self._login.address}"):
            self._sftp = _opened(self._transport, self._login)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        hang_up(self._transport)

    @property
    def hostile_names(self) -> tuple[str, ...]:
        """Files that the last `files()` left out for their names. Show them with `repr`: they may hold anything."""
        return self._hostile_names

    def files(self, folder: str) -> Sequence[RemoteFile]:
        """The regular files right in *folder*, by name; no links, no folders, no `hostile_names`."""
        with self._asking("Listing", folder):
            files = [entry for entry in self._entries(folder) if _is_file(entry)]
        self._hostile_names = tuple(sorted(entry.filename for entry in files if not is_plain(entry.filename)))
        return sorted((_remote_file(entry) for entry in files if is_plain(entry.filename)), key=lambda file: file.name)

    def has_folder(self, folder: str) -> bool:
        """Whether there is such a folder, behind a link too."""
        with self._asking("Looking for", folder), suppress(FileNotFoundError):
            return stat.S_ISDIR(self._sftp.stat(folder or ".").st_mode or 0)
        return False

    def make_folder(self, folder: str) -> None:
        """Make a folder if it is missing; the one that it stands in has to be there."""
        if not self.has_folder(folder):
            with self._asking("Making folder", folder):
                self._sftp.mkdir(folder)

    def download(self, folder: str, name: str, into: BinaryIO) -> None:
        """Write a file's bytes to *into*. After an error part of them may be there.

        Raises RetriableError when it is cut short, when its size changes meanwhile, and when it is gone.
        """
        with closing(self._pieces(_path(folder, name))) as pieces:
            for piece in pieces:
                into.write(piece)

    def upload(self, folder: str, name: str, content: bytes) -> None:
        """Write a file under another name, then rename it: nobody sees half of it. An older one is replaced."""
        path = _path(folder, name)
        with self._asking("Uploading", path):
            with self._sftp.open(f"{path}.tmp", "wb") as file:
                file.write(content)
            self._rename(f"{path}.tmp", path)

    def move(self, folder: str, name: str, to: str) -> None:
        """Put a file into another folder, which is made if missing; an older one of that name there is replaced."""
        old, new = _path(folder, name), _path(to, name)
        if posixpath.normpath(old) == posixpath.normpath(new):
            return
        self.make_folder(to)
        with self._asking("Moving", old, missing=RetriableError):
            self._rename(old, new)

    def delete(self, folder: str, name: str) -> None:
        """Remove a file; one that is gone already is fine."""
        path = _path(folder, name)
        with self._asking("Deleting", path), suppress(FileNotFoundError):
            self._sftp.remove(path)

    def used_bytes(self, folder: str = ".") -> int:
        """The sizes of all files below, those in folders that the user may not list left out; links aren't followed."""
        with self._asking("Listing", folder):
            return self._used_bytes(folder, MAX_DEPTH)

    def _used_bytes(self, folder: str, levels: int) -> int:
        entries = self._entries(folder)
        below = [entry.filename for entry in entries if _is_folder(entry) and is_plain(entry.filename)]
        total = sum(entry.st_size or 0 for entry in entries if _is_file(entry))
        for name in below if levels else ():
            with suppress(FileNotFoundError, PermissionError):
                total += self._used_bytes(_path(folder, name), levels - 1)
        return total

    def _entries(self, folder: str) -> list[SFTPAttributes]:
        entries: list[SFTPAttributes] = self._sftp.listdir_attr(folder or ".")
        return entries

    def _pieces(self, path: str) -> Generator[bytes, None, None]:
        """A file's bytes in order, asked for ahead; errors of who writes them elsewhere stay as they are."""
        with self._asking("Downloading", path, missing=RetriableError):
            size = self._sftp.stat(path).st_size
            with self._sftp.open(path, "rb") as file:
                file._prefetch_thread = _without_traceback(file._prefetch_thread)
                file.prefetch(size)
                while piece := file.read(PIECE):
                    yield piece
                read = file.tell()
        if read != size:
            raise RetriableError(f"Downloading {path}: {self._login.address} sent {read:,} of {size:,} bytes.")

    def _rename(self, old: str, new: str) -> None:
        try:
            self._sftp.posix_rename(old, new)
        except (FileNotFoundError, PermissionError, TimeoutError):
            raise
        except OSError:
            # A server without this extension; paramiko doesn't tell it from other failures. The usual rename never
            # replaces a file.
            with suppress(FileNotFoundError):
                self._sftp.remove(new)
            self._sftp.rename(old, new)

    @contextmanager
    def _asking(
        self,
        doing: str,
        path: str,
        missing: type[ConfigurationError] | type[RetriableError] = ConfigurationError,
    ) -> Iterator[None]:
        address, user = self._login.address, self._login.user
        with explained(f"{doing} {path} on {address}"):
            try:
                yield
            except FileNotFoundError as error:
                hint = "" if missing is RetriableError else " Create the folder there, or correct it in the settings."
                raise missing(f"{doing} {path}: {address} has no such file or folder.{hint}") from error
            except PermissionError as error:
                raise ConfigurationError(
                    f"{doing} {path}: {address} denies it to {user}. Give the user the right to read and write there."
                ) from error


class _Files(SFTPClient):  # type: ignore[misc]  # paramiko has no types
    """SFTP as paramiko speaks it, with two differences, both for answers."""

    def _read_response(self, waitfor: int | None = None) -> tuple[Any, Any]:
        try:
            kind, message = super()._read_response(waitfor)
        except TimeoutError:
            # Half an answer may have been read, so the ones after it can't be understood.
            self.close()
            raise
        # Without this one name in Latin-1 would make its whole folder unreadable.
        return kind, _Names(message.get_remainder()) if kind == CMD_NAME else message


class _Names(Message):  # type: ignore[misc]
    def get_text(self) -> str:
        return bytes(self.get_string()).decode("utf-8", "surrogateescape")


def _opened(transport: Transport, login: SftpLogin) -> _Files:
    with in_time(transport, login.connect_timeout_seconds):
        channel = transport.open_session()
        channel.settimeout(login.read_timeout_seconds)
        channel.invoke_subsystem("sftp")
        return _Files(channel)


def _without_traceback(send: Callable[..., None]) -> Callable[..., None]:
    """*send*, for a thread that may end with the connection; whoever reads the answers learns of that too."""

    def sending(*args: object) -> None:
        with suppress(*SSH_ERRORS):
            send(*args)

    return sending


def is_plain(name: str) -> bool:
    """Whether a name names a file in its folder and nothing else, and shows as what it is."""
    return name.isprintable() and name not in ("", ".", "..") and not {"/", "\\"} & set(name)


def _path(folder: str, name: str) -> str:
    if not is_plain(name):
        raise ConfigurationError(f"{name!r} is no plain file name.")
    return posixpath.join(folder, name)


def _is_file(entry: SFTPAttributes) -> bool:
    return stat.S_ISREG(entry.st_mode or 0)


def _is_folder(entry: SFTPAttributes) -> bool:
    return stat.S_ISDIR(entry.st_mode or 0)


def _remote_file(entry: SFTPAttributes) -> RemoteFile:
    return RemoteFile(entry.filename, entry.st_size or 0, datetime.fromtimestamp(entry.st_mtime or 0, UTC))
