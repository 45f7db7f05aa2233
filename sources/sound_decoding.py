"""Packets of sound in, windows out: what `decoding` is for pictures."""

from __future__ import annotations

from fractions import Fraction

from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.error import FFmpegError
from av.packet import Packet

from pipeline.core.records import Array, Item
from sources.clock import Clock, ns
from sources.hearing import HearingSettings
from sources.sound_windows import SoundWindows

_DEFAULT_PACKET_NS = 20_000_000


class SoundDecoder:
    """Decodes one stream of sound into `windows`. A packet that the decoder refuses is an `undecoded` gap, one that
    came damaged a `damaged` one, as many hops long as the packet was; no window spans it."""

    def __init__(
        self,
        settings: HearingSettings,
        stream: str,
        epoch: str,
        clock: Clock | None = None,
        *,
        hole_ns: int = 50_000_000,
    ) -> None:
        self.windows = SoundWindows(settings, stream, epoch, hole_ns=hole_ns)
        self._clock = clock or Clock()
        self._packet_ns = _DEFAULT_PACKET_NS

    def attach(self, sound: AudioStream) -> None:
        """Decode `sound` from here on."""
        self.use(sound.codec_context, sound.time_base or Fraction(1, 1000))

    def use(self, codec: AudioCodecContext, base: Fraction) -> None:
        """Decode with `codec` from here on, where there is no container; time stamps are in units of `base` seconds."""
        self._codec = codec
        self._codec.thread_count = 1  # it is cheap, and threads would hold packets back
        self._base = base

    def feed(self, packet: Packet[AudioStream], mono_ns: int, wall_ns: int) -> list[Item]:
        """The windows that end with what `packet` holds. It arrived at `mono_ns` / `wall_ns`."""
        self._packet_ns = ns(packet.duration or None, self._base) or self._packet_ns
        if packet.size == 0:  # FFmpeg would take it for the end
            return self.windows.lose(self._packet_ns, "undecoded")
        try:
            frames = self._codec.decode(packet)
        except (FFmpegError, ValueError):  # ValueError: a codec without a decoder
            return self.windows.lose(self._packet_ns, "undecoded")
        if packet.is_corrupt:
            return self.windows.lose(self._packet_ns, "damaged")
        return [item for frame in frames for item in self._windows(frame, mono_ns, wall_ns)]

    def flush(self, mono_ns: int, wall_ns: int) -> list[Item]:
        """The end of the stream: what the decoder still holds, and the last hop."""
        try:
            frames = self._codec.decode(None)
        except (FFmpegError, ValueError):
            frames = []
        items = [item for frame in frames for item in self._windows(frame, mono_ns, wall_ns)]
        return items + self.windows.finish()

    def _windows(self, frame: AudioFrame, mono_ns: int, wall_ns: int) -> list[Item]:
        if frame.is_corrupt:
            return self.windows.lose(frame.samples * 1_000_000_000 // max(1, frame.sample_rate), "damaged")
        stamp_ns = ns(frame.pts, frame.time_base or self._base)
        at_ns = None if stamp_ns is None else self._clock.at(stamp_ns)
        items = self.windows.feed(_channels(frame), frame.sample_rate, mono_ns, wall_ns, at_ns)
        self._clock.reached(self.windows.next_ns)
        return items


def _channels(frame: AudioFrame) -> Array:
    """`[channels, n]`, whatever way they lie."""
    samples = frame.to_ndarray()
    return samples if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels).T
