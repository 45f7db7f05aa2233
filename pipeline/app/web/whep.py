"""WebRTC out: who watches which stream. Everything in here runs on the network loop; its figures may be read from
anywhere.

A watcher is one `RTCPeerConnection` whose track hands aiortc pictures that are encoded already, the same packet to all.
Of a watcher that is slow the pictures go, up to the next key frame; nobody else notices.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDataChannel,
    RTCIceCandidate,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.codecs import get_capabilities
from aiortc.exceptions import InvalidStateError
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av.packet import Packet
from av.video.stream import VideoStream

from pipeline.app.web.drawing import View
from pipeline.app.web.encoding import Codec, Encoded, Encoding
from pipeline.app.web.gallery import Gallery
from pipeline.core.records import Result, detection_document
from sources.webrtc_ice import Candidates, await_encryption, let_go
from sources.webrtc_offers import Offer, Refused

log = logging.getLogger(__name__)

MOST_WATCHERS: Final = 32
_PREFERRED: Final = ("video/H264", "video/VP8", "video/rtx")
_NEGOTIATION_S: Final = 10.0
_CONNECT_S: Final = 15.0
_SILENT_S: Final = 5.0  # it is sent pictures and says nothing at all: it is gone
_LOOK_S: Final = 1.0
_QUEUED: Final = 8  # pictures that wait for one watcher
_MOST_UNSENT: Final = 64 << 10  # bytes that wait in its data channel
_CHANNEL: Final = "detections"


class Whep:
    """All watchers. `streams` says which streams there are; a watcher of one that is gone is put out."""

    def __init__(self, gallery: Gallery, is_there: Callable[[str], bool]) -> None:
        self._gallery = gallery
        self._is_there = is_there
        self._watchers: dict[str, Watcher] = {}
        self._encodings: dict[tuple[str, View, Codec], Encoding] = {}
        self._encoded_before = 0  # by encoders that are no more
        self._patrol: asyncio.Task[None] | None = None

    @property
    def watchers(self) -> int:
        return len(self._watchers)

    @property
    def encoders(self) -> int:
        return len(self._encodings)

    @property
    def encoded(self) -> int:
        """Pictures, since the program began; each counts once, however many watch. From any thread."""
        return self._encoded_before + sum(one.encoded for one in tuple(self._encodings.values()))

    async def join(self, stream: str, view: View, offer: Offer) -> tuple[Watcher, str]:
        """A new watcher, and the answer to its offer. Raises `Refused`."""
        if len(self._watchers) >= MOST_WATCHERS:
            raise Refused(503, f"{MOST_WATCHERS} watch already: try again when one has left")
        watcher = Watcher(self, stream, view)
        self._watchers[watcher.id] = watcher
        if self._patrol is None:
            self._patrol = asyncio.create_task(self._look_after())
        try:
            return watcher, await watcher.answer(offer)
        except BaseException:
            await watcher.close()
            raise

    def watcher(self, stream: str, session: str) -> Watcher | None:
        watcher = self._watchers.get(session)
        return None if watcher is None or watcher.stream != stream else watcher

    async def close(self) -> None:
        """Put all out."""
        await asyncio.gather(*(watcher.close() for watcher in tuple(self._watchers.values())))

    async def _look_after(self) -> None:
        """While there are watchers: let go of those who left without a word."""
        try:
            while self._watchers:
                await asyncio.sleep(_LOOK_S)
                for watcher in tuple(self._watchers.values()):
                    reason = watcher.gone() if self._is_there(watcher.stream) else "its stream is no more"
                    if reason:
                        log.info("a watcher of %s was let go: %s", watcher.stream, reason)
                        await watcher.close()
        finally:
            self._patrol = None

    # For its watchers.

    def encoding(self, stream: str, view: View, codec: Codec) -> Encoding:
        key = stream, view, codec
        if key not in self._encodings:
            self._encodings[key] = Encoding(self._gallery, stream, view, codec, asyncio.get_running_loop())
        return self._encodings[key]

    def left(self, watcher: Watcher) -> None:
        self._watchers.pop(watcher.id, None)
        for key, one in tuple(self._encodings.items()):
            if not one.watched:
                self._encoded_before += one.encoded
                del self._encodings[key]


class Watcher:
    """One peer."""

    def __init__(self, whep: Whep, stream: str, view: View) -> None:
        self.id = secrets.token_urlsafe(18)
        self.etag = f'"{secrets.token_hex(8)}"'
        self.stream, self.view = stream, view
        self._whep = whep
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self._peer.on("connectionstatechange", self._changed)
        self._peer.on("datachannel", self._channel_opened)
        self._track = _Track(self)
        self._channel: RTCDataChannel | None = None
        self._leave: Callable[[], None] | None = None
        self._candidates: Candidates | None = None
        self._began_s = time.monotonic()
        self._heard = 0, self._began_s  # packets from it, and when there were that many
        self._closed = False

    async def answer(self, offer: Offer) -> str:
        """The SDP answer. Raises `Refused`."""
        try:
            async with asyncio.timeout(_NEGOTIATION_S):
                return await self._answer(offer)
        except Refused:
            raise
        except Exception as error:  # noqa: BLE001  # the library finds mistakes in an offer in many ways
            log.info("%s: an offer was refused: %s: %s", self.stream, type(error).__name__, error)
            raise Refused(422, "the offer cannot be answered: H.264 (packetization mode 1) or VP8 is needed") from None

    async def _answer(self, offer: Offer) -> str:
        peer = self._peer
        for kind in offer.kinds:
            if kind == "video":
                sending = peer.addTransceiver(self._track, "sendonly")
                able = get_capabilities("video").codecs
                sending.setCodecPreferences([one for name in _PREFERRED for one in able if one.mimeType == name])
            elif kind == "audio":
                peer.addTransceiver("audio", "inactive")
        await peer.setRemoteDescription(RTCSessionDescription(offer.sdp, "offer"))
        await_encryption(peer, offer)
        self._candidates = Candidates(peer, offer.ufrag)
        await self._candidates.add(offer.candidates)
        await peer.setLocalDescription(await peer.createAnswer())
        self._track.starts(sending.sender, "VP8" if sending._codecs[0].name == "VP8" else "H264")
        return offer.answered(peer.localDescription.sdp)

    async def trickle(self, ufrag: str | None, candidates: Iterable[RTCIceCandidate], complete: bool) -> None:
        """Raises `Refused`."""
        assert self._candidates is not None, "it was answered"
        await self._candidates.trickle(ufrag, candidates, complete)

    def gone(self) -> str:
        """Why it is to be let go; empty while it is well."""
        now_s = time.monotonic()
        if self._leave is None:  # nothing was sent yet
            return "it never connected" if now_s - self._began_s > _CONNECT_S else ""
        heard = self._track.heard()
        if heard != self._heard[0] or not self._track.sent_since(self._heard[1]):
            self._heard = heard, now_s
        return "nothing comes from it" if now_s - self._heard[1] > _SILENT_S else ""

    async def close(self) -> None:
        """Safe twice."""
        if self._closed:
            return
        self._closed = True
        if self._leave is not None:
            self._leave()
        self._track.stop()
        self._whep.left(self)
        await let_go(self._peer, self.stream)

    async def _changed(self) -> None:
        if self._peer.connectionState in {"closed", "failed"}:
            await self.close()

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        if channel.label == _CHANNEL:
            self._channel = channel
            self._track.tell_again()

    # For its track.

    def begin(self, codec: Codec, listener: Callable[[Encoded], None]) -> Encoding:
        """It is connected: the encoder may start."""
        if self._closed:
            raise MediaStreamError
        encoding = self._whep.encoding(self.stream, self.view, codec)
        self._leave = encoding.join(listener)
        return encoding

    def tell(self, encoded: Encoded, origin: int) -> None:
        """What was found in the picture that is shown with this time stamp."""
        channel = self._channel
        if channel is None or channel.readyState != "open" or channel.bufferedAmount > _MOST_UNSENT:
            return
        with suppress(InvalidStateError):
            channel.send(json.dumps(_document(encoded, origin), separators=(",", ":")))


class _Track(MediaStreamTrack):
    """What aiortc's sender asks for pictures."""

    kind = "video"

    def __init__(self, watcher: Watcher) -> None:
        super().__init__()
        self._watcher = watcher
        self._sender: RTCRtpSender | None = None
        self._codec: Codec = "H264"
        self._encoding: Encoding | None = None
        self._queue: deque[Encoded] = deque()
        self._came = asyncio.Event()
        self._skips = True  # up to the next key frame
        self._origin: int | None = None
        self._last: Encoded | None = None  # that was sent
        self._sent_s = 0.0

    def starts(self, sender: RTCRtpSender, codec: Codec) -> None:
        self._sender, self._codec = sender, codec
        sender._send_keyframe = self._want_key  # type: ignore[method-assign]  # it would ask an encoder of its own

    def heard(self) -> int:
        """How many packets came from the other side."""
        assert self._sender is not None
        stats = self._sender.transport._get_stats().values()
        return sum(int(getattr(one, "packetsReceived", 0)) for one in stats)

    def sent_since(self, then_s: float) -> bool:
        return self._sent_s > then_s

    async def recv(self) -> Packet[VideoStream]:
        if self._encoding is None:
            self._encoding = self._watcher.begin(self._codec, self._take)
        if self._last is not None and self._origin is None:
            self._learn(self._last)
        while not self._queue:
            self._came.clear()
            await self._came.wait()
            if self.readyState != "live":
                raise MediaStreamError
        encoded = self._queue.popleft()
        self._sent_s = time.monotonic()
        self._last = encoded
        self.tell_again()
        return encoded.packet

    def tell_again(self) -> None:
        """What was found in the picture that was sent last: its channel may have come behind it."""
        if self._last is not None and self._origin is not None:
            self._watcher.tell(self._last, self._origin)

    def stop(self) -> None:
        super().stop()
        self._queue.clear()
        self._came.set()

    def _take(self, encoded: Encoded) -> None:
        if len(self._queue) >= _QUEUED:
            self._queue.clear()
            self._skips = True
            self._want_key()
        if self._skips and not encoded.key:
            return
        self._skips = False
        self._queue.append(encoded)
        self._came.set()

    def _want_key(self) -> None:
        if self._encoding is not None:
            self._encoding.want_key()

    def _learn(self, first: Encoded) -> None:
        """A sender shifts time stamps by a random number that it keeps to itself: it is the difference between what the
        first picture's packets said and what it was given. aiortc has no public way to ask."""
        sent: int = self._sender._RTCRtpSender__rtp_timestamp  # type: ignore[union-attr]
        self._origin = (sent - first.ticks) & 0xFFFFFFFF
        self.tell_again()


def _document(encoded: Encoded, origin: int) -> dict[str, Any]:
    outcome, frame = encoded.shot.outcome, encoded.shot.frame
    window = outcome.window
    document: dict[str, Any] = {
        "rtp": (origin + encoded.ticks) & 0xFFFFFFFF,
        "pts_ns": window.start_ns,
        "id": window.id,
        "width": frame.width,
        "height": frame.height,
        "outcome": outcome.kind,
        "detections": [],
        "latency_ms": round(outcome.latency_ns / 1e6, 3),
    }
    if isinstance(outcome, Result):
        document["flagged"] = outcome.flagged
        document["detections"] = [detection_document(one) for one in outcome.detections]
    return document
