"""What a preflight says: a finding about one thing, and what to do about it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from d365_campaign.errors import SyncError

T = TypeVar("T")
Judgement = Literal["fine", "warning", "wrong"]
# By the rule for errors: what happened comes first, what to do about it last.
SENTENCES = re.compile(r"(?<=[.)]) (?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Finding:
    """What holds for one *subject* of a system or a table (*area*). Only what is wrong would stop a run.

    *fix* is empty where there is nothing to do.
    """

    area: str
    subject: str
    verdict: Judgement
    words: str
    fix: str = ""


def fine(area: str, subject: str, words: str) -> Finding:
    return Finding(area, subject, "fine", words)


def warning(area: str, subject: str, words: str, fix: str) -> Finding:
    return Finding(area, subject, "warning", words, fix)


def wrong(area: str, subject: str, words: str, fix: str) -> Finding:
    return Finding(area, subject, "wrong", words, fix)


def in_two(said: str, otherwise: str) -> tuple[str, str]:
    """What was *said* without its last sentence, and that sentence as the fix; *otherwise* where there is only one."""
    *before, last = SENTENCES.split(said)
    return (" ".join(before), last) if before else (last, otherwise)


def tried(probe: Callable[[], T], area: str, subject: str, otherwise: str) -> T | Finding:
    """What the *probe* brings, or its error as what is wrong; *otherwise* is the fix of an error that names none."""
    try:
        return probe()
    except SyncError as error:
        return wrong(area, subject, *in_two(str(error), otherwise))
