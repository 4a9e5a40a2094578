"""Write what runs did to log files on the SFTP server, as far as there is room."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from d365_campaign.flows.ports import FileArea
from d365_campaign.opt_out_checks import has_room
from d365_campaign.opt_out_files import LONGEST_KEPT_DAYS
from d365_campaign.settings import SftpSettings
from d365_campaign.store.output_log import OutputLog

NAMES = "d365_campaign_*.csv"
DELIMITER = ";"


@dataclass
class LogsWritten:
    """Names of the *files* that were written, with so many *rows*; runs whose rows are *waiting* for room or for the
    server, and rows that were *dropped* because they had waited for too long.

    *used_bytes* is what all files of the server take, with those that there was no room for; None before it was asked.
    """

    files: list[str] = field(default_factory=list)
    rows: int = 0
    waiting: int = 0
    dropped: int = 0
    used_bytes: int | None = None


def give_up_old_rows(log: OutputLog, now: datetime) -> LogsWritten:
    """What the server would not be meant for any more is not kept here either."""
    dropped = log.drop_before(now - timedelta(days=LONGEST_KEPT_DAYS))
    return LogsWritten(dropped=dropped, waiting=len(log.runs()))


def write_output_logs(
    area: FileArea, log: OutputLog, settings: SftpSettings, keep_days: int, now: datetime, so_far: LogsWritten
) -> None:
    """A file for each run whose rows wait; what is older than *keep_days* there, and ours, is deleted first.

    *so_far* takes up what is done, so it is known after an error too.
    """
    area.make_folder(settings.logs_folder)
    _clean_up(area, settings.logs_folder, now - timedelta(days=keep_days))
    so_far.used_bytes = area.used_bytes()
    for run_id, began in log.runs():
        rows = log.of(run_id)
        content = rows.write_csv(separator=DELIMITER).encode()
        so_far.used_bytes += len(content)
        if not has_room(so_far.used_bytes, settings.quota_gigabytes):
            return
        # A name of its own and always the same: a file that was written by a run that was killed is written over.
        name = f"d365_campaign_{began:%Y%m%d_%H%M%S}_{run_id}.csv"
        area.upload(settings.logs_folder, name, content)
        log.drop(run_id)
        so_far.files.append(name)
        so_far.rows += rows.height
        so_far.waiting -= 1


def _clean_up(area: FileArea, folder: str, oldest: datetime) -> None:
    for file in area.files(folder):
        if fnmatchcase(file.name, NAMES) and file.modified_at < oldest:
            area.delete(folder, file.name)
