"""Who publishes by WHIP: one endpoint a stream, and its connections, which live on the network's loop.

A newcomer takes over once something comes from it, so that one whose media never arrive ends nobody's stream. Between a
publisher and the reader is one bounded mailbox; what finds no room in it is counted.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Collection, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpTransceiver,
    RTCSessionDescription,
)
from aiortc.codecs import get_capabilities

from pipeline.core.errors import SourceAway
from sources.mailbox import Mailbox
from sources.network_loop import network_loop
from sources.webrtc_ice import Candidates, await_encryption, let_go, within_reach
from sources.webrtc_offers import Offer, Refused
from sources.webrtc_rtp import Arrived, Assembly

if TYPE_CHECKING:
    from aiortc import RTCIceCandidate

    from sources.webrtc import WebRtc

log = logging.getLogger(__name__)

_HELD = 128  # frames of picture and sound that wait: a second or two
_NEGOTIATION_S = 10.0
_FIRST_MEDIA_S = 15.0  # from the answer on: ICE over a relay takes a while
_UNREAD_S = 5.0  # an endpoint that nobody has read for so long is none
_MOST_WAITING = 4  # offers to one endpoint at a time
_PREFERRED = {"video": ("video/h264", "video/vp8"), "audio": ("audio/opus", "audio/g722", "audio/pcmu", "audio/pcma")}
"""In this order: decoding H.264 takes a third of what VP8 takes."""

_tasks: set[asyncio.Task[None]] = set()
_lock = threading.Lock()
_endpoints: dict[str, Endpoint] = {}
_peers: set[Peer] = set()  # that were not let go of yet; the loop's


def _run(work: Coroutine[Any, Any, None]) -> None:
    """On the loop, by itself. Kept, since a loop holds its tasks weakly."""
    task = network_loop().create_task(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


class Peer:
    """One publisher's connection. All but `mailbox`, `ask_for_key` and `hang_up` belongs to the network's loop."""

    def __init__(self, endpoint: Endpoint, plan: WebRtc, servers: Sequence[RTCIceServer]) -> None:
        self.id = secrets.token_urlsafe(24)
        self.etag = f'"{secrets.token_hex(8)}"'
        self.mailbox: Mailbox[Arrived] = Mailbox(_HELD)
        self.has_sound = False
        self.taken = False  # by a reader
        self.first_ns = 0  # when its first packet came
        self._endpoint, self._plan = endpoint, plan
        self._began_s = time.monotonic()
        self._flows = False
        self._candidates: Candidates | None = None
        self._pictures: Assembly | None = None
        self._connection = RTCPeerConnection(
            RTCConfiguration(iceServers=list(servers), bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
        )
        self._connection.on("connectionstatechange", self._changed)
        self._closing: asyncio.Task[None] | None = None
        _peers.add(self)

    @property
    def closed(self) -> bool:
        return self._closing is not None

    @property
    def stream(self) -> str:
        return self._endpoint.name

    async def answer(self, offer: Offer) -> str:
        """The SDP answer. Raises `Refused`; it is closed then."""
        try:
            async with asyncio.timeout(_NEGOTIATION_S):
                return await self._answer(offer)
        except Refused:
            await self.close("")
            raise
        except TimeoutError:
            await self.close("")
            raise Refused(503, "no ICE candidates could be gathered in time: are the `ice_servers` there?") from None
        except Exception as error:  # noqa: BLE001  # the library finds mistakes in an offer in many ways
            log.info("%s: an offer was refused: %s: %s", self.stream, type(error).__name__, error)
            await self.close("")
            raise Refused(422, "the offer cannot be answered: H.264 (packetization mode 1) or VP8 is needed") from None

    async def _answer(self, offer: Offer) -> str:
        connection = self._connection
        tracks: dict[str, RTCRtpTransceiver] = {}
        for kind in offer.kinds:
            wanted = kind == "video" or self._plan.sound is not None
            track = tracks[kind] = connection.addTransceiver(kind, direction="recvonly" if wanted else "inactive")
            track.setCodecPreferences(
                [
                    codec
                    for name in (*_PREFERRED[kind], "video/rtx")
                    for codec in get_capabilities(kind).codecs
                    if codec.mimeType.lower() == name
                ]
            )
        await connection.setRemoteDescription(RTCSessionDescription(offer.sdp, "offer"))
        await_encryption(connection, offer)
        self._candidates = Candidates(connection, offer.ufrag)
        for kind, track in tracks.items():
            if track.direction == "recvonly":
                self._listen(kind, track)
        await self._candidates.add(offer.candidates)
        await connection.setLocalDescription(await connection.createAnswer())
        _run(self._watch())
        return offer.answered(connection.localDescription.sdp)

    def _listen(self, kind: str, track: RTCRtpTransceiver) -> None:
        """In aiortc's receiver our assembly takes the place of its buffer: what it does on the line (acknowledging,
        asking again, decrypting) stays, and nothing comes to its decoder, which has no bounds."""
        codecs = {codec.payloadType: codec.name for codec in track._codecs}
        rate = next(codec.clockRate for codec in track._codecs)
        assembly = Assembly(kind, codecs, rate, self.mailbox, flows=self._flowed)  # type: ignore[arg-type]
        receiver = track.receiver
        assert hasattr(receiver, "_RTCRtpReceiver__jitter_buffer"), "this aiortc is built otherwise"
        receiver._RTCRtpReceiver__jitter_buffer = assembly
        if kind == "video":
            self._pictures = assembly
        else:
            self.has_sound = True

    def ask_for_key(self) -> None:
        """From any thread: whatever comes next cannot be decoded without one."""
        if self._pictures is not None:
            self._pictures.ask_for_key()

    async def trickle(self, ufrag: str | None, candidates: list[RTCIceCandidate], complete: bool) -> None:
        """Raises `Refused`."""
        assert self._candidates is not None, "it was answered"
        await self._candidates.trickle(ufrag, candidates, complete)

    def _flowed(self, now_ns: int) -> None:
        if not self._flows:
            self._flows = True
            self.first_ns = now_ns
            self._endpoint.flows(self)

    def _changed(self) -> None:
        state = self._connection.connectionState
        if state in {"failed", "closed"} and not self.closed:
            _run(self.close("the publisher left" if self._flows else "no connection to the publisher came about"))

    async def _watch(self) -> None:
        """Nobody who only takes a place is kept."""
        while not self.closed:
            await asyncio.sleep(1.0)
            age_s = time.monotonic() - self._began_s
            if not self._flows and age_s > _FIRST_MEDIA_S:
                await self.close("nothing came from the publisher")
            elif self._flows and not self.taken and not self._endpoint.is_read:
                await self.close("nobody reads the stream")

    def hang_up(self, why: str) -> None:
        """From any thread; returns at once."""
        network_loop().call_soon_threadsafe(lambda: _run(self.close(why)))

    async def close(self, why: str) -> None:
        """Safe twice: who comes later waits until the first is done."""
        if self._closing is None:
            self._endpoint.forget(self)
            self.mailbox.fail(SourceAway(why))
            if why:
                log.info("%s: %s", self.stream, why)
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await let_go(self._connection, self.stream)
        _peers.discard(self)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A publisher that was let in."""

    session: str
    etag: str
    answer: str


class Endpoint:
    """Where one stream is published."""

    def __init__(self, name: str, plan: WebRtc) -> None:
        self.name, self.plan = name, plan
        self._read_s = time.monotonic()
        self._readers = 0
        self._peer: Peer | None = None
        self._coming: Peer | None = None
        self._changed = threading.Condition()
        self._turn = asyncio.Lock()
        self._waiting = 0

    @property
    def is_read(self) -> bool:
        """Whether the stream's reader is there, or will be in a moment."""
        return self._readers > 0 or time.monotonic() - self._read_s < _UNREAD_S

    @property
    def published(self) -> bool:
        """Whether packets come from somebody."""
        return self._peer is not None

    # The reader's side, in its thread.

    def take(self, plan: WebRtc, most_s: float) -> Peer | None:
        """Whoever publishes, waited for for so long. It is given back by `release`."""
        end_s = time.monotonic() + most_s
        with self._changed:
            self.plan = plan
            while True:
                self._read_s = time.monotonic()
                if self._peer is not None and not self._peer.taken:
                    self._peer.taken = True
                    self._readers += 1
                    return self._peer
                if self._read_s >= end_s:
                    return None
                self._changed.wait(end_s - self._read_s)

    def release(self, peer: Peer) -> None:
        with self._changed:
            self._readers -= 1
            self._read_s = time.monotonic()
        peer.hang_up("")

    # The publisher's side, on the network's loop.

    async def publish(self, offer: Offer) -> Accepted:
        """Raises `Refused`."""
        if self._waiting >= _MOST_WAITING:
            raise Refused(503, "others are just being answered here: try again in a second")
        self._waiting += 1
        try:
            async with self._turn:
                if not self.plan.replace and (self._peer or self._coming):
                    raise Refused(409, "somebody publishes here already, and `replace` is off")
                peer = Peer(self, self.plan, await within_reach(self.plan.ice_servers))
                answer = await peer.answer(offer)
                before, self._coming = self._coming, peer
                if before is not None:
                    await before.close("another publisher came before anything arrived")
                return Accepted(peer.id, peer.etag, answer)
        finally:
            self._waiting -= 1

    def session(self, session: str) -> Peer | None:
        given = session.encode()
        there = [one for one in (self._peer, self._coming) if one is not None]
        return next((one for one in there if secrets.compare_digest(one.id.encode(), given)), None)

    def flows(self, peer: Peer) -> None:
        """The first packet of `peer` is there."""
        with self._changed:
            before, self._peer = self._peer, peer
            if self._coming is peer:
                self._coming = None
            self._changed.notify_all()
        if before is not None:
            _run(before.close("another publisher took over"))

    def forget(self, peer: Peer) -> None:
        with self._changed:
            self._peer = None if self._peer is peer else self._peer
            self._coming = None if self._coming is peer else self._coming


def opened(name: str, plan: WebRtc) -> Endpoint:
    """The endpoint of the stream of that name; from now on publishers are let in."""
    with _lock:
        if name not in _endpoints:
            for other in [one.name for one in _endpoints.values() if not one.is_read]:
                del _endpoints[other]
            _endpoints[name] = Endpoint(name, plan)
        return _endpoints[name]


async def let_all_go(streams: Collection[str]) -> None:
    """Whoever publishes into one of these, or is about to: nobody answers them any more."""
    there = [peer for peer in _peers if peer.stream in streams]
    await asyncio.gather(*(peer.close("the server ends") for peer in there))


def publishing() -> dict[str, bool]:
    """The streams that can be published, and whether somebody does."""
    with _lock:
        return {name: one.published for name, one in _endpoints.items() if one.is_read}


def endpoint(name: str) -> Endpoint | None:
    """Where the stream of that name is published, if somebody reads it."""
    with _lock:
        found = _endpoints.get(name)
        if found is not None and not found.is_read:
            del _endpoints[name]
            return None
        return found
