"""What SFTP clients may do with files: paramiko's server side over a folder that they can't leave.

Links, other file systems' extensions and owners are not offered; Adobe's storage offers none of them either.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from paramiko import ServerInterface, SFTPAttributes, SFTPHandle, SFTPServer, SFTPServerInterface
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED, OPEN_SUCCEEDED
from paramiko.message import Message
from paramiko.pkey import PKey
from paramiko.sftp import CMD_VERSION, SFTP_OK
from paramiko.transport import Channel

from .sftp_session import Session

T = TypeVar("T")


class Door(ServerInterface):
    """One user with one key, and one subsystem. No password, shell, command or forwarding: paramiko refuses those."""

    def __init__(self, session: Session, user: str, key: PKey) -> None:
        self.session = session
        self._user, self._key = user, key

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: PKey) -> int:
        denied = self.session.faults.take("login") is not None
        welcome = not denied and (username, key) == (self._user, self._key)
        return int(AUTH_SUCCESSFUL if welcome else AUTH_FAILED)

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return int(OPEN_SUCCEEDED if kind == "session" else OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED)


class Subsystem(SFTPServer):
    """The thread that answers one client."""

    def __init__(self, channel: Channel, name: str, server: Door) -> None:
        super().__init__(channel, name, server, Files)
        server.session.threads.append(self)

    def _send_packet(self, t: int, packet: Message) -> None:
        # paramiko knows posix-rename but doesn't announce it, and OpenSSH's client uses only what is announced.
        if t == CMD_VERSION:
            packet.add("posix-rename@openssh.com", "1")
        super()._send_packet(t, packet)


class Files(SFTPServerInterface):
    def __init__(self, server: Door) -> None:
        super().__init__(server)
        self._session, self._jail = server.session, server.session.jail

    def canonicalize(self, path: str) -> str:
        seen = self._jail.seen(path)
        self._session.perform("realpath", seen, lambda: None)
        return seen

    def list_folder(self, path: str) -> list[SFTPAttributes] | int:
        return self._session.perform("list", self._jail.seen(path), lambda: list(_listed(self._jail.target(path))))

    def stat(self, path: str) -> SFTPAttributes | int:
        return self._session.perform(
            "stat", self._jail.seen(path), lambda: SFTPAttributes.from_stat(self._jail.target(path).stat())
        )

    def lstat(self, path: str) -> SFTPAttributes | int:
        if self._jail.seen(path) == "/":
            return self.stat(path)
        return self._session.perform(
            "lstat", self._jail.seen(path), lambda: SFTPAttributes.from_stat(self._jail.entry(path).lstat())
        )

    def open(self, path: str, flags: int, attr: SFTPAttributes) -> "OpenFile | int":
        def opened() -> OpenFile:
            mode = 0o666 if attr.st_mode is None else stat.S_IMODE(attr.st_mode)
            descriptor = os.open(self._jail.target(path), flags | os.O_NOFOLLOW, mode)
            return OpenFile(self._session, self._jail.seen(path), descriptor, flags)

        return self._session.perform("open", self._jail.seen(path), opened)

    def remove(self, path: str) -> int:
        return self._done("remove", path, lambda: self._jail.entry(path).unlink())

    def rename(self, oldpath: str, newpath: str) -> int:
        """Never over another file: that is what version 3 of the protocol says."""

        def renamed() -> None:
            new = self._jail.entry(newpath)
            if os.path.lexists(new):
                raise FileExistsError(errno.EEXIST, "exists")
            self._jail.entry(oldpath).rename(new)

        return self._done("rename", oldpath, renamed)

    def posix_rename(self, oldpath: str, newpath: str) -> int:
        return self._done("posix_rename", oldpath, lambda: self._jail.entry(oldpath).replace(self._jail.entry(newpath)))

    def mkdir(self, path: str, attr: SFTPAttributes) -> int:
        mode = 0o777 if attr.st_mode is None else stat.S_IMODE(attr.st_mode)
        return self._done("mkdir", path, lambda: self._jail.entry(path).mkdir(mode))

    def rmdir(self, path: str) -> int:
        return self._done("rmdir", path, lambda: self._jail.entry(path).rmdir())

    def chattr(self, path: str, attr: SFTPAttributes) -> int:
        return self._done("setstat", path, lambda: _apply(attr, self._jail.target(path)))

    def _done(self, operation: str, path: str, action: Callable[[], object]) -> int:
        def done() -> int:
            action()
            return int(SFTP_OK)

        return self._session.perform(operation, self._jail.seen(path), done)


class OpenFile(SFTPHandle):
    """Reads and writes at the offsets the client names. What it writes bears the sandbox's time."""

    def __init__(self, session: Session, path: str, descriptor: int, flags: int) -> None:
        super().__init__(flags)
        self._session, self._path, self._descriptor = session, path, descriptor
        self._noted: set[str] = set()

    def close(self) -> None:
        os.close(self._descriptor)

    def read(self, offset: int, length: int) -> bytes | int:
        return self._piece("read", lambda: os.pread(self._descriptor, length, offset))

    def write(self, offset: int, data: bytes) -> int:
        def written() -> int:
            done = 0
            while done < len(data):
                done += os.pwrite(self._descriptor, data[done:], offset + done)
            now = self._session.clock.seconds()
            os.utime(self._descriptor, (now, now))
            return int(SFTP_OK)

        return self._piece("write", written)

    def stat(self) -> SFTPAttributes:
        return SFTPAttributes.from_stat(os.fstat(self._descriptor))

    def chattr(self, attr: SFTPAttributes) -> int:
        def done() -> int:
            _apply(attr, self._descriptor)
            return int(SFTP_OK)

        return self._session.perform("setstat", self._path, done)

    def _piece(self, operation: str, action: Callable[[], T]) -> T | int:
        first = operation not in self._noted
        self._noted.add(operation)
        return self._session.perform(operation, self._path, action, noted=first)


def _listed(folder: Path) -> Iterator[SFTPAttributes]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        with suppress(FileNotFoundError):  # gone since the folder was read
            yield SFTPAttributes.from_stat(entry.stat(follow_symlinks=False), entry.name)


def _apply(attr: SFTPAttributes, target: Path | int) -> None:
    """Only what the request names; an owner can't be given away."""
    if attr.st_uid is not None:
        raise PermissionError(errno.EACCES, "owners stay")
    if attr.st_size is not None:
        os.truncate(target, attr.st_size)
    if attr.st_mode is not None:
        os.chmod(target, stat.S_IMODE(attr.st_mode))  # noqa: PTH101  (a Path or an open file)
    if attr.st_mtime is not None:
        os.utime(target, (attr.st_atime, attr.st_mtime))
