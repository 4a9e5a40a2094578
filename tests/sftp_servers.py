"""SFTP servers to test against: OpenSSH's own, one behind a line that breaks, and one that never speaks."""

import getpass
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from d365_campaign.clients.sftp import SftpLogin
from d365_campaign.sandbox import Sandbox

# It must be started by its absolute path, and is seldom on an ordinary user's PATH.
SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
SSH_KEYGEN = shutil.which("ssh-keygen")
HOST_KEY_TYPES = ("ed25519", "rsa")
HOST = "127.0.0.1"
START_SECONDS = 10.0


@dataclass(frozen=True)
class SftpServer:
    """Where a server listens, the folder that its user lands in, and the fingerprints of its host keys."""

    login: SftpLogin
    root: Path
    host_keys: Mapping[str, str]
    known_hosts: Path

    def folder(self, name: str) -> Path:
        """A folder below the root, made if missing."""
        made = self.root / name
        made.mkdir(parents=True, exist_ok=True)
        return made


def sandbox_server(sandbox: Sandbox) -> SftpServer:
    """The sandbox's SFTP area."""
    known = sandbox.endpoints["sftp"]
    login = SftpLogin(
        known["host"], known["user"], known["private_key_file"], known["port"], host_key=known["host_key"]
    )
    return SftpServer(quick(login), sandbox.sftp.root, {"rsa": known["host_key"]}, Path(known["known_hosts_file"]))


def quick(login: SftpLogin) -> SftpLogin:
    """The same login, with less patience."""
    return replace(login, connect_timeout_seconds=5.0, read_timeout_seconds=5.0)


@contextmanager
def openssh_server(directory: Path) -> Iterator[SftpServer]:
    """OpenSSH's sshd on a free port until the block ends; the current user logs in there, with a key of its own."""
    root, port = directory / "area", free_port()
    root.mkdir()
    host_keys = {kind: make_key(directory / f"host_{kind}", kind) for kind in HOST_KEY_TYPES}
    make_key(directory / "user_key", "rsa")
    (directory / "known_hosts").write_text(
        "".join(f"[{HOST}]:{port} {(directory / f'host_{kind}.pub').read_text()}" for kind in HOST_KEY_TYPES)
    )
    (directory / "sshd_config").write_text(sshd_config(directory, root, port))
    key = str(directory / "user_key")
    login = SftpLogin(HOST, getpass.getuser(), key, port, host_key=host_keys["ed25519"])
    with running_sshd(directory / "sshd_config", port):
        yield SftpServer(quick(login), root, host_keys, directory / "known_hosts")


def make_key(file: Path, kind: str, passphrase: str = "", pem: bool = False) -> str:
    """A new key pair, as `ssh-keygen` makes it; the fingerprint of its public half."""
    form = ("-m", "PEM") if pem else ()
    command = ["ssh-keygen", "-q", "-t", kind, *form, "-N", passphrase, "-C", "tests", "-f", str(file)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    told = subprocess.run(["ssh-keygen", "-lf", f"{file}.pub"], check=True, capture_output=True, text=True).stdout
    return told.split()[1]


def sshd_config(directory: Path, root: Path, port: int) -> str:
    lines = [
        f"ListenAddress {HOST}:{port}",
        *(f"HostKey {directory / f'host_{kind}'}" for kind in HOST_KEY_TYPES),
        f"AuthorizedKeysFile {directory / 'user_key.pub'}",
        f"Subsystem sftp internal-sftp -d {root}",
        f"PidFile {directory / 'sshd.pid'}",
        "AuthenticationMethods publickey",
        "PermitRootLogin prohibit-password",
        "StrictModes no",
        "UsePAM no",
        "MaxStartups 100",
    ]
    return "\n".join(lines) + "\n"


@contextmanager
def running_sshd(config: Path, port: int) -> Iterator[None]:
    assert SSHD is not None
    with suppress(PermissionError):  # only root needs it
        Path("/run/sshd").mkdir(exist_ok=True)
    log = config.with_name("sshd.log")
    process = subprocess.Popen([SSHD, "-D", "-f", str(config), "-E", str(log)])
    try:
        until_it_listens(process, port, log)
        yield
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def until_it_listens(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError), socket.create_connection((HOST, port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"sshd doesn't listen: {log.read_text() if log.exists() else 'no log'}")


def free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def mute_server() -> Iterator[int]:
    """The port of a server that takes connections and never says a word."""
    with socket.create_server((HOST, 0)) as listener:
        yield int(listener.getsockname()[1])


class BreakingLine:
    """A line to a server that carries *intact* bytes of its answers; then it breaks, or nothing more comes."""

    def __init__(self, port: int, intact: int, *, silent: bool) -> None:
        self._target, self._intact, self._silent = port, intact, silent
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])

    def carry(self) -> None:
        with (
            suppress(OSError),
            self._listener.accept()[0] as client,
            socket.create_connection((HOST, self._target)) as server,
        ):
            asking = threading.Thread(target=self._carry, args=(client, server, None))
            asking.start()
            self._carry(server, client, self._intact)
            if not self._silent:
                client.shutdown(socket.SHUT_RDWR)
            asking.join()

    def _carry(self, source: socket.socket, target: socket.socket, intact: int | None) -> None:
        with suppress(OSError):
            while (intact is None or intact > 0) and (piece := source.recv(4096)):
                target.sendall(piece[:intact])
                intact = None if intact is None else intact - len(piece)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def breaking_line(login: SftpLogin, intact: int, *, silent: bool = False) -> Iterator[SftpLogin]:
    """The login by way of a `BreakingLine`."""
    line = BreakingLine(login.port, intact, silent=silent)
    carrying = threading.Thread(target=line.carry)
    carrying.start()
    try:
        yield replace(login, port=line.port)
    finally:
        line.close()
        carrying.join()
