"""What browsers, OBS and others publish by WebRTC, over WHIP (RFC 9725)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from av.audio.codeccontext import AudioCodecContext
from av.codec.context import CodecContext, Flags
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from pydantic import Field, PositiveFloat, field_validator, model_validator

from pipeline.core import reach
from pipeline.core.contracts import Reader
from pipeline.core.errors import InputError, MissingPart, SourceAway
from pipeline.core.pictures import MAX_PIXELS
from pipeline.core.records import Chunk, Item, Watermark
from pipeline.core.secrets import remember
from pipeline.core.settings import Settings
from sources.clock import Clock
from sources.decoding import Decoder
from sources.ffmpeg import new_epoch
from sources.hearing import FilmSource
from sources.sound_decoding import SoundDecoder

if TYPE_CHECKING:
    from sources.webrtc_peers import Endpoint, Peer
    from sources.webrtc_rtp import Arrived, Encoded

log = logging.getLogger(__name__)

_TICK_S = 0.5
_WAITS_S = 1.0
_BEHIND_NS = 1_000_000_000  # what waited longer to be decoded is passed over
_LOST_PACKET_NS = 15_000_000
_SHORTEST_TOKEN = 16
_ICE_URL = r"^(stuns?:[^\s?@,<>\"]+|turns?:[^\s?@,<>\"]+(\?transport=(udp|tcp))?)$"
_PRINTED = r"^[\x21-\x7e]{1,512}$"
_PICTURES = {"VP8": "vp8", "H264": "h264"}
_SOUNDS = {
    "opus": ("libopus", 48_000, 48_000, "stereo"),
    "G722": ("g722", 8_000, 16_000, "mono"),  # its RTP clock is a historical mistake
    "PCMU": ("pcm_mulaw", 8_000, 8_000, "mono"),
    "PCMA": ("pcm_alaw", 8_000, 8_000, "mono"),
}
"""FFmpeg's decoder, the clock of its time stamps, samples a second, channels."""


class IceServer(Settings):
    """A STUN or TURN server by which publishers behind address translation are reached."""

    url: str = Field(pattern=_ICE_URL, description="stun:HOST[:PORT], turn:HOST[:PORT]?transport=udp|tcp or turns:…")
    username: str | None = Field(None, pattern=_PRINTED, description="of a TURN server")
    credential: str | None = Field(
        None, pattern=_PRINTED, repr=False, description="of a TURN server; give it as ${VARIABLE}"
    )

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        scheme, _, rest = self.url.partition(":")
        host, _, port = rest.partition("?")[0].rpartition(":")
        if not host or not port.isdecimal():
            return rest.partition("?")[0], 5349 if scheme.endswith("s") else 3478
        return host, int(port)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.url.startswith("turn") and (self.username is None or self.credential is None):
            raise ValueError("a TURN server needs `username` and `credential`")
        return self


class WebRtc(FilmSource):
    """Published over WHIP to `/whip/NAME` of this program's own server, by one publisher at a time: picture (H.264 or
    VP8, at any size, which may change) and, with `sound`, its sound.

    A publisher that is killed is noticed by its silence after `media_timeout_s`. The stream then waits for the next.
    """

    live: ClassVar[bool] = True
    published: ClassVar[bool] = True

    token: str | None = Field(
        None,
        repr=False,
        description="whoever publishes says it: Authorization: Bearer TOKEN; give it as ${VARIABLE}. The server's"
        " operator may publish, too",
    )
    replace: bool = Field(
        True, description="a newcomer takes the place of who publishes; otherwise it is refused as long as that lasts"
    )
    media_timeout_s: PositiveFloat = Field(
        5.0, le=600, description="a publisher of whom no picture has come for so long is gone"
    )
    max_pixels: int = Field(MAX_PIXELS, gt=0, description="refuse pictures with more pixels")
    ice_servers: tuple[IceServer, ...] = Field(
        (), max_length=8, description="STUN and TURN servers, told to publishers, too; none are needed in one network"
    )

    @field_validator("ice_servers", mode="before")
    @classmethod
    def _urls_alone(cls, value: object) -> object:
        if isinstance(value, (list, tuple)):
            return [{"url": one} if isinstance(one, str) else one for one in value]
        return value

    @field_validator("token")
    @classmethod
    def _is_hard_to_guess(cls, token: str | None) -> str | None:
        # not in the schema: there a reference to a variable may be shorter
        if token is not None and len(token) < _SHORTEST_TOKEN:
            raise ValueError(f"a token of {len(token)} characters is guessed: {_SHORTEST_TOKEN} are the least")
        return token

    @model_validator(mode="after")
    def _lives_in_the_server(self) -> Self:
        if self.isolation == "process":
            raise ValueError("`isolation: process` is not for it: its connections live in this program's own server")
        return self

    def model_post_init(self, _context: object) -> None:
        for secret in (self.token, *(one.credential for one in self.ice_servers)):
            if secret:
                remember(secret)

    def check(self) -> None:
        for one in self.ice_servers:
            try:
                reach.check(one.place[0], private=True)
            except reach.OutOfReachError as error:
                raise InputError(str(error), "ice_servers") from None
        try:
            import aiortc  # noqa: F401
        except ImportError:
            raise MissingPart("needs the package aiortc: pip install 'thresher[web]'") from None

    def open(self, stream: str) -> Reader:
        """Waits a second for a publisher. Raises `SourceAway` where none came."""
        self.check()
        from sources.webrtc_peers import opened

        endpoint = opened(stream, self)
        peer = endpoint.take(self, _WAITS_S)
        if peer is None:
            raise SourceAway(f"waits for a publisher at /whip/{stream}")
        return WebRtcReader(self, stream, endpoint, peer)


class WebRtcReader:
    """The running part: one publisher's frames, decoded here, by one thread. aiortc's own decoders see none of them."""

    def __init__(self, plan: WebRtc, stream: str, endpoint: Endpoint, peer: Peer) -> None:
        self.epoch = new_epoch()
        self._plan, self._stream, self._peer, self._endpoint = plan, stream, peer, endpoint
        self._clock = Clock()
        self._clock.restart(peer.first_ns)
        self.decoder = Decoder(stream, self.epoch, self._clock)
        self.sound: SoundDecoder | None = None
        if plan.sound is not None and peer.has_sound:
            self.sound = SoundDecoder(plan.sound, f"{stream}.sound", self.epoch, self._clock, hole_ns=_LOST_PACKET_NS)
        self.tracks: tuple[str, ...] = () if self.sound is None else ("sound",)
        self._codecs: dict[str, str] = {}
        self._rates: dict[str, int] = {}
        self._last_stamp: int | None = None
        self._waits_for_key = True
        self._closed = False

    def __iter__(self) -> Iterator[Item]:
        quiet_s, looked_s, said_s = 0.0, time.monotonic(), time.monotonic()
        try:
            while not self._closed:
                arrived = self._peer.mailbox.take(_TICK_S)
                now_s = time.monotonic()
                # no clock alone: a process that was stopped would blame its publisher for it
                quiet_s += min(now_s - looked_s, 2 * _TICK_S)
                looked_s = now_s
                for one in arrived:
                    if one.kind == "video":
                        quiet_s = 0.0
                    for item in self._items(one):
                        said_s = now_s if isinstance(item, Chunk) and item.stream == self._stream else said_s
                        yield item
                if quiet_s > self._plan.media_timeout_s:
                    raise SourceAway(f"no picture came for {self._plan.media_timeout_s:g} s; it waits for a publisher")
                if now_s - said_s >= _TICK_S:
                    said_s = now_s
                    yield Watermark(self._stream, self.decoder.last_pts_ns)
        except SourceAway:
            yield from self._rest()
            raise

    def _rest(self) -> list[Item]:
        items = self.decoder.flush() if "video" in self._codecs else []
        if self.sound is not None and "audio" in self._codecs:
            items += self.sound.flush(time.monotonic_ns(), time.time_ns())
        return items

    def _items(self, one: Arrived) -> list[Item]:
        from sources.webrtc_rtp import Lost

        if isinstance(one, Lost):
            if one.kind == "audio":
                return []  # its windows tell by the time stamps
            self._waits_for_key = True
            return [self.decoder.refuse(one.count, one.reason)]
        return self._heard(one) if one.kind == "audio" else self._seen(one)

    def _seen(self, one: Encoded) -> list[Item]:
        if not one.key and (self._waits_for_key or time.monotonic_ns() - one.mono_ns > _BEHIND_NS):
            if not self._waits_for_key:
                self._peer.ask_for_key()
            self._waits_for_key = True
            return [self.decoder.refuse()]
        items: list[Item] = []
        if self._codecs.get("video") != one.codec:
            items += self.decoder.flush() if "video" in self._codecs else []
            self._use_picture_codec(one.codec)
        packet = self._packet(one, self._rates["video"])
        if self._last_stamp is not None and 0 < one.stamp - self._last_stamp < 2 * self._rates["video"]:
            packet.duration = one.stamp - self._last_stamp
        self._last_stamp = one.stamp
        self._waits_for_key = False
        decoded = self.decoder.feed(packet, one.mono_ns, one.wall_ns)
        if not all(isinstance(item, Chunk) for item in decoded):
            self._peer.ask_for_key()  # what builds upon it would be no better
            self._waits_for_key = True
        return items + decoded

    def _use_picture_codec(self, name: str) -> None:
        codec = CodecContext.create(_PICTURES[name], "r")
        assert isinstance(codec, VideoCodecContext)
        codec.flags |= Flags.low_delay  # a sender of live pictures does not reorder them
        self.decoder.use(codec, Fraction(1, 90_000), threads=1, max_pixels=self._plan.max_pixels)
        self._codecs["video"], self._rates["video"] = name, 90_000

    def _heard(self, one: Encoded) -> list[Item]:
        if self.sound is None:
            return []
        if self._codecs.get("audio") != one.codec:
            name, clock_rate, rate, layout = _SOUNDS[one.codec]
            codec = CodecContext.create(name, "r")
            assert isinstance(codec, AudioCodecContext)
            codec.sample_rate, codec.layout = rate, layout
            self.sound.use(codec, Fraction(1, clock_rate))
            self._codecs["audio"], self._rates["audio"] = one.codec, clock_rate
        return self.sound.feed(self._packet(one, self._rates["audio"]), one.mono_ns, one.wall_ns)

    @staticmethod
    def _packet(one: Encoded, rate: int) -> Packet[Any]:
        packet = Packet(one.data)
        packet.pts = packet.dts = one.stamp
        packet.time_base = Fraction(1, rate)
        return cast("Packet[Any]", packet)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._endpoint.release(self._peer)
