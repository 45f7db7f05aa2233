"""Sound from a file: WAV, FLAC, MP3, Ogg, M4A, and whatever else FFmpeg reads."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

from av.container import InputContainer
from av.error import FFmpegError
from pydantic import Field

from pipeline.core.errors import InputError
from pipeline.core.records import Item, Watermark
from sources.clock import Clock, ns, start_ns
from sources.ffmpeg import first_sound, open_container, plain
from sources.file import LOCAL_ONLY, check_file, content_digest
from sources.hearing import SoundSource
from sources.pace import Pace
from sources.resuming import PassedOver, Resumable
from sources.sound_decoding import SoundDecoder

log = logging.getLogger(__name__)


class SoundFile(SoundSource, Resumable):
    """A file's first sound track, read to its end as fast as the pipeline takes it, or in real time. Pictures in it
    are passed over.

    Windows are named after the content: the same file gives the same ids wherever it lies. What cannot be decoded is
    counted, and no window spans it.
    """

    path: Path = Field(description="the sound file")
    realtime: bool = Field(False, description="play it at its own speed, as a microphone would")
    loop: bool = Field(False, description="begin again at the end, for ever")

    @property
    def paced(self) -> bool:
        return self.realtime

    def check(self) -> None:
        check_file(self.path)

    def open(self, stream: str) -> SoundFileReader:
        self.check()
        return SoundFileReader(self, stream)


class SoundFileReader:
    """The running part of `SoundFile`."""

    def __init__(self, plan: SoundFile, stream: str) -> None:
        self._plan, self._stream, self._place = plan, stream, str(plan.path)
        self._container: InputContainer | None = None
        self.epoch = content_digest(plan.path)
        self._clock = Clock()
        self.decoder = SoundDecoder(plan, stream, self.epoch, self._clock)
        self._passed = PassedOver(stream, plan._behind.get(""))
        self._attach()

    def _attach(self) -> None:
        try:
            self._container = open_container(f"file:{self._place}", options=LOCAL_ONLY)
            self._sound = first_sound(self._container)
        except InputError as error:
            self.close()
            raise InputError(error.message, self._place) from None
        except FFmpegError as error:
            raise InputError(f"cannot be read as sound: {plain(error)}", self._place) from None
        self._clock.restart(start_ns(self._sound))
        self.decoder.attach(self._sound)

    def __iter__(self) -> Iterator[Item]:
        pace = Pace() if self._plan.realtime else None
        while self._container is not None:
            before = self.decoder.windows.chunks
            yield from self._passed(self._round(self._container, pace))
            if self.decoder.windows.chunks == before and self._container is not None:
                raise InputError("holds no sound that can be decoded", self._place)
            if not self._plan.loop or self._container is None:
                return
            self.close()
            self._attach()

    def _round(self, container: InputContainer, pace: Pace | None) -> Iterator[Item]:
        """From the beginning of the file to its end."""
        begin_ns, first_ns = self._clock.end_ns, None
        try:
            for packet in container.demux(self._sound):
                if packet.dts is None and packet.size == 0:
                    break  # PyAV's mark of the end
                sent_ns = ns(packet.dts, self._sound.time_base)
                if pace is not None and sent_ns is not None and not self._passed.passing:
                    first_ns = sent_ns if first_ns is None else first_ns
                    for _ in pace.until(begin_ns + sent_ns - first_ns):
                        yield Watermark(self._stream, self._clock.end_ns)
                yield from self.decoder.feed(packet, time.monotonic_ns(), time.time_ns())
                if self._container is None:
                    return  # closed meanwhile
        except FFmpegError as error:
            log.warning("%s: broken off after %.1f s: %s", self._place, self._clock.end_ns / 1e9, plain(error))
        yield from self.decoder.flush(time.monotonic_ns(), time.time_ns())

    def close(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            container.close()
