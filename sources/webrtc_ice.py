"""How the other side of a connection is reached: the ICE candidates that it names, a few of them and those that can be
tried, and who begins to encrypt; and how it is let go."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from pipeline.core import reach
from sources.webrtc_offers import MOST_CANDIDATES, Offer, Refused

if TYPE_CHECKING:
    from aiortc import RTCIceCandidate, RTCIceServer, RTCPeerConnection

    from sources.webrtc import IceServer

log = logging.getLogger(__name__)

_LOOK_UP_S = 3.0
_CLOSING_S = 5.0


async def within_reach(servers: Iterable[IceServer]) -> list[RTCIceServer]:
    """Those that may be asked, by the address that was checked: aioice would ask the name service by itself. One with
    TLS keeps its name, by which its certificate is checked; all addresses behind it are looked at."""
    found = await asyncio.gather(*(_checked(one) for one in servers))
    return [one for one in found if one is not None]


async def _checked(one: IceServer) -> RTCIceServer | None:
    from aiortc import RTCIceServer

    scheme, _, rest = one.url.partition(":")
    host, port = one.place
    url: str | None = one.url
    try:
        async with asyncio.timeout(_LOOK_UP_S):
            if scheme.endswith("s"):
                await asyncio.to_thread(reach.check_all, host, port, private=True)
            else:
                places = await asyncio.to_thread(reach.pinned, host, port, private=True, kind=socket.SOCK_DGRAM)
                four = next((place.host for place in places if place.family is socket.AF_INET), None)
                _, mark, transport = rest.partition("?")
                url = four and f"{scheme}:{four}:{port}{mark}{transport}"
    except OSError as error:
        log.warning("an ICE server is left out: %s: %s", host, error)
        return None
    if url is None:  # aiortc reads no address of IPv6 in a URL
        log.warning("an ICE server is left out: %s has no address of IPv4", host)
        return None
    return RTCIceServer(url, one.username, one.credential)


def await_encryption(connection: RTCPeerConnection, offer: Offer) -> None:
    """Have the other side begin, where its offer leaves that open: as the one who begins, aiortc speaks to nobody with
    an RSA certificate, which GStreamer has."""
    if offer.lets_choose:
        connection.getTransceivers()[0].receiver.transport._set_role("server")


class Candidates:
    """Of one connection, all of whose media share a transport. `ufrag` names the ICE session of its offer."""

    def __init__(self, connection: RTCPeerConnection, ufrag: str) -> None:
        self._transport = connection.getTransceivers()[0].receiver.transport.transport
        self._ufrag = ufrag
        self._count = 0

    async def add(self, candidates: Iterable[RTCIceCandidate]) -> None:
        """Raises `Refused`. All at once: a hidden host (a `.local` name) is waited for up to a second."""
        told = list(candidates)
        self._count += len(told)
        if self._count > MOST_CANDIDATES:
            raise Refused(422, f"at most {MOST_CANDIDATES} ICE candidates are tried for one connection")
        await asyncio.gather(*map(self._add, told))

    async def _add(self, candidate: RTCIceCandidate) -> None:
        with suppress(ValueError):  # behind the end of candidates, or none that can be tried
            await self._transport.addRemoteCandidate(candidate)

    async def trickle(self, ufrag: str | None, candidates: Iterable[RTCIceCandidate], complete: bool) -> None:
        """Raises `Refused`."""
        if ufrag is not None and ufrag != self._ufrag:
            raise Refused(422, "ICE restarts are not supported: make a new connection with a new offer")
        await self.add(candidates)
        if complete:
            await self._transport.addRemoteCandidate(None)


async def let_go(connection: RTCPeerConnection, stream: str) -> None:
    """Close it. Whatever the library says of a connection that ends anyway, and however long it takes over it, whoever
    lets go of one has others to look after."""
    try:
        async with asyncio.timeout(_CLOSING_S):
            await connection.close()
            # where it came about meanwhile, media and data were started behind the library's own back
            for transceiver in connection.getTransceivers():
                await transceiver.stop()
            if connection.sctp is not None:
                await connection.sctp.stop()
    except Exception as error:  # noqa: BLE001
        log.warning("%s: a connection did not close in order: %s", stream, type(error).__name__)
