"""Which hosts the words of a connection lead to, and where these are."""

from __future__ import annotations

from typing import Any, NamedTuple

from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn

from pipeline.core import reach


class _Host(NamedTuple):
    name: str  # empty: the system's own socket; a path: a socket there
    address: str  # empty: whatever the name leads to
    port: str

    @property
    def near(self) -> bool:
        """Whether it is a socket of this machine, which is no place of a network."""
        return not self.address and (not self.name or self.name[0] in "/@" or self.name[1:3] in {":/", ":\\"})


def check(dsn: str) -> None:
    """What can be known without asking anybody. Raises `OutOfReachError`."""
    for host in _hosts(dsn):
        for place in (host.name, host.address):
            if place and not host.near:
                reach.check(place, private=True)


def pinned(dsn: str) -> dict[str, Any]:
    """What to add to `dsn`, so that it leads to addresses that were checked; names stay what they are for certificates
    and passwords. Asks the name service. Raises `OutOfReachError`, and `OSError` where none of the hosts is known."""
    hosts, places, trouble = _hosts(dsn), list[_Host](), None
    for host in hosts:
        if host.near:
            places.append(host)
            continue
        try:
            reach.check(host.name or host.address, private=True)
            found = reach.pinned(host.address or host.name, 0, private=True)
        except OSError as error:
            trouble = trouble or error
        else:
            places += (host._replace(address=address) for address in dict.fromkeys(one.host for one in found))
    if not places and trouble is not None:
        raise trouble
    if all(not (place.name or place.address) for place in places):
        return {}
    return {
        "host": ",".join(place.name or place.address for place in places),
        "hostaddr": ",".join(place.address for place in places),
        "port": ",".join(place.port for place in places),
    }


def _hosts(dsn: str) -> list[_Host]:
    """By libpq itself, which also reads the environment and service files: it says where it would go, and goes nowhere,
    for there is no such way to encrypt. What it cannot read has no hosts, and is said once it shall connect."""
    nowhere = PGconn.connect_start(make_conninfo(dsn, sslmode="nowhere").encode())
    try:
        known = {option.keyword: option.val or b"" for option in nowhere.info}
    finally:
        nowhere.finish()
    names, addresses, ports = (
        known.get(word, b"").decode(errors="replace").split(",") for word in (b"host", b"hostaddr", b"port")
    )
    counts = {len(words) for words in (names, addresses) if words != [""]} or {1}
    if len(counts) > 1 or not counts | {1} >= {len(ports)}:
        return []
    (count,) = counts
    return [_Host(*row) for row in zip(*(_spread(words, count) for words in (names, addresses, ports)), strict=True)]


def _spread(words: list[str], count: int) -> list[str]:
    return words * count if len(words) == 1 else words
