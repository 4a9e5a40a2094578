"""What a preflight makes of two systems that answer, answer badly or don't answer, and of the staging file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from d365_campaign.config import Configuration
from d365_campaign.errors import ConfigurationError, RetriableError, SyncError
from d365_campaign.flows.findings import Finding, in_two
from d365_campaign.flows.preflight import preflight, refused_configuration
from d365_campaign.mapping import TableMapping
from d365_campaign.schemas import ResourceLink, SourceTable, TargetResource
from d365_campaign.settings import Acknowledgement, PrivacySettings, Settings
from d365_campaign.store.staging import open_staging
from tests.builders import answer, bound, contact, filled, mapping, source_table, target_resource
from tests.stand_ins import Campaign

DOWN = RetriableError("GET WhoAmI: contoso.example can't be reached (timed out).")
ACCEPTED = PrivacySettings(acknowledged=Acknowledgement(by="Jane Doe", on=date(2026, 1, 1), text=1))


@dataclass(frozen=True)
class Me:
    user_id: str = "user-1"
    organization_id: str = "organization-1"


@dataclass
class Dynamics:
    """One table under any name; an error in a value's place is raised when it is asked for."""

    me: Me | SyncError = field(default_factory=Me)
    skew: float | SyncError | None = 0.0
    table: SourceTable | SyncError = field(default_factory=source_table)
    reading: SyncError | None = None
    records: int | SyncError | None = 1000

    def who_am_i(self) -> Me:
        return given(self.me)

    def clock_skew_seconds(self) -> float | None:
        return given(self.skew)

    def describe(self, table: str) -> SourceTable:
        return replace(given(self.table), name=table)

    def try_read(self, table: SourceTable) -> None:
        given(self.reading)

    def record_count(self, table: str) -> int | None:
        return given(self.records)


UNIQUE = replace(target_resource(), unique_keys=("externalId",))


@dataclass
class Adobe:
    """One resource under any name, with the records it holds."""

    pinged: SyncError | None = None
    skew: float | SyncError | None = 0.0
    resource: TargetResource | SyncError = UNIQUE
    held: Campaign = field(default_factory=Campaign)

    def ping(self) -> None:
        given(self.pinged)

    def clock_skew_seconds(self) -> float | None:
        return given(self.skew)

    def describe(self, resource: str) -> TargetResource:
        return replace(given(self.resource), name=resource)

    def target(self, resource: TargetResource, key_field: str) -> Campaign:
        return self.held


def given(value: Any) -> Any:
    if isinstance(value, BaseException):
        raise value
    return value


def configured(path: Path, *tables: TableMapping, **sections: Any) -> Configuration:
    connection = {"url": "https://x.example", "client_id": "id", "client_secret": {"env": "SECRET"}}
    settings = {
        "environment": "stage",
        "dynamics": {**connection, "token_url": "https://login.example"},
        "campaign": connection,
        "staging": {"path": str(path)},
        "privacy": ACCEPTED,
        **sections,
    }
    return Configuration(settings=Settings.model_validate(settings), tables=tables or [mapping()])


def looked_at(
    path: Path,
    *tables: TableMapping,
    dynamics: Dynamics | None = None,
    campaign: Adobe | None = None,
    table: str | None = None,
    **sections: Any,
) -> Mapping[tuple[str, str], Finding]:
    """Findings by area and subject."""
    configuration = configured(path, *tables, **sections)
    found = preflight(configuration, lambda: dynamics or Dynamics(), lambda: campaign or Adobe(), table=table)
    return {(finding.area, finding.subject): finding for finding in found}


def faults(found: Mapping[tuple[str, str], Finding]) -> Sequence[tuple[str, str]]:
    return [at for at, finding in found.items() if finding.verdict != "fine"]


def test_two_systems_in_order_have_no_faults(file: Path) -> None:
    found = looked_at(file)
    assert faults(found) == []
    assert "user-1 of organization organization-1" in found["Dynamics", "connection"].words


@pytest.mark.parametrize(
    ("dynamics", "campaign", "down", "up"),
    [
        (Dynamics(me=DOWN), Adobe(), "Dynamics", ("Campaign", "Campaign resource")),
        (Dynamics(), Adobe(pinged=DOWN), "Campaign", ("Dynamics", "Dynamics table")),
    ],
)
def test_a_system_that_is_down_is_said_once_and_hides_nothing_of_the_other(
    file: Path, dynamics: Dynamics, campaign: Adobe, down: str, up: tuple[str, str]
) -> None:
    other, side = up
    tables = [mapping(), mapping(source="account")]
    found = looked_at(file, *tables, dynamics=dynamics, campaign=campaign)
    connection = found[down, "connection"]
    assert connection.verdict == "wrong"
    assert connection.words == f"unable to connect: {DOWN}"
    assert connection.fix.startswith(f"Check {down.lower()}.url, {down.lower()}.token_url")
    assert found[down, "tables"].words == "its side of contact, account was not looked at."
    assert faults(found) == [(down, "connection"), (down, "tables")]
    assert found[other, "connection"].verdict == "fine"
    assert [found[name, side].verdict for name in ("contact", "account")] == ["fine", "fine"]


def test_what_can_not_even_be_connected_to_is_a_finding(file: Path) -> None:
    def refuse() -> Any:
        raise ConfigurationError("environment variable D365_SECRET is not set. Set it.")

    found = preflight(configured(file), refuse, Adobe)
    [finding] = [f for f in found if f.verdict == "wrong"]
    assert (finding.area, finding.fix) == ("Dynamics", "Set it.")
    assert finding.words == "unable to connect: environment variable D365_SECRET is not set."


@pytest.mark.parametrize(
    ("skew", "verdict"),
    [
        (0.0, "fine"),
        (60.0, "fine"),
        (-61.0, "warning"),
        (300.0, "warning"),
        (-301.0, "wrong"),
        (None, "warning"),
        (DOWN, "wrong"),
    ],
)
def test_a_clock_is_judged_by_how_far_it_is_off(file: Path, skew: Any, verdict: str) -> None:
    found = looked_at(file, campaign=Adobe(skew=skew))
    assert found["Campaign", "clock"].verdict == verdict
    assert found["Dynamics", "clock"].verdict == "fine"


def test_a_clock_that_lags_is_said_to_lag(file: Path) -> None:
    assert looked_at(file, dynamics=Dynamics(skew=-90.4))["Dynamics", "clock"].words.startswith("90 s behind this")


@pytest.mark.parametrize("records", [None, DOWN])
def test_a_table_whose_number_of_records_is_not_told_is_fine_and_has_no_estimate(file: Path, records: Any) -> None:
    found = looked_at(file, dynamics=Dynamics(records=records))
    assert faults(found) == []
    assert "isn't told" in found["contact", "Dynamics table"].words
    assert not [area for area, _ in found if area == "First load"]


def test_change_tracking_that_is_off_is_said_once(file: Path) -> None:
    found = looked_at(file, dynamics=Dynamics(table=replace(source_table(), change_tracking=False)))
    assert faults(found) == [("contact", "Dynamics table")]
    assert found["contact", "mapping"].verdict == "fine"


@pytest.mark.parametrize(
    ("key_is_declared", "told", "verdict", "fix"),
    [
        (True, ("externalId",), "fine", ""),
        (True, None, "warning", "Look at the identification keys of 'profile' in Campaign."),
        (False, ("externalId",), "warning", "Set key.declared_unique: true."),
        (
            False,
            (),
            "warning",
            "Declare 'externalId' as a unique identification key of 'profile' in Campaign, then set "
            "key.declared_unique: true.",
        ),
    ],
)
def test_a_key_is_held_against_what_campaign_tells_of_it(
    file: Path, key_is_declared: bool, told: Sequence[str] | None, verdict: str, fix: str
) -> None:
    campaign = Adobe(resource=replace(UNIQUE, unique_keys=told))
    found = looked_at(file, mapping(declared_unique=key_is_declared), campaign=campaign)["contact", "key"]
    assert (found.verdict, found.fix) == (verdict, fix)


@pytest.mark.parametrize(
    ("links", "verdict"),
    [
        ([], "warning"),
        ([ResourceLink("a", "cusAccount", "cusAccountId")], "fine"),
        ([ResourceLink("a", "cusAccount", "cusAccountId", "0..1")], "fine"),
        ([ResourceLink("a", "cusAccount", "cusAccountId", "1")], "warning"),
        ([ResourceLink("a", "cusAccount", "cusOther")], "warning"),
        ([ResourceLink("a", "cusAccount")], "fine"),
        ([ResourceLink("a", "")], "fine"),
    ],
    ids=["none", "joined", "joined 0..1", "joined 1", "joined elsewhere", "join not told", "target not told"],
)
def test_a_link_is_held_against_what_campaign_tells_of_it(
    file: Path, links: Sequence[ResourceLink], verdict: str
) -> None:
    fields = {"externalId": "string", "firstName": "string", "email": "string", "cusAccountId": "string"}
    resource = replace(target_resource(None, **fields), unique_keys=("externalId",), links=links)  # type: ignore[arg-type]
    table = replace(
        source_table(contactid="reference", firstname="text", emailaddress1="text", parentcustomerid="reference")
    )
    account = mapping(("firstname", "firstName"), source="account").model_copy(update={"target": "cusAccount"})
    child = mapping(("parentcustomerid", "cusAccountId"), links=[{"source": "parentcustomerid", "parent": "account"}])
    found = looked_at(file, account, child, dynamics=Dynamics(table=table), campaign=Adobe(resource=resource))
    assert found["contact", "links"].verdict == verdict


@pytest.mark.parametrize(
    ("budgets", "verdict", "words"),
    [
        ({}, "fine", "no budget is set"),
        ({"daily_budget": 1000}, "fine", "the budgets allow it"),
        ({"daily_budget": 999}, "warning", "with 999 left in engine_calls.daily_budget it takes 2 days"),
        ({"monthly_budget": 1100, "other_calls": 200}, "warning", "with 900 left in engine_calls.monthly_budget it"),
        ({"monthly_budget": 100, "other_calls": 200}, "warning", "with 0 left in engine_calls.monthly_budget it never"),
    ],
)
def test_the_first_load_is_held_against_the_budgets(
    file: Path, budgets: dict[str, int], verdict: str, words: str
) -> None:
    found = looked_at(file, engine_calls=budgets)["First load", "engine calls"]
    assert found.verdict == verdict
    assert found.words.startswith("1,000 at most")
    assert words in found.words


def test_one_table_is_not_taken_for_the_whole_first_load(file: Path) -> None:
    tables = [mapping(), mapping(source="account")]
    limits = {"max_initial_records": 1500}
    found = looked_at(file, *tables, guardrails=limits)
    assert found["First load", "records"].verdict == "wrong"
    found = looked_at(file, *tables, guardrails=limits, table="account")
    assert ("First load", "records") not in found
    assert ("contact", "mapping") not in found
    assert found["First load", "engine calls"].words.startswith("1,000 at most")


def test_tables_are_looked_at_at_once(file: Path) -> None:
    """Each waits for the other one, which a look at one after the other would never bring."""
    both = Barrier(2, timeout=10)

    class Waiting(Dynamics):
        def describe(self, table: str) -> SourceTable:
            both.wait()
            return super().describe(table)

    assert faults(looked_at(file, mapping(), mapping(source="account"), dynamics=Waiting())) == []


# --- the staging file -----------------------------------------------------------------------------------------------


def run_once(file: Path, *, written: bool = True) -> None:
    """A run over one contact, which Campaign took or has still to take."""
    with open_staging(file) as staging:
        store = filled(staging.table(bound()), contact("c1", firstname="Ada"))
        if written:
            answer(store)


def test_what_was_loaded_already_needs_no_estimate(file: Path) -> None:
    run_once(file)
    found = looked_at(file, guardrails={"max_initial_records": 1, "large_load_records": 1})
    assert faults(found) == []
    assert not [area for area, _ in found if area == "First load"]


def test_a_first_load_that_was_planned_only_is_still_to_come(file: Path) -> None:
    run_once(file, written=False)
    found = looked_at(file, guardrails={"large_load_records": 1})
    assert faults(found) == [("contact", "large load")]
    assert ("First load", "records") in found


def test_a_large_load_that_someone_acknowledged_is_not_warned_of(file: Path) -> None:
    run_once(file, written=False)
    with open_staging(file) as staging:
        staging.desk("contact").acknowledge_large_load("Jane Doe")
    assert faults(looked_at(file, guardrails={"large_load_records": 1})) == []


def test_looking_at_the_staging_file_leaves_it_as_it_is(file: Path) -> None:
    run_once(file)
    before = file.stat().st_mtime_ns, file.read_bytes()
    looked_at(file)
    assert (file.stat().st_mtime_ns, file.read_bytes()) == before


def test_columns_of_another_type_than_in_the_last_run_are_named(file: Path) -> None:
    run_once(file)
    changed = replace(UNIQUE, fields={**UNIQUE.fields, "email": replace(UNIQUE.fields["email"], data_policy="email")})
    found = looked_at(file, campaign=Adobe(resource=changed))["contact", "schemas"]
    assert found.verdict == "wrong"
    assert "profile.email was string and is string, data policy email" in found.words


def test_a_mapping_that_was_saved_with_another_resource_is_wrong(file: Path) -> None:
    run_once(file)
    found = looked_at(file, mapping().model_copy(update={"target": "cusPerson"}))["contact", "saved mapping"]
    assert found.verdict == "wrong"
    assert found.words == "it was saved with target 'profile'; tables and keys of a saved mapping can't change."


def test_a_file_of_another_kind_is_wrong(file: Path) -> None:
    file.write_bytes(b"no database" * 1000)
    found = looked_at(file)["Staging file", "last run"]
    assert (found.verdict, "can't be read" in found.words) == ("wrong", True)


def test_a_place_where_nothing_can_be_written_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be", encoding="utf-8")
    found = looked_at(tmp_path / "taken" / "staging.duckdb")
    assert faults(found) == [("Staging file", "folder")]
    assert found["Staging file", "folder"].fix == "Make it and its folder writable for this user, or set staging.path."


def test_a_file_that_others_may_read_is_warned_of(file: Path) -> None:
    run_once(file)
    file.chmod(0o640)
    found = looked_at(file)["Staging file", "privacy"]
    assert (found.verdict, found.fix) == ("warning", f"chmod 600 {file}")


def test_more_records_than_the_disk_has_room_for_are_warned_of(file: Path) -> None:
    found = looked_at(file, dynamics=Dynamics(records=10**12))
    assert found["Staging file", "disk"].verdict == "warning"


# --- errors as findings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "words", "fix"),
    [
        ("It is off. Switch it on.", "It is off.", "Switch it on."),
        ("Answered 403. the token isn't for this. Check url.", "Answered 403. the token isn't for this.", "Check url."),
        ("no host x.example.com (401).", "no host x.example.com (401).", "otherwise"),
        ("Refused (401). Check it. It was X.", "Refused (401).", "Check it. It was X."),
    ],
)
def test_what_follows_the_first_sentence_of_an_error_is_its_fix(said: str, words: str, fix: str) -> None:
    assert in_two(said, "otherwise") == (words, fix)


def test_each_fault_of_the_configuration_is_a_finding() -> None:
    error = ConfigurationError("the configuration is refused:\n  - a.yaml: is missing. Add it.\n  - b.yaml: is empty.")
    found = refused_configuration(error)
    assert [(f.words, f.fix) for f in found] == [
        ("a.yaml: is missing.", "Add it."),
        ("b.yaml: is empty.", "Correct it."),
    ]
    assert {f.verdict for f in found} == {"wrong"}
