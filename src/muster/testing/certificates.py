"""A small certificate authority for tests, made with the ``openssl`` command."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

__all__ = ["Certificate", "CertificateAuthority"]

_CA = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
_LEAF = (
    "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
    "extendedKeyUsage=serverAuth,clientAuth\n"
)


class Certificate(NamedTuple):
    """A certificate and its key, as PEM files."""

    path: Path
    key: Path


class CertificateAuthority:
    """Signs certificates for one day.

    Args:
        directory: Where its files go.
        name: Of its own certificate; several authorities may share a directory.
    """

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._own = self._made(name, _CA, None)
        self.path = self._own.path
        """Its certificate, which others trust."""

    def sign(self, name: str, names: str = "IP:127.0.0.1,DNS:localhost") -> Certificate:
        """A certificate for servers and clients.

        Args:
            name: Of its files.
            names: What it is for, as ``subjectAltName`` writes it.
        """
        return self._made(name, f"{_LEAF}subjectAltName={names}\n", self._own)

    def _made(self, name: str, extensions: str, signer: Certificate | None) -> Certificate:
        made = Certificate(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        request, wanted = self._directory / f"{name}.csr", self._directory / f"{name}.ext"
        wanted.write_text(extensions)
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", made.key)
        _openssl("req", "-new", "-key", made.key, "-subj", f"/CN=test {name}", "-out", request)
        by: tuple[str | Path, ...] = ("-signkey", made.key)
        if signer is not None:
            by = ("-CA", signer.path, "-CAkey", signer.key, "-CAcreateserial")
        _openssl("x509", "-req", "-in", request, *by, "-days", "1", "-extfile", wanted,
                 "-out", made.path)  # fmt: skip
        return made


def _openssl(*arguments: str | Path) -> None:
    program = shutil.which("openssl") or "openssl"
    subprocess.run([program, *map(str, arguments)], check=True, capture_output=True, timeout=30)
