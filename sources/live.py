"""Reading what arrives when it likes: cameras, servers, devices."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeAlias

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from pipeline.core.errors import SourceLost
from pipeline.core.pictures import MAX_PIXELS
from pipeline.core.records import Item, Watermark
from pipeline.core.secrets import redact
from pipeline.core.tapes import Tape
from sources.clock import Clock
from sources.decoding import Decoder
from sources.ffmpeg import new_epoch, plain
from sources.hearing import HearingSettings
from sources.sound_decoding import SoundDecoder

_HELD = 64  # packets between network and decoder; a full queue slows the sender down (TCP) or loses at its socket (UDP)
_TICK_S = 0.5
_PATIENCE_S = 0.3
_BEHIND_NS = 2_000_000_000
_LOST_PACKET_NS = 15_000_000  # time stamps of a network that leap further tell of a lost packet: G.711's hold 20 ms

_Arrived: TypeAlias = "tuple[Packet[Any], int, int, int]"  # mono_ns, wall_ns, when FFmpeg handed it over


class _Pump(threading.Thread):
    """Takes packets off the connection. FFmpeg blocks in there and cannot be called off from outside, so the
    connection belongs to this thread, which alone closes it; whoever waits for packets can go at any time.
    It also stamps each packet with its arrival, however busy the decoder is. With `held_back`, FFmpeg hands a frame
    over when the next one begins to arrive (see `held_back`): a frame's own arrival is then the moment at which the one
    before it was handed over. The wait for its successor is part of the latency, and is not to be hidden.
    """

    def __init__(
        self,
        container: InputContainer,
        video: VideoStream,
        sound: AudioStream | None,
        name: str,
        flows: Callable[[], None] | None,
    ) -> None:
        super().__init__(name=f"pump-{name}", daemon=True)
        self._container = container
        self._flows = flows
        self._tracks: list[VideoStream | AudioStream] = [video] if sound is None else [video, sound]
        self.tape = Tape(*self._tracks)
        self._video = video.index
        self._held_back = held_back(container, video)
        self._stopped = False
        self._arrived: queue.Queue[_Arrived | SourceLost] = queue.Queue(_HELD)

    def run(self) -> None:
        end = SourceLost("the stream ended")
        before: tuple[int, int] | None = None
        try:
            for packet in self._container.demux(*self._tracks):
                if packet.dts is None and packet.size == 0:
                    break  # PyAV's mark of the end: on a live stream, a disconnect
                now = time.monotonic_ns(), time.time_ns()
                if self._flows is not None:
                    self._flows()
                pictures = packet.stream.index == self._video
                stamp = before if before and pictures and self._held_back else now
                self.tape.add(packet, stamp[0])
                if not self._put((packet, *stamp, now[0])):
                    break
                before = now if pictures else before
        except SourceLost as error:  # of what FFmpeg had us open
            end = error
        except FFmpegError as error:
            end = SourceLost(plain(error))
        except Exception as error:  # noqa: BLE001 it must not end in silence, nor in a trace with a URL in it
            end = SourceLost(f"{type(error).__name__}: {redact(error)}")
        finally:
            self.tape.end()
            self._put(end)
            with suppress(FFmpegError):
                self._container.close()

    def _put(self, item: _Arrived | SourceLost) -> bool:
        while not self._stopped:
            try:
                self._arrived.put(item, timeout=_TICK_S)
            except queue.Full:
                continue
            return True
        return False

    def take(self) -> _Arrived | None:
        """The next packet, or nothing for half a second. Raises `SourceLost` behind the last one."""
        try:
            item = self._arrived.get(timeout=_TICK_S)
        except queue.Empty:
            return None
        if isinstance(item, SourceLost):
            raise item
        return item

    def stop(self) -> None:
        """Returns at once if the stream is silent; the thread then ends with FFmpeg's time-out."""
        self._stopped = True
        with suppress(queue.Empty):
            while True:
                self._arrived.get_nowait()  # it may be waiting for room
        if self.is_alive():
            self.join(_PATIENCE_S)


def held_back(container: InputContainer, video: VideoStream) -> bool:
    """Whether FFmpeg tells the end of a frame only by the beginning of the next: it does where RTP carries a codec
    whose packets it has to parse. That costs one frame's time, 67 ms at 15 frames a second, and no option avoids it."""
    return container.format.name == "rtsp" and video.codec_context.name in {"h264", "hevc"}


class LiveReader:
    """The running part of a live source. Takes `container` over. With `hearing`, `sound` is decoded beside the
    pictures, as a stream of its own on the same clock. `flows` is called at every packet.

    One thread decodes: frame threads would hold back a frame each. Where it cannot keep up, packets that have waited
    for two seconds are passed over up to the next key frame, and counted as undecoded: late is worse than a gap.
    """

    def __init__(
        self,
        container: InputContainer,
        video: VideoStream,
        stream: str,
        *,
        silence_s: float,
        max_pixels: int = MAX_PIXELS,
        sound: AudioStream | None = None,
        hearing: HearingSettings | None = None,
        flows: Callable[[], None] | None = None,
    ) -> None:
        self.epoch = new_epoch()
        clock = Clock()
        self.decoder = Decoder(stream, self.epoch, clock)
        self.decoder.attach(video, threads=1, max_pixels=max_pixels)
        self.sound: SoundDecoder | None = None
        if sound is not None and hearing is not None:
            self.sound = SoundDecoder(hearing, f"{stream}.sound", self.epoch, clock, hole_ns=_LOST_PACKET_NS)
            self.sound.attach(sound)
        self.tracks: tuple[str, ...] = () if self.sound is None else ("sound",)
        self._stream = stream
        self._silence_s = silence_s
        self._closed = False
        self._video = video.index
        self._pump = _Pump(container, video, sound, stream, flows)
        self.tape = self._pump.tape
        self._pump.start()

    def __iter__(self) -> Iterator[Item]:
        decoder, pump = self.decoder, self._pump
        quiet_s, behind, has_keys = 0.0, False, False
        while not self._closed:
            try:
                arrived = pump.take()
            except SourceLost:
                yield from decoder.flush()
                if self.sound is not None:
                    yield from self.sound.flush(time.monotonic_ns(), time.time_ns())
                raise
            if arrived is None:
                quiet_s += _TICK_S  # no clock: a process that was stopped would blame its camera for it
                if quiet_s > self._silence_s:  # FFmpeg's own time-outs failed
                    raise SourceLost("nothing has come, and the connection does not say why")
                yield Watermark(self._stream, decoder.last_pts_ns)
                continue
            quiet_s = 0.0
            packet, mono_ns, wall_ns, handed_ns = arrived
            if self.sound is not None and packet.stream.index != self._video:
                yield from self.sound.feed(packet, mono_ns, wall_ns)
                continue  # it is cheap: what is behind catches up by itself
            # how long it waited for us: its age would blame us for a slow camera
            has_keys = has_keys or packet.is_keyframe  # where none is marked, there is none to wait for
            waits = behind and has_keys and not packet.is_keyframe
            behind = waits or time.monotonic_ns() - handed_ns > _BEHIND_NS
            if behind:
                yield decoder.refuse()
            else:
                yield from decoder.feed(packet, mono_ns, wall_ns)

    def close(self) -> None:
        self._closed = True
        self._pump.stop()
