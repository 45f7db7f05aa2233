"""Cameras for the benches: a real RTSP server on this machine, and a line to it that can be cut, choked or dirtied."""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeAlias

from pipeline.app.bench import rtsp_server
from pipeline.core.errors import MissingPart
from pipeline.core.secrets import redact

SYSTEM_PYTHON = "/usr/bin/python3"
_PACKAGES = (
    "gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-base gstreamer1.0-plugins-good "
    "gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav ffmpeg"
)
_READY_S = 30.0
_AT_ONCE = struct.pack("ii", 1, 0)

Line: TypeAlias = Literal["clean", "cut", "reset", "choked", "dirty"]


@contextmanager
def server(mounts: Mapping[str, Path]) -> Iterator[str]:
    """Serves each film under its name, in real time over and over; the URL they begin with. Raises `MissingPart`
    where GStreamer is not installed."""
    command = [SYSTEM_PYTHON, rtsp_server.__file__]
    for name, film in mounts.items():
        command += ["--mount", f"{name}={film}"]
    try:
        process = subprocess.Popen(  # noqa: S603  # our own script
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    except FileNotFoundError:
        raise _missing(f"there is no {SYSTEM_PYTHON}") from None
    try:
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], _READY_S)
        word, _, port = process.stdout.readline().partition(" ") if readable else ("", "", "")
        if word != "ready":
            process.kill()
            lines = process.communicate()[1].strip().splitlines()
            raise _missing(redact(lines[-1]) if lines else "it never was ready")
        yield f"rtsp://127.0.0.1:{int(port)}"
    finally:
        process.kill()
        process.communicate()


def _missing(reason: str) -> MissingPart:
    return MissingPart(f"no RTSP server can be had here ({reason}): apt-get install {_PACKAGES}", "GStreamer")


class Tap:
    """A line to `target` (host and port) through which any number of connections go, until `state` says otherwise:

    - `cut`: open connections are closed and new ones refused as soon as they are made;
    - `reset`: the same without a farewell;
    - `choked`: connections stay, and nothing comes; what was said meanwhile comes once it is over, as TCP has it;
    - `dirty`: as much comes as would, but of random bytes.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.state: Line = "clean"
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._closed = False
        threading.Thread(target=self._accept, name="tap", daemon=True).start()

    def close(self) -> None:
        self._closed = True
        self._listener.close()

    def _cut(self) -> bool:
        return self._closed or self.state in {"cut", "reset"}

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), name="tap", daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            if self.state == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            if self._cut():
                return
            with socket.create_connection(self._target) as camera:
                while not self._cut():
                    if self.state == "choked":
                        time.sleep(0.02)
                        continue
                    readable, _, _ = select.select([client, camera], [], [], 0.1)
                    for side in readable:
                        piece = side.recv(65536)
                        if not piece:
                            return
                        if side is client:
                            camera.sendall(piece)
                        else:
                            client.sendall(os.urandom(len(piece)) if self.state == "dirty" else piece)
            if self.state == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
