"""Where this program may connect to, for everything that connects out: sources, sinks, downloads.

A name is resolved once, every address is checked, and the one that passed is the one that is connected to: a name that
leads elsewhere a moment later leads nowhere. Names stay what they are for TLS and for `Host`. What nobody may reach,
whatever a config says: link-local addresses and those of clouds' metadata, multicast, broadcast, unspecified and
reserved ones, IPv4 in the disguise of IPv6, and spellings that hide which address it is (`2130706433`, `0x7f.1`).
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple, TypeAlias

from pydantic import Field, field_validator

from pipeline.core.settings import Settings

Address: TypeAlias = IPv4Address | IPv6Address

_METADATA = frozenset(
    map(ip_address, ("168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"))
)
"""Of Azure, Alibaba, Oracle, Amazon and Google, beside 169.254.169.254, which is link-local."""
_DISGUISES = tuple(
    map(IPv6Network, ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))
)
_SHARED = ip_network("100.64.0.0/10")  # of carriers, and of private networks that are laid over others
_LONGEST_NAME = 254  # with a full stop at its end
_NUMBER = r"(?:0[xX][0-9A-Fa-f]*|\d+)"
_NUMERIC = re.compile(rf"{_NUMBER}(?:\.{_NUMBER}){{0,3}}\.?")
_NAME = re.compile(r"(?:\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


class NetworkSettings(Settings):
    """Where this program may connect to. What `deny` names is out of reach, also where `allow` names it. Link-local
    addresses, those of clouds' metadata, multicast and the like are always."""

    private: bool | None = Field(
        default=None,
        description="whether private networks and this machine itself may be connected to (default: sources and"
        " brokers may be there, webhooks and downloads may not)",
    )
    allow: tuple[str, ...] = Field(
        default=(), description="only these: networks (10.1.0.0/16), addresses, names (cam.example.org, *.example.org)"
    )
    deny: tuple[str, ...] = Field(default=(), description="none of these, written alike")

    @field_validator("allow", "deny")
    @classmethod
    def _are_places(cls, places: tuple[str, ...]) -> tuple[str, ...]:
        for place in places:
            try:
                ip_network(place)
            except ValueError:
                if _NUMERIC.fullmatch(place.partition("/")[0]) or not _NAME.fullmatch(place.lower()):
                    raise ValueError(
                        f'"{place}" should be a network like 10.1.0.0/16, an address, or a name like *.example.org'
                    ) from None
        return places


class OutOfReachError(OSError):
    """The policy forbids it. An `OSError`, so that whoever cannot connect says why in the usual way."""


class Pinned(NamedTuple):
    """A place that was checked."""

    family: socket.AddressFamily
    where: Any
    """As `socket.connect` takes it."""

    @property
    def host(self) -> str:
        """The address in digits."""
        return str(self.where[0])


_policy = [NetworkSettings()]


def use(policy: NetworkSettings) -> None:
    """From now on this holds, for the whole process."""
    _policy[0] = policy


def policy() -> NetworkSettings:
    """What holds: to be handed to another process."""
    return _policy[0]


@contextmanager
def using(policy: NetworkSettings) -> Iterator[None]:
    """For a while this holds, for the whole process; then what did before."""
    before = _policy[0]
    use(policy)
    try:
        yield
    finally:
        use(before)


def check(host: str, *, private: bool) -> None:
    """What can be known without asking anybody; for checks of a config. Raises `OutOfReachError`."""
    host = host.strip("[]")
    address = _written(host)
    if address is not None:
        _check_address(address, host, private)
    elif _named(host, _policy[0].deny):
        raise OutOfReachError(f"{_shown(host)} is out of reach: `network.deny` names it")
    elif not _can_be_asked(host):
        raise OutOfReachError(f"{_shown(host)} is no host name")


def pinned(host: str, port: int, *, private: bool, kind: socket.SocketKind = socket.SOCK_STREAM) -> list[Pinned]:
    """The addresses of `host` that may be connected to, best first, one at least. `private` says whether private ones
    are among them where the config does not say. Asks the name service, and may take as long as that does.
    Raises `OutOfReachError`, and `OSError` where there is no such host."""
    good, refusal = _sorted_out(host, port, private, kind)
    if not good:
        raise refusal or OutOfReachError(f"{_shown(host)} has no address")
    return good


def check_all(host: str, port: int, *, private: bool) -> None:
    """Whether `host` leads to what may be connected to, and to nothing else: for libraries that resolve names by
    themselves. What they are told may differ from what was said here. Asks the name service; a host that it does not
    know leads nowhere. Raises `OutOfReachError`."""
    try:
        _, refusal = _sorted_out(host, port, private, socket.SOCK_STREAM)
    except socket.gaierror:
        return
    if refusal is not None:
        raise refusal


def _sorted_out(
    host: str, port: int, private: bool, kind: socket.SocketKind
) -> tuple[list[Pinned], OutOfReachError | None]:
    """The addresses that may be connected to, and what is said of the first that may not."""
    host = host.strip("[]")
    check(host, private=private)
    try:
        found = socket.getaddrinfo(host, port, type=kind)
    except UnicodeError:
        raise OutOfReachError("this is no host name") from None
    good: list[Pinned] = []
    refusal: OutOfReachError | None = None
    for family, _, _, _, where in found:
        try:
            _check_address(ip_address(where[0]), host, private)
        except OutOfReachError as error:
            refusal = refusal or error
        else:
            good.append(Pinned(family, where))
    return good, refusal


def create_connection(
    address: tuple[str, int], timeout: float | None = None, source_address: Any = None, *, private: bool = False
) -> socket.socket:
    """`socket.create_connection`, within reach. `timeout` is for all addresses together."""
    end_s = None if timeout is None else time.monotonic() + timeout
    last: OSError | None = None
    for place in pinned(*address, private=private):
        connection = socket.socket(place.family, socket.SOCK_STREAM)
        try:
            connection.settimeout(None if end_s is None else max(0.001, end_s - time.monotonic()))
            if source_address is not None:
                connection.bind(source_address)
            connection.connect(place.where)
            connection.settimeout(timeout)
            return connection
        except OSError as error:
            connection.close()
            last = error
    assert last is not None  # there was one address at least
    raise last


async def open_socket(host: str, port: int, *, private: bool) -> socket.socket:
    """The same on an asyncio loop: a connected socket, to be handed on as `sock`."""
    loop = asyncio.get_running_loop()
    last: OSError | None = None
    for place in await loop.run_in_executor(None, partial(pinned, host, port, private=private)):
        connection = socket.socket(place.family, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            await loop.sock_connect(connection, place.where)
            return connection
        except OSError as error:
            connection.close()
            last = OSError(error.errno, os.strerror(error.errno)) if error.errno else error  # asyncio says it at length
        except BaseException:  # called off
            connection.close()
            raise
    assert last is not None
    raise last


def _written(host: str) -> Address | None:
    """The address that `host` spells, if it is one. Raises `OutOfReachError` for spellings that hide it."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    if _NUMERIC.fullmatch(host):
        raise OutOfReachError(f"{_shown(host)} is no plain spelling of an address: write it as four numbers")
    return None


def _can_be_asked(host: str) -> bool:
    """Whether it has the form of a name."""
    try:
        return len(host.encode("idna")) <= _LONGEST_NAME
    except UnicodeError:
        return False


def _check_address(address: Address, host: str, private: bool) -> None:
    rules = _policy[0]
    why = _never(address)
    if why:
        raise OutOfReachError(f"{_told(address, host)} is out of reach: {why}")
    if _named(host, rules.deny) or _within(address, rules.deny):
        raise OutOfReachError(f"{_told(address, host)} is out of reach: `network.deny` names it")
    if rules.allow:
        if _named(host, rules.allow) or _within(address, rules.allow):
            return
        raise OutOfReachError(f"{_told(address, host)} is out of reach: `network.allow` does not name it")
    may = private if rules.private is None else rules.private
    if not may and (not address.is_global or address in _SHARED):
        raise OutOfReachError(
            f"{_told(address, host)} is out of reach: it is in a private network, or this machine itself;"
            " `network: {private: true}` lets it be"
        )


def _never(address: Address) -> str:  # noqa: PLR0911  # a return per kind
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None or any(address in one for one in _DISGUISES if not _plain_six(address)):
            return "it is an IPv4 address in the disguise of IPv6"
        if address.is_site_local:
            return "it is of a kind that is no longer in use"
    if address.is_link_local:
        return "it is link-local"
    if address in _METADATA:
        return "a cloud keeps its metadata there"
    if address.is_multicast:
        return "it is multicast"
    if address.is_unspecified or (isinstance(address, IPv4Address) and address.packed[0] == 0):
        return "it is no host's"
    if isinstance(address, IPv4Address) and address.is_reserved:  # broadcast among them
        return "it is reserved"
    return ""


def _plain_six(address: IPv6Address) -> bool:
    return address.is_loopback or address.is_unspecified  # which lie where IPv4 was once written into IPv6


def _named(host: str, places: Sequence[str]) -> bool:
    name = host.lower().rstrip(".")
    return any(
        name == place.lower() or (place.startswith("*.") and name.endswith(place[1:].lower())) for place in places
    )


def _within(address: Address, places: Sequence[str]) -> bool:
    return any(address in network for network in _networks(places))


def _networks(places: Sequence[str]) -> Iterator[Any]:
    for place in places:
        try:
            yield ip_network(place)
        except ValueError:
            continue  # a name


def _told(address: Address, host: str) -> str:
    return str(address) if str(address) == host else f"{_shown(host)} ({address})"


def _shown(host: str) -> str:
    return "".join(sign for sign in host if sign.isprintable())[:253]
