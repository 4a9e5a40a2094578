"""What a preflight says: a finding about one thing, and what to do about it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from d365_campaign.errors import SyncError

T = TypeVar("T")
Judgement = Literal["fine", "warning", "wrong"]
# By the rule for errors: the first sentence says what happened, the rest what to do about it.
SENTENCES = re.compile(r"(?<=\.) (?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Finding:
    """What holds for one *subject* of a system or a table (*area*).

    What is wrong would stop a run, or must not be run as it is. *fix* is empty where there is nothing to do.
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
    """The first sentence of what was *said*, and the others as the fix; *otherwise* where there are none."""
    words, *fix = SENTENCES.split(said, maxsplit=1)
    return words, fix[0] if fix else otherwise


def tried(probe: Callable[[], T], area: str, subject: str, otherwise: str) -> T | Finding:
    """What the *probe* brings, or its error as what is wrong; *otherwise* is the fix of an error that names none."""
    try:
        return probe()
    except SyncError as error:
        return wrong(area, subject, *in_two(str(error), otherwise))
