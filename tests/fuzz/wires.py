"""Targets: what arrives over sockets and pipes, at real servers of this process."""

from __future__ import annotations

import json
import logging
import pickle
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np

from pipeline.core.contracts import Reader
from pipeline.core.errors import SourceLost
from pipeline.core.payloads import FrameImage, ViewSpec
from pipeline.core.pictures import encode
from pipeline.core.records import Chunk, Gap, Result, Watermark, Window
from pipeline.engine.isolated_wire import checked, decoded
from sources import http_server
from sources.http import Http
from sources.line import Line
from sources.network_loop import network_loop
from sources.websocket import WebSocket
from tests.fuzz.target import Target

_STATUSES = frozenset(
    {100, 101, 200, 202, 400, 401, 403, 404, 405, 408, 411, 413, 414, 415, 422, 426, 431, 500, 501, 503, 505}
)
_ANY = "127.0.0.1:0"
_surprises: list[BaseException] = []


class _Server:
    """A source that listens, its reader drained by a thread, which answers whoever waits for a verdict."""

    def __init__(self, reader: Reader) -> None:
        self.port: int = reader.port  # type: ignore[attr-defined]  # those that listen have one
        self._reader = reader
        self.thread = threading.Thread(target=self._drain, daemon=True)
        self.thread.start()

    def _drain(self) -> None:
        try:
            for item in self._reader:
                if isinstance(item, Chunk):
                    if item.answer is not None:
                        window = Window(item.stream, item.epoch, item.seq, 0, 1, 0, 0)
                        item.answer(Result(window, 1, "m", "g"))
                    item.payload.release()
        except BaseException as error:
            _surprises.append(error)
            raise


def _noted(server: Any, request: Any, address: Any) -> None:
    error = sys.exc_info()[1]
    if error is not None and not isinstance(error, OSError):
        _surprises.append(error)


@cache
def _server(kind: str) -> _Server:
    logging.disable(logging.CRITICAL)  # it would be told of every bad request
    http_server._Server.handle_error = _noted  # type: ignore[method-assign]  # what it would only log
    http_server._REQUEST_S, http_server._LINGER_S = 2.0, 0.2
    network_loop().set_exception_handler(
        lambda loop, told: _surprises.append(told.get("exception") or RuntimeError(told["message"]))
    )
    plans: dict[str, Callable[[], Reader]] = {
        "judge": lambda: Http(listen="127.0.0.1:0", max_kb=64, connections=1024).open("s"),
        "parts": lambda: Line(
            trigger="http", listen="127.0.0.1:0", max_mb=1, max_pixels=1 << 20, connections=1024
        ).open("s"),
        "websocket": lambda: WebSocket(listen="127.0.0.1:0", largest_bytes=1024, connections=1024).open("s"),
    }
    server = _Server(plans[kind]())
    time.sleep(0.1)  # until it takes what comes
    return server


def post(kind: str, data: bytes) -> None:
    """All of it at once, then the end; what comes back is HTTP, or nothing."""
    server = _server(kind)
    answer = b""
    with socket.create_connection(("127.0.0.1", server.port), 5) as line, suppress(ConnectionError):
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # no port waits for late packets
        line.sendall(data)
        if kind == "websocket":  # it takes no word of one who has hung up
            line.settimeout(0.05)
            with suppress(TimeoutError):
                answer += line.recv(1 << 16)
            line.settimeout(5)
        line.shutdown(socket.SHUT_WR)
        while len(answer) < 1 << 16 and (piece := line.recv(1 << 16)):
            answer += piece
    if answer.startswith(b"HTTP") or (answer and kind != "websocket"):
        version, status, *_ = answer.split(b" ", 2)
        assert version == b"HTTP/1.1" and int(status[:3]) in _STATUSES, answer[:80]
        _, _, body = answer.partition(b"\r\n\r\n")
        if kind != "websocket" and answer.count(b"HTTP/1.1") == 1 and body:
            json.loads(body)
    assert server.thread.is_alive()
    if _surprises:
        raise _surprises.pop()


def request(path: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def judged() -> list[bytes]:
    asked = json.dumps({"text": "hello there", "user": "a", "room": "b"}).encode()
    return [
        request("/judge", asked, "Content-Type: application/json"),
        request("/messages", b'{"text": "x"}\nplain\n\xff\xfe\n'),
        request("/messages", b'[{"text": "x"}, {"text": "y"}]', "Connection: close", "Expect: 100-continue"),
        request("/judge", asked) + request("/judge", b'{"text": ""}') + b"GET /judge HTTP/1.1\r\n\r\n",
        request("/judge", asked, "Origin: http://x", length=9),
    ]


def posted() -> list[bytes]:
    picture = encode(np.full((24, 32, 3), 70, np.uint8), "png")
    return [
        request("/part?name=a", picture),
        request("/part", picture, "Part-Name: b_1", "Content-Type: image/png"),
        request("/part?name=%2e%2e%2fx&x=%ff", b"no picture") + request("/part", picture),
    ]


def talked() -> list[bytes]:
    hello = (
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    texts = b'{"text": "hi"}', b"plain", b"\xff\xfe", b"x" * 1100
    frames = [bytes([0x81, 0x80 | len(text)]) + b"\0\0\0\0" + text for text in texts[:3]]
    frames.append(bytes([0x82, 0xFE]) + len(texts[3]).to_bytes(2, "big") + b"\0\0\0\0" + texts[3])
    close = bytes([0x88, 0x82]) + b"\0\0\0\0" + b"\x03\xe8"
    return [hello + frame + close for frame in frames] + [hello + b"".join(frames[:2]) + b"\x89\x80\0\0\0\0" + close]


def wire(data: bytes) -> None:
    """What the child of an isolated source may say."""
    said = decoded(data)
    if isinstance(said, tuple) and said and isinstance(said[0], bool):
        return  # an answer
    kind, _ = checked(said)
    assert kind in {"open", "chunk", "item", "log", "error", "end"}


def messages() -> list[bytes]:
    image = FrameImage.from_array(np.zeros((16, 16, 3), np.uint8))
    chunk = (1, 2, 3, 4, 5, 16, 16, image.luma(), "a.jpg")
    said = [("open", "01K"), ("chunk", chunk), ("item", Gap("s", "damaged", 2)), ("item", Watermark("s", 9)),
            ("log", ("a", 20, "text")), ("error", SourceLost("gone")), ("end", None),
            (True, image.view(ViewSpec(8, 8)))]  # fmt: skip
    return [pickle.dumps(one, protocol) for one in said for protocol in (4, 5)]


WIRES = [
    Target("judge-http", lambda data: post("judge", data), judged, alone=True),
    Target("parts-http", lambda data: post("parts", data), posted, alone=True),
    Target("websocket", lambda data: post("websocket", data), talked, alone=True),
    Target("isolation-wire", wire, messages, (SourceLost,)),
]
