"""What every source on top of FFmpeg (PyAV) shares: opening, errors in plain words, names for connections."""

from __future__ import annotations

from collections.abc import Mapping

import av
import av.logging
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import ExitError
from av.video.stream import VideoStream
from ulid import ULID

from pipeline.core.errors import InputError
from pipeline.core.secrets import redact

av.logging.set_level(None)  # FFmpeg itself writes whole URLs, passwords and all, to standard error


def plain(error: BaseException) -> str:
    """The reason alone: FFmpeg's own messages repeat the URL."""
    if isinstance(error, ExitError):  # PyAV's time-outs call FFmpeg off
        return "nothing came in time"
    return redact(getattr(error, "strerror", None) or error)


def new_epoch() -> str:
    """A sortable unique name for one connection of a live source."""
    return str(ULID())


def open_video(
    url: str,
    *,
    container_format: str | None = None,
    options: Mapping[str, str] | None = None,
    timeouts_s: tuple[float, float] | None = None,
) -> tuple[InputContainer, VideoStream]:
    """Open `url` and find its video stream. `timeouts_s` are for opening and for each packet; FFmpeg may take twice as
    long. Raises FFmpeg's errors, and `InputError` where no picture moves."""
    container = open_container(url, container_format=container_format, options=options, timeouts_s=timeouts_s)
    try:
        return container, first_video(container)
    except BaseException:
        container.close()
        raise


def open_container(
    url: str,
    *,
    container_format: str | None = None,
    options: Mapping[str, str] | None = None,
    timeouts_s: tuple[float, float] | None = None,
) -> InputContainer:
    """Open `url`, whatever is in it. Titles in it that are no UTF-8 are no reason to refuse the rest. Raises FFmpeg's
    errors."""
    return av.open(
        url,
        "r",
        format=container_format,
        options=dict(options or {}),
        timeout=timeouts_s,
        metadata_errors="replace",
    )


def first_video(container: InputContainer) -> VideoStream:
    """The first stream of moving pictures; cover art is none. Raises `InputError`."""
    films = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
    if not films:
        raise InputError(
            "there is no video in it"
            + (", just sound: files of that are of kind `sound`" if container.streams.audio else "")
        )
    if films[0].codec_context is None:
        raise InputError("its video is in a format that this FFmpeg cannot decode")
    return films[0]


def first_sound(container: InputContainer) -> AudioStream:
    """The first stream of sound. Raises `InputError`."""
    if not container.streams.audio:
        raise InputError("it has no sound track: take away `sound:`")
    if container.streams.audio[0].codec_context is None:
        raise InputError("its sound is in a format that this FFmpeg cannot decode")
    return container.streams.audio[0]
