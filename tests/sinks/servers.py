"""Real receivers for the sinks on the network: started by hand in a folder of their own, on a free port, to be frozen,
killed and started again there."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

START_S = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(there: object, within_s: float = START_S) -> None:
    """Waits until `there()` says so."""
    assert callable(there)
    end = time.monotonic() + within_s
    while not there():
        assert time.monotonic() < end, f"waited {within_s:g} s for nothing"
        time.sleep(0.02)


class Server(ABC):
    """One process, or several under one."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="receiver-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @abstractmethod
    def command(self) -> Sequence[str]: ...

    def start(self) -> None:
        """Returns once it answers."""
        assert self._process is None
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self.command(), cwd=self.folder, stdout=log, stderr=log)
        eventually(self.answers)

    def answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def stop(self) -> None:
        """Without a farewell."""
        if self._process is not None:
            self.thaw()
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """It accepts (the system does), and never answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def well(self) -> None:
        """Whatever was done to it, it runs."""
        if self._process is None:
            self.start()
        self.thaw()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            for pid in (self._process.pid, *_children(self._process.pid)):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text().split()] if listed.exists() else []


class Mosquitto(Server):
    """`user`, with `password`, may do all; `guest` may write nothing."""

    user, password = "thresher", "br0k3rpw"
    most_bytes = 100_000

    def command(self) -> Sequence[str]:
        passwords = self.folder / "passwords"
        if not passwords.exists():
            passwords.write_text(f"{self.user}:{self.password}\n")
            os.chmod(passwords, 0o600)
            subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True, capture_output=True)
        (self.folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\nuser root\n"
            f"max_packet_size {self.most_bytes}\nmax_queued_messages 0\n"
        )
        return ["mosquitto", "-c", "mosquitto.conf"]


class Redis(Server):
    password = "str34mpw"
    most_bytes = 1 << 20

    def command(self) -> Sequence[str]:
        return [
            *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--requirepass", self.password),
            *("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--proto-max-bulk-len", "1mb"),
        ]


class Postgres(Server):
    """Refuses to run as root, so root starts it as another user."""

    user, password = "thresher", "t4bl3pw"

    def command(self) -> Sequence[str]:
        (binaries,) = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]
        if not (self.folder / "data").exists():
            (self.folder / "password").write_text(self.password)
            if os.getuid() == 0:
                for path in (self.folder, self.folder / "password", self.folder / "log"):
                    shutil.chown(path, "postgres")
            made = [str(binaries / "initdb"), "-D", "data", "-U", self.user, "--pwfile=password", "-A", "scram-sha-256"]
            subprocess.run(
                [*self._as_other(), *made, "-E", "UTF8", "--no-sync"], cwd=self.folder, check=True, capture_output=True
            )
        options = f"-D data -p {self.port} -h 127.0.0.1 -k {self.folder} -F".split()  # the disk need not be waited for
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)  # of one that was killed
        return [*self._as_other(), str(binaries / "postgres"), *options]

    def dsn(self, port: int | None = None) -> str:
        return f"postgresql://{self.user}:{self.password}@127.0.0.1:{port or self.port}/postgres"

    def answers(self) -> bool:
        if not super().answers():
            return False
        import psycopg

        with suppress(psycopg.OperationalError), psycopg.connect(self.dsn(), connect_timeout=2):
            return True
        return False

    def stop(self) -> None:
        children = _children(self._process.pid) if self._process is not None else []
        super().stop()
        for child in children:  # they go by themselves; the port is free only then
            eventually(lambda child=child: not Path(f"/proc/{child}").exists())

    def _as_other(self) -> list[str]:
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []


class Kafka(Server):
    """librdkafka's mock cluster, which speaks the real protocol, in a process of its own. What it holds is in memory,
    so that it is never killed: its brokers go down and come back."""

    def command(self) -> Sequence[str]:
        return [sys.executable, str(Path(__file__).with_name("kafka_cluster.py")), "cluster"]

    def start(self) -> None:
        self._process = subprocess.Popen(self.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.servers = self._process.stdout.readline().decode().strip()
        assert self.servers, "the mock cluster did not start"

    def tell(self, *words: str) -> None:
        assert self._process is not None and self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(" ".join(words).encode() + b"\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == b"ok\n"

    def stop(self) -> None:
        self.tell("down")

    def well(self) -> None:
        self.thaw()
        self.tell("up")

    def restart(self) -> None:
        self.tell("down")
        time.sleep(0.3)
        self.tell("up")

    def __exit__(self, *_: object) -> None:
        assert self._process is not None and self._process.stdin is not None and self._process.stdout is not None
        self.thaw()
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Wire:
    """A cable between a sink and its receiver. The connection that is to send more than `cut_after` bytes is reset in
    the middle of them, once; all others go through."""

    def __init__(self, target: int, cut_after: int) -> None:
        self._target, self._left = target, cut_after
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
                far = socket.create_connection(("127.0.0.1", self._target), 5)
            except OSError:
                return
            far.settimeout(None)
            for one, other, counts in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pump, args=(one, other, counts), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket, counts: bool) -> None:
        with suppress(OSError):
            while data := one.recv(4096):
                if counts and not self.cuts:
                    self._left -= len(data)
                    if self._left < 0:
                        self.cuts += 1
                        other.sendall(data[: len(data) // 2])
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        break
                other.sendall(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RD if end is one and self.cuts else socket.SHUT_RDWR)
            end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
