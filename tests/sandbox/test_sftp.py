"""Campaign's SFTP storage: "Logging into your SFTP server", "SFTP storage management", "Key management"."""

import io
import logging
import os
import shutil
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import paramiko
import pytest

from d365_campaign.sandbox import Sandbox

from .conftest import Caller

EXPORTS = "/d365_loads/exports"
WARNING_FREE_LOG = logging.getLogger("tests.ssh")
WARNING_FREE_LOG.addHandler(logging.NullHandler())
needs_openssh = pytest.mark.skipif(shutil.which("sftp") is None, reason="OpenSSH's sftp is not installed")


@contextmanager
def logged_in(
    sandbox: Sandbox, user: str = "campaign", key: paramiko.PKey | None = None
) -> Iterator[paramiko.Transport]:
    """A connection that has checked the host key and logged in, without an SFTP session yet."""
    login = sandbox.endpoints["sftp"]
    transport = paramiko.Transport(socket.create_connection((login["host"], login["port"]), 5))
    transport.set_log_channel(WARNING_FREE_LOG.name)
    try:
        transport.start_client(timeout=10)
        assert transport.get_remote_server_key().fingerprint == login["host_key"]
        transport.auth_publickey(user, key or paramiko.RSAKey.from_private_key_file(login["private_key_file"]))
        yield transport
    finally:
        transport.close()
        transport.join(5)


@contextmanager
def opened(sandbox: Sandbox) -> Iterator[paramiko.SFTPClient]:
    with logged_in(sandbox) as transport:
        client = paramiko.SFTPClient.from_transport(transport)
        assert client is not None
        client.get_channel().settimeout(10)
        yield client


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[paramiko.SFTPClient]:
    with opened(sandbox) as client:
        yield client
    assert sandbox.sftp.wait_until_closed()


def done(sandbox: Sandbox) -> list[tuple[str, str, str]]:
    return [(item.operation, item.path, item.status) for item in sandbox.sftp.operations]


# --- logging in


def openssh(sandbox: Sandbox, batch: str, known_hosts: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """OpenSSH's `sftp`, which knows nothing but the two files that the sandbox wrote."""
    login = sandbox.endpoints["sftp"]
    options = ["-b", "-", "-F", os.devnull, "-P", str(login["port"]), "-i", login["private_key_file"]]
    options += ["-o", "IdentitiesOnly=yes", "-o", f"UserKnownHostsFile={known_hosts or login['known_hosts_file']}"]
    command = ["sftp", *options, f"{login['user']}@{login['host']}"]
    return subprocess.run(command, input=batch, check=False, capture_output=True, text=True, timeout=30)


@needs_openssh
def test_stock_sftp_logs_in_and_moves_files_both_ways(sandbox: Sandbox, tmp_path: Path) -> None:
    content = os.urandom(300_000)
    (tmp_path / "up").write_bytes(content)
    batch = f"""
        cd {EXPORTS}
        put -p {tmp_path}/up up
        ls -l
        mkdir processed
        rename up processed/down
        put {tmp_path}/up again
        rename again processed/down
        chmod 600 processed/down
        get processed/down {tmp_path}/down
        rm processed/down
        rmdir processed
        pwd
    """
    ended = openssh(sandbox, batch)
    assert ended.returncode == 0, ended.stderr
    assert f"Remote working directory: {EXPORTS}" in ended.stdout
    assert (tmp_path / "down").read_bytes() == content
    assert list((sandbox.sftp.root / "d365_loads" / "exports").iterdir()) == []
    assert sandbox.sftp.sessions == 1
    assert sandbox.sftp.wait_until_closed()


@needs_openssh
def test_stock_sftp_resumes_an_upload(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    (sandbox.sftp.root / "file").write_bytes(b"01234")
    ended = openssh(sandbox, f"put -a {tmp_path}/file file\n")
    assert ended.returncode == 0, ended.stderr
    assert (sandbox.sftp.root / "file").read_bytes() == b"0123456789"


@needs_openssh
def test_another_host_key_is_noticed(sandbox: Sandbox, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    other = paramiko.RSAKey.generate(2048).get_base64()
    known.write_text(f"[127.0.0.1]:{sandbox.endpoints['sftp']['port']} ssh-rsa {other}\n")
    assert "Host key verification failed" in openssh(sandbox, "pwd\n", known).stderr


def test_the_key_is_the_size_control_panel_asks_for_and_its_owners_alone(sandbox: Sandbox) -> None:
    """ "Key management": RSA 2048; a private key that others can read is refused by OpenSSH."""
    file = Path(sandbox.endpoints["sftp"]["private_key_file"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert paramiko.RSAKey.from_private_key_file(str(file)).get_bits() == 2048


def test_the_fingerprint_is_written_as_openssh_writes_it(sandbox: Sandbox) -> None:
    login = sandbox.endpoints["sftp"]
    hosts = paramiko.HostKeys(login["known_hosts_file"])
    for host in ("127.0.0.1", "localhost"):
        keys = hosts.lookup(f"[{host}]:{login['port']}")
        assert keys is not None
        assert keys["ssh-rsa"].fingerprint == login["host_key"]
    assert login["host_key"].startswith("SHA256:")
    assert not login["host_key"].endswith("=")


@pytest.mark.parametrize("stranger", ["another user", "another key"])
def test_a_stranger_is_not_let_in(sandbox: Sandbox, stranger: str) -> None:
    user = "admin" if stranger == "another user" else "campaign"
    key = paramiko.RSAKey.generate(2048) if stranger == "another key" else None
    with pytest.raises(paramiko.AuthenticationException), logged_in(sandbox, user, key):
        pass


def test_passwords_are_not_offered(sandbox: Sandbox) -> None:
    login = sandbox.endpoints["sftp"]
    transport = paramiko.Transport((login["host"], login["port"]))
    try:
        transport.start_client(timeout=10)
        with pytest.raises(paramiko.BadAuthenticationType) as refused:
            transport.auth_password("campaign", "campaign")
        assert refused.value.allowed_types == ["publickey"]
    finally:
        transport.close()
        transport.join(5)


@pytest.mark.parametrize("wanted", ["shell", "exec", "subsystem"])
def test_a_session_is_for_files_alone(sandbox: Sandbox, wanted: str) -> None:
    with logged_in(sandbox) as transport:
        channel = transport.open_session(timeout=5)
        start = {
            "shell": channel.invoke_shell,
            "exec": lambda: channel.exec_command("id"),
            "subsystem": lambda: channel.invoke_subsystem("netconf"),
        }
        with pytest.raises(paramiko.SSHException):
            start[wanted]()


def test_nothing_is_forwarded(sandbox: Sandbox) -> None:
    with logged_in(sandbox) as transport:
        with pytest.raises(paramiko.ChannelException):
            transport.open_channel("direct-tcpip", ("127.0.0.1", 80), ("127.0.0.1", 1), timeout=5)
        with pytest.raises(paramiko.SSHException):
            transport.request_port_forward("127.0.0.1", 0)


# --- files


def test_files_are_written_read_appended_and_removed(sandbox: Sandbox, client: paramiko.SFTPClient) -> None:
    content = os.urandom(200_000)
    client.putfo(io.BytesIO(content), "one.bin")
    with client.open("one.bin", "a") as file:
        file.write(b"more")
    with client.open("one.bin", "rb") as file:
        file.prefetch()
        assert file.read() == content + b"more"
    with client.open("one.bin", "r+") as file:
        file.seek(2)
        file.write(b"XY")
        file.truncate(5)
    assert (sandbox.sftp.root / "one.bin").read_bytes() == content[:2] + b"XY" + content[4:5]
    client.remove("one.bin")
    with pytest.raises(FileNotFoundError):
        client.stat("one.bin")


def test_a_listing_tells_names_sizes_and_kinds(client: paramiko.SFTPClient) -> None:
    client.mkdir("many")
    for number in range(40):
        client.putfo(io.BytesIO(b"x" * number), f"many/{number:02}")
    found = {item.filename: item.st_size for item in client.listdir_attr("many")}
    assert found == {f"{number:02}": number for number in range(40)}
    kind = client.stat("many").st_mode
    assert kind is not None
    assert stat.S_ISDIR(kind)


def test_a_rename_never_replaces_and_a_posix_rename_does(client: paramiko.SFTPClient) -> None:
    for name in ("a", "b"):
        client.putfo(io.BytesIO(name.encode()), name)
    with pytest.raises(OSError, match="Failure"):
        client.rename("a", "b")
    client.posix_rename("a", "b")
    assert client.listdir("/") == ["b", "d365_loads"]
    with client.open("b") as file:
        assert file.read() == b"a"


def test_modes_and_times_are_set(sandbox: Sandbox, client: paramiko.SFTPClient) -> None:
    client.putfo(io.BytesIO(b""), "file")
    client.chmod("file", 0o640)
    client.utime("file", (1, 2))
    status = client.stat("file")
    assert (status.st_mtime, stat.S_IMODE(status.st_mode or 0)) == (2, 0o640)
    with pytest.raises(PermissionError):
        client.chown("file", 1, 1)


def test_what_a_client_writes_bears_the_sandboxs_time(sandbox: Sandbox, client: paramiko.SFTPClient) -> None:
    sandbox.advance_clock(10 * 86_400)
    client.putfo(io.BytesIO(b"x"), "file")
    assert abs((client.stat("file").st_mtime or 0) - time.time() - 10 * 86_400) < 10


def test_missing_files_and_folders_in_use_are_told_apart(client: paramiko.SFTPClient) -> None:
    with pytest.raises(FileNotFoundError):
        client.listdir("/nothing")
    with pytest.raises(FileNotFoundError):
        client.open("/nothing/at/all", "w")
    with pytest.raises(OSError, match="Failure"):
        client.rmdir("/d365_loads")


@pytest.mark.parametrize("path", ["../../outside", "/../outside", "d365_loads/../../outside", "//outside"])
def test_no_path_leads_out_of_the_folder(sandbox: Sandbox, client: paramiko.SFTPClient, path: str) -> None:
    outside = sandbox.sftp.root.parent / "outside"
    client.putfo(io.BytesIO(b"x"), path)
    assert not outside.exists()
    assert (sandbox.sftp.root / "outside").exists()
    assert client.normalize(path) == "/outside"


def test_no_symbolic_link_leads_out_of_the_folder(sandbox: Sandbox, client: paramiko.SFTPClient) -> None:
    (sandbox.sftp.root / "way_out").symlink_to(sandbox.sftp.root.parent)
    (sandbox.sftp.root / "secret").symlink_to(sandbox.endpoints["sftp"]["private_key_file"])
    for attempt in (
        lambda: client.listdir("way_out"),
        lambda: client.stat("way_out"),
        lambda: client.open("way_out/sftp_key"),
        lambda: client.open("secret"),
        lambda: client.open("way_out/new", "w"),
        lambda: client.remove("way_out/sftp_key"),
        lambda: client.rename("d365_loads", "way_out/gone"),
        lambda: client.chmod("secret", 0o777),
    ):
        with pytest.raises(PermissionError):
            attempt()
    with pytest.raises(OSError, match="unsupported"):
        client.symlink("/", "link")
    client.remove("secret")
    assert Path(sandbox.endpoints["sftp"]["private_key_file"]).exists()


def test_the_root_can_be_neither_moved_nor_removed(sandbox: Sandbox, client: paramiko.SFTPClient) -> None:
    for attempt in (
        lambda: client.rmdir("/"),
        lambda: client.rename("/", "/x"),
        lambda: client.posix_rename("..", "x"),
    ):
        with pytest.raises(PermissionError):
            attempt()
    assert sandbox.sftp.root.is_dir()


# --- what a test can see


def test_operations_are_noted_in_order_and_reads_once_per_file(sandbox: Sandbox, client: paramiko.SFTPClient) -> None:
    (sandbox.sftp.root / "big").write_bytes(bytes(100_000))
    with client.open("big") as file:
        file.read()
    client.listdir(EXPORTS)
    with pytest.raises(FileNotFoundError):
        client.remove("small")
    assert done(sandbox) == [
        ("open", "/big", "ok"),
        ("read", "/big", "ok"),
        ("list", EXPORTS, "ok"),
        ("remove", "/small", "missing"),
    ]


def test_connections_are_counted(sandbox: Sandbox) -> None:
    for number in (1, 2):
        with opened(sandbox) as client:
            client.listdir(".")
            assert (sandbox.sftp.connections, sandbox.sftp.sessions) == (1, number)
        assert sandbox.sftp.wait_until_closed()
    assert [item.session for item in sandbox.sftp.operations] == [1, 2]
    sandbox.clear_calls()
    assert (sandbox.sftp.sessions, sandbox.sftp.operations) == (0, [])


def test_the_log_is_read_over_the_admin_address(admin: Caller, client: paramiko.SFTPClient) -> None:
    client.listdir(".")
    seen = admin.json("/sftp")
    assert (seen["connections"], seen["sessions"]) == (1, 1)
    assert [(item["operation"], item["path"]) for item in seen["operations"]] == [("list", "/")]


@pytest.mark.parametrize("there", [True, False])
def test_a_reset_empties_the_storage(sandbox: Sandbox, tmp_path: Path, there: bool) -> None:
    """ "Connect systems with the integration app": the customer makes the exports folder."""
    with Sandbox.start(tmp_path, sftp_exports_folder=there) as other:
        assert other.sftp.root.joinpath("d365_loads/exports").is_dir() is there
        (other.sftp.root / "file").write_bytes(b"x")
        other.add_sftp_fault(kind="refuse")
        other.reset()
        assert [path.name for path in other.sftp.root.iterdir()] == (["d365_loads"] if there else [])
        assert other.sftp.faults.as_dicts() == []


# --- faults


def test_a_refused_connection_is_reset_before_a_word(sandbox: Sandbox) -> None:
    sandbox.add_sftp_fault(kind="refuse", times=2)
    for _ in range(2):
        with pytest.raises((paramiko.SSHException, OSError, EOFError)), opened(sandbox):
            pass
    with opened(sandbox) as client:
        assert client.listdir("/") == ["d365_loads"]
    assert sandbox.sftp.sessions == 1


def test_a_connection_drops_in_the_middle_of_a_read(sandbox: Sandbox) -> None:
    (sandbox.sftp.root / "big").write_bytes(bytes(200_000))
    sandbox.add_sftp_fault(kind="drop", path="big", skip=2)
    with opened(sandbox) as client, pytest.raises(paramiko.SSHException):
        client.getfo("big", io.BytesIO(), prefetch=False)
    assert done(sandbox)[-1] == ("read", "/big", "dropped")
    assert sandbox.sftp.wait_until_closed()


def test_one_operation_is_denied_and_others_are_not(sandbox: Sandbox, client: paramiko.SFTPClient) -> None:
    sandbox.add_sftp_fault(kind="deny", operation="rename")
    client.putfo(io.BytesIO(b"x"), "a")
    with pytest.raises(PermissionError):
        client.rename("a", "b")
    client.rename("a", "b")
    assert [status for operation, _, status in done(sandbox) if operation == "rename"] == ["denied", "ok"]


def test_a_login_is_denied_once(sandbox: Sandbox) -> None:
    """Keys expire ("Key management")."""
    sandbox.add_sftp_fault(kind="deny", operation="login")
    with pytest.raises(paramiko.AuthenticationException), logged_in(sandbox):
        pass
    with logged_in(sandbox):
        pass


@pytest.mark.parametrize("operation", ["list", "connect"])
def test_a_stalled_server_says_nothing_for_a_while(sandbox: Sandbox, operation: str) -> None:
    sandbox.add_sftp_fault(kind="stall", operation=operation, seconds=0.4)
    started = time.monotonic()
    with opened(sandbox) as client:
        client.listdir(".")
    assert time.monotonic() - started >= 0.4


def test_faults_are_set_over_the_admin_address(admin: Caller) -> None:
    body = {"kind": "deny", "operation": "remove", "times": 3}
    assert admin("POST", "/sftp-faults", json=body).json()[0]["times"] == 3
    assert admin("POST", "/sftp-faults", json={"kind": "deny", "operation": "fly"}).status_code == 400
    assert admin("POST", "/sftp-faults", json={"kind": "vanish"}).status_code == 400
    assert len(admin.json("/sftp-faults")) == 1
    assert admin("DELETE", "/sftp-faults").json() == []


# --- stopping


def test_stopping_waits_for_no_client(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = set(threading.enumerate())
    with ExitStack() as clients:
        with Sandbox.start(tmp_path) as sandbox:
            login = sandbox.endpoints["sftp"]
            clients.enter_context(socket.create_connection((login["host"], login["port"])))
            clients.enter_context(opened(sandbox)).open("file", "w")
            stalled = clients.enter_context(opened(sandbox))
            sandbox.add_sftp_fault(kind="stall", operation="list", seconds=60)
            waiting = threading.Thread(target=_list, args=(stalled,))
            waiting.start()
            while sandbox.sftp.faults.as_dicts():
                time.sleep(0.01)
            started = time.monotonic()
        assert time.monotonic() - started < 3
        assert sandbox.sftp.connections == 0
        waiting.join(5)
    assert set(threading.enumerate()) <= before
    assert capfd.readouterr().err == ""


def _list(client: paramiko.SFTPClient) -> None:
    with suppress(OSError, EOFError, paramiko.SSHException):
        client.listdir(".")
