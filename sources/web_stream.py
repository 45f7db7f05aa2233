"""Streams and films from web servers, fetched by us: FFmpeg would follow a redirect, and a playlist, to any address,
check no certificate, and run in circles where a playlist names itself."""

from __future__ import annotations

import http.client
import io
import logging
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from pipeline.core.errors import SourceLost
from pipeline.core.secrets import redact
from pipeline.core.web import Timeouts, opener

log = logging.getLogger(__name__)

NOWHERE = "thresher"  # the one protocol that FFmpeg may open by itself: there is no such
_PLAYLISTS = frozenset({"application/vnd.apple.mpegurl", "application/x-mpegurl", "audio/mpegurl", "audio/x-mpegurl"})
_MOST_AT_ONCE = 64  # files that a playlist may open with no packet between them
_LARGEST_PLAYLIST = 4 << 20
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


class Web:
    """What FFmpeg gets of one URL and of those that it leads to. `private` ones may be among them."""

    def __init__(self, url: str, timeouts: Timeouts, *, verify: bool) -> None:
        parts = urlsplit(url)
        self._url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        login = (self._url, unquote(parts.username or ""), unquote(parts.password or "")) if parts.username else None
        self._opener = opener(timeouts, private=True, verify=verify, login=login)
        self._quiet = 0
        self.refusal = ""
        """Why a file was not opened; FFmpeg would not say."""

    def first(self) -> tuple[WebFile, str | None]:
        """The URL's own file, and the format that its server says it has, if that is not for FFmpeg to see. Raises
        `SourceLost`."""
        try:
            file = WebFile(self._opener, self._url)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise SourceLost(_reason(error)) from None
        return file, "hls" if file.is_playlist else "mpjpeg" if file.kind == "multipart/x-mixed-replace" else None

    def open(self, url: str, _flags: int, options: Mapping[str, str]) -> io.RawIOBase | io.BytesIO:
        """What a playlist leads to: FFmpeg calls this. Raises `SourceLost`."""
        self._quiet += 1
        try:
            if self._quiet > _MOST_AT_ONCE:
                raise ValueError("its playlist leads from file to file, and to no picture")
            if urlsplit(url).scheme not in {"http", "https"}:
                raise ValueError("its playlist leads to what is neither http nor https")
            end = int(options.get("end_offset", 0))
            return WebFile(self._opener, url, int(options.get("offset", 0)), end or None)
        except urllib.error.HTTPError as error:
            log.debug("a file of a playlist: %s", _reason(error))
            return io.BytesIO()  # it is gone already, say: the next one may be there
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.refusal = self.refusal or _reason(error)
            raise SourceLost(self.refusal) from None

    def flows(self) -> None:
        """A packet came."""
        self._quiet, self.refusal = 0, ""


class WebFile(io.RawIOBase):
    """What is at a URL, between two of its bytes; where the server can, it may be read from anywhere."""

    def __init__(self, opener: urllib.request.OpenerDirector, url: str, begin: int = 0, end: int | None = None) -> None:
        self._opener, self._begin, self._end = opener, begin, end
        self._url = self.name = url
        self._broken = False
        self._position = 0
        self._size: int | None = None
        self._ranged = False
        self._answer = self._ask(0)

    @property
    def kind(self) -> str:
        return str(self._answer.headers.get_content_type())

    @property
    def is_playlist(self) -> bool:
        return self.kind in _PLAYLISTS or urlsplit(self._url).path.endswith((".m3u8", ".m3u"))

    def _ask(self, position: int) -> Any:
        first = self._begin + position
        last = "" if self._end is None else self._end - 1
        # identity: what is small on the way must not become large here
        headers = {"User-Agent": "thresher", "Accept-Encoding": "identity", "Range": f"bytes={first}-{last}"}
        request = urllib.request.Request(self._url, headers=headers)  # noqa: S310  # the opener knows http and https alone
        answer = self._opener.open(request)
        said = _RANGE.match(answer.headers.get("Content-Range", ""))
        if answer.status == 206 and said is not None and int(said[1]) == first:
            self._ranged = True
            self._size = (self._end or int(said[2])) - self._begin
        elif first or self._end is not None:
            answer.close()
            raise ValueError("its server cannot send a part of a file")
        return answer

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._ranged

    def read(self, size: int = -1) -> bytes:
        """Raises `SourceLost`, once: FFmpeg may ask again before it gives up."""
        if self._broken:
            return b""
        try:
            data = bytes(self._answer.read1(size))
            self._position += len(data)
            if self._position > _LARGEST_PLAYLIST and self.is_playlist:
                raise OSError("its playlist is too large")
        except (OSError, http.client.HTTPException) as error:
            self._broken = True
            raise SourceLost(_reason(error)) from None
        return data

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END and self._size is None:
            raise OSError("nobody knows where it ends")
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size or 0}[whence]
        if base + offset != self._position:
            if not self._ranged:
                raise OSError("its server cannot send a part of a file")
            self._answer.close()
            if base + offset >= (self._size or 0):
                self._broken = True  # nothing is behind the end
            else:
                self._broken = False
                self._answer = self._ask(base + offset)
            self._position = base + offset
        return self._position

    def close(self) -> None:
        super().close()
        self._answer.close()


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        error.close()  # it holds the connection
        if 300 <= error.code < 400:
            return "the server redirects elsewhere, which is not followed: give the URL that it leads to"
        return f"the server answers {error.code} {redact(error.reason)}"
    if isinstance(error, urllib.error.URLError):
        error = error.reason if isinstance(error.reason, BaseException) else error
    if isinstance(error, TimeoutError):
        return "nothing came in time"
    return redact(getattr(error, "strerror", None) or error or type(error).__name__)
