"""People in both systems: a test lets them opt out and in, here and there, and looks at what came of it.

The sandbox's clock moves on with each edit, so that one is later than another by whole seconds.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import duckdb
import pytest

from d365_campaign.mapping import TableMapping
from d365_campaign.sandbox import Sandbox
from tests.integration import Integration
from tests.mappings import contact_mapping

# A yes/no column of the contact for each of Campaign's opt-outs.
PAIRS: Mapping[str, str] = {
    "donotsendmm": "blackList",
    "donotemail": "blackListEmail",
    "donotfax": "blackListFax",
    "donotbulkemail": "blackListMobile",
    "donotphone": "blackListPhone",
    "donotpostalmail": "blackListPostalMail",
    "donotbulkpostalmail": "blackListPushnotification",
    "new_ccpaoptout": "ccpaOptOut",
}
COLUMNS: Mapping[str, str] = {opt_out: column for column, opt_out in PAIRS.items()}
EMAIL: Mapping[str, str] = {"donotemail": "blackListEmail"}
EMAIL_AND_PHONE: Mapping[str, str] = {"donotemail": "blackListEmail", "donotphone": "blackListPhone"}
WRITES = ("POST", "PATCH", "DELETE")
# So far apart are two edits.
SECONDS = 2


def contacts_with(*fields: Mapping[str, Any], **rules: Any) -> Sequence[TableMapping]:
    """Contacts with a last name, a phone and *fields*."""
    name, phone = {"source": "lastname", "target": "lastName"}, {"source": "telephone1", "target": "phone"}
    return [contact_mapping(fields=[name, phone, *fields], **rules)]


def contact(sandbox: Sandbox, **values: Any) -> str:
    """The key of a new contact."""
    return str(sandbox.dataverse.create("contact", {"lastname": "Lovelace", **values}))


def kept_both_ways(integration: Integration) -> Integration:
    """The same with opt-outs by e-mail and by phone kept in step in both directions."""
    integration.tables = contacts_with()
    integration.keep_opt_outs("bidirectional", EMAIL_AND_PHONE)
    return integration


# --- edits ------------------------------------------------------------------------------------------------------------


def in_dynamics(sandbox: Sandbox, key: str, **values: Any) -> None:
    """Somebody edits the contact, later than whatever happened before."""
    sandbox.advance_clock(SECONDS)
    sandbox.dataverse.update("contact", key, values)


def in_campaign(sandbox: Sandbox, key: str, **values: Any) -> None:
    """Somebody edits the profile, later than whatever happened before; each opt-out is stamped, changed or not."""
    sandbox.advance_clock(SECONDS)
    stamped = {name: not value for name, value in values.items() if name in COLUMNS}
    sandbox.campaign.update("profile", key, stamped)
    sandbox.campaign.update("profile", key, values)


def within_one_second(sandbox: Sandbox, *edits: Callable[[], object]) -> None:
    """Make all *edits* in the same second of the sandbox's clock; again from the first, where it was too slow."""
    while True:
        sandbox.advance_clock(1 - sandbox.clock.seconds() % 1)
        second = int(sandbox.clock.seconds())
        for edit in edits:
            edit()
        if int(sandbox.clock.seconds()) == second:
            return


def at_the_moment_of(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, system: str, method: str, path: str, edit: Callable[[], object]
) -> None:
    """Have *edit* made, once, when the next such request arrives: after whatever was decided before it was sent."""
    take, waiting = sandbox.faults.take, [edit]

    def with_edit(asked: str, verb: str, address: str, in_batch: bool = False) -> Any:
        if waiting and not in_batch and (asked, verb) == (system, method) and path in address:
            waiting.pop()()
        return take(asked, verb, address, in_batch)

    monkeypatch.setattr(sandbox.faults, "take", with_edit)


# --- what both systems hold, and who was written ----------------------------------------------------------------------


def profile(sandbox: Sandbox, key: str) -> dict[str, Any]:
    found = sandbox.campaign.find("profile", "externalId", key)
    assert found is not None
    return found


def both(sandbox: Sandbox, key: str, opt_out: str = "blackListEmail") -> tuple[bool, bool]:
    """What Campaign and Dynamics hold of one opt-out."""
    return profile(sandbox, key)[opt_out], sandbox.dataverse.get("contact", key)[COLUMNS[opt_out]]


def written_to_campaign(sandbox: Sandbox) -> list[list[str]]:
    """The fields of each insert and update, in order."""
    return [sorted(call.fields) for call in sandbox.calls("campaign") if call.method in WRITES]


def opt_outs_written(sandbox: Sandbox) -> set[str]:
    """The opt-outs that any write to Campaign named."""
    return {name for fields in written_to_campaign(sandbox) for name in fields if name in COLUMNS}


def written_to_dynamics(sandbox: Sandbox, key: str, since: int) -> list[list[str]]:
    """The columns of each write to a contact since a row version, whoever made it."""
    table = sandbox.dataverse.table("contact")
    return [
        sorted(table.columns[at].name for at in positions or ())
        for version, positions in table.touched.get(key, ())
        if version > since
    ]


def requests_to_dynamics(sandbox: Sandbox) -> list[str]:
    """The requests that may have written something there."""
    return [call.path for call in sandbox.calls("dataverse") if call.method in WRITES]


def decisions(integration: Integration, key: str) -> list[dict[str, Any]]:
    """What was kept of each decision on this person, oldest first."""
    with duckdb.connect(str(integration.staging)) as connection:
        found = connection.execute(
            'select * from "opt-outs".decision where key = $1 order by decided_at, attribute', [key]
        )
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


# --- runs -------------------------------------------------------------------------------------------------------------


def exported_and_synced(integration: Integration) -> None:
    """Campaign exports what changed, and a run goes by it."""
    integration.sandbox.advance_clock(SECONDS)
    assert integration.sandbox.export_opt_outs()
    integration.sync()


def assert_settled(integration: Integration) -> None:
    """Nothing echoes: with what was written exported and read back, nobody is written again or even looked at."""
    sandbox = integration.sandbox
    sandbox.clear_calls()
    exported_and_synced(integration)
    assert sandbox.engine_calls()["total"] == 0
    assert requests_to_dynamics(sandbox) == []
