"""WebRTC out: who watches which stream. Everything in here runs on the network loop.

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
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.codecs import get_capabilities
from aiortc.exceptions import InvalidStateError, OperationError
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.sdp import SessionDescription, candidate_from_sdp
from av.packet import Packet
from av.video.stream import VideoStream

from pipeline.app.web.drawing import View
from pipeline.app.web.encoding import Codec, Encoded, Encoding
from pipeline.app.web.gallery import Gallery
from pipeline.core.records import Result, detection_document

log = logging.getLogger(__name__)

MOST_WATCHERS: Final = 64
_MOST_MEDIA: Final = 8  # sections of an offer
_MOST_CANDIDATES: Final = 64
_CONNECT_S: Final = 15.0
_SILENT_S: Final = 5.0  # it is sent pictures and says nothing at all: it is gone
_LOOK_S: Final = 1.0
_QUEUED: Final = 8  # pictures that wait for one watcher
_MOST_UNSENT: Final = 64 << 10  # bytes that wait in its data channel
_CHANNEL: Final = "detections"


class Refused(Exception):
    """Why an offer or a change of it was not taken; `status` as HTTP has it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


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
        """Pictures, since the program began; each counts once, however many watch."""
        return self._encoded_before + sum(one.encoded for one in self._encodings.values())

    async def join(self, stream: str, view: View, offer: str) -> tuple[Watcher, str]:
        """A new watcher, and the answer to its offer. Raises `Refused`."""
        _check(offer)
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

    def watcher(self, stream: str, number: str) -> Watcher:
        """Raises `Refused` where it is not, or no longer, there."""
        watcher = self._watchers.get(number)
        if watcher is None or watcher.stream != stream:
            raise Refused(404, "there is no such session, or it has ended")
        return watcher

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
        self.tag = f'"{secrets.token_hex(8)}"'
        self.stream, self.view = stream, view
        self._whep = whep
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._peer.on("connectionstatechange", self._changed)
        self._peer.on("datachannel", self._channel_opened)
        self._track = _Track(self)
        self._channel: RTCDataChannel | None = None
        self._leave: Callable[[], None] | None = None
        self._candidates = 0
        self._began_s = time.monotonic()
        self._heard = 0, self._began_s  # packets from it, and when there were that many
        self._closed = False

    async def answer(self, offer: str) -> str:
        peer = self._peer
        sending = peer.addTransceiver(self._track, "sendonly")
        able = get_capabilities("video").codecs
        sending.setCodecPreferences(
            [one for name in ("video/H264", "video/VP8", "video/rtx") for one in able if one.mimeType == name]
        )
        try:
            await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            for other in peer.getTransceivers():
                if other is not sending:
                    other.direction = "inactive"
            await peer.setLocalDescription(await peer.createAnswer())
        except OperationError:
            raise Refused(422, "no codec of the offer is H.264 or VP8: offer one of those") from None
        except (ValueError, InvalidStateError, AssertionError, KeyError, IndexError, AttributeError) as error:
            raise Refused(
                422, f"this offer cannot be answered ({type(error).__name__}): is it one of a browser?"
            ) from None
        answer = peer.localDescription.sdp
        self._track.starts(sending.sender, _codec_of(answer))
        return answer

    def knows(self, fragment: str) -> bool:
        """Whether the fragment speaks of the ICE session that the offer began."""
        said = self._peer.remoteDescription.sdp
        names = [line.strip() for line in fragment.splitlines() if line.startswith("a=ice-ufrag")]
        return all(name in said for name in names)

    async def trickle(self, fragment: str) -> None:
        """Candidates that come after the offer. Raises `Refused`."""
        candidates, mid = [], "0"
        for line in fragment.splitlines():
            name, _, value = line.strip().partition(":")
            if name == "a=mid":
                mid = value
            elif name == "a=candidate":
                candidates.append((mid, value))
        self._candidates += len(candidates)
        if self._candidates > _MOST_CANDIDATES:
            raise Refused(422, f"more than {_MOST_CANDIDATES} candidates: a few are enough")
        for mid, value in candidates:
            try:
                candidate = candidate_from_sdp(value)
            except (ValueError, AssertionError, IndexError):
                raise Refused(400, f"this is no candidate: a=candidate:{value[:80]}") from None
            candidate.sdpMid = mid
            with suppress(InvalidStateError):  # it is closed by now
                await self._peer.addIceCandidate(candidate)

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
        await self._peer.close()

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


def _check(offer: str) -> None:
    """Raises `Refused` where no watcher could be behind it."""
    try:
        said = SessionDescription.parse(offer)
    except (ValueError, AssertionError, IndexError, KeyError, AttributeError, TypeError):
        said = None
    if said is None or not said.media:
        raise Refused(400, "this is no SDP: send the offer of a browser's RTCPeerConnection as it is")
    if len(said.media) > _MOST_MEDIA:
        raise Refused(422, f"more than {_MOST_MEDIA} media sections: offer one for the picture")
    if sum(len(media.ice_candidates) for media in said.media) > _MOST_CANDIDATES * len(said.media):
        raise Refused(422, f"more than {_MOST_CANDIDATES} candidates: a few are enough")
    if not any(media.kind == "video" and media.direction in {None, "recvonly", "sendrecv"} for media in said.media):
        raise Refused(422, "nothing in this offer receives pictures: add a video transceiver with `recvonly`")


def _codec_of(answer: str) -> Codec:
    """The one that will be sent: the first of the picture's section."""
    section = next(media for media in SessionDescription.parse(answer).media if media.kind == "video" and media.port)
    return "VP8" if section.rtp.codecs[0].name.upper() == "VP8" else "H264"
