"""A camera of this machine."""

from __future__ import annotations

import re
import sys
from typing import ClassVar

from av.error import FFmpegError
from pydantic import Field, PositiveFloat

from pipeline.core.contracts import Source
from pipeline.core.errors import InputError, SourceLost
from sources.ffmpeg import open_video, plain
from sources.live import LiveReader

_SYSTEMS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
_DEVICE = {
    "linux": re.compile(r"/dev/[A-Za-z0-9/_.:+-]+"),
    "darwin": re.compile(r"[^:\x00-\x1f]+"),  # what follows a colon would be a microphone
    "win32": re.compile(r"[^:\x00-\x1f]+"),
}


class Webcam(Source):
    """A camera by number (0 is the first) or name: V4L2 on Linux (`/dev/video0`), AVFoundation on macOS, DirectShow
    on Windows (names only). One that is not plugged in yet is waited for.

    The tests reach this far with a missing and with a wrong device; no real camera was at hand to open.
    """

    live: ClassVar[bool] = True

    device: int | str = Field(0, description="number, device file, or the system's name of the camera")
    width: int | None = Field(None, ge=16, le=8192, description="in pixels, together with `height`")
    height: int | None = Field(None, ge=16, le=8192, description="in pixels, together with `width`")
    fps: PositiveFloat | None = Field(None, description="frames per second; the camera has the last word")
    mjpeg: bool = Field(False, description="ask for JPEG pictures: more frames of large size over USB")

    def check(self) -> None:
        self._name()
        if (self.width is None) != (self.height is None):
            raise InputError("`width` and `height` go together")

    def open(self, stream: str) -> LiveReader:
        self.check()
        options = {}
        if self.width is not None:
            options["video_size"] = f"{self.width}x{self.height}"
        if self.fps is not None:
            options["framerate"] = f"{self.fps:g}"
        if self.mjpeg:
            options["vcodec" if sys.platform == "win32" else "input_format"] = "mjpeg"
        name = self._name()
        timeouts_s = (self.silence_s / 2, self.silence_s * 0.4)
        try:
            container, video = open_video(
                name, container_format=_SYSTEMS[sys.platform], options=options, timeouts_s=timeouts_s
            )
        except InputError as error:
            raise SourceLost(f"{name}: {error.message}") from None
        except (FFmpegError, ValueError) as error:  # ValueError: this build of FFmpeg lacks the system's cameras
            raise SourceLost(f"{name}: {plain(error)}") from None
        return LiveReader(container, video, stream, silence_s=self.silence_s)

    def _name(self) -> str:
        """What FFmpeg calls the device. Raises `InputError`."""
        if sys.platform not in _SYSTEMS:
            raise InputError(f"cameras of {sys.platform} are not supported")
        if isinstance(self.device, int) or self.device.isdecimal():
            if int(self.device) < 0:
                raise InputError("a camera's number is 0 or more")
            if sys.platform == "win32":
                raise InputError("DirectShow knows cameras by name, not by number")
            return f"/dev/video{int(self.device)}" if sys.platform == "linux" else str(int(self.device))
        if not _DEVICE[sys.platform].fullmatch(self.device) or ".." in self.device:
            raise InputError("this cannot be the name of a camera")
        return f"video={self.device}" if sys.platform == "win32" else self.device
