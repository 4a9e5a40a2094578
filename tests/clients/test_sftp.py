"""The client of the SFTP area, against OpenSSH's sshd and against the sandbox."""

import io
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import paramiko
import pytest

from d365_campaign.clients.sftp import SftpArea, SftpLogin
from d365_campaign.errors import ConfigurationError, RetriableError
from d365_campaign.opt_out_files import RemoteFile
from d365_campaign.sandbox import Sandbox
from tests.sftp_servers import (
    SSHD,
    SftpServer,
    breaking_line,
    free_port,
    make_key,
    mute_server,
    openssh_server,
    sandbox_server,
)

EXPORTS = "d365_loads/exports"
MONDAY = datetime(2026, 3, 2, 6, 30, tzinfo=UTC)
LARGE = 5_000_000
OTHER_KEY = "SHA256:" + "A" * 43
needs_sshd = pytest.mark.skipif(SSHD is None, reason="OpenSSH's sshd is not installed")


@pytest.fixture(scope="module")
def served_openssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpServer]:
    with openssh_server(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def openssh(served_openssh: SftpServer) -> SftpServer:
    for entry in served_openssh.root.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    return served_openssh


@pytest.fixture(params=[pytest.param("openssh", marks=needs_sshd), "sandbox"])
def server(request: pytest.FixtureRequest) -> SftpServer:
    """Each server in turn, with an empty folder for exports."""
    if request.param == "openssh":
        server: SftpServer = request.getfixturevalue("openssh")
    else:
        server = sandbox_server(request.getfixturevalue("sandbox"))
    server.folder(EXPORTS)
    return server


@pytest.fixture
def area(server: SftpServer) -> Iterator[SftpArea]:
    with SftpArea(server.login) as area:
        yield area


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    """Whatever a test does, the connection's threads end with its block."""
    before = set(threading.enumerate())
    yield
    end = time.monotonic() + 5
    while (left := _ours(before)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not left


def _ours(before: set[threading.Thread]) -> list[threading.Thread]:
    """Threads of clients: connections, alarms and those that ask ahead. The sandbox has connections too."""
    started = [thread for thread in threading.enumerate() if thread not in before]
    return [thread for thread in started if _is_of_a_client(thread)]


def _is_of_a_client(thread: threading.Thread) -> bool:
    if isinstance(thread, paramiko.Transport):
        return not thread.server_mode
    if isinstance(thread, threading.Timer):
        return thread.function.__name__ == "ring"
    return "sending" in thread.name


def written(server: SftpServer, name: str, content: bytes = b"", folder: str = EXPORTS) -> Path:
    file = server.folder(folder) / name
    file.write_bytes(content)
    os.utime(file, (MONDAY.timestamp(), MONDAY.timestamp()))
    return file


def downloaded(area: SftpArea, name: str) -> bytes:
    into = io.BytesIO()
    area.download(EXPORTS, name, into)
    return into.getvalue()


@contextmanager
def refused(kind: type[Exception], *parts: str) -> Iterator[None]:
    """The block ends in an error of this kind, whose message has all *parts*."""
    with pytest.raises(kind) as caught:
        yield
    for part in parts:
        assert part in str(caught.value)


def connect(login: SftpLogin) -> None:
    with SftpArea(login):
        pass


# --- files


def test_files_are_listed_by_name_with_size_and_time(server: SftpServer, area: SftpArea) -> None:
    written(server, "b.csv", b"12345")
    written(server, "a.csv")

    assert area.files(EXPORTS) == [RemoteFile("a.csv", 0, MONDAY), RemoteFile("b.csv", 5, MONDAY)]


def test_folders_and_links_are_no_files(server: SftpServer, area: SftpArea) -> None:
    server.folder(f"{EXPORTS}/processed")
    (server.root / EXPORTS / "link.csv").symlink_to(written(server, "a.csv"))

    assert [file.name for file in area.files(EXPORTS)] == ["a.csv"]


def test_missing_folder_is_named(server: SftpServer, area: SftpArea) -> None:
    with refused(ConfigurationError, "d365_loads/nothing", "no such file or folder", server.login.address):
        area.files("d365_loads/nothing")


def test_folder_is_told_from_file_and_from_nothing(server: SftpServer, area: SftpArea) -> None:
    written(server, "a.csv")

    assert area.has_folder(EXPORTS)
    assert area.has_folder("")
    assert not area.has_folder(f"{EXPORTS}/a.csv")
    assert not area.has_folder("d365_loads/nothing")


def test_file_larger_than_a_window_arrives_byte_by_byte(server: SftpServer, area: SftpArea) -> None:
    content = os.urandom(LARGE)
    written(server, "large.csv", content)

    assert downloaded(area, "large.csv") == content


def test_empty_file_arrives_empty(server: SftpServer, area: SftpArea) -> None:
    written(server, "empty.csv")

    assert downloaded(area, "empty.csv") == b""


def test_file_that_is_gone_is_tried_again_later(area: SftpArea) -> None:
    with refused(RetriableError, f"{EXPORTS}/gone.csv"):
        downloaded(area, "gone.csv")


@pytest.mark.parametrize("now", [100, 6_000_000], ids=["shrinks", "grows"])
def test_download_of_a_file_that_changes_meanwhile_fails(server: SftpServer, area: SftpArea, now: int) -> None:
    file = written(server, "a.csv", os.urandom(LARGE))

    class Changing(io.BytesIO):
        def write(self, piece: object) -> int:
            os.truncate(file, now)
            return 0

    with refused(RetriableError, "a.csv", "of 5,000,000 bytes"):
        area.download(EXPORTS, "a.csv", Changing())


def test_full_disk_here_is_no_fault_of_the_server(server: SftpServer, area: SftpArea) -> None:
    written(server, "a.csv", b"content")

    class Full(io.BytesIO):
        def write(self, piece: object) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        area.download(EXPORTS, "a.csv", Full())


def test_upload_replaces_an_older_file(server: SftpServer, area: SftpArea) -> None:
    written(server, "run.log", b"older and longer")

    area.upload(EXPORTS, "run.log", b"newer")

    assert (server.root / EXPORTS / "run.log").read_bytes() == b"newer"
    assert [file.name for file in area.files(EXPORTS)] == ["run.log"]


def test_upload_is_never_seen_half_written(server: SftpServer, area: SftpArea) -> None:
    file, seen, done = server.root / EXPORTS / "run.log", set[int](), threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            seen.update([file.stat().st_size] if file.exists() else [])

    watching = threading.Thread(target=watch)
    watching.start()
    area.upload(EXPORTS, "run.log", b"x" * LARGE)
    done.set()
    watching.join()

    assert seen <= {LARGE}
    assert file.stat().st_size == LARGE


def test_upload_into_a_missing_folder_names_it(area: SftpArea) -> None:
    with refused(ConfigurationError, "d365_loads/nothing"):
        area.upload("d365_loads/nothing", "run.log", b"")


def test_move_makes_the_folder_it_goes_to(server: SftpServer, area: SftpArea) -> None:
    written(server, "a.csv", b"a")

    area.move(EXPORTS, "a.csv", f"{EXPORTS}/processed")

    assert (server.root / EXPORTS / "processed" / "a.csv").read_bytes() == b"a"
    assert not area.files(EXPORTS)


@pytest.fixture(params=["posix-rename", "no such extension"])
def _with_or_without_posix_rename(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError("Operation unsupported")

    if request.param == "no such extension":
        monkeypatch.setattr(paramiko.SFTPClient, "posix_rename", unsupported)


@pytest.mark.usefixtures("_with_or_without_posix_rename")
def test_move_replaces_an_older_file_of_that_name(server: SftpServer, area: SftpArea) -> None:
    written(server, "a.csv", b"newer")
    written(server, "a.csv", b"older", folder=f"{EXPORTS}/processed")

    area.move(EXPORTS, "a.csv", f"{EXPORTS}/processed")

    assert (server.root / EXPORTS / "processed" / "a.csv").read_bytes() == b"newer"
    assert not area.files(EXPORTS)


@pytest.mark.usefixtures("_with_or_without_posix_rename")
def test_move_to_where_it_is_keeps_the_file(server: SftpServer, area: SftpArea) -> None:
    written(server, "a.csv", b"a")

    area.move(EXPORTS, "a.csv", f"{EXPORTS}/../exports/")

    assert downloaded(area, "a.csv") == b"a"


def test_move_of_a_file_that_is_gone_is_tried_again_later(area: SftpArea) -> None:
    with refused(RetriableError, f"{EXPORTS}/gone.csv"):
        area.move(EXPORTS, "gone.csv", f"{EXPORTS}/processed")


def test_deleting_twice_is_fine(server: SftpServer, area: SftpArea) -> None:
    written(server, "a.csv")

    area.delete(EXPORTS, "a.csv")
    area.delete(EXPORTS, "a.csv")

    assert not area.files(EXPORTS)


def test_used_bytes_are_those_of_all_files_below_but_not_of_links(server: SftpServer, area: SftpArea) -> None:
    written(server, "a.csv", b"x" * 100)
    large = written(server, "b.csv", b"x" * 20, folder="d365_loads/logs/old")
    (server.root / EXPORTS / "link.csv").symlink_to(large)
    (server.root / EXPORTS / "around").symlink_to(server.root)

    assert area.used_bytes() == 120
    assert area.used_bytes("d365_loads/logs") == 20


# --- names


HOSTILE = ["new\nline.csv", "back\\slash.csv", "\x1b[2Jclear.csv", "right\u202eto-left.csv", "no\x85print.csv"]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_file_with_a_hostile_name_is_reported_and_left_out(server: SftpServer, area: SftpArea, name: str) -> None:
    written(server, "a.csv", b"1")
    written(server, name, b"23")

    assert [file.name for file in area.files(EXPORTS)] == ["a.csv"]
    assert area.hostile_names == (name,)
    assert area.used_bytes() == 3


@needs_sshd
def test_name_that_is_no_utf8_hides_no_other_file(openssh: SftpServer) -> None:
    written(openssh, "a.csv")
    written(openssh, os.fsdecode("fünf.csv".encode("latin-1")))

    with SftpArea(openssh.login) as area:
        assert [file.name for file in area.files(EXPORTS)] == ["a.csv"]
        assert area.hostile_names == ("f\udcfcnf.csv",)


def test_listed_name_that_leads_elsewhere_is_left_out(
    server: SftpServer, area: SftpArea, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = [paramiko.SFTPAttributes.from_stat(written(server, "a.csv").stat(), "a.csv")]
    for name in ("..", "../up.csv", "/etc/passwd", "", "nul\0.csv"):
        listed.append(paramiko.SFTPAttributes.from_stat((server.root / EXPORTS / "a.csv").stat(), name))
    monkeypatch.setattr(paramiko.SFTPClient, "listdir_attr", lambda *_: listed)

    assert [file.name for file in area.files(EXPORTS)] == ["a.csv"]
    assert len(area.hostile_names) == 5


@pytest.mark.parametrize(
    "act",
    [
        lambda area, name: area.download(EXPORTS, name, io.BytesIO()),
        lambda area, name: area.upload(EXPORTS, name, b""),
        lambda area, name: area.move(EXPORTS, name, f"{EXPORTS}/processed"),
        lambda area, name: area.delete(EXPORTS, name),
    ],
    ids=["download", "upload", "move", "delete"],
)
def test_name_that_leads_elsewhere_is_never_sent(
    server: SftpServer, area: SftpArea, act: Callable[[SftpArea, str], None]
) -> None:
    outside = written(server, "outside.csv", b"safe", folder="d365_loads")

    with refused(ConfigurationError, "'../outside.csv' is no plain file name"):
        act(area, "../outside.csv")
    assert outside.read_bytes() == b"safe"


# --- who the server is


def test_server_is_known_by_a_known_hosts_file(server: SftpServer) -> None:
    connect(replace(server.login, host_key=None, known_hosts=server.known_hosts))


@needs_sshd
@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_any_of_the_servers_keys_may_be_the_pinned_one(openssh: SftpServer, tmp_path: Path, kind: str) -> None:
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(
        "".join(f"{line}\n" for line in openssh.known_hosts.read_text().splitlines() if f"ssh-{kind}" in line)
    )

    connect(replace(openssh.login, host_key=openssh.host_keys[kind]))
    connect(replace(openssh.login, host_key=None, known_hosts=known_hosts))


def test_fingerprint_may_be_the_whole_line_of_ssh_keygen(server: SftpServer) -> None:
    connect(replace(server.login, host_key=f"3072 {server.login.host_key} campaign (RSA)"))


def test_server_with_other_keys_than_the_pinned_one_is_refused(server: SftpServer) -> None:
    with refused(ConfigurationError, server.login.address, OTHER_KEY, "ssh-keygen -lf", *server.host_keys.values()):
        connect(replace(server.login, host_key=OTHER_KEY))


def test_server_with_another_key_than_the_known_one_is_refused(server: SftpServer, tmp_path: Path) -> None:
    known_hosts, expected = tmp_path / "known_hosts", make_key(tmp_path / "other", "rsa")
    known_hosts.write_text(f"[{server.login.host}]:{server.login.port} {(tmp_path / 'other.pub').read_text()}")

    with refused(ConfigurationError, server.login.address, expected, *server.host_keys.values()):
        connect(replace(server.login, host_key=None, known_hosts=known_hosts))
    assert len(known_hosts.read_text().splitlines()) == 1


def test_server_that_the_file_does_not_know_is_refused_and_not_added(server: SftpServer, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text("# nobody\n")

    with refused(ConfigurationError, str(known_hosts), f"[{server.login.host}]:{server.login.port}", "ssh-keyscan"):
        connect(replace(server.login, host_key=None, known_hosts=known_hosts))
    assert known_hosts.read_text() == "# nobody\n"


# --- who we are


def test_login_by_the_text_of_a_key(server: SftpServer) -> None:
    connect(replace(server.login, private_key=Path(server.login.private_key).read_text()))


def test_key_that_the_server_does_not_know_is_refused(server: SftpServer, tmp_path: Path) -> None:
    fingerprint = make_key(tmp_path / "key", "ed25519")

    with refused(ConfigurationError, fingerprint, server.login.user, "sftp.user", "sftp.private_key"):
        connect(replace(server.login, private_key=str(tmp_path / "key")))


def test_user_that_the_server_does_not_know_is_refused(server: SftpServer) -> None:
    with refused(ConfigurationError, "nobody-of-that-name", "sftp.user"):
        connect(replace(server.login, user="nobody-of-that-name"))


@pytest.mark.usefixtures("_home_with_everything")
def test_nothing_of_the_users_own_ssh_setup_is_used(server: SftpServer, tmp_path: Path) -> None:
    make_key(tmp_path / "key", "rsa")

    with refused(ConfigurationError, "sftp.private_key"):
        connect(replace(server.login, private_key=str(tmp_path / "key")))
    with refused(ConfigurationError, OTHER_KEY):
        connect(replace(server.login, host_key=OTHER_KEY))


@pytest.fixture
def _home_with_everything(server: SftpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home folder that holds the right key and the server's host keys."""
    (tmp_path / ".ssh").mkdir()
    shutil.copy(server.login.private_key, tmp_path / ".ssh" / "id_rsa")
    shutil.copy(server.known_hosts, tmp_path / ".ssh" / "known_hosts")
    monkeypatch.setenv("HOME", str(tmp_path))


# --- secrets


def test_nothing_of_the_key_shows_anywhere(
    server: SftpServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    text = Path(server.login.private_key).read_text()
    login = replace(server.login, private_key=text, passphrase="open sesame")

    with SftpArea(login) as area:
        shown = [repr(login), str(login), repr(area), str(vars(area)), repr(area.files(EXPORTS))]
    with pytest.raises(ConfigurationError) as caught:
        connect(replace(login, user="nobody-of-that-name"))
    shown += [str(caught.value), repr(caught.value), caplog.text]

    assert not [
        told for told in shown if "open sesame" in told or any(line in told for line in text.splitlines()[1:-1])
    ]


# --- the line


def test_host_where_nobody_listens_is_tried_again_later(server: SftpServer) -> None:
    login = replace(server.login, port=free_port())
    with refused(RetriableError, "Connecting to", login.address, "connection refused", "allow list"):
        connect(login)


def test_unknown_host_is_tried_again_later(server: SftpServer) -> None:
    with refused(RetriableError, "Connecting to nowhere.invalid", "unknown host name"):
        connect(replace(server.login, host="nowhere.invalid"))


def test_server_that_never_speaks_is_given_up_in_time(server: SftpServer) -> None:
    started = time.monotonic()
    with mute_server() as port, refused(RetriableError, "Connecting to", "no answer in time"):
        connect(replace(server.login, port=port, connect_timeout_seconds=0.3))
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("intact", [10, 1500, 2600])
@pytest.mark.parametrize("silent", [False, True], ids=["breaks", "falls silent"])
def test_line_that_fails_while_connecting_is_tried_again_later(server: SftpServer, intact: int, silent: bool) -> None:
    quick = replace(server.login, connect_timeout_seconds=0.7, read_timeout_seconds=0.7)
    with breaking_line(quick, intact, silent=silent) as login, refused(RetriableError, login.address, "failed ("):
        connect(login)


@pytest.mark.parametrize("silent", [False, True], ids=["breaks", "falls silent"])
def test_line_that_fails_during_a_download_is_tried_again_later(server: SftpServer, silent: bool) -> None:
    written(server, "large.csv", os.urandom(LARGE))
    quick, started = replace(server.login, read_timeout_seconds=0.7), time.monotonic()

    with breaking_line(quick, LARGE // 2, silent=silent) as login, SftpArea(login) as area:
        with refused(RetriableError, "Downloading", "large.csv", login.address, "no answer" if silent else "dropped"):
            downloaded(area, "large.csv")
        with refused(RetriableError, "Listing"):
            area.files(EXPORTS)
    assert time.monotonic() - started < 5


@needs_sshd
def test_connection_that_failed_leaves_no_thread(openssh: SftpServer) -> None:
    before = set(threading.enumerate())

    with refused(ConfigurationError, OTHER_KEY):
        connect(replace(openssh.login, host_key=OTHER_KEY))
    with breaking_line(openssh.login, 100) as login, refused(RetriableError, login.address):
        connect(login)

    time.sleep(0.2)  # a timer that was cancelled still has to notice
    assert set(threading.enumerate()) <= before


def test_connection_is_over_when_its_block_ends(server: SftpServer) -> None:
    with SftpArea(server.login) as area:
        area.files(EXPORTS)

    with refused(RetriableError, "Listing"):
        area.files(EXPORTS)


# --- rights and stalls, which only the sandbox can be told to have


@pytest.mark.parametrize(
    ("operation", "act"),
    [
        ("list", lambda area: area.files(EXPORTS)),
        ("open", lambda area: downloaded(area, "a.csv")),
        ("open", lambda area: area.upload(EXPORTS, "run.log", b"")),
        ("posix_rename", lambda area: area.move(EXPORTS, "a.csv", f"{EXPORTS}/processed")),
        ("mkdir", lambda area: area.move(EXPORTS, "a.csv", f"{EXPORTS}/processed")),
        ("remove", lambda area: area.delete(EXPORTS, "a.csv")),
    ],
)
def test_missing_right_names_user_and_path(sandbox: Sandbox, operation: str, act: Callable[[SftpArea], object]) -> None:
    server = sandbox_server(sandbox)
    written(server, "a.csv", b"a")
    sandbox.add_sftp_fault(kind="deny", operation=operation)

    with SftpArea(server.login) as area, refused(ConfigurationError, EXPORTS, "denies it to campaign"):
        act(area)


@pytest.mark.parametrize("operation", ["list", "write", "posix_rename"])
def test_server_that_stalls_is_tried_again_later(sandbox: Sandbox, operation: str) -> None:
    login = replace(sandbox_server(sandbox).login, read_timeout_seconds=0.3)
    sandbox.add_sftp_fault(kind="stall", operation=operation, seconds=30)

    with SftpArea(login) as area, refused(RetriableError, EXPORTS, login.address, "no answer in time"):
        area.upload(EXPORTS, "run.log", b"lines")
        area.files(EXPORTS)


def test_folder_that_may_not_be_listed_does_not_count(sandbox: Sandbox) -> None:
    server = sandbox_server(sandbox)
    written(server, "a.csv", b"12345")
    written(server, "key", b"12", folder=".ssh")
    sandbox.add_sftp_fault(kind="deny", operation="list", path=r"\.ssh")

    with SftpArea(server.login) as area:
        assert area.used_bytes() == 5
