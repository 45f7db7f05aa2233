"""HTTP for whatever this program fetches: within reach (`reach`), certificates checked, no redirect followed, and no
answer waited for longer than it may take, however its bytes are spread. Heads are bounded by the library: 100 lines of
64 KiB."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
import urllib.request
from functools import partial
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

from pipeline.core import reach


class Timeouts(NamedTuple):
    """In seconds: until the head of an answer is there, and for each further piece of it."""

    head_s: float
    piece_s: float


def opener(
    timeouts: Timeouts,
    *,
    private: bool,
    verify: bool = True,
    login: tuple[str, str, str] | None = None,
    proxies: bool = False,
) -> urllib.request.OpenerDirector:
    """Opens http and https, and nothing else. `login` are a URL, a user and a password, which that origin gets and no
    other. With `proxies`, one that the environment names is used: it then resolves names, not we."""
    made = urllib.request.OpenerDirector()  # not build_opener(): that one also speaks file: and ftp:, and redirects
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    handlers: list[urllib.request.BaseHandler] = [
        _Handler(timeouts, private, context),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ]
    if proxies:
        handlers.append(urllib.request.ProxyHandler())
    if login is not None:
        known = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        known.add_password(None, *login)
        handlers += [urllib.request.HTTPBasicAuthHandler(known), urllib.request.HTTPDigestAuthHandler(known)]
    for handler in handlers:
        made.add_handler(handler)
    return made


class _Patient(io.RawIOBase):
    """Reads a connection: until a moment that no trickle of bytes puts off, then piece by piece."""

    def __init__(self, connection: socket.socket, timeouts: Timeouts) -> None:
        self._connection = connection
        self._raw = connection.makefile("rb", buffering=0)  # keeps it open when its owner lets go of it
        self._piece_s = timeouts.piece_s
        self._end_s: float | None = time.monotonic() + timeouts.head_s

    def at_leisure(self) -> None:
        self._end_s = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self._piece_s if self._end_s is None else self._end_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the answer took too long")
        self._connection.settimeout(left_s)
        return self._raw.readinto(buffer) or 0

    def close(self) -> None:
        super().close()
        self._raw.close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *given: Any, timeouts: Timeouts, **named: Any) -> None:
        super().__init__(sock, *given, **named)
        self.fp.close()
        self._patient = _Patient(sock, timeouts)
        self.fp = io.BufferedReader(self._patient)

    def begin(self) -> None:
        super().begin()
        self._patient.at_leisure()


def connection(
    scheme: str,
    host: str,
    port: int | None,
    timeouts: Timeouts,
    *,
    private: bool,
    context: ssl.SSLContext | None = None,
) -> http.client.HTTPConnection:
    """One to a server, to be kept and used again: it connects when it is first asked. Without a `context`, certificates
    are checked."""
    made: Any
    if scheme == "https":
        made = http.client.HTTPSConnection(host, port, timeout=timeouts.head_s, context=context)
    else:
        made = http.client.HTTPConnection(host, port, timeout=timeouts.head_s)
    made._create_connection = partial(reach.create_connection, private=private)
    made.response_class = partial(_Response, timeouts=timeouts)
    return cast(http.client.HTTPConnection, made)


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Both schemes."""

    def __init__(self, timeouts: Timeouts, private: bool, context: ssl.SSLContext) -> None:
        super().__init__()
        self._timeouts, self._private, self._tls = timeouts, private, context

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self._open("http", req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self._open("https", req)

    def _open(self, scheme: str, request: urllib.request.Request) -> http.client.HTTPResponse:
        # also of what a proxy is asked for, as far as it can be told
        reach.check(urlsplit(request.full_url).hostname or "", private=self._private)

        # a proxy is where the environment says
        private = self._private or request.has_proxy() or bool(getattr(request, "_tunnel_host", None))

        def made(host: str, timeout: float) -> http.client.HTTPConnection:
            return connection(scheme, host, None, self._timeouts, private=private, context=self._tls)

        return self.do_open(made, request)  # type: ignore[arg-type]  # it calls it like that
