"""The demo's opt-outs: three people of the sandbox change their minds, each in another way, between its two syncs."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from d365_campaign.errors import SyncError
from d365_campaign.store.opt_out_person import value_words

# Between an opt-out and an edit that comes after it: opt-outs are decided in whole seconds.
A_WHILE_SECONDS = 1.1

# Method, path and body of an order to the sandbox; its answer.
Ask = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class OptOutStory:
    """Who did what: one opted out in Campaign, one in Dynamics, and of one both systems said something."""

    in_campaign: str
    in_dynamics: str
    contested: str

    def told(self, ask: Ask) -> Iterator[str]:
        """What both systems say in the end."""
        by_file = value_words(ask("GET", f"dataverse/contacts/{self.in_campaign}")["donotemail"])
        yield f"contact {self.in_campaign} opted out of e-mail in Campaign; by now Dynamics says {by_file}, too."
        by_call = value_words(ask("GET", f"campaign/profile?key={self.in_dynamics}")["blackListPhone"])
        yield f"contact {self.in_dynamics} opted out of phone in Dynamics; by now Campaign says {by_call}, too."
        yield (
            f"contact {self.contested} opted out of e-mail in Campaign, and was edited in Dynamics after that, where "
            "it had no opt-out. What became of it:"
        )


def change_minds(ask: Ask, changed: Mapping[str, Mapping[str, Sequence[str]]]) -> OptOutStory:
    """Let three people opt out whom nothing else happened to, and Campaign export what it knows by then."""
    story = OptOutStory(*_undecided(ask, {key for keys in changed["contacts"].values() for key in keys}))
    ask("PATCH", f"campaign/profile?key={story.in_campaign}", {"blackListEmail": True})
    ask("PATCH", f"campaign/profile?key={story.contested}", {"blackListEmail": True})
    ask("POST", "exports")
    time.sleep(A_WHILE_SECONDS)
    ask("PATCH", f"dataverse/contacts/{story.in_dynamics}", {"donotphone": True})
    ask("PATCH", f"dataverse/contacts/{story.contested}", {"department": "Sales"})
    return story


def _undecided(ask: Ask, involved: set[str]) -> Sequence[str]:
    """Three active contacts without any opt-out who are not *involved* in anything else."""
    rows = ask("GET", "dataverse/contacts?top=200")["value"]
    found = [
        row["contactid"]
        for row in rows
        if row["contactid"] not in involved and row["statecode"] == 0 and not (row["donotemail"] or row["donotphone"])
    ]
    if len(found) < 3:
        raise SyncError("the sandbox has too few contacts for the demo.")
    return found[:3]
