"""Both systems and the integration between them, in one process, with a point between any two of its steps.

A point is passed around every commit of the staging file, every file that is moved, and every call to either system.
Something may befall a run there: it is killed, or a person edits a record. Time stands still unless it is told to pass.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import duckdb

from d365_campaign.binding import BoundMapping, bind
from d365_campaign.changes import FoundRecord, Replay, RowOutcome, RowResult, RowUpdate
from d365_campaign.clients.campaign import CampaignClient
from d365_campaign.clients.dataverse import DataverseClient
from d365_campaign.clients.sftp import SftpArea, SftpLogin
from d365_campaign.clients.throttle import RetryPolicy
from d365_campaign.clients.tokens import TokenSource
from d365_campaign.clients.wire import WireSettings
from d365_campaign.errors import RetriableError
from d365_campaign.flows.apply import EngineCallBudget, Pace, apply
from d365_campaign.flows.deadline import Deadline
from d365_campaign.flows.exports import take_exports
from d365_campaign.flows.guards import Guards
from d365_campaign.flows.opt_outs import write_to_campaign, write_to_dynamics
from d365_campaign.flows.plan import plan, scan
from d365_campaign.flows.pull import pull
from d365_campaign.opt_out import OptOutDirection, OptOutPair, OptOuts
from d365_campaign.opt_out_files import ExportSettings, RemoteFile
from d365_campaign.sandbox import Sandbox
from d365_campaign.store.opt_outs import OptOutStore
from d365_campaign.store.staging import CONFIG, Staging
from d365_campaign.store.table_store import TableStore
from tests.crashes.run import credentials
from tests.mappings import contact_mapping
from tests.opt_outs.model import Journal

START = datetime(2031, 5, 1, 12, 0, tzinfo=UTC)
EXPORTS = ExportSettings(stable_seconds=2)
# What meets a person most often comes first: a pair that is asked the other way round, one whose time may be missing.
PAIRS = (
    OptOutPair(source="donotemail", target="blackListEmail"),
    OptOutPair(source="donotsendmm", target="blackListMobile", invert=True),
    OptOutPair(source="donotbulkemail", target="blackListPushnotification"),
)
RETRY = RetryPolicy(attempts=3, max_wait_seconds=5, first_wait_seconds=0.001, longest_wait_seconds=0.002)
WRITES = ("insert", "update", "delete", "truncate")


# By the number or the name of a point; it is told whom the point is about, if anybody.
Befalls = Mapping[int | str, Callable[[str | None], object]]
BEFORE_WRITE, AFTER_READ = "before {} is written", "after {} was read"
POINTS = [form.format(side) for side in ("a contact", "a profile") for form in (BEFORE_WRITE, AFTER_READ)]


class Killed(BaseException):
    """The process is gone, as far as the run can tell."""


class Course:
    """The points that a run passes, and what befalls it there."""

    def __init__(self) -> None:
        self.begin({})

    def begin(self, befalls: "Befalls") -> None:
        """A new process, to which *befalls* happen at the points of these numbers, or when one of this name is met."""
        self._befalls, self._passed, self.dead = dict(befalls), 0, False

    def point(self, name: str = "", key: str | None = None) -> None:
        if self.dead:
            raise Killed
        happenings = [self._befalls.pop(at, None) for at in (self._passed, name)]
        self._passed += 1
        for happening in happenings:
            if happening is not None:
                happening(key)

    def kill(self, key: str | None = None) -> None:
        self.dead = True
        raise Killed


class WatchedConnection:
    """The staging file's connection; what is not committed when the run is killed is rolled back as it closes."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, course: Course) -> None:
        self._connection, self._course, self._open = connection, course, False

    def execute(self, query: str, parameters: object = None) -> Any:
        durable = query == "commit" or (not self._open and query.startswith(WRITES))
        if durable:
            self._course.point()
        result = self._connection.execute(query, parameters)
        self._open = query == "begin" or (self._open and query not in ("commit", "rollback"))
        if durable:
            self._course.point()
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@dataclass
class WatchedSource:
    """Dynamics as it tells changes; the journal hears what we were told."""

    client: DataverseClient
    course: Course
    journal: Journal

    def changes(self, *arguments: Any) -> Iterator[Any]:
        return self._watched(self.client.changes(*arguments))

    def modified_since(self, *arguments: Any) -> Iterator[Any]:
        return self._watched(self.client.modified_since(*arguments))

    def _watched(self, pages: Iterator[Any]) -> Iterator[Any]:
        self.course.point()
        for page in pages:
            for row in page.rows.iter_rows(named=True):
                self.journal.told_by_dynamics(row["contactid"], row)
            yield page


@dataclass
class WatchedRows:
    """Dynamics as single contacts are read and written; 412s are counted."""

    rows: Any
    course: Course
    journal: Journal
    counts: Counter[str]

    def read(self, key: str) -> Mapping[str, object] | None:
        self.course.point()
        row: Mapping[str, object] | None = self.rows.read(key)
        if row is not None:
            self.journal.told_by_dynamics(key, row)
        self.course.point(AFTER_READ.format("a contact"), key)
        return row

    def update(self, updates: Sequence[RowUpdate]) -> Iterator[RowOutcome]:
        if updates:
            self.course.point(BEFORE_WRITE.format("a contact"), updates[0].key)
        for outcome in self.rows.update(updates):
            self.counts["412s"] += outcome.result is RowResult.STALE
            if outcome.row is not None:
                self.journal.told_by_dynamics(outcome.key, outcome.row)
            self.course.point()
            yield outcome


@dataclass
class WatchedTarget:
    """Campaign as single profiles are read and written; the journal hears what was read."""

    target: Any
    course: Course
    journal: Journal

    def read(self, key: str) -> FoundRecord | None:
        self.course.point()
        found: FoundRecord | None = self.target.read(key)
        self.journal.read_in_campaign(key)
        self.course.point(AFTER_READ.format("a profile"), key)
        return found

    def create(self, key: str, values: Mapping[str, object]) -> None:
        self._around(key, lambda: self.target.create(key, values))

    def update(self, key: str, found: FoundRecord, values: Mapping[str, object]) -> None:
        self._around(key, lambda: self.target.update(key, found, values))

    def delete(self, key: str) -> bool:
        return bool(self._around(key, lambda: self.target.delete(key)))

    def unit(self, link: str, name: str) -> object:
        return self.target.unit(link, name)

    def records(self, fields: Sequence[str]) -> Iterator[Any]:
        for page in self.target.records(fields):
            self.course.point()
            yield page

    def _around(self, key: str, call: Callable[[], object]) -> object:
        self.course.point(BEFORE_WRITE.format("a profile"), key)
        result = call()
        self.course.point()
        return result


@dataclass
class FolderArea:
    """The SFTP area without SSH, which would take longer than everything else."""

    root: Path
    hostile_names: Sequence[str] = ()

    def files(self, folder: str) -> Sequence[RemoteFile]:
        found = sorted(path for path in (self.root / folder).iterdir() if path.is_file())
        return [
            RemoteFile(p.name, p.stat().st_size, datetime.fromtimestamp(int(p.stat().st_mtime), UTC)) for p in found
        ]

    def has_folder(self, folder: str) -> bool:
        return (self.root / folder).is_dir()

    def download(self, folder: str, name: str, into: BinaryIO) -> None:
        into.write((self.root / folder / name).read_bytes())

    def upload(self, folder: str, name: str, content: bytes) -> None:
        (self.root / folder / name).write_bytes(content)

    def move(self, folder: str, name: str, to: str) -> None:
        (self.root / to).mkdir(exist_ok=True)
        (self.root / folder / name).replace(self.root / to / name)

    def delete(self, folder: str, name: str) -> None:
        (self.root / folder / name).unlink(missing_ok=True)

    def used_bytes(self, folder: str = ".") -> int:
        return sum(path.stat().st_size for path in (self.root / folder).rglob("*") if path.is_file())


class WatchedArea:
    """An area whose every call lies between two points."""

    def __init__(self, area: Any, course: Course) -> None:
        self._area, self._course = area, course

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._area, name)
        if not callable(member):
            return member

        def called(*arguments: Any) -> Any:
            self._course.point()
            result = member(*arguments)
            self._course.point()
            return result

        return called


class World:
    """One sandbox for many sequences. `begin` empties it, and chooses by what settings it goes on."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.sandbox, self.folder = sandbox, folder
        clock = sandbox.clock
        clock.now = lambda: START + clock._ahead  # type: ignore[method-assign]
        endpoints = sandbox.endpoints
        wire = WireSettings(ca_bundle=Path(endpoints["ca_bundle"]))
        dynamics, adobe = endpoints["credentials"]["dataverse"], endpoints["credentials"]["campaign"]
        self.dynamics = DataverseClient(
            endpoints["dataverse"],
            TokenSource("Dynamics", credentials(endpoints["dataverse_token_url"], dynamics), wire),
            retry=RETRY,
            wire=wire,
        )
        self.campaign = CampaignClient(
            endpoints["campaign_instance"],
            adobe["client_id"],
            TokenSource("Campaign", credentials(endpoints["ims_token_url"], adobe), wire),
            retry=RETRY,
            wire=wire,
        )
        # Few fields: what is proved here hangs on none of them.
        mapping = contact_mapping(fields=[{"source": "firstname", "target": "firstName"}])
        source, resource = self.dynamics.describe(mapping.source), self.campaign.describe(mapping.target)
        self.bounds: dict[OptOutDirection, BoundMapping] = {
            direction: bind(mapping, source, resource, (), OptOuts(direction, self.pairs_of(direction)))
            for direction in OptOutDirection
            if direction is not OptOutDirection.DISABLED
        }
        self.counts: Counter[str] = Counter()
        self.rules: Counter[str] = Counter()
        self.course = Course()
        self.journal = Journal(sandbox)
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._staging: Staging | None = None
        self._store: TableStore | None = None
        self._number = 0

    @staticmethod
    def pairs_of(direction: OptOutDirection) -> Sequence[OptOutPair]:
        """Those that are mapped among the fields have no inversion."""
        if direction is not OptOutDirection.DYNAMICS_TO_CAMPAIGN:
            return PAIRS
        return [OptOutPair(source=pair.source, target=pair.target) for pair in PAIRS]

    # --- a sequence

    def begin(self, direction: OptOutDirection, *, ssh: bool = False, **settings: Any) -> None:
        """Start anew: both systems and the staging file are empty."""
        self.end()
        self.sandbox.reset()
        self.sandbox.settings.update({"export_seconds": 0, **settings})
        self.direction, self.ssh = direction, ssh
        pairs = [(pair.source, pair.target, pair.invert) for pair in self.pairs_of(direction)]
        self.journal.begin(direction.value, pairs)
        self._number += 1
        self._path = self.folder / f"{self._number}.duckdb"
        self.course.begin({})
        self.counts["sequences"] += 1

    def end(self) -> None:
        """Count what was decided, and leave no file behind."""
        if self._store is not None:
            self.rules.update(self.opt_outs.decided_by_rule())
        self.close()
        if self._number:
            for path in self.folder.glob(f"{self._number}.duckdb*"):
                path.unlink()

    def close(self) -> None:
        """As a process ends, well or not."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._staging = self._store = None

    def open(self) -> None:
        """As a process begins; one whose beginning failed begins again."""
        if self._store is None:
            self.close()
            self._connection = duckdb.connect(str(self._path), config={**CONFIG, "threads": 1})
            self._connection.execute("pragma disable_optimizer")  # for a handful of rows it takes longer than it saves
            bound = self.bounds[self.direction]
            self._staging = Staging(WatchedConnection(self._connection, self.course))  # type: ignore[arg-type]
            self._store = self._staging.table(bound)
            self.target = WatchedTarget(
                self.campaign.target(bound.target, bound.mapping.key.target), self.course, self.journal
            )
            self.rows = WatchedRows(
                self.dynamics.rows(bound.source, bound.opt_out_columns), self.course, self.journal, self.counts
            )
            self.source = WatchedSource(self.dynamics, self.course, self.journal)

    @property
    def staging(self) -> Staging:
        assert self._staging is not None
        return self._staging

    @property
    def store(self) -> TableStore:
        assert self._store is not None
        return self._store

    @property
    def opt_outs(self) -> OptOutStore:
        assert self.store.opt_outs is not None
        return self.store.opt_outs

    # --- steps

    def step(self, names: Sequence[str], befalls: Befalls) -> bool:
        """Do these steps in one process, as far as it comes; whether it came to its end."""
        self.course.begin(befalls)
        try:
            self.open()
            for name in names:
                self.journal.begin_step()
                getattr(self, name)()
                self.journal.end_step()
        except Killed:
            self.counts["crashes"] += 1
            self.close()
            return False
        except RetriableError:
            self.counts["runs that a system failed"] += 1
            return False
        finally:
            self.course.begin({})
        return True

    def pull(self) -> None:
        pull(self.source, self.store, Deadline(None))  # type: ignore[arg-type]

    def files(self) -> None:
        if not self.direction.reads_exports:
            return
        exports = self.store.exports(EXPORTS)
        if not self.ssh:
            self._take(FolderArea(self.sandbox.sftp.root), exports)
            return
        at = self.sandbox.endpoints["sftp"]
        key = Path(at["private_key_file"]).read_text(encoding="utf-8")
        with SftpArea(SftpLogin(at["host"], at["user"], key, port=at["port"], host_key=at["host_key"])) as area:
            self._take(area, exports)

    def _take(self, area: Any, exports: Any) -> None:
        taken = take_exports(
            WatchedArea(area, self.course), exports, EXPORTS, self._path, sleep=self.sandbox.advance_clock
        )
        self.counts["files"] += len(taken.exports)
        for export in taken.exports:
            if export.refused is None:
                self.journal.took_file(export.name)

    def compare(self) -> None:
        scan(self.store, self.target)
        self.opt_outs.compare()

    def to_campaign(self) -> None:
        write_to_campaign(self.opt_outs, self.target, workers=1, deadline=Deadline(None))

    def to_dynamics(self) -> None:
        if self.direction.reads_exports:
            write_to_dynamics(self.opt_outs, self.rows, self.target, workers=1, deadline=Deadline(None))

    def sync(self) -> None:
        plan(self.store, self.target)
        apply(
            self.store,
            self.staging.ledger,
            self.target,
            pace=Pace(workers=1),
            budget=EngineCallBudget(),
            guards=Guards(),
            deadline=Deadline(None),
        )

    # --- what people and operators do

    def replay(self, mode: Replay) -> None:
        self.open()
        self.store.desk.request_replay(mode, limit=1000)

    def export_everything(self) -> None:
        """The workflow exports the same days once more."""
        self.sandbox.campaign.opt_out_export._last_run = ""
        self.sandbox.export_opt_outs()
