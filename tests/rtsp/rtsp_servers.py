"""Starts real RTSP servers for the tests."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from pathlib import Path
from types import TracebackType

SCRIPT = Path(__file__).parents[2] / "pipeline" / "app" / "bench" / "rtsp_server.py"
PYTHON = "/usr/bin/python3"  # has GStreamer's bindings


class RtspServer:
    """GStreamer in a process of its own, to be frozen, killed and started again on the same port."""

    def __init__(self, *mounts: str, auth: str | None = None, digest: bool = False) -> None:
        self._options = [arg for mount in mounts for arg in ("--mount", mount)]
        if auth:
            self._options += ["--auth", auth]
        if digest:
            self._options += ["--digest"]
        self.port = 0
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        command = [PYTHON, str(SCRIPT), "--port", str(self.port), *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], 30)
        line = self._process.stdout.readline() if ready else ""
        assert line.startswith("ready "), "the RTSP server did not start: run tests/system-packages.sh"
        self.port = int(line.split()[1])

    def url(self, mount: str, user: str = "") -> str:
        return f"rtsp://{user + '@' if user else ''}127.0.0.1:{self.port}/{mount}"

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """No farewell."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def __enter__(self) -> RtspServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
