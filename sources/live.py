"""Reading what arrives when it likes: cameras, servers, devices."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TypeAlias

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from pipeline.core.errors import SourceLost
from pipeline.core.records import Item, Watermark
from sources.decoding import MAX_PIXELS, Decoder
from sources.ffmpeg import new_epoch, plain

_HELD = 64  # packets between network and decoder; a full queue slows the sender down (TCP) or loses at its socket (UDP)
_TICK_S = 0.5
_PATIENCE_S = 0.3

_Arrived: TypeAlias = "tuple[Packet[VideoStream], int, int]"  # mono_ns, wall_ns


class _Pump(threading.Thread):
    """Takes packets off the connection. FFmpeg blocks in there and cannot be called off from outside, so the
    connection belongs to this thread, which alone closes it; whoever waits for packets can go at any time.
    It also stamps each packet when FFmpeg hands it over, however busy the decoder is. (From RTSP that is one frame's
    time after its last byte came: FFmpeg tells the end of an H.264 frame by the beginning of the next.)
    """

    def __init__(self, container: InputContainer, video: VideoStream, name: str) -> None:
        super().__init__(name=f"pump-{name}", daemon=True)
        self._container = container
        self._video = video
        self._stopped = False
        self._arrived: queue.Queue[_Arrived | SourceLost] = queue.Queue(_HELD)

    def run(self) -> None:
        end = SourceLost("the stream ended")
        try:
            for packet in self._container.demux(self._video):
                if packet.dts is None and packet.size == 0:
                    break  # PyAV's mark of the end: on a live stream, a disconnect
                if not self._put((packet, time.monotonic_ns(), time.time_ns())):
                    break
        except FFmpegError as error:
            end = SourceLost(plain(error))
        finally:
            self._container.close()
            self._put(end)

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


class LiveReader:
    """The running part of a live source. Takes `container` over.

    One thread decodes: frame threads would hold back a frame each.
    """

    def __init__(
        self, container: InputContainer, video: VideoStream, stream: str, *, max_pixels: int = MAX_PIXELS
    ) -> None:
        self.epoch = new_epoch()
        self.decoder = Decoder(stream, self.epoch)
        self.decoder.attach(video, threads=1, max_pixels=max_pixels)
        self._stream = stream
        self._closed = False
        self._pump = _Pump(container, video, stream)
        self._pump.start()

    def __iter__(self) -> Iterator[Item]:
        decoder, pump = self.decoder, self._pump
        while not self._closed:
            try:
                arrived = pump.take()
            except SourceLost:
                yield from decoder.flush()
                raise
            if arrived is None:
                yield Watermark(self._stream, decoder.last_pts_ns)
            else:
                yield from decoder.feed(*arrived)

    def close(self) -> None:
        self._closed = True
        self._pump.stop()
