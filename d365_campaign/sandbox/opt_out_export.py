"""The workflow that exports opt-outs once per day: Scheduler, Incremental query, Extract file, Transfer file.

Source: "Best practices and limitations" (that there is such a file), "Incremental query", "Extract file", "Transfer
file", "Monitoring workflow execution". The query goes by `lastModified`, so a profile appears after any change, and
one that changed in the very moment of a run may appear twice.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .campaign_schema import OPT_OUT_EXPORT
from .clock import campaign_stamp
from .export_faults import ExportFault
from .export_file import file_bytes
from .export_folder import ExportFolder
from .fault_plan import FaultPlan

if TYPE_CHECKING:
    from .campaign_state import CampaignState

EXPORTS_FOLDER = "d365_loads/exports"
"""The customer makes it ("Connect systems with the integration app")."""


@dataclass(frozen=True, slots=True)
class Export:
    """One run that made a file."""

    name: str
    at: str
    profiles: int
    fault: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class OptOutExport:
    """Runs when somebody looks, as if it had run at its hour. To be called under the instance's lock."""

    def __init__(self, state: "CampaignState") -> None:
        self._state = state
        self.faults = FaultPlan[ExportFault]()
        self.folder: ExportFolder | None = None
        self.reset()

    def reset(self) -> None:
        self.made: list[Export] = []
        self.faults.clear()
        self._scheduled = self._state.clock.now()
        self._last_run = ""
        if self.folder is not None:
            self.folder.forget()

    def connect(self, root: Path) -> None:
        """Name the SFTP storage that files go to; without one nothing runs."""
        self.folder = ExportFolder(root / EXPORTS_FOLDER)

    def run_due(self) -> None:
        """Once for each hour that has come since the last look, then whatever was held back until now."""
        if self.folder is None:
            return
        now = self._state.clock.now()
        for moment in self._moments_until(now):
            self.run(moment)
        self.folder.arrive(now)

    def run(self, moment: datetime | None = None) -> str | None:
        """Export what changed since the last run, now or as of *moment*; the file's name.

        None when no file comes of it: the workflow isn't started, the storage has no folder for it, nothing changed
        and `export_skips_empty` is set, or the file is `lost`.
        """
        workflows, moment = self._state.workflow_runs, moment or self._state.clock.now()
        if self.folder is None or workflows.states.get(OPT_OUT_EXPORT) != "started":
            return None
        workflows.last_starts[OPT_OUT_EXPORT] = campaign_stamp(moment)
        if not self.folder.exists():
            # An error pauses a workflow ("Monitoring workflow execution"). This run's rows are left to the next.
            workflows.set_state(OPT_OUT_EXPORT, "paused")
            return None
        profiles = list(self._changed(campaign_stamp(moment)))
        self._last_run = campaign_stamp(moment)
        if not profiles and self._state.settings.export_skips_empty:
            return None
        return self._export(profiles, moment, self.faults.take())

    def _moments_until(self, now: datetime) -> Iterator[datetime]:
        period = timedelta(seconds=self._state.settings.export_seconds)
        while period > timedelta() and self._scheduled + period <= now:
            self._scheduled += period
            yield self._scheduled

    def _changed(self, until: str) -> Iterator[Mapping[str, Any]]:
        """Profiles changed from the last run on. Later changes than *until* are left to the next run."""
        since = self._last_run
        if self._state.settings.export_loses_stopped_time:
            since = max(since, self._state.workflow_runs.restarts.get(OPT_OUT_EXPORT, ""))
        for record in self._state.resource("profile").order:
            if since <= record.values["lastModified"] <= until:
                yield record.values

    def _export(self, profiles: list[Mapping[str, Any]], moment: datetime, fault: ExportFault | None) -> str | None:
        assert self.folder is not None
        kind = fault.kind if fault else ""
        name = self._free_name(moment)
        self.made.append(Export(name, campaign_stamp(moment), len(profiles), kind))
        data = file_bytes(profiles, self._state.settings, kind)
        if kind == "lost":
            return None
        if kind == "out_of_order":
            self.folder.hold(name, data)
            return name
        seconds = fault.seconds if fault else 0.0
        if kind == "late":
            self.folder.put_later(name, data, moment + timedelta(seconds=seconds))
        elif kind == "uploading":
            self.folder.put_slowly(name, data, moment, seconds)
        else:
            self.folder.put(name, data, moment)
        if kind == "duplicate":
            self.folder.put(self._free_name(moment), data, moment)
        self.folder.release(moment)
        return name

    def _free_name(self, moment: datetime) -> str:
        """Each file's own, by the second; the next free second when two would share one."""
        assert self.folder is not None
        ending = ".csv.gz" if self._state.settings.export_gzip else ".csv"
        while (name := f"optout_{moment:%Y%m%d_%H%M%S}{ending}") in self.folder.names:
            moment += timedelta(seconds=1)
        self.folder.names.add(name)
        return name
