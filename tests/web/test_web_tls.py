"""TLS: mistakes in its files are found when the config is checked, and a browser is told to stay with it."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pipeline.app.cli import main
from tests.web.serving import GUARDED, VIEWER, serving


def made(folder: Path, name: str, password: bytes | None = None) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "thresher")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    return files


def test_it_speaks_tls(tmp_path: Path) -> None:
    certificate, key = made(tmp_path, "own")
    trusting = ssl.create_default_context(cafile=str(certificate))
    with serving({"certificate": str(certificate), "key": str(key), **GUARDED}) as served:
        assert served.url.startswith("https://127.0.0.1:")
        with httpx.Client(base_url=served.url, verify=trusting) as browser:
            login = browser.post("/api/session", json={"token": VIEWER}, headers={"Origin": served.url})
            assert login.status_code == 200 and "Secure" in login.headers["set-cookie"]
            assert browser.get("/api/snapshot").status_code == 200
        assert served.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""  # not a word in the clear
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(httpx.ConnectError):
            httpx.get(served.url, verify=old)


def test_a_browser_stays_with_it_where_the_name_is_not_this_machines_own(tmp_path: Path) -> None:
    """Of `localhost` it would lock out every other server there."""
    certificate, key = made(tmp_path, "own")
    trusting = ssl.create_default_context(cafile=str(certificate))
    web = {"certificate": str(certificate), "key": str(key), **GUARDED}
    with serving({**web, "listen": "0.0.0.0:0"}) as served:
        assert served.url.startswith("https://127.0.0.1:")  # an address that can be followed
        assert "max-age=" in httpx.get(served.url, verify=trusting).headers["strict-transport-security"]
    with serving(web) as served:
        assert "strict-transport-security" not in httpx.get(served.url, verify=trusting).headers


@pytest.mark.parametrize(
    ("spoilt", "place", "says"),
    [
        ("absent certificate", "web.certificate", "No such file"),
        ("absent key", "web.key", "No such file"),
        ("folder", "web.certificate", "Is a directory"),
        ("swapped", "web.certificate", "holds no certificate"),
        ("no PEM", "web.certificate", "holds no certificate"),
        ("damaged certificate", "web.certificate", "cannot be read as PEM"),
        ("damaged key", "web.key", "cannot be read as PEM"),
        ("other key", "web.key", "does not belong"),
        ("locked key", "web.key", "locked with a password"),
        ("zero", "web.certificate", "zero byte"),
        ("alone", "web", "go together"),
    ],
)
def test_files_that_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoilt: str, place: str, says: str
) -> None:
    certificate, key = made(tmp_path, "own")
    other = made(tmp_path, "other")[1]
    locked = made(tmp_path, "locked", b"secret")
    damaged = [tmp_path / "damaged.pem", tmp_path / "damaged.key"]
    for file, whole in zip(damaged, (certificate, key), strict=True):
        lines = whole.read_text().splitlines()
        file.write_text("\n".join([lines[0], lines[1][:20] + "!!!!", *lines[2:]]))
    files: tuple[object, object] = {
        "absent certificate": (tmp_path / "nothing.pem", key),
        "absent key": (certificate, tmp_path / "nothing.key"),
        "folder": (tmp_path, key),
        "swapped": (key, certificate),
        "no PEM": ("tests/data/bikes.mp4", key),
        "damaged certificate": (damaged[0], key),
        "damaged key": (certificate, damaged[1]),
        "other key": (certificate, other),
        "locked key": locked,
        "zero": ('"a\\0b"', key),
        "alone": (certificate, "null"),
    }[spoilt]
    config = tmp_path / "c.yaml"
    config.write_text(
        "sources: {a: {kind: pattern}}\nweb:\n" + f"  certificate: {files[0]}\n  key: {files[1]}\n", encoding="utf-8"
    )
    assert main(["validate", str(config)]) == 2
    said = capsys.readouterr().err
    assert says in said and "Traceback" not in said
    assert place in said or spoilt == "zero"
