"""Paths as an SFTP client writes them, and where they lead: never out of its own folder."""

import errno
import posixpath
from pathlib import Path


class Jail:
    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    @staticmethod
    def seen(path: str) -> str:
        """The absolute path from the root as clients see it; `..` ends there."""
        return "/" + posixpath.normpath("/" + path).lstrip("/")

    def target(self, path: str) -> Path:
        """What a path leads to, behind symbolic links."""
        found = (self.root / self.seen(path)[1:]).resolve()
        if not found.is_relative_to(self.root):
            raise PermissionError(errno.EACCES, "leads out of the folder")
        return found

    def entry(self, path: str) -> Path:
        """What a path names, even when that is a symbolic link. The root itself has no name."""
        folder, name = posixpath.split(self.seen(path))
        if not name:
            raise PermissionError(errno.EACCES, "the root stays where it is")
        return self.target(folder) / name
