"""What stands in the way of opt-outs: their pairs, Campaign's workflow, and the SFTP area its daily files come by.

Nothing is written anywhere: of the SFTP area, folders are listed over one connection.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Protocol

from d365_campaign import opt_out_checks as checks
from d365_campaign.binding import opt_out_faults
from d365_campaign.checks import Verdict
from d365_campaign.config import Configuration
from d365_campaign.errors import SyncError
from d365_campaign.flows.exports import PROCESSED
from d365_campaign.flows.findings import Finding, fine, in_two, tried, warning, wrong
from d365_campaign.opt_out import GLOBAL, OptOuts
from d365_campaign.opt_out_files import ExportSettings, RemoteFile
from d365_campaign.schemas import SourceTable, TargetResource
from d365_campaign.settings import OptOutSettings

AREA = "Opt-outs"
PAIRS, WORKFLOW, STORAGE = "pairs", "workflow", "SFTP"
TRY_AGAIN = "Check sftp.host, sftp.port and the network in between, then try again."


class WorkflowProbe(Protocol):
    """Campaign, as far as its workflows are looked at."""

    def workflow_state(self, workflow: str) -> str | None: ...


class Folders(Protocol):
    """The SFTP area, as far as it is looked at."""

    @property
    def hostile_names(self) -> Sequence[str]: ...
    def files(self, folder: str) -> Sequence[RemoteFile]: ...
    def has_folder(self, folder: str) -> bool: ...
    def used_bytes(self, folder: str = ".") -> int: ...


class Storage(Protocol):
    """The SFTP area before it is connected to; *command* is what a person types to log in."""

    @property
    def command(self) -> str: ...
    def connect(self) -> AbstractContextManager[Folders]: ...


def look_at_opt_outs(
    configuration: Configuration, campaign: WorkflowProbe | None, find_storage: Callable[[], Storage] | None
) -> list[Finding]:
    """What holds for the workflow and its files; nothing where opt-outs aren't kept in step.

    *campaign* is None where it doesn't answer. The storage raises SyncError where there is nothing to connect with.
    """
    chosen = configuration.settings.opt_outs
    if not configuration.opt_outs.pairs:
        return []
    findings = [_direction(configuration.opt_outs), *_intent(chosen, configuration.opt_outs)]
    if not chosen.direction.reads_exports:
        return findings
    if campaign is not None:
        findings.append(_workflow(campaign, str(chosen.workflow)))
    if find_storage is not None:
        findings += _storage(configuration, find_storage)
    return findings


def pairs_fit(opt_outs: OptOuts, source: SourceTable | None, target: TargetResource | None) -> Iterator[Finding]:
    """Whether both systems have what is paired, and Campaign tells when it changed."""
    if not opt_outs.pairs or source is None or target is None:
        return
    faults = list(opt_out_faults(opt_outs, source, target))
    for fault in faults:
        yield wrong(AREA, PAIRS, *in_two(fault, "Correct the pair, or add it to the system."))
    if faults:
        return
    yield fine(AREA, PAIRS, f"each column and its opt-out are there, and yes/no on both sides ({len(opt_outs.pairs)}).")
    timeless = [
        pair.target
        for pair in opt_outs.pairs
        if not any(stamp in target.fields for stamp in opt_outs.stamps(pair.target))
    ]
    if timeless and opt_outs.direction.reads_exports:
        yield warning(
            AREA,
            PAIRS,
            f"this instance doesn't tell when {', '.join(timeless)} changed, so no opt-in made in Campaign wins there.",
            "Live with it, or ask Adobe for the attribute; opt-outs are safe either way.",
        )


def _direction(opt_outs: OptOuts) -> Finding:
    pairs = ", ".join(f"{pair.source} = {pair.target}" for pair in opt_outs.pairs)
    return fine(AREA, "direction", f"{opt_outs.direction}: {pairs}.")


def _intent(chosen: OptOutSettings, opt_outs: OptOuts) -> Iterator[Finding]:
    """What only people can know: that an opt-out stops what it ought to, and nothing else."""
    accepted = chosen.global_opt_out_accepted
    if accepted is not None and GLOBAL in {pair.target for pair in opt_outs.pairs}:
        yield warning(
            AREA,
            "global opt-out",
            f"'{GLOBAL}' stops every message, order confirmations too; {accepted.by} accepted that on {accepted.on}.",
            "Look at Campaign's typology rules again whenever they change.",
        )
    yield warning(
        AREA,
        "typology rules",
        "which messages an opt-out stops is up to Campaign's typology rules, and can't be looked at from here.",
        "Review them, for transactional messages too, before opt-outs are switched on.",
    )


def _workflow(campaign: WorkflowProbe, workflow: str) -> Finding:
    state = tried(lambda: campaign.workflow_state(workflow), AREA, WORKFLOW, "Check opt_outs.workflow.")
    if isinstance(state, Finding):
        return state
    verdict = checks.workflow_runs(state, workflow)
    if state is None:
        return warning(AREA, WORKFLOW, verdict.description, "Look at it in Campaign.")
    return _finding(WORKFLOW, verdict, "Look at it in Campaign.")


def _storage(configuration: Configuration, find: Callable[[], Storage]) -> Iterator[Finding]:
    try:
        storage = find()
        with storage.connect() as folders:
            yield fine(AREA, STORAGE, "it can be reached, has the pinned host key, and accepts our key.")
            yield from _folders(folders, configuration.settings.opt_outs.exports, storage.command)
            quota = configuration.settings.sftp.quota_gigabytes if configuration.settings.sftp else None
            verdict = checks.sftp_capacity(folders.used_bytes(), quota)
            yield _finding("SFTP capacity", verdict, "Set sftp.quota_gigabytes to what is licensed.")
    except SyncError as error:
        words, fix = in_two(str(error), TRY_AGAIN)
        yield wrong(AREA, STORAGE, f"unable to look at it: {words}", fix)


def _folders(folders: Folders, settings: ExportSettings, command: str) -> Iterator[Finding]:
    subject, folder = "exports folder", settings.folder
    if not folders.has_folder(folder):
        yield wrong(
            AREA,
            subject,
            f"there is no folder {folder} on the SFTP server; you make it.",
            _make_folder(folder, command),
        )
        return
    waiting = [file for file in folders.files(folder) if settings.takes(file.name)]
    hostile = list(folders.hostile_names)
    yield fine(AREA, subject, f"{folder} is there; files that wait to be read: {len(waiting)}.")
    if hostile:
        yield warning(
            AREA,
            subject,
            f"{len(hostile)} names there are such as no file should have, for instance {hostile[0]!r}.",
            "Find out who put them there, and delete them; they are never touched.",
        )
    yield from _processed(folders, settings)


def _processed(folders: Folders, settings: ExportSettings) -> Iterator[Finding]:
    """Whether what was read leaves the server in time."""
    subject, folder = "processed files", f"{settings.folder}/{PROCESSED}"
    if not folders.has_folder(folder):
        return
    files = folders.files(folder)
    oldest = datetime.now(UTC) - timedelta(days=settings.keep_days)
    if late := [file for file in files if file.modified_at < oldest]:
        yield warning(
            AREA,
            subject,
            f"{len(late)} files in {folder} are older than {settings.keep_days} days (opt_outs.exports.keep_days).",
            "The next run deletes them; where it doesn't, give the SFTP user the right to.",
        )
    else:
        yield fine(AREA, subject, f"{len(files)} in {folder}, none older than {settings.keep_days} days.")


def _make_folder(folder: str, command: str) -> str:
    """What to type; folders on the way that are there already do no harm."""
    parts = folder.strip("/").split("/")
    paths = ["/".join(parts[: number + 1]) for number in range(len(parts))]
    orders = "\\n".join(f"-mkdir {path}" for path in paths)
    return f"printf -- '{orders}\\n' | {command.replace('sftp ', 'sftp -b - ', 1)}"


def _finding(subject: str, verdict: Verdict, otherwise: str) -> Finding:
    if verdict.passed:
        return fine(AREA, subject, verdict.description)
    return (warning if verdict.warn else wrong)(AREA, subject, *in_two(verdict.description, otherwise))
