"""One origin over real sockets: tokens, retries, the gate, and links that lead elsewhere."""

import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from d365_campaign.clients.http import ApiSession
from d365_campaign.clients.throttle import RetryPolicy, ThrottleGate
from d365_campaign.clients.tokens import TokenSource
from d365_campaign.errors import ConfigurationError, ForeignOrigin, RetriableError, UnknownOutcome
from d365_campaign.sandbox import Sandbox

SECRETS = ("sandbox-dataverse-secret", "sandbox-campaign-secret", "Bearer")


def make_profile(connect: Any, key: str = "key-1") -> None:
    client = connect.campaign()
    client.target(client.describe("profile"), "externalId").create(key, {"email": f"{key}@x.org"})


def statuses(sandbox: Sandbox, system: str, operation: str | None = None) -> list[int]:
    return [call.status for call in sandbox.calls(system) if operation in (None, call.operation)]


# --- tokens


def test_one_token_serves_many_requests(sandbox: Sandbox, connect: Any) -> None:
    client = connect.dataverse()

    for _ in range(3):
        client.describe("contact")

    assert len(sandbox.calls("entra")) == 1


def test_a_token_that_is_refused_in_mid_run_is_renewed_once_for_eight_workers(sandbox: Sandbox, connect: Any) -> None:
    make_profile(connect)
    client = connect.campaign()
    target = client.target(client.describe("profile"), "externalId")
    together = threading.Barrier(8)

    def read_many(_: int) -> int:
        found = 0
        for turn in range(6):
            if turn == 3 and together.wait() == 0:
                sandbox.expire_tokens()
            if turn == 3:
                together.wait()
            found += target.read("key-1") is not None
        return found

    sandbox.clear_calls()
    with ThreadPoolExecutor(8) as pool:
        found = sum(pool.map(read_many, range(8)))

    assert found == 48
    assert len(sandbox.calls("ims")) == 1
    assert 1 <= statuses(sandbox, "campaign").count(401) <= 8


def test_a_token_is_renewed_before_it_ends(sandbox: Sandbox, connect: Any) -> None:
    now = [0.0]
    tokens = TokenSource("Campaign", connect.credentials("Campaign"), connect.wire, clock=lambda: now[0])
    sandbox.settings.ims_token_seconds = 1000

    first = tokens.current()
    now[0] = 899
    still = tokens.current()
    now[0] = 901
    renewed = tokens.current()

    assert first == still != renewed


def test_a_second_401_in_a_row_names_the_credential(sandbox: Sandbox, connect: Any) -> None:
    sandbox.add_fault(system="dataverse", path="RetrieveMetadataChanges", status=401, times=2)

    with pytest.raises(ConfigurationError, match=r"dynamics\.client_id"):
        connect.dataverse().describe("contact")
    assert statuses(sandbox, "dataverse") == [401, 401]


@pytest.mark.parametrize(
    ("system", "changes", "setting"),
    [
        pytest.param("Dynamics", {"client_secret": "wrong"}, r"dynamics\.client_secret", id="Entra, wrong secret"),
        pytest.param("Dynamics", {"client_id": "nobody"}, r"dynamics\.client_id", id="Entra, unknown application"),
        pytest.param("Dynamics", {"scope": "https://x/.default"}, r"dynamics\.url and scope", id="Entra, wrong scope"),
        pytest.param("Campaign", {"client_secret": "wrong"}, r"campaign\.client_secret", id="IMS, wrong secret"),
        pytest.param("Campaign", {"client_id": "nobody"}, r"campaign\.client_id", id="IMS, unknown client"),
        pytest.param("Campaign", {"scope": "openid"}, r"campaign\.url and scope", id="IMS, wrong scope"),
    ],
)
def test_refused_credentials_name_the_setting_and_never_the_secret(
    sandbox: Sandbox, connect: Any, system: Any, changes: dict[str, str], setting: str
) -> None:
    tokens = connect.tokens(system, **changes)

    with pytest.raises(ConfigurationError, match=setting) as caught:
        tokens.current()

    assert "wrong" not in str(caught.value)
    assert len(sandbox.calls("entra") + sandbox.calls("ims")) == 1


def test_an_unknown_tenant_is_named(connect: Any) -> None:
    url = connect.endpoints["entra"] + "/nowhere/oauth2/v2.0/token"

    with pytest.raises(ConfigurationError, match=r"dynamics\.tenant"):
        connect.tokens("Dynamics", token_url=url).current()


def test_a_token_answer_may_name_another_scope(sandbox: Sandbox, connect: Any) -> None:
    sandbox.add_fault(system="ims", replace=[r"\}$", ', "scope": "openid"}'])

    assert connect.tokens("Campaign").current()


@pytest.mark.parametrize(
    "fault",
    [{"status": 503}, {"status": 429}, {"reset": True}, {"truncate": 20}, {"status": 200, "body": "<html>"}],
    ids=str,
)
def test_a_token_endpoint_in_trouble_is_asked_again(sandbox: Sandbox, connect: Any, fault: dict[str, Any]) -> None:
    sandbox.add_fault(system="entra", **fault)

    assert connect.dataverse().describe("contact").name == "contact"


def test_a_redirect_never_takes_the_secret_along(sandbox: Sandbox, connect: Any, foreign: Any) -> None:
    sandbox.add_fault(system="entra", status=307, headers={"Location": f"{foreign.origin}/token"})

    with pytest.raises(ConfigurationError):
        connect.tokens("Dynamics").current()
    assert not foreign.was_visited()


def test_credentials_do_not_show_their_secret(connect: Any) -> None:
    assert "secret" not in repr(connect.credentials("Dynamics")).replace("client_secret", "")


@pytest.mark.parametrize("url", ["http://localhost/token", "localhost/token"])
def test_a_token_is_never_asked_for_without_tls(connect: Any, url: str) -> None:
    with pytest.raises(ConfigurationError, match="https"):
        connect.tokens("Campaign", token_url=url)


# --- connections


def test_an_unreachable_host_is_named_and_may_be_tried_later(connect: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"https://localhost:{closed.getsockname()[1]}"

    with pytest.raises(RetriableError, match=r"localhost can't be reached \(connection refused\)"):
        connect.dataverse(url=url).describe("contact")


def test_an_unknown_host_is_named(connect: Any) -> None:
    with pytest.raises(RetriableError, match=r"nowhere\.invalid can't be reached \(unknown host name\)"):
        connect.dataverse(url="https://nowhere.invalid").describe("contact")


def test_a_certificate_that_cannot_be_verified_names_the_setting(sandbox: Sandbox, connect: Any) -> None:
    trusting_nobody_special = replace(connect.wire, ca_bundle=None)

    with pytest.raises(ConfigurationError, match=r"localhost can't be verified.*ca_bundle"):
        connect.dataverse(wire=trusting_nobody_special).describe("contact")
    with pytest.raises(ConfigurationError, match="ca_bundle"):
        TokenSource("Dynamics", connect.credentials("Dynamics"), trusting_nobody_special).current()
    assert sandbox.calls("dataverse") == []


def test_the_environment_cannot_change_whom_we_trust(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", connect.endpoints["ca_bundle"])

    with pytest.raises(ConfigurationError, match="ca_bundle"):
        connect.dataverse(wire=replace(connect.wire, ca_bundle=None)).describe("contact")


def test_a_missing_ca_bundle_is_told_before_anything_is_sent(connect: Any) -> None:
    with pytest.raises(ConfigurationError, match="there is no file"):
        connect.dataverse(wire=replace(connect.wire, ca_bundle=Path("/nowhere/ca.pem")))


@pytest.mark.parametrize("url", ["http://localhost:1", "contoso.crm4.dynamics.com", ""])
def test_an_address_without_tls_is_refused(connect: Any, url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"dynamics\.url"):
        connect.dataverse(url=url)


# --- retries


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 502},
        {"status": 503},
        {"status": 504},
        {"status": 429},
        {"reset": True},
        {"lose_answer": True},
        {"truncate": 25},
        {"replace": [r".{10}$", ""]},
        {"status": 200, "body": "<html>maintenance</html>", "content_type": "text/html"},
    ],
    ids=str,
)
def test_a_read_is_repeated_until_it_is_answered(sandbox: Sandbox, connect: Any, fault: dict[str, Any]) -> None:
    sandbox.add_fault(system="dataverse", path="RetrieveMetadataChanges", times=2, **fault)

    assert connect.dataverse().describe("contact").entity_set == "contacts"


def test_a_read_is_not_repeated_for_ever(sandbox: Sandbox, connect: Any) -> None:
    sandbox.add_fault(system="dataverse", times=100, status=503)

    with pytest.raises(RetriableError, match="503"):
        connect.dataverse().describe("contact")
    assert statuses(sandbox, "dataverse") == [503] * 4


def test_retry_after_in_seconds_is_waited_for(sandbox: Sandbox, connect: Any) -> None:
    sandbox.add_fault(system="dataverse", status=429, retry_after=1)
    start = time.monotonic()

    connect.dataverse().describe("contact")

    assert time.monotonic() - start >= 1


def test_retry_after_as_a_date_is_waited_for(sandbox: Sandbox, connect: Any) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    sandbox.add_fault(system="dataverse", status=503, headers={"Retry-After": later})
    start = time.monotonic()

    connect.dataverse().describe("contact")

    assert 0.9 <= time.monotonic() - start <= 4


def test_a_pause_longer_than_allowed_is_handed_on_at_once(sandbox: Sandbox, connect: Any) -> None:
    sandbox.add_fault(system="dataverse", status=429, retry_after=300)
    client, start = connect.dataverse(), time.monotonic()

    with pytest.raises(RetriableError) as caught:
        client.describe("contact")
    with pytest.raises(RetriableError) as next_caught:
        client.describe("contact")

    assert caught.value.retry_after_seconds == 300
    assert next_caught.value.retry_after_seconds == pytest.approx(300, abs=5)
    assert statuses(sandbox, "dataverse") == [429]
    assert time.monotonic() - start < 2


def test_in_a_storm_all_workers_wait_together(sandbox: Sandbox, connect: Any) -> None:
    make_profile(connect)
    client = connect.campaign(gate=ThrottleGate())
    target = client.target(client.describe("profile"), "externalId")
    target.read("key-1")
    sandbox.clear_calls()
    sandbox.add_fault(system="campaign", status=429, retry_after=1, body={"error_code": "429050"})
    first, start = threading.Event(), time.monotonic()

    def read(worker: int) -> bool:
        if worker == 0:
            threading.Timer(0.3, first.set).start()
        else:
            first.wait()
        return target.read("key-1") is not None

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, range(8)))

    assert all(found)
    assert statuses(sandbox, "campaign") == [429] + [200] * 8
    assert time.monotonic() - start >= 1


def test_a_configured_rate_is_kept_by_all_workers_together(sandbox: Sandbox, connect: Any) -> None:
    make_profile(connect)
    client = connect.campaign(gate=ThrottleGate(max_requests_per_second=40))
    target = client.target(client.describe("profile"), "externalId")
    start = time.monotonic()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: target.read("key-1"), range(20)))

    assert time.monotonic() - start >= 19 / 40


def test_a_hanging_server_is_left_after_the_read_timeout(sandbox: Sandbox, connect: Any) -> None:
    sandbox.add_fault(system="dataverse", delay_seconds=1.5)
    impatient = replace(connect.wire, read_timeout_seconds=0.3)
    start = time.monotonic()

    assert connect.dataverse(wire=impatient).describe("contact").name == "contact"
    assert time.monotonic() - start < 1.4


def test_an_answer_that_only_drips_in_is_given_up(sandbox: Sandbox, connect: Any) -> None:
    sandbox.add_fault(system="dataverse", slow_drip=2)
    bounded = replace(connect.wire, total_timeout_seconds=0.5)
    start = time.monotonic()

    assert connect.dataverse(wire=bounded).describe("contact").name == "contact"
    assert time.monotonic() - start < 2


# --- writes


@pytest.mark.parametrize(
    "fault",
    [{"lose_answer": True}, {"reset": True}, {"status": 500}, {"status": 502}, {"status": 504}, {"status": 503}],
    ids=str,
)
def test_a_write_without_a_clear_answer_is_sent_once_and_left_open(
    sandbox: Sandbox, connect: Any, fault: dict[str, Any]
) -> None:
    client = connect.campaign()
    target = client.target(client.describe("profile"), "externalId")
    sandbox.clear_calls()
    sandbox.add_fault(system="campaign", method="POST", **fault)

    with pytest.raises(UnknownOutcome):
        target.create("key-1", {"email": "a@x.org"})

    assert len(sandbox.calls("campaign")) == 1
    assert len(sandbox.campaign.records("profile")) == bool(fault.get("lose_answer"))


def test_a_write_that_hangs_is_left_open(sandbox: Sandbox, connect: Any) -> None:
    client = connect.campaign(wire=replace(connect.wire, read_timeout_seconds=0.3))
    target = client.target(client.describe("profile"), "externalId")
    sandbox.add_fault(system="campaign", method="POST", delay_seconds=1)

    with pytest.raises(UnknownOutcome, match="timed out"):
        target.create("key-1", {"email": "a@x.org"})


@pytest.mark.parametrize(
    "fault",
    [{"status": 429}, {"status": 503, "body": {"error_code": "503010"}}, {"status": 401}],
    ids=str,
)
def test_a_write_that_had_no_effect_is_sent_again(sandbox: Sandbox, connect: Any, fault: dict[str, Any]) -> None:
    client = connect.campaign()
    target = client.target(client.describe("profile"), "externalId")
    sandbox.add_fault(system="campaign", method="POST", **fault)

    target.create("key-1", {"email": "a@x.org"})

    assert len(sandbox.campaign.records("profile")) == 1


def test_a_write_to_a_host_that_is_not_there_was_never_sent(connect: Any) -> None:
    client = connect.campaign()
    resource = client.describe("profile")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"https://localhost:{closed.getsockname()[1]}/sandbox"

    with pytest.raises(RetriableError) as caught:
        connect.campaign(url=url).target(resource, "externalId").create("key-1", {})
    assert not isinstance(caught.value, UnknownOutcome)


def test_a_lost_write_is_not_taken_for_unsent_because_of_an_older_error(sandbox: Sandbox, connect: Any) -> None:
    client = connect.campaign()
    resource = client.describe("profile")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"https://localhost:{closed.getsockname()[1]}/sandbox"
    sandbox.clear_calls()
    sandbox.add_fault(system="campaign", method="POST", lose_answer=True)

    try:
        connect.campaign(url=url).describe("profile")
    except RetriableError:
        with pytest.raises(UnknownOutcome):
            client.target(resource, "externalId").create("key-1", {})

    assert len(sandbox.calls("campaign")) == 1


def test_a_proxy_that_fails_was_never_passed(sandbox: Sandbox, connect: Any) -> None:
    resource = connect.campaign().describe("profile")
    tokens = connect.tokens("Campaign")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        proxied = replace(connect.wire, proxy=f"http://127.0.0.1:{closed.getsockname()[1]}")

    with pytest.raises(RetriableError, match=r"the proxy failed|connection refused") as caught:
        connect.campaign(wire=proxied, tokens=tokens).target(resource, "externalId").create("key-1", {})
    assert not isinstance(caught.value, UnknownOutcome)


# --- links


def session_to(base: str) -> ApiSession:
    class NoTokens:
        def current(self) -> str:
            raise AssertionError("no token may be asked for")

        def renew(self, refused: str) -> str:
            raise AssertionError("no token may be asked for")

    return ApiSession("Dynamics", base, NoTokens(), headers={})


@pytest.mark.parametrize(
    ("link", "located"),
    [
        ("contacts?$select=a", "https://org.example/api/contacts?$select=a"),
        ("contacts?x=https://elsewhere.example", "https://org.example/api/contacts?x=https://elsewhere.example"),
        ("/other/path", "https://org.example/other/path"),
        ("https://org.example:443/api/x?$deltatoken=1%2108%2f22", "https://org.example/api/x?$deltatoken=1%2108%2f22"),
        ("HTTPS://ORG.example/api/x?a=%253ccookie%20'b'", "https://org.example/api/x?a=%253ccookie%20'b'"),
    ],
)
def test_links_of_our_own_origin_are_followed_as_they_are(link: str, located: str) -> None:
    assert session_to("https://org.example/api").locate(link, "table contact") == located


@pytest.mark.parametrize(
    "link",
    [
        "https://elsewhere.example/api/x?secret=1",
        "https://org.example.elsewhere.example/x?secret=1",
        "http://org.example/api/x?secret=1",
        "https://org.example:8443/x?secret=1",
        "//elsewhere.example/x?secret=1",
        "https://org.example@elsewhere.example/x?secret=1",
        "https://user@org.example/x?secret=1",
        "https://elsewhere.example\\@org.example/x?secret=1",
        "https://org.example:notaport/x?secret=1",
        "https://[org.example/x?secret=1",
        "ftp://org.example/x?secret=1",
        "javascript://org.example/%0ax?secret=1",
    ],
)
def test_links_that_lead_elsewhere_are_refused_without_showing_their_query(link: str) -> None:
    with pytest.raises(ForeignOrigin) as caught:
        session_to("https://org.example/api").get(link, "table contact", lambda answer: answer)

    assert "table contact" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("system", ["dataverse", "campaign"])
def test_a_redirect_to_another_origin_is_never_followed(
    sandbox: Sandbox, connect: Any, foreign: Any, system: str
) -> None:
    sandbox.add_fault(system=system, status=302, headers={"Location": f"{foreign.origin}/x"})

    with pytest.raises(ForeignOrigin):
        connect.dataverse().describe("contact") if system == "dataverse" else connect.campaign().describe("profile")
    assert not foreign.was_visited()


def test_a_redirect_within_the_origin_asks_for_the_right_address(sandbox: Sandbox, connect: Any) -> None:
    sandbox.add_fault(system="dataverse", status=301, headers={"Location": "/api/data/v9.3/x"})

    with pytest.raises(ConfigurationError, match=r"redirect \(301\).*dynamics\.url"):
        connect.dataverse().describe("contact")


# --- what is kept and shown


def test_no_cookie_is_sent_back(sandbox: Sandbox, connect: Any) -> None:
    sandbox.add_fault(system="dataverse", times=9, replace=["^", ""], headers={"Set-Cookie": "ARRAffinity=x; Path=/"})
    client = connect.dataverse()

    client.describe("contact")

    assert len(client._session._session.cookies) == 0


def test_logs_hold_no_token_secret_key_or_query(
    sandbox: Sandbox, connect: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sandbox.seed(contacts=3)
    dataverse, campaign = connect.dataverse(page_size=2), connect.campaign()
    table = dataverse.describe("contact")
    sandbox.add_fault(system="dataverse", path="contacts", status=503)
    list(dataverse.changes(table, [table.columns["emailaddress1"]], None))
    target = campaign.target(campaign.describe("profile"), "externalId")
    target.create("key-1", {"email": "ada@example.org"})
    found = target.read("key-1")
    assert found is not None
    target.update("key-1", found, {"email": "ada@example.net"})

    assert "GET table contact answered 200" in caplog.text
    for hidden in (*SECRETS, "ada@example", "PKey", "/@", "%40", "$select", "skiptoken", "_lineCount"):
        assert hidden not in caplog.text


def test_a_total_wait_is_bounded_even_when_attempts_are_not(sandbox: Sandbox, connect: Any) -> None:
    sandbox.add_fault(system="dataverse", times=1000, status=503)
    policy = RetryPolicy(attempts=1000, max_wait_seconds=0.5, first_wait_seconds=0.05, longest_wait_seconds=0.1)
    start = time.monotonic()

    with pytest.raises(RetriableError):
        connect.dataverse(retry=policy).describe("contact")
    assert time.monotonic() - start < 1.5
