"""Names that only the tests know: where they lead, and certificates for them."""

from __future__ import annotations

import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest


def leads(monkeypatch: pytest.MonkeyPatch, name: str, *addresses: str) -> None:
    """From now on `name` has these addresses, for whoever asks by way of Python."""
    real = socket.getaddrinfo

    def asked(host: str, port: int | str, *given: Any, **named: Any) -> Any:
        if host != name:
            return real(host, port, *given, **named)
        return [entry for address in addresses for entry in real(address, port, *given, **named)]

    monkeypatch.setattr(socket, "getaddrinfo", asked)


class Pair(NamedTuple):
    """A certificate, its own authority, and its key."""

    file: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """For a server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.key)
        return context


def certificate(folder: Path, name: str) -> Pair:
    made = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName=DNS:{name}", "-keyout", str(made.key), "-out", str(made.file)),
        ],
        check=True,
        capture_output=True,
    )
    return made
