"""Keys of the SFTP stand-in, made anew at each start: the server's own, and the one its only user logs in with."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paramiko import RSAKey

USER = "campaign"
CLIENT_BITS = 2048
"""What Control Panel asks for ("Key management")."""
HOST_BITS = 3072


@dataclass(frozen=True, slots=True)
class SftpKeys:
    host: RSAKey
    client: RSAKey

    @classmethod
    def made(cls) -> "SftpKeys":
        return cls(RSAKey.generate(HOST_BITS), RSAKey.generate(CLIENT_BITS))

    def written(self, directory: Path, port: int) -> dict[str, Any]:
        """How to log in: the private key and the known host, both as files that `ssh` takes, and the fingerprint."""
        private_key, known_hosts = directory.resolve() / "sftp_key", directory.resolve() / "sftp_known_hosts"
        private_key.unlink(missing_ok=True)
        with os.fdopen(os.open(private_key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            self.client.write_private_key(file)
        line = f"{self.host.get_name()} {self.host.get_base64()}\n"
        known_hosts.write_text("".join(f"[{host}]:{port} {line}" for host in ("127.0.0.1", "localhost")))
        return {
            "user": USER,
            "private_key_file": str(private_key),
            "host_key": self.host.fingerprint,
            "known_hosts_file": str(known_hosts),
        }
