"""`$batch` on the wire: "Execute batch operations using the Web API" and failures users report."""

import json
import re
from collections.abc import Sequence

import pytest
import requests

from d365_campaign.sandbox import Sandbox

from .conftest import Caller

JSON = "Content-Type: application/json; type=entry"


def operation(line: str, body: object = None, content_id: int | None = None, headers: Sequence[str] = ()) -> str:
    outer = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    outer += [f"Content-ID: {content_id}"] if content_id is not None else []
    inner = [f"{line} HTTP/1.1", *([JSON] if body is not None else []), *headers, ""]
    return "\r\n".join([*outer, "", *inner, "" if body is None else json.dumps(body)])


def change_set(*operations: str) -> str:
    parts = "".join(f"--changeset_1\r\n{part}\r\n" for part in operations)
    return f"Content-Type: multipart/mixed; boundary=changeset_1\r\n\r\n{parts}--changeset_1--\r\n"


def send(
    dataverse: Caller, *parts: str, prefer: str = "", ending: str = "\r\n", quoted: bool = True
) -> requests.Response:
    text = "".join(f"--batch_1\r\n{part}\r\n" for part in parts) + "--batch_1--\r\n"
    boundary = '"batch_1"' if quoted else "batch_1"
    headers = {"Content-Type": f"multipart/mixed; boundary={boundary}"} | ({"Prefer": prefer} if prefer else {})
    return dataverse("POST", "$batch", data=text.replace("\r\n", ending).encode(), headers=headers)


def statuses(response: requests.Response) -> list[int]:
    return [int(status) for status in re.findall(r"^HTTP/1\.1 (\d{3}) ", response.text, re.MULTILINE)]


@pytest.mark.parametrize("quoted", [True, False], ids=["quoted boundary", "bare boundary"])
def test_the_layout_of_an_answer(dataverse: Caller, quoted: bool) -> None:
    response = send(dataverse, operation("POST /api/data/v9.2/contacts", {"lastname": "One"}), quoted=quoted)
    mark = re.fullmatch(r"multipart/mixed; boundary=(batchresponse_[0-9a-f-]{36})", response.headers["Content-Type"])
    assert response.status_code == 200
    assert mark
    lines = response.text.split("\r\n")
    assert lines[:5] == [
        f"--{mark[1]}",
        "Content-Type: application/http",
        "Content-Transfer-Encoding: binary",
        "",
        "HTTP/1.1 204 No Content",
    ]
    assert any(line.startswith("OData-EntityId: https://") for line in lines)
    assert lines[-2:] == [f"--{mark[1]}--", ""]


@pytest.mark.parametrize(
    "url", ["contacts", "/contacts", "/api/data/v9.2/contacts", "https://{host}/api/data/v9.2/contacts"]
)
def test_inner_addresses_may_be_absolute_or_relative(sandbox: Sandbox, dataverse: Caller, url: str) -> None:
    host = sandbox.endpoints["dataverse"].removeprefix("https://")
    part = operation(f"GET {url.format(host=host)}?$select=lastname&$filter=lastname eq 'x'") + "\r\n"
    assert statuses(send(dataverse, part)) == [200]


def test_an_address_that_lost_its_slash_is_refused_as_reported(dataverse: Caller) -> None:
    """DynamicsWebApi issue 130."""
    response = send(dataverse, operation("GET api/data/v9.2/contacts"))
    assert (response.status_code, response.json()["error"]["code"]) == (400, "0x80060888")
    assert "Requested API Version 'data' was not understood" in response.json()["error"]["message"]


def test_lines_must_end_in_crlf(dataverse: Caller) -> None:
    response = send(dataverse, operation("GET contacts"), ending="\n")
    assert (response.status_code, response.json()["error"]["code"]) == (400, "0x80048d19")
    assert response.json()["error"]["message"].endswith("Stream was not readable.")


def test_the_inner_prefer_header_counts_for_its_operation(dataverse: Caller) -> None:
    echo = ["Prefer: return=representation"]
    response = send(dataverse, operation("POST contacts?$select=lastname", {"lastname": "One"}, headers=echo))
    assert statuses(response) == [201]
    assert '"lastname":"One"' in response.text


def test_a_condition_counts_for_its_operation_alone(sandbox: Sandbox, dataverse: Caller) -> None:
    """ "Perform conditional operations using the Web API"."""
    ids = [sandbox.dataverse.create("contact", {"lastname": f"L{n}"}) for n in range(2)]
    etags = [dataverse.get(f"contacts({row_id})").headers["ETag"] for row_id in ids]
    missing = "00000000-0000-4000-8000-000000000000"
    parts = [
        operation(
            f"PATCH contacts({row_id})?$select=lastname", {"lastname": "New"}, headers=[f"If-Match: {etag}", echo]
        )
        for row_id, etag, echo in (
            (ids[0], etags[0], "Prefer: return=representation"),
            (ids[1], 'W/"1"', "Prefer: return=representation"),
            (missing, etags[0], "Prefer: return=representation"),
            (ids[1], etags[1], "OData-Version: 4.0"),
        )
    ]
    response = send(dataverse, *parts, prefer="odata.continue-on-error")
    assert statuses(response) == [200, 412, 404, 204]
    assert [code for code in ("0x80060882", "0x80040217") if code in response.text] == ["0x80060882", "0x80040217"]
    assert len(sandbox.dataverse.rows("contact")) == 2
    assert f"ETag: {dataverse.get(f'contacts({ids[0]})').headers['ETag']}" in response.text


def test_a_fault_may_meet_one_operation_of_a_batch(sandbox: Sandbox, dataverse: Caller) -> None:
    sandbox.add_fault(system="dataverse", in_batch=True, method="POST", skip=1, status=429, retry_after=7)
    parts = [operation("POST contacts", {"lastname": f"L{n}"}) for n in range(3)]
    response = send(dataverse, *parts, prefer="odata.continue-on-error")
    assert (response.status_code, statuses(response)) == (200, [204, 429, 204])
    assert "Retry-After: 7" in response.text
    assert sorted(row["lastname"] for row in sandbox.dataverse.rows("contact")) == ["L0", "L2"]


def test_a_batch_is_one_request_but_at_most_a_thousand_parts(sandbox: Sandbox, dataverse: Caller) -> None:
    parts = [operation("GET WhoAmI")] * 1000
    sandbox.settings.update({"service_protection": True, "service_protection_requests": 2})
    assert len(statuses(send(dataverse, *parts))) == 1000
    response = send(dataverse, *parts, operation("GET WhoAmI"))
    assert response.status_code == 400
    assert "A maximum number of '1000' query operations and change sets" in response.json()["ExceptionMessage"]


@pytest.mark.parametrize(("counts", "status"), [("parts", 200), ("operations", 400)])
def test_how_a_change_set_counts_is_a_setting(sandbox: Sandbox, dataverse: Caller, counts: str, status: int) -> None:
    sandbox.settings.update({"batch_counts": counts})
    members = [operation("POST contacts", {"lastname": "x"}, number) for number in range(1001)]
    assert send(dataverse, change_set(*members)).status_code == status


def test_no_batch_in_a_batch_and_no_read_in_a_change_set(dataverse: Caller) -> None:
    assert send(dataverse, operation("POST $batch", {})).json()["error"]["message"].startswith("A batch can't contain")
    assert statuses(send(dataverse, change_set(operation("GET contacts", content_id=1)))) == [400]
    assert statuses(send(dataverse, change_set(operation("POST contacts", {"lastname": "x"})))) == [400]


def test_an_undeclared_reference_is_refused(dataverse: Caller) -> None:
    response = send(dataverse, change_set(operation("PATCH $7", {"lastname": "x"}, 1)))
    assert "Content-ID Reference: '$7' does not exist in the batch context." in response.text


@pytest.mark.parametrize(("layout", "nested"), [("single_part", False), ("nested", True)])
def test_the_layout_of_a_failed_change_set_is_a_setting(
    sandbox: Sandbox, dataverse: Caller, layout: str, nested: bool
) -> None:
    sandbox.settings.update({"failed_change_set": layout})
    response = send(dataverse, change_set(operation("PATCH contacts(1)", {}, 1)))
    assert len(statuses(response)) == 1
    assert ("changesetresponse_" in response.text) is nested


@pytest.mark.parametrize(("setting", "status"), [("of_the_part", 404), ("400", 400)])
def test_the_status_of_a_batch_that_stopped_is_a_setting(
    sandbox: Sandbox, dataverse: Caller, setting: str, status: int
) -> None:
    sandbox.settings.update({"batch_failure_status": setting})
    missing = operation("GET contacts(00000000-0000-4000-8000-000000000000)")
    assert send(dataverse, missing).status_code == status
    assert send(dataverse, missing, prefer="odata.continue-on-error").status_code == 200


def test_a_failed_change_set_restores_updates_deletes_order_and_tracking(sandbox: Sandbox, dataverse: Caller) -> None:
    ids = [sandbox.dataverse.create("contact", {"lastname": f"L{n}"}) for n in range(3)]
    page = dataverse.json("contacts?$select=lastname", headers={"Prefer": "odata.track-changes"})
    members = [
        operation(f"PATCH contacts({ids[0]})", {"lastname": "changed"}, 1),
        operation(f"DELETE contacts({ids[1]})", content_id=2),
        operation("POST contacts", {"lastname": "new"}, 3),
        operation("POST contacts", {"gendercode": 99}, 4),
    ]
    assert send(dataverse, change_set(*members)).status_code == 400
    assert sorted(row["lastname"] for row in sandbox.dataverse.rows("contact")) == ["L0", "L1", "L2"]
    assert dataverse.json(page["@odata.deltaLink"])["value"] == []
