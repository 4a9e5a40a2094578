"""Whether opt-outs keep coming: rules over Campaign's daily files, its workflow and its SFTP storage."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from d365_campaign.checks import Verdict
from d365_campaign.opt_out_changes import Export, OptOutSummary
from d365_campaign.opt_out_files import LONGEST_KEPT_DAYS, ExportSettings

WARN_SHARE, ERROR_SHARE = 0.8, 0.9
RUNNING = "started"
GIGABYTE = 10**9


def exports_fresh(latest: datetime, now: datetime, settings: ExportSettings, workflow: str | None) -> Verdict:
    """A daily file came in time; *latest* is when the last one did, or since when they are waited for."""
    late = now - latest > timedelta(hours=settings.hours_between + settings.grace_hours)
    hours = (now - latest).total_seconds() / 3600
    return Verdict(
        "exports_fresh",
        not late,
        f"The last daily opt-out file came {hours:.1f} hours ago; one is due every {settings.hours_between:g} hours."
        + (
            ""
            if not late
            else f" Opt-outs made in Campaign may be missed. Look at workflow '{workflow}' in Campaign, and restart "
            "it: d365-campaign opt-out restart-workflow"
        ),
        warn=settings.skips_empty,
        metadata={"hours": round(hours, 2)},
    )


def workflow_runs(state: str | None, workflow: str) -> Verdict:
    """The workflow that exports opt-outs is on; *state* is None where Campaign doesn't tell."""
    told = f"Workflow '{workflow}' is {state}." if state else f"Campaign doesn't tell the state of '{workflow}'."
    passed = state in (RUNNING, None)
    return Verdict(
        "workflow_runs",
        passed,
        told
        + (
            ""
            if passed
            else " While it is, no opt-out made in Campaign reaches Dynamics; after seven days Campaign gives it up. "
            "Find out why, then: d365-campaign opt-out restart-workflow"
        ),
    )


def workflow_unknown(reason: str) -> Verdict:
    """Campaign could not be asked for the workflow's state."""
    return Verdict("workflow_runs", False, reason)


def sftp_reachable(unreachable: str | None) -> Verdict:
    """Daily files could be looked for. Where they couldn't, opt-outs made in Dynamics still reach Campaign."""
    if unreachable is None:
        return Verdict("sftp_reachable", True, "The SFTP server was looked at.")
    return Verdict("sftp_reachable", False, f"{unreachable} No opt-out made in Campaign arrives until it is.")


def exports_readable(exports: Sequence[Export], hostile: Sequence[str]) -> Verdict:
    """No file was refused, cut, or lacks a time by which opt-outs are decided, and every row could be read."""
    told = [f"{export.name}: {fault}" for export in exports for fault in _faults(export)]
    if hostile:
        told.append(
            f"{len(hostile)} names that no file should have, for instance {hostile[0]!r}; they were not touched"
        )
    return Verdict(
        "exports_readable",
        not told,
        "Every daily file could be read." if not told else ". ".join(told) + ".",
        warn=not any(export.refused for export in exports),
        metadata={
            "refused": sum(export.refused is not None for export in exports),
            "unreadable": sum(export.unreadable for export in exports),
        },
    )


def _faults(export: Export) -> Sequence[str]:
    faults = [export.refused.rstrip(".")] if export.refused else []
    if export.cut:
        faults.append(
            "it ends in the middle of a row, so rows after it are missing. Upload it again as a whole, or let the "
            "workflow export the same days once more"
        )
    if export.unreadable and not export.refused:
        faults.append(
            f"{export.unreadable} rows can't be read; what Campaign says of their contacts is read live instead"
        )
    if export.stuck:
        faults.append(f"it was taken in and stays there: {export.stuck.rstrip('.')}")
    if export.missing:
        faults.append(f"it has no {', '.join(export.missing)}; without these times no opt-in made in Campaign wins")
    return faults


def sftp_capacity(used_bytes: int | None, quota_gigabytes: float | None) -> Verdict:
    """The SFTP storage has room; going over the licensed amount can impair Campaign itself."""
    if used_bytes is None:
        return Verdict("sftp_capacity", True, "How much is used is not known: the server was not looked at.", warn=True)
    used = f"{used_bytes / GIGABYTE:.2f} GB"
    if quota_gigabytes is None:
        return Verdict("sftp_capacity", True, f"{used} are used; sftp.quota_gigabytes says no limit.")
    share = used_bytes / (quota_gigabytes * GIGABYTE)
    passed = share < WARN_SHARE
    return Verdict(
        "sftp_capacity",
        passed,
        f"{used} of {quota_gigabytes:g} GB are used ({share:.0%})."
        + ("" if passed else " Delete old files there, or license more. Output logs are not written beyond 90 %."),
        warn=share < ERROR_SHARE,
        metadata={"used_bytes": used_bytes, "share": round(share, 4)},
    )


def has_room(used_bytes: int, quota_gigabytes: float | None) -> bool:
    """Whether so much may be used without coming near the licensed amount."""
    return quota_gigabytes is None or used_bytes < ERROR_SHARE * quota_gigabytes * GIGABYTE


def output_log_written(waiting: int, dropped: int, unreachable: str | None) -> Verdict:
    """Whatever runs did stands in a file on the SFTP server."""
    told = [unreachable] if unreachable else []
    if waiting:
        told.append(f"Of {waiting} runs no log file is written yet; a later run writes them.")
    if dropped:
        told.append(f"{dropped} rows waited for {LONGEST_KEPT_DAYS} days and were dropped.")
    words = " ".join(told) or "Every run has its log file."
    return Verdict("output_log_written", not told, words, warn=True, metadata={"waiting": waiting, "dropped": dropped})


def opt_ins(summary: OptOutSummary, limit: int) -> Verdict:
    """No more opt-outs are taken back at once than a person allowed: a mistake in one system must not undo them all."""
    passed = summary.opt_ins <= limit
    return Verdict(
        "opt_ins",
        passed,
        f"Opt-outs of {summary.opt_ins:,} people would be taken back; allowed are {limit:,} in one run."
        + (
            ""
            if passed
            else " None is; new opt-outs are written all the same. If it is meant, raise guardrails.max_opt_ins for "
            "a run."
        ),
        metadata={"opt_ins": summary.opt_ins},
    )


def opt_outs_agree(summary: OptOutSummary) -> Verdict:
    """Both systems say the same of everybody, as far as is known."""
    return Verdict(
        "opt_outs_agree",
        not summary.open,
        f"Of {summary.profiles:,} profiles, {summary.open:,} have an opt-out that is still to be written or verified"
        + (f"; {summary.held:,} are on privacy hold." if summary.held else "."),
        warn=True,
        metadata={"open": summary.open, "held": summary.held},
    )
