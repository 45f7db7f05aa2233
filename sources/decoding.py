"""Packets in, records out, and no packet goes missing: each becomes exactly one `Chunk` or is counted in one `Gap`."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Literal, TypeAlias

from av.codec.context import ThreadType
from av.error import FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.core.payloads import FrameImage
from pipeline.core.pictures import MAX_PIXELS, guard
from pipeline.core.records import Chunk, Gap, Item
from sources.clock import Clock

_SECOND = 1_000_000_000
_DEFAULT_RATE = Fraction(25)
_Arrival: TypeAlias = tuple[int, int, int, bool]  # number of the packet, mono_ns, wall_ns, whether it came damaged
_REORDERED = 20  # packets a decoder may sit on beside one a thread: 16 pictures of reordering (H.264, HEVC), and some


class Decoder:
    """Decodes one video stream with exact accounting.

    A packet's arrival time travels to the frame it becomes (by presentation time, since decoders reorder). A frame
    that the decoder marks as damaged (a bit error, a lost reference, a picture joined midway) is a `damaged` gap; a
    packet that it refuses, or never gives a frame for, is an `undecoded` one. FFmpeg marks the picture that was hit
    and those whose references are missing; whole pictures that build upon a damaged one look sound to it.

    `seq` counts what was received in the order in which it leaves; `pts_ns` is by `clock`, or starts at 0 with the
    first frame that leaves. Live time may leap, either way, as the sender's clock does.
    """

    def __init__(self, stream: str, epoch: str, clock: Clock | None = None) -> None:
        self.received = 0
        self.chunks = 0
        self.last_pts_ns = 0
        self._stream = stream
        self._epoch = epoch
        self._seq = 0
        self._clock = clock or Clock()
        self.next_pts_ns = 0

    def attach(self, video: VideoStream, *, threads: int, max_pixels: int = MAX_PIXELS) -> None:
        """Decode `video` from here on.

        More than one thread decodes ahead, each thread one frame: good for files, late for live streams.
        """
        rate = video.average_rate or video.guessed_rate or _DEFAULT_RATE
        base = video.time_base or Fraction(1, 1000)
        self.use(video.codec_context, base, threads=threads, rate=rate, max_pixels=max_pixels)

    def use(
        self,
        codec: VideoCodecContext,
        base: Fraction,
        *,
        threads: int,
        rate: Fraction = _DEFAULT_RATE,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """Decode with `codec` from here on, where there is no container; time stamps are in units of `base` seconds."""
        codec.thread_count = threads
        self._longest_hold = _REORDERED + threads
        codec.thread_type = ThreadType.AUTO if threads > 1 else ThreadType.SLICE
        guard(codec, max_pixels, strict=codec.name == "mjpeg")  # no other picture builds upon it, so no harm done
        self._codec = codec
        self._waiting: dict[object, _Arrival] = {}  # in the order of decoding
        self._numerator, self._denominator = base.numerator * _SECOND, base.denominator
        self._frame_ns = int(_SECOND / rate)

    def feed(self, packet: Packet[VideoStream], mono_ns: int, wall_ns: int) -> list[Item]:
        """What became of the packets so far, in order of presentation. `packet` arrived at `mono_ns` / `wall_ns`."""
        if packet.is_discard:  # only decoded for the sake of others: an edit list keeps it out of the film
            return self._emit(self._decode(packet)[0])
        number = self.received
        self.received += 1
        key: object = packet.pts if packet.pts is not None else packet.dts
        if key is None or key in self._waiting:
            key = object()  # found again as the oldest
        self._waiting[key] = (number, mono_ns, wall_ns, packet.is_corrupt)
        frames, failed = self._decode(packet)
        items = self._emit(frames)
        lost = 0
        if failed and key in self._waiting:
            del self._waiting[key]
            lost += 1
        while self._waiting:
            oldest = next(iter(self._waiting))
            if self._waiting[oldest][0] >= number - self._longest_hold:
                break
            del self._waiting[oldest]
            lost += 1
        if lost:
            items.append(self._gap("undecoded", lost))
        return items

    def flush(self) -> list[Item]:
        """The end of the stream: what the decoder still holds, and the rest as a gap."""
        items = self._emit(self._decode(None)[0])
        if self._waiting:
            items.append(self._gap("undecoded", len(self._waiting)))
            self._waiting.clear()
        return items

    def restart(self) -> None:
        """Somebody sought another place in the film: nothing is waited for any more."""
        self._waiting.clear()

    def renumber(self, shift: int) -> None:
        """What leaves from here on has numbers that are higher by so much."""
        self._seq += shift

    def refuse(self, count: int = 1, reason: Literal["damaged", "undecoded"] = "undecoded") -> Gap:
        """Something arrived that never reached the decoder."""
        self.received += count
        return self._gap(reason, count)

    def _decode(self, packet: Packet[VideoStream] | None) -> tuple[list[VideoFrame], bool]:
        """The frames that came out, and whether the decoder complained."""
        if packet is not None and packet.size == 0:  # FFmpeg would take it for the end
            return [], True
        try:
            return self._codec.decode(packet), False
        except (FFmpegError, ValueError):  # ValueError: a codec without a decoder
            return [], True

    def _emit(self, frames: Iterable[VideoFrame]) -> list[Item]:
        items: list[Item] = []
        for frame in frames:
            pts = frame.pts if frame.pts is not None else frame.dts
            stamp = self._waiting.pop(pts, None) or self._oldest()
            if stamp is None:
                continue  # nobody waits for it: it was counted when its packet failed, or an edit list left it out
            _, mono_ns, wall_ns, damaged = stamp
            if damaged or frame.is_corrupt:
                items.append(self._gap("damaged", 1))
                continue
            if frame.duration:
                self._frame_ns = frame.duration * self._numerator // self._denominator
            pts_ns = self.next_pts_ns if pts is None else self._clock.at(pts * self._numerator // self._denominator)
            self.last_pts_ns = pts_ns
            self.next_pts_ns = pts_ns + self._frame_ns
            self._clock.reached(self.next_pts_ns)
            image = FrameImage(frame)
            items.append(Chunk(self._stream, self._epoch, self._seq, pts_ns, self._frame_ns, mono_ns, wall_ns, image))
            self._seq += 1
            self.chunks += 1
        return items

    def _oldest(self) -> _Arrival | None:
        return self._waiting.pop(next(iter(self._waiting))) if self._waiting else None

    def _gap(self, reason: Literal["damaged", "undecoded"], count: int) -> Gap:
        self._seq += count
        return Gap(self._stream, reason, count)
