"""`thresher health`: is the one that runs here alive? For health checks of containers, which have no other program."""

from __future__ import annotations

import http.client
import re

import click

from pipeline.core.errors import InputError, ThresherError
from pipeline.core.settings import address
from pipeline.core.web import Timeouts, connection

_TIMEOUT_S = 3.0
_LARGEST = 16 << 20
_DEFAULT = "127.0.0.1:9642"


@click.command(short_help="Ask a running pipeline whether it is well: exit status 0, else 1.")
@click.argument("metrics", default=_DEFAULT, metavar="[HOST:PORT]")
def health(metrics: str) -> int:
    """Ask the metrics endpoint at HOST:PORT (127.0.0.1:9642) whether every model is warm and every thread turns."""
    try:
        host, port = address(metrics if ":" in metrics else f"127.0.0.1:{metrics}")
    except ValueError:
        raise InputError(f"{metrics} should be host:port, like {_DEFAULT}", "health") from None
    asked = connection("http", host, port, Timeouts(_TIMEOUT_S, _TIMEOUT_S), private=True)
    try:
        asked.request("GET", "/metrics")
        said = asked.getresponse().read(_LARGEST).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise ThresherError(f"nobody answers at {host}:{port}: {error}") from None
    finally:
        asked.close()
    figures = {name: re.search(rf"^thresher_{name} 1(\.0)?$", said, re.MULTILINE) for name in ("ready", "healthy")}
    missing = [name for name, there in figures.items() if there is None]
    if missing:
        raise ThresherError(f"it is not {' and not '.join(missing)}")
    click.echo("ready, healthy")
    return 0
