"""Cameras and stream servers on the network."""

from __future__ import annotations

import logging
from typing import ClassVar, Literal
from urllib.parse import SplitResult, urlsplit

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from pydantic import Field, PositiveFloat

from pipeline.core.catalogue import nearest
from pipeline.core.errors import InputError, SourceLost
from pipeline.core.pictures import MAX_PIXELS
from pipeline.core.secrets import remember_url
from sources.ffmpeg import first_sound, open_video, plain
from sources.hearing import FilmSource
from sources.live import LiveReader

log = logging.getLogger(__name__)

_WEB = "http,https,httpproxy,tls,tcp,crypto"
_PROTOCOLS = {
    "rtsp": "rtsp,rtp,tcp,udp,srtp",
    "rtsps": "rtsps,rtsp,rtp,tcp,tls,udp,srtp",
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,rtmp,tls,tcp",
    "http": _WEB,
    "https": _WEB,
    "udp": "udp",
}
"""What FFmpeg may use on behalf of a URL of that scheme. A stream must not lead it to local files, nor to its
`concat:` and `subfile:` tricks."""


class Rtsp(FilmSource):
    """A live stream by URL: rtsp, rtsps, rtmp, rtmps, http, https (HLS playlists included), udp.

    An end is a disconnect: a film that a web server hands out is played again and again. Silence is one, too, after
    at most 0.8 × `silence_s`.
    """

    live: ClassVar[bool] = True

    url: str = Field(repr=False, description="where the stream is; keep the password out of here with ${VARIABLE}")
    transport: Literal["tcp", "udp"] = Field("tcp", description="how RTSP carries the picture; udp may lose parts")
    connect_s: PositiveFloat = Field(
        3.0, le=600, description="give up a connection attempt after this long, at most doubled"
    )
    max_pixels: int = Field(MAX_PIXELS, gt=0, description="refuse pictures with more pixels")

    def model_post_init(self, _context: object) -> None:
        remember_url(self.url)

    def check(self) -> None:
        self._parts()

    def open(self, stream: str) -> LiveReader:
        remember_url(self.url)  # again: this may be another process
        parts = self._parts()
        try:
            container, video = open_video(
                self.url, options=self._options(parts.scheme), timeouts_s=(self.connect_s, self._read_s)
            )
        except InputError as error:
            raise SourceLost(f"{_where(parts)}: {error.message}") from None
        except FFmpegError as error:
            raise SourceLost(f"{_where(parts)}: {plain(error)}") from None
        return LiveReader(
            container,
            video,
            stream,
            silence_s=self.silence_s,
            max_pixels=self.max_pixels,
            sound=self._heard(container, stream),
            hearing=self.sound,
        )

    def _heard(self, container: InputContainer, stream: str) -> AudioStream | None:
        """Its sound track, if that is wanted; a camera without one goes on without."""
        if self.sound is None:
            return None
        try:
            return first_sound(container)
        except InputError as error:
            log.warning("%s: %s; only its pictures are judged", stream, error.message)
            return None

    @property
    def _read_s(self) -> float:
        return self.silence_s * 0.4  # FFmpeg notices after once to twice as long

    def _parts(self) -> SplitResult:
        """The URL taken apart. No message repeats any of it: who knows where in it the password is."""
        if not self.url.isprintable() or " " in self.url:
            raise InputError("the URL holds a space or a control character")
        try:
            parts = urlsplit(self.url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise InputError(
                "the URL is malformed: is the port a number, and is each / ? # @ in a password percent-encoded?"
            ) from None
        if "://" not in self.url or parts.scheme not in _PROTOCOLS:
            hint = nearest(parts.scheme, _PROTOCOLS) if parts.scheme else ""
            raise InputError(f"the URL must begin with one of {', '.join(f'{s}://' for s in _PROTOCOLS)}.{hint}")
        if "@" in parts.path + parts.query + parts.fragment and (parts.username or parts.scheme == "rtsp"):
            raise InputError(
                "there is an @ behind the host: percent-encode / ? # @ in the password (%2F %3F %23 %40), and an @ that"
                " belongs to the path as %40"
            )
        if not host and parts.scheme != "udp":
            raise InputError("the URL names no host")
        return parts

    def _options(self, scheme: str) -> dict[str, str]:
        options = {"protocol_whitelist": _PROTOCOLS[scheme], "max_pixels": str(self.max_pixels)}
        if scheme in {"rtsp", "rtsps"}:
            # little probing: the session description tells what comes, and a reconnect should be quick
            options |= {"rtsp_transport": self.transport, "analyzeduration": "100000", "probesize": "32768"}
            options |= {"fflags": "nobuffer", "timeout": str(int(max(self.connect_s, self._read_s) * 1e6))}
            if self.transport == "tcp":  # nothing to put in order
                options["max_delay"] = "0"
        return options


def _where(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.hostname or ''}" + (f":{parts.port}" if parts.port else "")
