"""Which address a name stands for, found out once for each connection: what was looked at is what is connected to."""

from __future__ import annotations

import socket
from typing import TypeAlias

Address: TypeAlias = tuple[socket.AddressFamily, str]


def addresses(host: str, port: int) -> list[Address]:
    """Where `host` (a name or an address) can be reached, numerically. Whether a sink may go there is to be decided
    here, and nowhere else. Raises `OSError` where nobody knows the name."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((family, str(place[0])) for family, _, _, _, place in found))
