"""Whether both systems hold the same, and no token strayed."""

from collections.abc import Mapping
from typing import Any

from d365_campaign.sandbox import Sandbox

PASSING = {"PKey", "href", "created", "lastModified", "cryptedId", "acsId", "title"}


def profiles(sandbox: Sandbox) -> list[Mapping[str, Any]]:
    """What Campaign holds, without what differs between two instances."""
    records = [
        {name: value for name, value in record.items() if name not in PASSING and not isinstance(value, dict)}
        | {"location": record["location"]}
        for record in sandbox.campaign.records("profile")
    ]
    return sorted(records, key=lambda record: (record["externalId"], record["email"]))


def assert_in_step(sandbox: Sandbox, others: int = 0) -> None:
    """Every contact is one profile with the same values; beside them stand *others* that are not ours."""
    expected = {
        row["contactid"]: (row["firstname"] or "", row["lastname"] or "", (row["emailaddress1"] or "").lower())
        for row in sandbox.dataverse.rows("contact")
    }
    held = [p for p in profiles(sandbox) if p["externalId"]]
    assert sorted(p["externalId"] for p in held) == sorted(expected), "a record is lost or doubled"
    assert {p["externalId"]: (p["firstName"], p["lastName"], p["email"]) for p in held} == expected
    assert len(profiles(sandbox)) == len(expected) + others


def assert_no_token_strayed(sandbox: Sandbox) -> None:
    """A token that one system has seen was never shown to another, nor under another host."""
    seen = {system: {c.token for c in sandbox.calls(system) if c.token} for system in ("dataverse", "campaign")}
    assert not seen["dataverse"] & seen["campaign"]
    for system in ("dataverse", "campaign"):
        own = sandbox.endpoints[system].split("/")[2]
        assert {call.host for call in sandbox.calls(system) if call.token} <= {own}
