"""Opt-outs written back over real sockets: one outcome for every update, and no update twice."""

import json
import threading
import time
from collections.abc import Generator, Sequence
from typing import Any

import pytest
import requests

from d365_campaign.changes import RowOutcome, RowResult, RowUpdate
from d365_campaign.clients.dataverse import DataverseClient
from d365_campaign.clients.dataverse_writes import DataverseRows
from d365_campaign.clients.throttle import RetryPolicy
from d365_campaign.clients.wire import DeadlineAdapter
from d365_campaign.errors import ConfigurationError
from d365_campaign.flows.ports import RowTarget
from d365_campaign.sandbox import Sandbox
from tests.stand_ins import Rows

NAMES = ("donotbulkemail", "donotphone", "versionnumber", "modifiedon")
NOBODY = "00000000-0000-4000-8000-000000000000"
DENIED = {"error": {"code": "0x80040220", "message": "SecLib::CheckPrivilege failed."}}
THROTTLED = {"error": {"code": "0x80072322", "message": "Number of requests exceeded the limit of 6000"}}
DEADLOCK = {"error": {"code": "0x80044150", "message": "Generic SQL error."}}
ALWAYS = 10_000
FIRST_PART_ONLY = r"(?s)\A(--(\S+)\r\n.*?\r\n)--\2\r\n.*\Z"
LAST_PART_ONLY = r"(?s)\A(--\S+\r\n).*\r\n\1(.*)\Z"


def rows_of(client: DataverseClient) -> DataverseRows:
    contact = client.describe("contact")
    return client.rows(contact, [contact.columns[name] for name in NAMES])


@pytest.fixture
def rows(sandbox: Sandbox, connect: Any) -> DataverseRows:
    """Contacts, whose description isn't among the calls."""
    found = rows_of(connect.dataverse())
    sandbox.clear_calls()
    return found


def opt_outs(sandbox: Sandbox, count: int) -> list[RowUpdate]:
    """So many contacts that are to opt out of e-mail, each by its present version."""
    keys = sandbox.seed(contacts=count)
    for key in keys:
        sandbox.dataverse.update("contact", key, {"donotbulkemail": False})
    return [RowUpdate(key, version_of(sandbox, key), {"donotbulkemail": True}) for key in keys]


def version_of(sandbox: Sandbox, key: str) -> int:
    return int(sandbox.dataverse.get("contact", key)["versionnumber"])


def results(outcomes: Sequence[RowOutcome]) -> dict[str, RowResult]:
    found = {outcome.key: outcome.result for outcome in outcomes}
    assert len(found) == len(outcomes), "a record was told twice"
    return found


def all_done(updates: Sequence[RowUpdate]) -> dict[str, RowResult]:
    return {update.key: RowResult.DONE for update in updates}


def versions_written(sandbox: Sandbox, updates: Sequence[RowUpdate]) -> bool:
    """Whether each record was written exactly once: the sandbox numbers its writes one by one."""
    held = [sandbox.dataverse.get("contact", update.key) for update in updates]
    numbers = sorted(row["versionnumber"] for row in held)
    newest = max(update.version for update in updates)
    return all(row["donotbulkemail"] for row in held) and numbers == list(range(newest + 1, newest + 1 + len(held)))


def calls(sandbox: Sandbox) -> list[str]:
    """What was asked of Dynamics, e.g. `POST $batch 200`."""
    return [
        f"{call.method} {call.path.rpartition('/')[2].partition('(')[0]} {call.status}"
        for call in sandbox.calls("dataverse")
    ]


# --- reading


def test_a_record_is_read_with_its_columns_alone(sandbox: Sandbox, rows: DataverseRows) -> None:
    [key] = sandbox.seed(contacts=1)
    held = sandbox.dataverse.get("contact", key)

    found = rows.read(key)

    assert found is not None
    assert set(found) == set(NAMES)
    assert (found["donotphone"], found["versionnumber"]) == (held["donotphone"], held["versionnumber"])


@pytest.mark.parametrize("key", [NOBODY, "ada@example.org", "", f"{NOBODY})/x("])
def test_where_there_is_no_record_nothing_is_read(rows: DataverseRows, key: str) -> None:
    assert rows.read(key) is None


def test_a_missing_right_to_read_is_named(sandbox: Sandbox, rows: DataverseRows) -> None:
    sandbox.add_fault(system="dataverse", status=403, body=DENIED)

    with pytest.raises(ConfigurationError, match="may not read 'contact'"):
        rows.read(NOBODY)


# --- writing


def test_an_update_returns_the_record_as_it_is_since(sandbox: Sandbox, rows: DataverseRows) -> None:
    [update] = opt_outs(sandbox, 1)

    [outcome] = rows.update([update])

    held = sandbox.dataverse.get("contact", update.key)
    assert outcome.result is RowResult.DONE
    assert outcome.row is not None
    assert held["versionnumber"] > update.version
    assert outcome.row == rows.read(update.key)
    assert outcome.row["versionnumber"] == held["versionnumber"]
    assert outcome.row["donotbulkemail"] is True


def test_a_record_that_changed_since_or_went_away_is_left_alone(sandbox: Sandbox, rows: DataverseRows) -> None:
    stale, gone, fine = opt_outs(sandbox, 3)
    sandbox.dataverse.update("contact", stale.key, {"firstname": "Zoe"})
    sandbox.dataverse.delete("contact", gone.key)

    outcomes = results(list(rows.update([stale, gone, fine])))

    assert outcomes == {stale.key: RowResult.STALE, gone.key: RowResult.GONE, fine.key: RowResult.DONE}
    assert sandbox.dataverse.get("contact", stale.key)["donotbulkemail"] is False
    assert len(sandbox.dataverse.rows("contact")) == 2


def test_many_updates_travel_in_batches(sandbox: Sandbox, rows: DataverseRows) -> None:
    updates = opt_outs(sandbox, 250)

    assert results(list(rows.update(updates))) == all_done(updates)
    assert calls(sandbox) == ["POST $batch 200"] * 3
    assert versions_written(sandbox, updates)


def test_nothing_to_write_asks_nothing(sandbox: Sandbox, rows: DataverseRows) -> None:
    assert list(rows.update([])) == []
    assert calls(sandbox) == []


@pytest.mark.parametrize("alone", [False, True], ids=["in a batch", "alone"])
def test_nothing_but_the_given_values_is_sent(
    sandbox: Sandbox, rows: DataverseRows, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    [update] = opt_outs(sandbox, 1)
    if alone:
        sandbox.add_fault(system="dataverse", path="batch", status=400)
    sent: list[requests.PreparedRequest] = []
    original = DeadlineAdapter.send

    def watched(self: DeadlineAdapter, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        sent.append(request)
        return original(self, request, *args, **kwargs)

    monkeypatch.setattr(DeadlineAdapter, "send", watched)
    list(rows.update([update]))

    body = sent[-1].body
    assert isinstance(body, bytes)
    assert json.loads(body[body.index(b"{") : body.rindex(b"}") + 1]) == {"donotbulkemail": True}
    conditions = (
        body.decode() if not alone else "\r\n".join(f"{name}: {value}" for name, value in sent[-1].headers.items())
    )
    assert f'If-Match: W/"{update.version}"' in conditions
    assert "If-None-Match" not in conditions


@pytest.mark.parametrize("values", [{"firstname": True}, {"versionnumber": True}, {"donotbulkemail": 1}, {}], ids=str)
def test_only_booleans_that_were_asked_for_can_be_written(
    sandbox: Sandbox, rows: DataverseRows, values: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=NOBODY):
        rows.update([RowUpdate(NOBODY, 1, values)])
    assert calls(sandbox) == []


def test_one_record_is_not_updated_twice_at_once(sandbox: Sandbox, rows: DataverseRows) -> None:
    [update] = opt_outs(sandbox, 1)

    with pytest.raises(ValueError, match="twice at once"):
        rows.update([update, RowUpdate(update.key.upper(), update.version, update.values)])
    assert calls(sandbox) == []


def test_a_key_that_is_no_id_never_stands_in_a_url(sandbox: Sandbox, rows: DataverseRows) -> None:
    [update] = opt_outs(sandbox, 1)
    odd = RowUpdate(f"{NOBODY})/x?(", 1, {"donotphone": True})

    outcomes = list(rows.update([odd, update]))

    assert results(outcomes) == {odd.key: RowResult.REFUSED, update.key: RowResult.DONE}
    assert odd.key not in str(outcomes[0].reason)
    assert calls(sandbox) == ["POST $batch 200"]


# --- side by side


@pytest.mark.parametrize(
    ("hint", "max_parallel", "at_once"), [(1, 8, 2), (4, 8, 4), (40, 3, 3)], ids=["begins with two", "hint", "setting"]
)
def test_no_more_batches_travel_at_once_than_dynamics_and_we_want(
    sandbox: Sandbox, connect: Any, hint: int, max_parallel: int, at_once: int
) -> None:
    """The sandbox answers 429 to one more."""
    rows = rows_of(connect.dataverse(max_parallel=max_parallel))
    updates = opt_outs(sandbox, 700)
    sandbox.clear_calls()
    sandbox.settings.update(
        {
            "dop_hint": hint,
            "dataverse_latency_seconds": 0.05,
            "service_protection": True,
            "service_protection_concurrency": at_once,
        }
    )

    assert results(list(rows.update(updates))) == all_done(updates)
    assert calls(sandbox) == ["POST $batch 200"] * 7


def test_batches_do_travel_side_by_side(sandbox: Sandbox, connect: Any) -> None:
    rows = rows_of(connect.dataverse())
    updates = opt_outs(sandbox, 200)
    sandbox.clear_calls()
    sandbox.add_fault(system="dataverse", path="batch", delay_seconds=0.5)
    sandbox.settings.update({"service_protection": True, "service_protection_concurrency": 1})

    assert results(list(rows.update(updates))) == all_done(updates)
    assert "POST $batch 429" in calls(sandbox)


def test_who_stops_listening_leaves_nothing_behind(sandbox: Sandbox, rows: DataverseRows) -> None:
    updates = opt_outs(sandbox, 500)
    outcomes = rows.update(updates)
    assert isinstance(outcomes, Generator)

    next(outcomes)
    outcomes.close()

    assert not [thread for thread in threading.enumerate() if thread.name.startswith("dataverse-writes")]
    sent = len(calls(sandbox))
    assert sent <= 4
    time.sleep(0.1)
    assert len(calls(sandbox)) == sent


def test_who_stops_listening_stops_a_batch_that_goes_on_one_by_one(sandbox: Sandbox, rows: DataverseRows) -> None:
    updates = opt_outs(sandbox, 200)
    sandbox.add_fault(system="dataverse", path="batch", skip=1, status=400)
    sandbox.settings.dataverse_latency_seconds = 0.02
    outcomes = rows.update(updates)
    assert isinstance(outcomes, Generator)

    next(outcomes)
    outcomes.close()

    assert calls(sandbox).count("PATCH contacts 200") < 90


# --- throttled


def test_a_throttled_batch_waits_as_long_as_it_is_asked_to(sandbox: Sandbox, rows: DataverseRows) -> None:
    updates = opt_outs(sandbox, 3)
    sandbox.add_fault(system="dataverse", path="batch", status=429, retry_after=1, body=THROTTLED)
    start = time.monotonic()

    assert results(list(rows.update(updates))) == all_done(updates)
    assert time.monotonic() - start >= 1
    assert calls(sandbox) == ["POST $batch 429", "POST $batch 200"]


def test_throttled_parts_are_sent_again_and_only_these(sandbox: Sandbox, rows: DataverseRows) -> None:
    updates = opt_outs(sandbox, 5)
    sandbox.add_fault(system="dataverse", in_batch=True, skip=2, times=2, status=429, retry_after=1, body=THROTTLED)
    start = time.monotonic()

    assert results(list(rows.update(updates))) == all_done(updates)
    assert time.monotonic() - start >= 1
    assert calls(sandbox) == ["POST $batch 200"] * 2
    assert versions_written(sandbox, updates)


def test_parts_that_stay_throttled_are_unsent(sandbox: Sandbox, rows: DataverseRows) -> None:
    updates = opt_outs(sandbox, 150)
    sandbox.add_fault(system="dataverse", in_batch=True, times=ALWAYS, status=429, body=THROTTLED)

    outcomes = list(rows.update(updates))

    assert set(results(outcomes).values()) == {RowResult.UNSENT}
    assert len(outcomes) == 150
    assert "429" in str(outcomes[0].reason)


def test_a_pause_that_is_too_long_ends_the_writing_at_once(sandbox: Sandbox, rows: DataverseRows) -> None:
    updates = opt_outs(sandbox, 300)
    sandbox.add_fault(system="dataverse", path="batch", times=ALWAYS, status=429, retry_after=300, body=THROTTLED)
    start = time.monotonic()

    assert set(results(list(rows.update(updates))).values()) == {RowResult.UNSENT}
    assert time.monotonic() - start < 3
    assert len(calls(sandbox)) <= 2


def test_service_protection_limits_are_waited_out(sandbox: Sandbox, connect: Any) -> None:
    patient = RetryPolicy(attempts=10, max_wait_seconds=20, first_wait_seconds=0.01, longest_wait_seconds=0.05)
    rows = rows_of(connect.dataverse(retry=patient))
    updates = opt_outs(sandbox, 500)
    sandbox.settings.update(
        {
            "service_protection": True,
            "service_protection_requests": 2,
            "service_protection_window_seconds": 1,
        }
    )

    assert results(list(rows.update(updates))) == all_done(updates)
    assert versions_written(sandbox, updates)


# --- without a clear answer


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"lose_answer": True}, id="lost"),
        pytest.param({"truncate": 300}, id="cut"),
        pytest.param({"replace": [r"(?s).{5}$", ""]}, id="without its end"),
        pytest.param({"replace": [r"(?s)^.*$", "<html>"], "headers": {"Content-Type": "text/html"}}, id="a page"),
        pytest.param({"replace": [r"HTTP/1\.1 200 OK", "HTTP/1.1 500 Internal Server Error"]}, id="errors in parts"),
        pytest.param({"replace": [FIRST_PART_ONLY, r"\1--\2--\r\n"]}, id="the first part alone"),
        pytest.param({"replace": [LAST_PART_ONLY, r"\1\2"]}, id="the last part alone"),
    ],
)
def test_what_took_effect_without_an_answer_is_done_and_not_written_again(
    sandbox: Sandbox, rows: DataverseRows, fault: dict[str, Any]
) -> None:
    updates = opt_outs(sandbox, 5)
    sandbox.add_fault(system="dataverse", path="batch", **fault)

    outcomes = list(rows.update(updates))

    assert results(outcomes) == all_done(updates)
    assert all(o.row and o.row["versionnumber"] == version_of(sandbox, o.key) for o in outcomes)
    assert versions_written(sandbox, updates)
    assert not any(call.startswith("PATCH") for call in calls(sandbox))


def test_a_lost_answer_hides_neither_other_changes_nor_deletions(sandbox: Sandbox, rows: DataverseRows) -> None:
    stale, gone, fine = opt_outs(sandbox, 3)
    sandbox.dataverse.update("contact", stale.key, {"firstname": "Zoe"})
    sandbox.dataverse.delete("contact", gone.key)
    sandbox.add_fault(system="dataverse", path="batch", lose_answer=True)

    outcomes = results(list(rows.update([stale, gone, fine])))

    assert outcomes == {stale.key: RowResult.STALE, gone.key: RowResult.GONE, fine.key: RowResult.DONE}


@pytest.mark.parametrize(
    "fault", [{"reset": True}, {"status": 500}, {"status": 503}, {"status": 200, "body": "<html>"}], ids=str
)
def test_what_had_no_effect_and_no_answer_is_sent_again(
    sandbox: Sandbox, rows: DataverseRows, fault: dict[str, Any]
) -> None:
    updates = opt_outs(sandbox, 3)
    sandbox.add_fault(system="dataverse", path="batch", **fault)

    assert results(list(rows.update(updates))) == all_done(updates)
    assert calls(sandbox)[1:] == ["GET contacts 200", "PATCH contacts 200"] * 3
    assert versions_written(sandbox, updates)


@pytest.mark.parametrize("status", [400, 404, 405, 413])
def test_where_batches_are_refused_records_are_sent_alone(sandbox: Sandbox, rows: DataverseRows, status: int) -> None:
    updates = opt_outs(sandbox, 3)
    body = {"error": {"code": "0x80048d19", "message": "Stream was not readable."}}
    sandbox.add_fault(system="dataverse", path="batch", status=status, body=body)

    assert results(list(rows.update(updates))) == all_done(updates)
    assert calls(sandbox) == [f"POST $batch {status}", *["PATCH contacts 200"] * 3]


def test_a_write_that_got_lost_twice_is_still_written_once(sandbox: Sandbox, rows: DataverseRows) -> None:
    [update] = opt_outs(sandbox, 1)
    sandbox.add_fault(system="dataverse", path="batch", reset=True)
    sandbox.add_fault(system="dataverse", method="PATCH", lose_answer=True)

    assert results(list(rows.update([update]))) == all_done([update])
    assert versions_written(sandbox, [update])


def test_a_write_that_lands_late_counts_as_ours(sandbox: Sandbox, rows: DataverseRows) -> None:
    """The batch looks lost when it is read back, and takes effect just before the record is sent alone."""
    [update] = opt_outs(sandbox, 1)
    sandbox.add_fault(system="dataverse", path="batch", reset=True)
    sandbox.add_fault(system="dataverse", method="PATCH", delay_seconds=0.5)

    def land() -> None:
        until = time.monotonic() + 2
        while "GET contacts 200" not in calls(sandbox) and time.monotonic() < until:
            time.sleep(0.01)
        sandbox.dataverse.update("contact", update.key, dict(update.values))

    landing = threading.Thread(target=land)
    landing.start()
    [outcome] = rows.update([update])
    landing.join()

    assert outcome.result is RowResult.DONE
    assert "PATCH contacts 412" in calls(sandbox)
    assert outcome.row is not None
    assert outcome.row["versionnumber"] == version_of(sandbox, update.key)


@pytest.mark.parametrize(
    "fault", [{"status": 400, "body": DEADLOCK}, {"status": 500}, {"status": 503}, {"status": 401}], ids=str
)
def test_a_part_that_met_a_passing_fault_is_sent_again_alone(
    sandbox: Sandbox, rows: DataverseRows, fault: dict[str, Any]
) -> None:
    updates = opt_outs(sandbox, 3)
    sandbox.add_fault(system="dataverse", in_batch=True, skip=1, **fault)

    assert results(list(rows.update(updates))) == all_done(updates)
    assert calls(sandbox)[0] == "POST $batch 200"
    assert calls(sandbox)[-1] == "PATCH contacts 200"
    assert calls(sandbox).count("PATCH contacts 200") == 1


def test_a_fault_that_does_not_pass_leaves_one_record_unknown(sandbox: Sandbox, rows: DataverseRows) -> None:
    first, second, third = opt_outs(sandbox, 3)
    faulty = {"system": "dataverse", "path": second.key, "times": ALWAYS, "method": "PATCH", "status": 500}
    sandbox.add_fault(in_batch=True, **faulty)
    sandbox.add_fault(**faulty)

    outcomes = results(list(rows.update([first, second, third])))

    assert outcomes == {**all_done([first, third]), second.key: RowResult.UNKNOWN}
    assert calls(sandbox).count("PATCH contacts 500") == 3


def test_once_dynamics_is_out_of_reach_nobody_waits_for_each_record(sandbox: Sandbox, rows: DataverseRows) -> None:
    updates = opt_outs(sandbox, 500)
    sandbox.add_fault(system="dataverse", times=ALWAYS, reset=True)

    outcomes = list(rows.update(updates))

    told = list(results(outcomes).values())
    assert set(told) == {RowResult.UNKNOWN, RowResult.UNSENT}
    assert told.count(RowResult.UNKNOWN) <= 200
    assert len(told) == 500
    assert len(calls(sandbox)) <= 2 + 2 * 4


def test_what_may_have_been_written_is_unknown_and_not_unsent(sandbox: Sandbox, rows: DataverseRows) -> None:
    updates = opt_outs(sandbox, 2)
    sandbox.add_fault(system="dataverse", path="batch", lose_answer=True)
    sandbox.add_fault(system="dataverse", method="GET", times=ALWAYS, status=503)

    assert set(results(list(rows.update(updates))).values()) == {RowResult.UNKNOWN}


# --- refused


def test_a_refused_part_tells_its_code_and_no_value(sandbox: Sandbox, rows: DataverseRows) -> None:
    first, second = opt_outs(sandbox, 2)
    body = {"error": {"code": "0x8004431A", "message": "'Ada' is out of range"}}
    sandbox.add_fault(system="dataverse", in_batch=True, status=400, body=body)

    refused, done = rows.update([first, second])

    assert (refused.result, done.result) == (RowResult.REFUSED, RowResult.DONE)
    assert refused.reason == f"Dynamics refused contact {first.key} (400, 0x8004431a)."


def test_a_missing_right_to_write_is_named_after_what_is_known(sandbox: Sandbox, rows: DataverseRows) -> None:
    updates = opt_outs(sandbox, 5)
    sandbox.add_fault(system="dataverse", in_batch=True, skip=1, times=2, status=403, body=DENIED)
    outcomes: list[RowOutcome] = []

    with pytest.raises(ConfigurationError, match=r"may not write 'contact'.*organization-level write"):
        outcomes.extend(rows.update(updates))

    assert results(outcomes) == all_done([updates[0], *updates[3:]])


def test_a_missing_right_ends_the_writing(sandbox: Sandbox, rows: DataverseRows) -> None:
    updates = opt_outs(sandbox, 700)
    sandbox.add_fault(system="dataverse", in_batch=True, times=ALWAYS, status=403, body=DENIED)

    with pytest.raises(ConfigurationError, match="may not write 'contact'"):
        list(rows.update(updates))
    assert len(calls(sandbox)) <= 4


def test_a_right_that_is_missing_for_records_sent_alone_leaves_lost_ones_unknown(
    sandbox: Sandbox, rows: DataverseRows
) -> None:
    updates = opt_outs(sandbox, 2)
    sandbox.add_fault(system="dataverse", path="batch", reset=True)
    sandbox.add_fault(system="dataverse", method="PATCH", status=403, body=DENIED)
    outcomes: list[RowOutcome] = []

    with pytest.raises(ConfigurationError, match="may not write 'contact'"):
        outcomes.extend(rows.update(updates))

    assert set(results(outcomes).values()) == {RowResult.UNKNOWN}


# --- the token


def test_a_token_that_ends_between_batches_goes_unnoticed(sandbox: Sandbox, connect: Any) -> None:
    rows = rows_of(connect.dataverse(max_parallel=1))
    updates = opt_outs(sandbox, 250)
    sandbox.clear_calls()
    outcomes: list[RowOutcome] = []

    for outcome in rows.update(updates):
        if not outcomes:
            sandbox.expire_tokens()
        outcomes.append(outcome)

    assert results(outcomes) == all_done(updates)
    assert calls(sandbox) == ["POST $batch 200", "POST $batch 401", "POST $batch 200", "POST $batch 200"]
    assert versions_written(sandbox, updates)


def test_a_redirected_batch_takes_the_token_nowhere(sandbox: Sandbox, rows: DataverseRows, foreign: Any) -> None:
    updates = opt_outs(sandbox, 2)
    location = f"{foreign.origin}/api/data/v9.2/$batch"
    sandbox.add_fault(system="dataverse", path="batch", status=307, headers={"Location": location})

    with pytest.raises(ConfigurationError):
        list(rows.update(updates))
    assert not foreign.was_visited()


# --- what is told


def test_neither_updates_nor_outcomes_show_values(sandbox: Sandbox, rows: DataverseRows) -> None:
    [update] = opt_outs(sandbox, 1)

    [outcome] = rows.update([update])

    assert "True" not in repr(update) + repr(outcome)


def test_client_and_stand_in_agree(sandbox: Sandbox, rows: DataverseRows) -> None:
    stale, gone, fine = opt_outs(sandbox, 3)
    sandbox.dataverse.update("contact", stale.key, {"firstname": "Zoe"})
    sandbox.dataverse.delete("contact", gone.key)
    held = {key: dict(found) for key in (stale.key, fine.key) if (found := rows.read(key)) is not None}

    def told(target: RowTarget) -> list[tuple[str, RowResult, object]]:
        outcomes = target.update([stale, gone, fine])
        return sorted((o.key, o.result, o.row and o.row["donotbulkemail"]) for o in outcomes)

    assert told(Rows(held)) == told(rows)
