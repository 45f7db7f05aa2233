"""`thresher health`: is the one that runs here alive? For health checks of containers, which have no other program."""

from __future__ import annotations

import http.client
import re
import ssl

import click

from pipeline.core.errors import InputError, ThresherError
from pipeline.core.settings import address
from pipeline.core.web import Timeouts, connection

_TIMEOUT_S = 3.0
_LARGEST = 16 << 20
_METRICS, _PAGE = "127.0.0.1:9642", "127.0.0.1:8642"


@click.command(short_help="Ask a running pipeline whether it is well: exit status 0, else 1.")
@click.argument("where", default="", metavar="[HOST:PORT]")
def health(where: str) -> int:
    """Ask the metrics endpoint or the page at HOST:PORT (127.0.0.1:9642, else 127.0.0.1:8642) whether every model is
    warm and every thread turns. A page that speaks TLS is https://HOST:PORT."""
    missing = _at(where) if where else _at_home()
    if missing:
        raise ThresherError(f"it is not {' and not '.join(missing)}")
    click.echo("ready, healthy")
    return 0


def _at_home() -> list[str]:
    try:
        return _at(_METRICS)
    except ThresherError as error:
        try:
            return _at(_PAGE)
        except ThresherError as other:
            raise ThresherError(f"{error}; {other}") from None


def _at(where: str) -> list[str]:
    """What it is not of `ready` and `healthy`."""
    scheme, _, given = where.rpartition("://")
    try:
        if scheme not in {"", "http", "https"}:
            raise ValueError
        host, port = address(given if ":" in given else f"127.0.0.1:{given}")
    except ValueError:
        raise InputError(f"{where} should be host:port, like {_METRICS}", "health") from None
    try:
        if scheme != "https":
            status, said = _asked("http", host, port, "/metrics")
            figures = re.findall(r"^thresher_(ready|healthy) (\d)(?:\.0)?$", said, re.MULTILINE)
            if status == 200 and figures:
                return [name for name in ("ready", "healthy") if (name, "1") not in figures]
        found = {name: _asked(scheme or "http", host, port, f"/api/{path}") for name, path in _ASKED.items()}
    except (OSError, http.client.HTTPException) as error:
        raise ThresherError(f"nobody answers at {host}:{port}: {error}") from None
    if any(status not in {200, 503} or not said.startswith('{"status":') for status, said in found.values()):
        raise ThresherError(f"what answers at {host}:{port} is something else")
    return [name for name, (status, _) in found.items() if status != 200]


_ASKED = {"ready": "ready", "healthy": "health"}


def _trusting_itself(host: str) -> ssl.SSLContext | None:
    """A certificate is made out to the name by which others ask, not to this machine's loopback."""
    if not host.startswith("127.") and host not in {"localhost", "::1"}:
        return None
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _asked(scheme: str, host: str, port: int, path: str) -> tuple[int, str]:
    timeouts = Timeouts(_TIMEOUT_S, _TIMEOUT_S)
    asked = connection(scheme, host, port, timeouts, private=True, context=_trusting_itself(host))
    try:
        asked.request("GET", path)
        answer = asked.getresponse()
        return answer.status, answer.read(_LARGEST).decode("utf-8", "replace")
    finally:
        asked.close()
