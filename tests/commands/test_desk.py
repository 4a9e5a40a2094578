"""`replay`, `rejects`, `trace`, `acknowledge` and `accept-schema`: on a staging file, with no system to be reached."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from d365_campaign import changes
from d365_campaign.changes import Outcome, Replay
from d365_campaign.cli import main
from d365_campaign.rehearsal import CONFIG_VARIABLE
from d365_campaign.store.staging import Staging, open_staging
from d365_campaign.store.table_store import TableStore
from tests.builders import CHANGES, bound, contact, filled, in_step, mapping, open_changes, page

KEY = "8b2d6f0e-0000-4000-8000-0123456789ab"
MARKER = "marker@example.com"


@pytest.fixture
def staging_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the staging file of an integration is whose systems are nowhere; contacts and accounts are mapped."""
    (tmp_path / "tables").mkdir()
    accounts = mapping(source="account").model_copy(update={"target": "cusAccount"})
    for table in (mapping(), accounts):
        (tmp_path / "tables" / f"{table.name}.yaml").write_text(table.model_dump_json(exclude_defaults=True))
    system = {"url": "https://a.invalid", "token_url": "https://a.invalid/t", "client_id": "a"}
    secret = {"client_secret": {"env": "UNSET"}}
    accepted = {"acknowledged": {"by": "Ada", "on": "2026-01-01", "text": 1}}
    settings = {
        "environment": "test",
        "dynamics": system | secret,
        "campaign": system | secret,
        "staging": {"path": "staging.duckdb"},
        "guardrails": {"max_replay_records": 5},
        "privacy": accepted,
    }
    (tmp_path / "settings.yaml").write_text(json.dumps(settings))
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "settings.yaml"))
    return tmp_path / "staging.duckdb"


@contextmanager
def opened(path: Path) -> Iterator[tuple[Staging, TableStore]]:
    with open_staging(path) as staging:
        yield staging, staging.table(bound())


@pytest.fixture
def synced(staging_path: Path) -> Path:
    """Three contacts in step."""
    with opened(staging_path) as (_, store):
        in_step(store, contact(KEY, firstname="Ada", emailaddress1=MARKER), contact("c2"), contact("c3"))
    return staging_path


@pytest.fixture
def rejecting(synced: Path) -> Path:
    """Besides, one contact that is refused."""
    with opened(synced) as (_, store):
        filled(store, contact("c4", emailaddress1=MARKER))
        [change] = open_changes(store)
        store.claim([change])
        refusal = Outcome(
            "c4", change.kind, changes.Result.REFUSED, 1, reason="email is refused [email]", fields=["email"]
        )
        store.settle([refusal])
    return synced


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments, env={"COLUMNS": "200"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


# --- replay ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "mode"), [([], Replay.DIFFERENCES), (["--force"], Replay.FORCED)])
def test_replay_is_asked_for_and_taken_back(synced: Path, options: list[str], mode: Replay) -> None:
    asked = run("replay", "contact", *options)
    assert asked.exit_code == 0
    assert "reads all its records again, 3 so far" in asked.output
    assert asked.output.endswith("Run: d365-campaign sync contact\n")
    with opened(synced) as (staging, _):
        assert staging.desk("contact").replay_requested is mode

    assert run("replay", "contact", "--withdraw").output == "The replay of contact is withdrawn.\n"
    withdrawn = run("replay", "contact", "--withdraw")
    assert (withdrawn.exit_code, "none to withdraw" in withdrawn.output) == (1, True)


def test_replay_of_a_large_table_names_figure_and_setting(synced: Path) -> None:
    with opened(synced) as (_, store):
        in_step(store, contact("c4"), contact("c5"))
    refused = run("replay", "contact")
    assert refused.exit_code == 2
    assert (
        "table 'contact' has 5 records; from 5 on a replay is refused (guardrails.max_replay_records)" in refused.output
    )


def test_replay_is_asked_for_or_taken_back_but_not_both(synced: Path) -> None:
    assert run("replay", "contact", "--force", "--withdraw").exit_code == 2


# --- rejects --------------------------------------------------------------------------------------------------------


def test_no_rejects_is_good_news(synced: Path) -> None:
    listed = run("rejects", "contact")
    assert (listed.exit_code, listed.output) == (0, "No record of contact is turned down.\n")


def test_rejects_are_listed_with_key_and_reason(rejecting: Path) -> None:
    listed = run("rejects", "contact")
    assert listed.exit_code == 1
    assert "1 rejects of contact" in listed.output
    [line] = [line for line in listed.output.splitlines() if "c4" in line]
    assert "refused" in line
    assert "email is refused [email]" in line
    assert MARKER not in listed.output


def test_rejects_for_machines(rejecting: Path) -> None:
    listed = run("rejects", "contact", "--json")
    assert listed.exit_code == 1
    [reject] = json.loads(listed.output)["rejects"]
    assert (reject["key"], reject["cause"], reject["fields"], reject["attempts"]) == ("c4", "refused", ["email"], 1)
    assert reject["since"].endswith("+00:00")
    assert json.loads(run("rejects", "contact", "c2", "--json").output) == {"rejects": [], "retried": None}


def test_retry_says_what_the_next_sync_sends(rejecting: Path) -> None:
    retried = run("rejects", "contact", "--retry")
    assert retried.exit_code == 0
    assert retried.output == "The next sync of contact sends 1 records again. Run: d365-campaign sync contact\n"
    assert "goes out with the next sync" in run("rejects", "contact").output
    with opened(rejecting) as (_, store):
        assert [change.key for change in open_changes(store)] == ["c4"]


def test_retry_of_what_is_no_reject_is_told(rejecting: Path) -> None:
    retried = run("rejects", "contact", "c4", "c9", "--retry")
    assert retried.exit_code == 1
    assert "sends 1 records again" in retried.output
    assert "Not among the rejects of contact: c9" in retried.output


# --- trace ----------------------------------------------------------------------------------------------------------


def test_trace_ends_in_one_sentence(synced: Path) -> None:
    traced = run("trace", KEY)
    assert traced.exit_code == 0
    first, *_, last = traced.output.splitlines()
    assert first == f"contact {KEY}"
    assert last.startswith("In step since ")
    assert MARKER not in traced.output


@pytest.mark.parametrize("spelling", [KEY.upper(), f"{{{KEY}}}"])
def test_key_may_be_spelled_as_dynamics_shows_it(synced: Path, spelling: str) -> None:
    assert run("trace", spelling).output.startswith(f"contact {KEY}\n")


def test_values_are_shown_on_request(synced: Path) -> None:
    assert MARKER in run("trace", KEY, "--show-values").output
    fields = json.loads(run("trace", KEY, "--show-values", "--json").output)["contact"]["fields"]
    assert fields[1] == {"name": "email", "differs": False, "desired": MARKER, "known": MARKER}


def test_trace_for_machines_holds_no_values(synced: Path) -> None:
    with opened(synced) as (_, store):
        filled(store, contact(KEY, firstname="Augusta", emailaddress1=MARKER))
    told = json.loads(run("trace", KEY, "--json").output)["contact"]
    assert told["sentence"] == "An update of firstName is open: the next run writes it."
    assert told["fields"] == [{"name": "firstName", "differs": True}, {"name": "email", "differs": False}]
    assert (told["change"], told["changed"]) == ("update", ["firstName"])


def test_trace_tells_differing_fields_and_the_last_call(synced: Path) -> None:
    with opened(synced) as (_, store):
        filled(store, contact(KEY, firstname="Augusta", emailaddress1=MARKER))
    facts = dict(line.split("  ", 1) for line in run("trace", KEY).output.splitlines() if "  " in line)
    assert facts["open change"].strip() == "update of firstName"
    assert facts["differs in"].strip() == "firstName"
    assert facts["last call"].strip().startswith("insert, done, ")
    assert facts["in Dynamics"].strip() == "yes, modified 2026-05-01 08:00 UTC"


def test_trace_of_a_refused_record_ends_with_1(rejecting: Path) -> None:
    traced = run("trace", "c4")
    assert traced.exit_code == 1
    assert "Refused: email is refused [email]." in traced.output


def test_trace_of_a_deleted_record_still_finds_it(synced: Path) -> None:
    with opened(synced) as (_, store):
        store.absorb(page(store.table, removed=[KEY]), CHANGES)
        store.plan()
        [change] = open_changes(store)
        store.claim([change])
        store.settle([Outcome(KEY, change.kind, changes.Result.DONE, 1)])
    assert "deleted in Campaign on" in run("trace", KEY).output


def test_trace_of_a_key_on_hold_that_no_table_knows(synced: Path) -> None:
    with opened(synced) as (staging, _):
        staging.privacy.hold("c9", "Ada")
    traced = run("trace", "c9")
    assert (traced.exit_code, " by Ada: " in traced.output) == (0, True)


def test_key_that_is_nowhere_is_looked_for_everywhere(synced: Path) -> None:
    missing = run("trace", "c9")
    assert missing.exit_code == 1
    assert "no record c9 is known in account, contact, as of the last sync" in missing.output
    assert "is known in contact, as of" in run("trace", "c9", "--table", "contact").output


# --- what a run asks a person for -----------------------------------------------------------------------------------


def test_acknowledgement_is_kept_with_its_name(synced: Path) -> None:
    done = run("acknowledge", "contact", "--by", "Ada Lovelace")
    assert (done.exit_code, "d365-campaign sync contact" in done.output) == (0, True)
    with opened(synced) as (_, store):
        assert store.large_load_acknowledged_by == "Ada Lovelace"


@pytest.mark.parametrize("options", [[], ["--by", " "]])
def test_acknowledgement_needs_a_name(synced: Path, options: list[str]) -> None:
    assert run("acknowledge", "contact", *options).exit_code == 2


def test_accepted_schema_is_that_of_the_next_run(synced: Path) -> None:
    done = run("accept-schema", "contact")
    assert (done.exit_code, "takes both systems' schemas as they are then" in done.output) == (0, True)
    with open_staging(synced) as staging:
        assert staging._connection.execute("select schema_facts from main.table_mapping").fetchall() == [("{}",)]


# --- tables ---------------------------------------------------------------------------------------------------------

COMMANDS = [
    ("replay", "TABLE"),
    ("rejects", "TABLE"),
    ("acknowledge", "TABLE", "--by", "Ada"),
    ("accept-schema", "TABLE"),
    ("trace", KEY, "--table", "TABLE"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_unknown_table_is_answered_with_the_ones_there_are(synced: Path, command: tuple[str, ...]) -> None:
    refused = run(*(part.replace("TABLE", "contcat") for part in command))
    assert refused.exit_code == 2
    assert "there is no table mapping 'contcat'; there are: account, contact" in refused.output


@pytest.mark.parametrize("command", COMMANDS[:4], ids=lambda command: command[0])
def test_table_that_was_never_synced_says_how_to(synced: Path, command: tuple[str, ...]) -> None:
    refused = run(*(part.replace("TABLE", "account") for part in command))
    assert refused.exit_code == 2
    assert "d365-campaign sync account" in refused.output


@pytest.mark.parametrize("command", [command[0] for command in COMMANDS])
def test_help_has_one_line_of_purpose_and_an_example(command: str) -> None:
    shown = run(command, "--help").output
    assert f"Example:  d365-campaign {command} " in shown


def test_file_stays_private(synced: Path) -> None:
    run("replay", "contact")
    assert oct(synced.stat().st_mode & 0o777) == "0o600"
