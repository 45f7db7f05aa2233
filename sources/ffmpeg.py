"""What every source on top of FFmpeg (PyAV) shares: opening, errors in plain words, names for connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

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


FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dv,eac3,flac,flv,gif,gxf,h261,h263,h264,hevc,ivf,live_flv,loas,m4v,"
    "matroska,webm,mjpeg,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpeg,mpegts,mpegvideo,mpjpeg,mxf,nut,obu,ogg,tta,vc1,w64,wav,wv,"
    "yuv4mpegpipe,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe"
)
"""The containers that are read: those that people have, and none that leads on to other files (playlists, scripts)."""


def open_video(
    url: Any,
    *,
    container_format: str | None = None,
    options: Mapping[str, str] | None = None,
    timeouts_s: tuple[float, float] | None = None,
    io_open: Callable[..., Any] | None = None,
) -> tuple[InputContainer, VideoStream]:
    """Open `url` and find its video stream. `timeouts_s` are for opening and for each packet; FFmpeg may take twice as
    long. Raises FFmpeg's errors, and `InputError` where no picture moves."""
    container = open_container(
        url, container_format=container_format, options=options, timeouts_s=timeouts_s, io_open=io_open
    )
    try:
        return container, first_video(container)
    except BaseException:
        container.close()
        raise


def open_container(
    url: Any,
    *,
    container_format: str | None = None,
    options: Mapping[str, str] | None = None,
    timeouts_s: tuple[float, float] | None = None,
    io_open: Callable[..., Any] | None = None,
) -> InputContainer:
    """Open `url`, or what a file-like object holds, whatever is in it. Where that leads to further files, `io_open`
    opens them. Titles in it that are no UTF-8 are no reason to refuse the rest. Raises FFmpeg's errors."""
    container: InputContainer = av.open(
        url,
        "r",
        format=container_format,
        options=dict(options or {}),
        timeout=timeouts_s,
        metadata_errors="replace",
        io_open=io_open,
    )
    return container


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
