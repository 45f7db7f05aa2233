"""Cameras and stream servers on the network."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from typing import Any, ClassVar, Literal
from urllib.parse import SplitResult, urlsplit, urlunsplit

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from pydantic import Field, PositiveFloat

from pipeline.core import reach
from pipeline.core.catalogue import nearest
from pipeline.core.errors import InputError, SourceLost
from pipeline.core.pictures import MAX_PIXELS
from pipeline.core.secrets import redact, remember_url
from pipeline.core.web import Timeouts
from sources.ffmpeg import FORMATS, first_sound, open_video, plain
from sources.hearing import FilmSource
from sources.live import LiveReader
from sources.relay import Relay
from sources.web_stream import NOWHERE, Web

log = logging.getLogger(__name__)

_PROTOCOLS = {
    "rtsp": "rtp,tcp,udp,srtp",
    "rtsps": "rtp,tcp,udp,srtp",
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmp,tcp",
    "http": NOWHERE,
    "https": NOWHERE,
    "udp": "udp",
}
"""What FFmpeg may use on behalf of a URL of that scheme: it gets a passage to the server, or what a web server sends.
A stream must not lead it to local files, nor to its tricks with them (`concat:`, `subfile:`)."""
_PORTS = {"rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443}


class Rtsp(FilmSource):
    """A live stream by URL: rtsp, rtsps, rtmp, rtmps, http, https (HLS playlists included), udp. Redirects are
    not followed: a server that sends one is reported.

    An end is a disconnect: a film that a web server hands out is played again and again. Silence is one, too, after
    at most 0.8 × `silence_s`.
    """

    live: ClassVar[bool] = True

    url: str = Field(repr=False, description="where the stream is; keep the password out of here with ${VARIABLE}")
    transport: Literal["tcp", "udp"] = Field("tcp", description="how RTSP carries the picture; udp may lose parts")
    connect_s: PositiveFloat = Field(
        3.0, le=600, description="give up a connection attempt after this long, at most doubled"
    )
    verify: bool = Field(
        True, description="check the certificate of an encrypted server; a camera that made its own needs `false`"
    )
    max_pixels: int = Field(MAX_PIXELS, gt=0, description="refuse pictures with more pixels")

    def model_post_init(self, _context: object) -> None:
        remember_url(self.url)

    def check(self) -> None:
        parts = self._parts()
        if parts.hostname and parts.scheme != "udp":  # which listens
            try:
                reach.check(parts.hostname, private=True)
            except reach.OutOfReachError as error:
                raise InputError(redact(error), "url") from None

    def open(self, stream: str) -> LiveReader:
        remember_url(self.url)  # again: this may be another process
        parts = self._parts()
        way: Relay | Web | None = None
        try:
            if parts.scheme in {"http", "https"}:
                way = web = Web(self.url, Timeouts(self.connect_s, self.silence_s * 0.8), verify=self.verify)
                file, container_format = web.first()
                container, video = self._opened(parts, file, container_format, web.open)
            elif parts.scheme == "udp":
                container, video = self._opened(parts, self.url)
            else:
                way = relay = self._relay(parts)
                container, video = self._opened(parts, self._near(parts, relay.port))
        except (InputError, SourceLost) as error:
            raise SourceLost(f"{_where(parts)}: {getattr(error, 'message', error)}") from None
        except FFmpegError as error:
            reason = (way.refusal if way is not None else "") or plain(error)
            raise SourceLost(f"{_where(parts)}: {reason}") from None
        return LiveReader(
            container,
            video,
            stream,
            silence_s=self.silence_s,
            max_pixels=self.max_pixels,
            sound=self._heard(container, stream),
            hearing=self.sound,
            flows=way.flows if isinstance(way, Web) else None,
        )

    def _opened(
        self,
        parts: SplitResult,
        what: Any,
        container_format: str | None = None,
        io_open: Callable[..., Any] | None = None,
    ) -> tuple[InputContainer, VideoStream]:
        return open_video(
            what,
            container_format=container_format,
            options=self._options(parts),
            timeouts_s=(self.connect_s, self._read_s),
            io_open=io_open,
        )

    def _relay(self, parts: SplitResult) -> Relay:
        tls = None
        if parts.scheme in {"rtsps", "rtmps"}:
            tls = ssl.create_default_context()
            if not self.verify:
                tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        port = parts.port or _PORTS[parts.scheme]
        return Relay(parts.hostname or "", port, self.connect_s, rtsp=parts.scheme.startswith("rtsp"), tls=tls)

    @staticmethod
    def _near(parts: SplitResult, port: int) -> str:
        """The same URL by way of the relay."""
        login, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(scheme=parts.scheme[:4], netloc=f"{login}{at}127.0.0.1:{port}"))

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

    def _options(self, parts: SplitResult) -> dict[str, str]:
        scheme = parts.scheme
        options = {"protocol_whitelist": _PROTOCOLS[scheme], "max_pixels": str(self.max_pixels)}
        if scheme in {"rtsp", "rtsps"}:
            # little probing: the session description tells what comes, and a reconnect should be quick
            carried = self.transport if scheme == "rtsp" else "tcp"
            options |= {"rtsp_transport": carried, "analyzeduration": "100000", "probesize": "32768"}
            options |= {"fflags": "nobuffer", "timeout": str(int(max(self.connect_s, self._read_s) * 1e6))}
            if carried == "tcp":  # nothing to put in order
                options["max_delay"] = "0"
        elif scheme in {"rtmp", "rtmps"}:  # a server may be several, by its name
            server = parts.netloc.rpartition("@")[2]
            options["rtmp_tcurl"] = f"{scheme}://{server}/{parts.path.strip('/').partition('/')[0]}"
        else:
            options |= {"format_whitelist": f"{FORMATS},hls", "http_persistent": "0"}
        return options


def _where(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.hostname or ''}" + (f":{parts.port}" if parts.port else "")
