"""The folder that daily files go to: each at once and whole, or later, or piece by piece. Files bear sandbox time."""

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Awaited:
    """Bytes on their way."""

    at: datetime
    name: str
    data: bytes
    rest: bool = False
    """Whether they complete a file that is there in part."""


class ExportFolder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: set[str] = set()
        """Every name that was given out, wherever the file is now."""
        self._awaited: list[Awaited] = []
        self._held: list[tuple[str, bytes]] = []

    def forget(self) -> None:
        self.names.clear()
        self._awaited.clear()
        self._held.clear()

    def exists(self) -> bool:
        return self.path.is_dir()

    def put(self, name: str, data: bytes, moment: datetime) -> None:
        """Written beside its name, then renamed, so that nobody sees half of it."""
        unfinished = self.path / f"{name}.tmp"
        unfinished.write_bytes(data)
        _stamp(unfinished, moment)
        unfinished.replace(self.path / name)

    def put_later(self, name: str, data: bytes, moment: datetime) -> None:
        self._awaited.append(Awaited(moment, name, data))

    def put_slowly(self, name: str, data: bytes, moment: datetime, seconds: float) -> None:
        """Half of it under its final name now, the rest after *seconds*."""
        half = len(data) // 2
        (self.path / name).write_bytes(data[:half])
        _stamp(self.path / name, moment)
        self._awaited.append(Awaited(moment + timedelta(seconds=seconds), name, data[half:], rest=True))

    def hold(self, name: str, data: bytes) -> None:
        """Until the next `release`."""
        self._held.append((name, data))

    def release(self, moment: datetime) -> None:
        """A second later, so that whoever sorts by time sees the wrong order too."""
        for name, data in self._held:
            self.put(name, data, moment + timedelta(seconds=1))
        self._held.clear()

    def arrive(self, now: datetime) -> None:
        """What is due by *now* is there. It waits while the folder is missing."""
        if not self._awaited or not self.exists():
            return
        for awaited in sorted((item for item in self._awaited if item.at <= now), key=lambda item: item.at):
            self._awaited.remove(awaited)
            if awaited.rest:
                self._complete(awaited)
            else:
                self.put(awaited.name, awaited.data, awaited.at)

    def _complete(self, awaited: Awaited) -> None:
        """A half file that was taken away meanwhile stays half."""
        file = self.path / awaited.name
        if file.exists():
            with file.open("ab") as growing:
                growing.write(awaited.data)
            _stamp(file, awaited.at)


def _stamp(file: Path, moment: datetime) -> None:
    os.utime(file, (moment.timestamp(), moment.timestamp()))
