"""Going on in the middle of a film without decoding all that is before."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from pipeline.core.places import Place
from pipeline.core.records import Chunk, Item
from sources.clock import Clock, ns
from sources.decoding import Decoder
from sources.ffmpeg import plain

log = logging.getLogger(__name__)

WORTH_NS = 20_000_000_000  # of a film: what is shorter is decoded from its beginning
_BACK_NS = 5_000_000_000  # what a decoder needs to be as it was: a keyframe, and as a rule the one before that


class Sought:
    """Decodes from a keyframe before `place` on. The picture at the place is found by its media time, and what follows
    is numbered from there. Where the container knows no way, or leads elsewhere, `found` stays False."""

    def __init__(self, decoder: Decoder, clock: Clock, place: Place) -> None:
        self._decoder, self._clock, self._place = decoder, clock, place
        self.found = False

    def seek(self, container: InputContainer, video: VideoStream) -> Iterator[Packet[VideoStream]]:
        """The packets behind the keyframe."""
        base = video.time_base
        try:
            origin_ns = self._origin_ns(container, video)
            if origin_ns is None or base is None:
                return
            wanted_ns = origin_ns + self._place.pts_ns
            container.seek(int((wanted_ns - _BACK_NS) / 1e9 / base), stream=video, backward=True)
            self._decoder.restart()
            first = True
            for packet in container.demux(video):
                if packet.dts is None and packet.size == 0:
                    return
                at_ns = ns(packet.pts, base)
                if first and not packet.is_keyframe:
                    continue
                if first and (at_ns is None or at_ns > wanted_ns):
                    return
                first = False
                yield packet
        except FFmpegError as error:
            if self.found:
                log.warning("%s: broken off: %s", container.name.removeprefix("file:"), plain(error))

    def _origin_ns(self, container: InputContainer, video: VideoStream) -> int | None:
        """Where media time begins: the film's first picture says."""
        for packet in container.demux(video):
            if packet.dts is None and packet.size == 0:
                break
            for item in self._decoder.feed(packet, time.monotonic_ns(), time.time_ns()):
                if isinstance(item, Chunk):
                    return self._clock.origin_ns
        return None

    def behind(self, items: Iterable[Item]) -> list[Item] | None:
        """What of `items` is behind the place, rightly numbered; None where the place was passed by."""
        new: list[Item] = []
        shift = 0
        for item in items:
            if self.found:
                new.append(replace(item, seq=item.seq + shift) if shift and isinstance(item, Chunk) else item)
            elif isinstance(item, Chunk):
                item.payload.release()
                if item.pts_ns > self._place.pts_ns:
                    return None
                if item.pts_ns == self._place.pts_ns:
                    self.found = True
                    shift = self._place.seq - item.seq
        self._decoder.renumber(shift)
        return new
