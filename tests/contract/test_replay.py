"""The rules of the integration contract on replay, rejects and schema changes, end to end.

Each test names the rules it shows. A person asks at the desk, as the commands do; the next sync does it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import duckdb
import pytest

from d365_campaign.changes import Cause, Replay
from d365_campaign.errors import ConfigurationError
from d365_campaign.sandbox import Sandbox
from d365_campaign.sandbox.campaign_schema import PROFILE
from d365_campaign.sandbox.dataverse_schema import CONTACT
from d365_campaign.store.desk import TableDesk
from d365_campaign.store.staging import open_staging
from tests.agreement import assert_in_step
from tests.integration import Integration
from tests.mappings import contact_mapping, purchase_mapping

LIMIT = 2_000_000


@contextmanager
def desk(integration: Integration, table: str = "contact") -> Iterator[TableDesk]:
    with open_staging(integration.staging) as file:
        yield file.desk(table)


def ask_for_replay(integration: Integration, mode: Replay = Replay.DIFFERENCES) -> None:
    with desk(integration) as asked:
        asked.request_replay(mode, LIMIT)


def sentence(integration: Integration, key: str, table: str = "contact") -> str:
    with desk(integration, table) as asked:
        return asked.trace(key).sentence


def profile(sandbox: Sandbox, key: str) -> dict[str, Any]:
    found = sandbox.campaign.find("profile", "externalId", key)
    assert found is not None
    return found


def edit_in_campaign(sandbox: Sandbox, key: str, **values: Any) -> None:
    sandbox.campaign.update("profile", profile(sandbox, key)["PKey"], values)


def full_reads(sandbox: Sandbox) -> int:
    """How often all contacts were asked for, from the first on."""
    asked = [call.query for call in sandbox.calls("dataverse") if call.path.endswith("/contacts")]
    return len([query for query in asked if "token" not in query and "filter" not in query])


# --- replay ---------------------------------------------------------------------------------------------------------


def test_replay_waits_for_the_next_run_and_happens_once(sandbox: Sandbox, integration: Integration) -> None:
    """R87."""
    sandbox.seed(contacts=5)
    integration.sync()
    sandbox.clear_calls()
    ask_for_replay(integration)
    ask_for_replay(integration)
    assert sandbox.calls() == []
    with desk(integration) as asked:
        assert asked.replay_requested is Replay.DIFFERENCES
    integration.sync()
    assert full_reads(sandbox) == 1
    with desk(integration) as asked:
        assert asked.replay_requested is None
    integration.sync()
    assert full_reads(sandbox) == 1


def test_replay_that_is_withdrawn_does_not_happen(sandbox: Sandbox, integration: Integration) -> None:
    """R87."""
    sandbox.seed(contacts=5)
    integration.sync()
    ask_for_replay(integration, Replay.FORCED)
    with desk(integration) as asked:
        asked.withdraw_replay()
    sandbox.clear_calls()
    assert integration.sync()["engine_calls"] == 0
    assert full_reads(sandbox) == 0


def test_replay_costs_nothing_where_nothing_differs(sandbox: Sandbox, integration: Integration) -> None:
    """R87: and what was edited in Campaign by hand is not known to differ."""
    keys = sandbox.seed(contacts=5)
    integration.sync()
    edit_in_campaign(sandbox, keys[0], lastName="By hand")
    sandbox.clear_calls()
    ask_for_replay(integration)
    assert integration.sync()["engine_calls"] == 0
    assert sandbox.engine_calls()["total"] == 0
    assert profile(sandbox, keys[0])["lastName"] == "By hand"


def test_forced_replay_looks_at_every_record_and_puts_right_what_was_edited_by_hand(
    sandbox: Sandbox, integration: Integration
) -> None:
    """R87: a call for each that is identical, two for the one that isn't; nothing is sent twice."""
    keys = sandbox.seed(contacts=6)
    integration.sync()
    edit_in_campaign(sandbox, keys[2], lastName="By hand")
    sandbox.clear_calls()
    ask_for_replay(integration, Replay.FORCED)
    done = integration.sync()
    assert sandbox.engine_calls() == {"insert": 0, "update_read": 6, "update": 1, "delete": 0, "total": 7}
    assert (done["updated"], done["identical"], done["engine_calls"]) == (1, 5, 7)
    assert_in_step(sandbox)
    assert integration.sync()["engine_calls"] == 0


def test_forced_replay_restores_what_was_deleted_in_campaign_by_hand(
    sandbox: Sandbox, integration: Integration
) -> None:
    keys = sandbox.seed(contacts=3)
    integration.sync()
    sandbox.campaign.delete("profile", profile(sandbox, keys[0])["PKey"])
    ask_for_replay(integration, Replay.FORCED)
    integration.sync()
    assert_in_step(sandbox)


def test_forced_replay_that_the_budget_interrupts_goes_on_where_it_was(
    sandbox: Sandbox, integration: Integration
) -> None:
    keys = sandbox.seed(contacts=6)
    integration.sync()
    for key in keys:
        edit_in_campaign(sandbox, key, lastName="By hand")
    integration.set("engine_calls", daily_budget=1 + 6 + 4)  # the scan, the inserts, two updates
    ask_for_replay(integration, Replay.FORCED)
    done = integration.sync()
    assert (done["updated"], done["backlog"], done["stopped_by"]) == (2, 4, "budget")
    integration.set("engine_calls", daily_budget=1000)
    sandbox.clear_calls()
    assert integration.sync()["updated"] == 4
    assert sandbox.engine_calls()["total"] == 8
    assert_in_step(sandbox)


def test_replay_sends_a_field_that_later_changes_leave_alone(sandbox: Sandbox, integration: Integration) -> None:
    """R83: asked for twice, sent once; the trace says what waits for it."""
    title = {"source": "jobtitle", "target": "cusJobTitle", "apply_updates": False}
    integration.tables = [contact_mapping(fields=[{"source": "lastname", "target": "lastName"}, title])]
    key = sandbox.dataverse.create("contact", {"lastname": "Lovelace", "jobtitle": "Countess"})
    integration.sync()
    sandbox.dataverse.update("contact", key, {"jobtitle": "Engineer"})
    integration.sync()
    assert profile(sandbox, key)["cusJobTitle"] == "Countess"
    assert "cusJobTitle differs, and is sent by a replay only" in sentence(integration, key)
    ask_for_replay(integration)
    assert integration.sync()["updated"] == 1
    assert profile(sandbox, key)["cusJobTitle"] == "Engineer"
    assert sentence(integration, key).endswith(" UTC.")


@pytest.mark.parametrize(("limit", "refused"), [(6, False), (5, True)])
def test_replay_of_too_large_a_table_is_refused(
    sandbox: Sandbox, integration: Integration, limit: int, refused: bool
) -> None:
    """R88: from the limit on; 2,000,000 by default (tests/store/test_desk.py holds both sides of it)."""
    sandbox.seed(contacts=5)
    integration.sync()
    with desk(integration) as asked:
        if refused:
            with pytest.raises(ConfigurationError, match=r"5 records; from 5 on .*guardrails\.max_replay_records"):
                asked.request_replay(Replay.FORCED, limit)
        else:
            asked.request_replay(Replay.FORCED, limit)
    assert integration.sync()["engine_calls"] == (0 if refused else 5)


def test_replay_is_refused_where_too_much_waits_already(sandbox: Sandbox, integration: Integration) -> None:
    """R88: by the backlog alone; the table in Dynamics is empty."""
    keys = sandbox.seed(contacts=5)
    integration.sync()
    for key in keys:
        sandbox.dataverse.delete("contact", key)
    integration.plan()
    with desk(integration) as asked, pytest.raises(ConfigurationError, match="5 changes in its backlog; from 5 on"):
        asked.request_replay(Replay.DIFFERENCES, 5)


# --- schemas that change --------------------------------------------------------------------------------------------


def cursor(integration: Integration) -> Sequence[Any]:
    with duckdb.connect(str(integration.staging)) as connection:
        return connection.execute("select * from main.reading").fetchall()


def shorten_first_name(sandbox: Sandbox) -> str:
    changed = tuple(replace(a, length=12) if a.name == "firstName" else a for a in PROFILE.attributes)
    sandbox.campaign.register(replace(PROFILE, attributes=changed))
    return "profile.firstName was string(30)"


def turn_birthdate_into_a_moment(sandbox: Sandbox) -> str:
    changed = tuple(replace(c, date_only=False) if c.name == "birthdate" else c for c in CONTACT.columns)
    sandbox.dataverse.register(replace(CONTACT, columns=changed))
    return "contact.birthdate was date and is datetime"


@pytest.mark.parametrize("publish", [shorten_first_name, turn_birthdate_into_a_moment])
def test_schema_that_changes_between_two_runs_stops_the_table_until_it_is_accepted(
    sandbox: Sandbox, integration: Integration, publish: Any
) -> None:
    """R89: a clear reason, the delta link unmoved, nothing read or written."""
    key = sandbox.dataverse.create("contact", {"firstname": "Ada", "lastname": "Byron"})
    integration.sync()
    before = cursor(integration)
    sandbox.dataverse.update("contact", key, {"lastname": "Lovelace"})
    reason = publish(sandbox)
    sandbox.clear_calls()
    for _ in range(2):
        said = integration.fail()
        assert reason in said
        assert "d365-campaign accept-schema contact" in said
    assert cursor(integration) == before
    assert {call.method for call in sandbox.calls("campaign")} == {"GET"}
    assert not [call for call in sandbox.calls("dataverse") if call.path.endswith("/contacts")]
    with desk(integration) as asked:
        asked.accept_schema()
    integration.sync()
    assert profile(sandbox, key)["lastName"] == "Lovelace"
    assert integration.sync()["engine_calls"] == 0


def test_columns_that_are_not_mapped_may_change(sandbox: Sandbox, integration: Integration) -> None:
    """R89: what no mapping looks at stops nothing."""
    sandbox.seed(contacts=3)
    integration.sync()
    changed = tuple(replace(a, length=5) if a.name == "salutation" else a for a in PROFILE.attributes)
    sandbox.campaign.register(replace(PROFILE, attributes=changed))
    assert integration.sync()["engine_calls"] == 0


# --- rejects --------------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(sandbox: Sandbox, integration: Integration) -> str:
    """A contact whose e-mail address Campaign refuses."""
    sandbox.settings.update({"email_check": True})
    key = sandbox.dataverse.create("contact", {"lastname": "Byron", "emailaddress1": "not an address"})
    sandbox.seed(contacts=3)
    done = integration.sync()
    assert (done["inserted"], done["refused"]) == (3, 1)
    return str(key)


def test_refused_record_is_listed_with_its_reason_and_sent_again_on_request(
    sandbox: Sandbox, integration: Integration, refused: str
) -> None:
    """It rests and costs nothing, until someone put right in Campaign what was wrong there."""
    with desk(integration) as asked:
        [reject] = asked.rejects()
    assert (reject.key, reject.cause, reject.attempts, reject.resting) == (refused, Cause.REFUSED, 1, True)
    assert "not an address" not in reject.reason
    assert sentence(integration, refused).startswith("Refused: ")
    sandbox.clear_calls()
    assert integration.sync()["engine_calls"] == 0
    sandbox.settings.update({"email_check": False})
    with desk(integration) as asked:
        assert asked.retry().woken == [refused]
    assert integration.sync()["inserted"] == 1
    with desk(integration) as asked:
        assert asked.rejects() == []
    assert sentence(integration, refused).startswith("In step since ")


def test_retry_that_is_refused_again_rests_again(sandbox: Sandbox, integration: Integration, refused: str) -> None:
    with desk(integration) as asked:
        asked.retry([refused])
    done = integration.sync()
    assert (done["refused"], done["engine_calls"]) == (1, 1)
    assert integration.sync()["engine_calls"] == 0


def test_record_that_no_call_is_worth_is_not_sent_by_a_retry(sandbox: Sandbox, integration: Integration) -> None:
    """A14: too long for its field; it goes out when its data changes."""
    key = sandbox.dataverse.create("contact", {"firstname": "A" * 40})
    integration.sync()
    with desk(integration) as asked:
        assert asked.retry() == asked.retry([key])
        assert asked.retry().unfit == [key]
    sandbox.clear_calls()
    assert integration.sync()["engine_calls"] == 0
    assert sentence(integration, key).startswith("Can't be sent: firstName is longer than 30 characters.")
    sandbox.dataverse.update("contact", key, {"firstname": "Ada"})
    assert integration.sync()["inserted"] == 1


# --- traces ---------------------------------------------------------------------------------------------------------


def test_trace_follows_a_record_through_its_life(sandbox: Sandbox, integration: Integration) -> None:
    key = sandbox.dataverse.create("contact", {"lastname": "Byron"})
    integration.plan()
    assert sentence(integration, key) == "An insert is open: the next run writes it."
    integration.sync()
    assert sentence(integration, key).startswith("In step since ")
    sandbox.dataverse.update("contact", key, {"lastname": "Lovelace"})
    integration.plan()
    assert sentence(integration, key) == "An update of lastName is open: the next run writes it."
    with open_staging(integration.staging) as file:
        file.privacy.hold(key, "Ada")
    integration.sync()
    assert sentence(integration, key).startswith("On hold since ")
    assert " by Ada: " in sentence(integration, key)
    with open_staging(integration.staging) as file:
        file.privacy.release(key)
    integration.sync()
    with desk(integration) as asked:
        last = asked.trace(key).last_call
    assert last is not None
    assert (last.kind, last.result) == ("update", "done")
    sandbox.dataverse.delete("contact", key)
    integration.sync()
    assert sentence(integration, key).startswith("Gone from Dynamics, and deleted in Campaign on ")


def test_trace_names_the_record_that_another_waits_for(sandbox: Sandbox, integration: Integration) -> None:
    parent = sandbox.dataverse.create("contact", {"firstname": "A" * 40})
    child = sandbox.dataverse.create("new_purchase", {"new_name": "Book", "new_contactid": parent})
    integration.tables = [contact_mapping(), purchase_mapping()]
    integration.sync()
    waits = f"Waits for contact {parent}: it is not in Campaign yet."
    assert sentence(integration, child, "new_purchase") == waits
    sandbox.dataverse.update("contact", parent, {"firstname": "Ada"})
    integration.sync()
    assert sentence(integration, child, "new_purchase").startswith("In step since ")


def test_write_without_an_answer_is_in_doubt_until_it_is_read_back(sandbox: Sandbox, integration: Integration) -> None:
    integration.set("run", retries=0)
    integration.set("campaign", attempts=1)
    key = sandbox.dataverse.create("contact", {"lastname": "Byron"})
    sandbox.add_fault(system="campaign", method="POST", path="/profile", lose_answer=True)
    sandbox.add_fault(system="campaign", method="GET", path=f"/profile/{key}", times=3, status=503)
    integration.fail()
    assert sentence(integration, key) == "Sent without an answer: the next run reads it back before it goes on."
    sandbox.clear_faults()
    integration.sync()
    assert sentence(integration, key).startswith("In step since ")
    assert_in_step(sandbox)
