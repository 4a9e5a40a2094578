"""One SSH connection: to the pinned server, logged in by key, with nothing of the user's own SSH set-up."""

import logging
import re
import socket
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from paramiko import (
    AuthenticationException,
    ECDSAKey,
    Ed25519Key,
    HostKeys,
    PasswordRequiredException,
    PKey,
    RSAKey,
    SFTPError,
    SSHException,
    Transport,
)
from paramiko.hostkeys import InvalidHostKey
from paramiko.ssh_exception import IncompatiblePeer

from d365_campaign.errors import ConfigurationError, RetriableError

SSH_ERRORS = (SSHException, SFTPError, EOFError, OSError, UnicodeError)
FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
LONGEST_REASON = 200
THREAD_END_SECONDS = 5.0

REASONS: Mapping[type[BaseException], str] = {
    TimeoutError: "no answer in time",
    socket.gaierror: "unknown host name",
    ConnectionRefusedError: "connection refused",
    ConnectionError: "connection lost",
    EOFError: "connection lost",
}


@dataclass(frozen=True, slots=True)
class SftpLogin:
    """Where Campaign's SFTP area is, who logs in there, and how the server is known.

    *private_key* is the text of a key (OpenSSH or PEM), or the path of a file that holds it. The server is known by
    *host_key*, a fingerprint as `ssh-keygen -lf` prints it, or by a *known_hosts* file: exactly one of the two.
    *connect_timeout_seconds* bounds each of connecting, handshake and login; *read_timeout_seconds* each later answer.
    """

    host: str
    user: str
    private_key: str = field(repr=False)
    port: int = 22
    passphrase: str | None = field(default=None, repr=False)
    host_key: str | None = None
    known_hosts: Path | None = None
    connect_timeout_seconds: float = 10.0
    read_timeout_seconds: float = 60.0

    def __post_init__(self) -> None:
        if (self.host_key is None) == (self.known_hosts is None):
            raise ConfigurationError("sftp: give exactly one of host_key and known_hosts; the server is always pinned.")

    @property
    def address(self) -> str:
        """Host and port, as messages name the server."""
        return f"{self.host}:{self.port}"


def log_in(login: SftpLogin) -> Transport:
    """A connection to the pinned server, logged in; `hang_up` ends it.

    No login is tried before the host key was found to be the pinned one.
    """
    # What goes wrong is raised to us as well; paramiko's own lines about it are the tracebacks of a thread.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    key, pins = read_private_key(login), pinned_keys(login)
    with explained(f"Connecting to {login.address}", "Is this machine's address on its allow list?"):
        transport = _connected(login, pins)
    doing, limit = f"Logging in to {login.address} as {login.user}", login.connect_timeout_seconds
    with ended_on_error(transport), explained(doing), in_time(transport, limit):
        _authenticate(transport, login, key)
    return transport


def hang_up(transport: Transport) -> None:
    """End the connection and wait for its thread."""
    transport.close()
    transport.join(THREAD_END_SECONDS)
    # paramiko leaves the timer of a handshake that failed running.
    transport.packetizer.complete_handshake()


@contextmanager
def ended_on_error(transport: Transport) -> Iterator[None]:
    """Hang up when the block fails."""
    try:
        yield
    except BaseException:
        hang_up(transport)
        raise


@contextmanager
def in_time(transport: Transport, seconds: float) -> Iterator[None]:
    """Close the connection when the block takes longer, which then ends in a TimeoutError.

    paramiko waits for some answers without any limit, and has a limit of its own for each of the others.
    """
    rang = threading.Event()

    def ring() -> None:
        rang.set()
        transport.close()

    alarm = threading.Timer(seconds, ring)
    alarm.start()
    try:
        yield
    except SSH_ERRORS as error:
        if rang.is_set():
            raise TimeoutError from error
        raise
    finally:
        alarm.cancel()
        alarm.join()


@contextmanager
def explained(doing: str, hint: str = "") -> Iterator[None]:
    """Turn whatever a connection fails with into a RetriableError about *doing*."""
    try:
        yield
    except SSH_ERRORS as error:
        raise RetriableError(f"{doing} failed ({reason(error)}). {hint}".rstrip()) from error


def reason(error: BaseException) -> str:
    """Why a connection failed. The server's own words are shown as a literal: they may hold anything."""
    for kind, words in REASONS.items():
        if isinstance(error, kind):
            return words
    return ascii(str(error)[:LONGEST_REASON])


# --- who the server is


def pinned_keys(login: SftpLogin) -> dict[str, str]:
    """Fingerprints of the host keys that are right, each with its key type; "" where the type isn't known."""
    if login.known_hosts is not None:
        return _known_keys(login, login.known_hosts)
    found = FINGERPRINT.search(login.host_key or "")
    if found is None:
        raise ConfigurationError("sftp.host_key must be a fingerprint, SHA256:..., as `ssh-keygen -lf` prints it.")
    return {found.group(): ""}


def _known_keys(login: SftpLogin, file: Path) -> dict[str, str]:
    name = login.host if login.port == 22 else f"[{login.host}]:{login.port}"
    try:
        keys = HostKeys(str(file)).lookup(name)
    except OSError as error:
        raise ConfigurationError(f"sftp.known_hosts: {file} can't be read ({error.strerror}).") from error
    except (InvalidHostKey, UnicodeError) as error:
        raise ConfigurationError(f"sftp.known_hosts: {file} is no known_hosts file.") from error
    if not keys:
        raise ConfigurationError(
            f"sftp.known_hosts: {file} has no key of {name}. `ssh-keyscan -p {login.port} {login.host}` prints the "
            "lines to add; check their fingerprints first, by `ssh-keygen -lf`, against Adobe's Control Panel."
        )
    return {key.fingerprint: key_type for key_type, key in keys.items()}


def _connected(login: SftpLogin, pins: Mapping[str, str]) -> Transport:
    """A connection over which the server proved to have a pinned key.

    A server shows one of its keys, the first of a type that both sides know. If that isn't a pinned one, it is asked
    again for a key of another type, until it has no more.
    """
    shown: dict[str, PKey] = {}
    while True:
        try:
            transport = _handshake(login, wanted=pins.values(), unwanted=shown)
        except IncompatiblePeer as error:
            raise _wrong_server(login, pins, shown) if shown else _incompatible(login, error) from error
        with ended_on_error(transport):
            key = transport.get_remote_server_key()
        if key.fingerprint in pins:
            return transport
        hang_up(transport)
        shown[key.get_name()] = key


def _handshake(login: SftpLogin, wanted: Collection[str], unwanted: Collection[str]) -> Transport:
    """Ask the server for a key: of no *unwanted* type, and of a *wanted* one if it has that."""
    limit = login.connect_timeout_seconds
    connection = socket.create_connection((login.host, login.port), limit)
    # Each piece of an upload waits for its answer, so none may wait to be sent.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    transport = Transport(connection)
    # paramiko's own limits; ours ends the connection sooner.
    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = 2 * limit
    options = transport.get_security_options()
    offered = [algorithm for algorithm in options.key_types if _key_type(algorithm) not in unwanted]
    options.key_types = sorted(offered, key=lambda algorithm: _key_type(algorithm) not in wanted)
    with ended_on_error(transport), in_time(transport, limit):
        transport.start_client()
    return transport


def _key_type(algorithm: str) -> str:
    """The type of key that a signature algorithm needs; RSA alone has several algorithms for one key."""
    return "ssh-rsa" if algorithm.startswith("rsa-sha2-") else algorithm


def _wrong_server(login: SftpLogin, pins: Mapping[str, str], shown: Mapping[str, PKey]) -> ConfigurationError:
    return ConfigurationError(
        f"{login.address} isn't the pinned server; no login was tried. Expected host key: {' or '.join(pins)}. It has: "
        f"{', '.join(f'{key.fingerprint} ({key_type})' for key_type, key in shown.items())}. If Adobe changed the key, "
        "which its Control Panel or its support can tell, correct sftp.host_key or sftp.known_hosts; `ssh-keyscan -p "
        f"{login.port} {login.host} | ssh-keygen -lf -` prints what the server has."
    )


def _incompatible(login: SftpLogin, error: IncompatiblePeer) -> ConfigurationError:
    return ConfigurationError(f"{login.address} has no SSH algorithm in common with us ({reason(error)}).")


# --- who we are


def read_private_key(login: SftpLogin) -> PKey:
    """The key to log in with. No message and no error behind it holds anything of the key."""
    text = _key_text(login.private_key)
    for kind in (RSAKey, Ed25519Key, ECDSAKey):
        key = _key_of(kind, text, login.passphrase)
        if key is not None:
            return key
    raise ConfigurationError(
        "sftp.private_key is no private key that can be read, or sftp.passphrase doesn't belong to it. It must be an "
        "RSA, Ed25519 or ECDSA key as `ssh-keygen` writes it; `ssh-keygen -p -m PEM -f FILE` converts others."
    )


def _key_text(given: str) -> str:
    if "-----BEGIN" in given:
        # Environment files often hold a key on one line.
        return given.strip().replace("\\n", "\n")
    try:
        return Path(given).expanduser().read_text(encoding="ascii").strip()
    except OSError as error:
        why = error.strerror
    except (ValueError, RuntimeError):
        why = "no text"
    raise ConfigurationError(f"sftp.private_key is neither a private key nor the path of a file with one ({why}).")


def _key_of(kind: type[PKey], text: str, passphrase: str | None) -> PKey | None:
    try:
        return kind.from_private_key(StringIO(text), passphrase)
    except PasswordRequiredException:
        locked = True
    except Exception:
        # A parser that is given something else raises what it likes, with parts of the key in it.
        locked = False
    if locked:
        raise ConfigurationError("sftp.private_key is protected by a passphrase. Give it as sftp.passphrase.")
    return None


def _authenticate(transport: Transport, login: SftpLogin, key: PKey) -> None:
    try:
        further = transport.auth_publickey(login.user, key)
    except AuthenticationException as error:
        # paramiko raises this for a lost connection too.
        if not transport.is_active():
            raise
        raise ConfigurationError(
            f"{login.address} refused the login of {login.user}. Check sftp.user, and that the public key of "
            f"sftp.private_key ({key.fingerprint}) is there and not expired: Adobe's Control Panel lists both."
        ) from error
    if further:
        raise ConfigurationError(
            f"{login.address} asks {login.user} for more than a key ({', '.join(further)}). Check sftp.user."
        )
