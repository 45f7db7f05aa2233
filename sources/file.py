"""A film from a file: any container and codec that FFmpeg reads."""

from __future__ import annotations

import hashlib
import logging
import time
from base64 import b32hexencode
from collections.abc import Iterable, Iterator
from pathlib import Path

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from pydantic import Field

from pipeline.core.errors import InputError
from pipeline.core.pictures import MAX_PIXELS
from pipeline.core.records import Item, Watermark
from pipeline.core.tapes import Tape
from sources.clock import Clock, ns, start_ns
from sources.decoding import Decoder
from sources.ffmpeg import FORMATS, first_sound, open_video, plain
from sources.film_seeking import WORTH_NS, Sought
from sources.hearing import FilmSource
from sources.pace import Pace
from sources.resuming import PassedOver, Resumable
from sources.sound_decoding import SoundDecoder

log = logging.getLogger(__name__)

_DIGESTED_WHOLE = 64 << 20
_BLOCK = 1 << 20
_BLOCKS = 16
LOCAL_ONLY = {"protocol_whitelist": "file", "format_whitelist": FORMATS}  # nothing may lead to other files


class File(FilmSource, Resumable):
    """A video file, read to its end as fast as the pipeline takes it, or in real time.

    Windows are named after the content: the same file gives the same ids wherever it lies.
    A cut-off or damaged file is judged as far as it decodes; the rest is counted as undecoded. (Which frames near the
    damage FFmpeg calls sound can depend on the order in which its threads run.)
    """

    path: Path = Field(description="the video file")
    realtime: bool = Field(False, description="play it at its own speed, as a camera would")
    loop: bool = Field(False, description="begin again at the end, for ever")
    threads: int = Field(
        2, ge=1, le=64, description="decode this many frames at once; with 1, a damaged file is always judged alike"
    )
    max_pixels: int = Field(MAX_PIXELS, gt=0, description="refuse pictures with more pixels")

    @property
    def paced(self) -> bool:
        return self.realtime

    def check(self) -> None:
        check_file(self.path)

    def open(self, stream: str) -> FileReader:
        self.check()
        return FileReader(self, stream)


def check_file(path: Path) -> None:
    """Raises `InputError` where `path` is no file that holds something."""
    place = str(path)
    if not path.exists():
        raise InputError("there is no such file", place)
    if not path.is_file():
        raise InputError("is not a file", place)
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise InputError("is empty", place)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", place) from None


def content_digest(path: Path) -> str:
    """26 characters that stand for the content. Files beyond 64 MiB are digested by their size and 16 evenly spaced
    blocks of 1 MiB, first and last included: a change between them goes unseen."""
    size = path.stat().st_size
    digest = hashlib.blake2b(size.to_bytes(8, "big"), digest_size=16)
    with path.open("rb") as file:
        if size <= _DIGESTED_WHOLE:
            while block := file.read(_BLOCK):
                digest.update(block)
        else:
            for n in range(_BLOCKS):
                file.seek((size - _BLOCK) * n // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK))
    return b32hexencode(digest.digest()).decode().rstrip("=")


class FileReader:
    """The running part of `File`."""

    def __init__(self, plan: File, stream: str) -> None:
        self._plan = plan
        self._stream = stream
        self._place = str(plan.path)
        self._container: InputContainer | None = None
        self.epoch = content_digest(plan.path)
        self._begin()
        self.sound: SoundDecoder | None = None
        if plan.sound is not None:
            self.sound = SoundDecoder(plan.sound, f"{stream}.sound", self.epoch, self._clock)
        self._goes_on = plan._behind.get("")
        self._passed = PassedOver(stream, self._goes_on)
        self._heard = PassedOver(f"{stream}.sound", plan._behind.get("sound"))
        self._attach()
        self.tape = Tape(*self._tracks)

    def _begin(self) -> None:
        self._clock = Clock()
        self.decoder = Decoder(self._stream, self.epoch, self._clock)

    def _attach(self) -> None:
        try:
            self._container, self._video = open_video(
                f"file:{self._place}",
                options={**LOCAL_ONLY, "max_pixels": str(self._plan.max_pixels)},
            )
            self._tracks: list[VideoStream | AudioStream] = [self._video]
            if self.sound is not None:
                self._tracks.append(first_sound(self._container))
        except InputError as error:
            self._let_go()
            raise InputError(error.message, self._place) from None
        except FFmpegError as error:
            raise InputError(f"cannot be read as a video: {plain(error)}", self._place) from None
        codec = self._video.codec_context
        if codec.width * codec.height > self._plan.max_pixels:
            self._let_go()
            size = f"{codec.width}×{codec.height}"
            raise InputError(f"{size} is more than the {self._plan.max_pixels} pixels of `max_pixels`", self._place)
        self.decoder.attach(self._video, threads=self._plan.threads, max_pixels=self._plan.max_pixels)
        if self.sound is not None:
            self.sound.attach(first_sound(self._container))
        self._clock.restart(start_ns(*self._tracks) if self.sound is not None else None)

    def __iter__(self) -> Iterator[Item]:
        pace = Pace() if self._plan.realtime else None
        place = self._goes_on
        if place is not None and place.pts_ns > WORTH_NS and self.sound is None and not (self._plan.loop or pace):
            sought = Sought(self.decoder, self._clock, place)
            yield from self._rest(sought)
            if sought.found or self._container is None:
                return
            self._let_go()
            self._begin()
            self._attach()
        decoder = self.decoder
        while self._container is not None:
            before = decoder.chunks
            for packet_items in self._round(pace, self._clock.end_ns):
                yield from packet_items
            if decoder.chunks == before:
                most = self._plan.max_pixels
                raise InputError(f"holds no picture of up to {most} pixels that can be decoded", self._place)
            if not self._plan.loop or self._container is None:
                return
            self._let_go()
            self._attach()
            self.tape.again()

    def _rest(self, sought: Sought) -> Iterator[Item]:
        """What is behind the place, where a shorter way leads there."""
        assert self._container is not None
        for packet in sought.seek(self._container, self._video):
            items = sought.behind(self.decoder.feed(packet, time.monotonic_ns(), time.time_ns()))
            if items is None:
                return
            yield from items
        yield from sought.behind(self.decoder.flush()) or ()
        if sought.found:
            self._compare(self.decoder.next_pts_ns / 1e9)

    def _round(self, pace: Pace | None, begin_ns: int) -> Iterator[Iterable[Item]]:
        """From the beginning of the file to its end."""
        assert self._container is not None
        decoder, sound = self.decoder, self.sound
        first_ns: int | None = None
        try:
            for packet in self._container.demux(*self._tracks):
                if packet.dts is None and packet.size == 0:
                    break  # PyAV's mark of the end
                sent_ns = ns(packet.dts, packet.stream.time_base) if pace is not None else None
                if pace is not None and sent_ns is not None and not self._passed.passing:
                    first_ns = sent_ns if first_ns is None else first_ns
                    for _ in pace.until(begin_ns + sent_ns - first_ns):
                        yield [Watermark(self._stream, decoder.last_pts_ns)]
                seen = sound is None or packet.stream.index == self._video.index
                takes, passed = (decoder, self._passed) if seen else (sound, self._heard)
                mono_ns = time.monotonic_ns()
                self.tape.add(packet, mono_ns)
                yield passed(takes.feed(packet, mono_ns, time.time_ns()))  # type: ignore[arg-type, union-attr]  # by its stream
        except FFmpegError as error:
            log.warning("%s: broken off at frame %d: %s", self._place, decoder.received, plain(error))
        yield self._passed(decoder.flush())
        self._compare((decoder.next_pts_ns - begin_ns) / 1e9)
        if sound is not None:
            before = sound.windows.chunks
            yield self._heard(sound.flush(time.monotonic_ns(), time.time_ns()))
            if before == sound.windows.chunks == 0:
                log.warning("%s: its sound track is empty", self._place)

    def _compare(self, seconds: float) -> None:
        """Say so if the film was cut off: its container knows how long it was meant to be."""
        duration, base = self._video.duration, self._video.time_base
        meant_s = float(duration * base) if duration is not None and base is not None else 0.0
        if not meant_s and self._container is not None and self._container.duration is not None:
            meant_s = self._container.duration / 1e6
        if meant_s - seconds > max(1.0, 0.02 * meant_s):
            log.warning("%s: ends after %.1f s of the %.1f s that it should have", self._place, seconds, meant_s)

    def _let_go(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            container.close()

    def close(self) -> None:
        self.tape.end()
        self._let_go()
