"""The login to an SFTP area, as far as it is read from settings; no server is needed for that."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from d365_campaign.clients.ssh import SftpLogin, pinned_keys, read_private_key
from d365_campaign.errors import ConfigurationError
from tests.sftp_servers import SSH_KEYGEN, make_key

pytestmark = pytest.mark.skipif(SSH_KEYGEN is None, reason="OpenSSH's ssh-keygen is not installed")
OTHER_KEY = "SHA256:" + "A" * 43


def login(private_key: str = "key", **changes: Any) -> SftpLogin:
    return SftpLogin("localhost", "campaign", private_key, **{"host_key": OTHER_KEY, **changes})


# --- who the server is


@pytest.mark.parametrize("content", [None, "host ssh-rsa AAA\n", "\xff"], ids=["missing", "broken", "binary"])
def test_known_hosts_file_that_cannot_be_read_is_named(tmp_path: Path, content: str | None) -> None:
    known_hosts = tmp_path / "known_hosts"
    if content is not None:
        known_hosts.write_text(content, encoding="latin-1")

    with pytest.raises(ConfigurationError, match=rf"^sftp.known_hosts: {known_hosts}"):
        pinned_keys(login(host_key=None, known_hosts=known_hosts))


@pytest.mark.parametrize("host_key", ["MD5:aa:bb:cc", "SHA256:short", ""])
def test_host_key_that_is_no_fingerprint_is_refused(host_key: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^sftp\.host_key .*ssh-keygen -lf"):
        pinned_keys(login(host_key=host_key))


@pytest.mark.parametrize("pins", [{}, {"host_key": OTHER_KEY, "known_hosts": Path("known_hosts")}], ids=["no", "two"])
def test_login_without_exactly_one_pin_is_refused(pins: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="exactly one of host_key and known_hosts"):
        login(**{"host_key": None, **pins})


# --- who we are


@pytest.mark.parametrize("kind", ["rsa", "ed25519", "ecdsa"])
@pytest.mark.parametrize("pem", [False, True], ids=["OpenSSH", "PEM"])
def test_key_is_read_from_text_and_from_its_file(tmp_path: Path, kind: str, pem: bool) -> None:
    fingerprint = make_key(tmp_path / "key", kind, pem=pem)
    text = (tmp_path / "key").read_text()
    one_line = text.replace("\n", "\\n")

    for given in (str(tmp_path / "key"), text, f"\n{text}\n", one_line):
        assert read_private_key(login(given)).fingerprint == fingerprint


@pytest.mark.parametrize("kind", ["rsa", "ed25519", "ecdsa"])
def test_protected_key_opens_with_its_passphrase_alone(tmp_path: Path, kind: str) -> None:
    fingerprint = make_key(tmp_path / "key", kind, passphrase="open sesame")
    key = str(tmp_path / "key")

    assert read_private_key(login(key, passphrase="open sesame")).fingerprint == fingerprint
    for wrong in (None, "", "open says me"):
        with pytest.raises(ConfigurationError, match=r"sftp\.passphrase"):
            read_private_key(login(key, passphrase=wrong))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace("-----BEGIN", "----BEGIN"),
        lambda text: text[: len(text) // 2],
        lambda text: text.swapcase().replace("-----begin openssh private key", "-----BEGIN OPENSSH PRIVATE KEY"),
        lambda text: "".join(text.splitlines()[1:-1]),
        lambda text: "".join(text.splitlines()[1:-1]) + "\0",
    ],
    ids=["no mark", "half", "swapped", "body only", "NUL"],
)
def test_broken_key_is_refused_without_a_word_of_it(tmp_path: Path, spoil: Callable[[str], str]) -> None:
    make_key(tmp_path / "key", "ed25519")
    text = (tmp_path / "key").read_text()

    with pytest.raises(ConfigurationError, match=r"sftp\.private_key") as caught:
        read_private_key(login(spoil(text)))

    body = "".join(text.splitlines()[1:-1])
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert not [part for part in str(caught.value).split() if len(part) > 20 and part in body]


@pytest.mark.parametrize("given", ["/nowhere/key", "/tmp", "x" * 5000], ids=["missing", "folder", "endless"])
def test_path_of_a_key_that_cannot_be_read_is_not_repeated(given: str) -> None:
    with pytest.raises(ConfigurationError, match=r"neither a private key nor the path") as caught:
        read_private_key(login(given))
    assert given not in str(caught.value)
