"""Secrets planted in every place of a config that can hold one: none is in anything that is written, printed, answered
or to be seen of the processes, with everything failing, at debug logging, with traces forced."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

# signs that URLs, YAML, JSON and shells each write in their own way
SECRETS = {
    "rtsp": "pl4nted-rtsp/p#w?d@1",
    "query": "pl4nted.query-t0ken",
    "rtmp": "pl4nted_rtmp_key",
    "web": "pl4nted&web=p%ss",
    "bearer": "pl4nted+bearer/t0ken==",
    "say": "pl4nted-subscribe \\ 'x'",
    "irc": "pl4nted:irc:passw0rd",
    "isolated": "pl4nted-ïsölated",
    "file": "pl4nted-from-a-file",
}


def forms(secret: str) -> set[bytes]:
    """As it may be written: plain, quoted for URLs, for JSON, for Python."""
    written = {secret, quote(secret, safe=""), quote(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1]}
    written |= {json.dumps(secret, ensure_ascii=False)[1:-1], secret.encode().decode("latin-1")}
    return {one.encode() for one in written}


def check(place: str, said: bytes) -> None:
    for name, secret in SECRETS.items():
        for form in forms(secret):
            assert form not in said, f"the secret of {name} is in {place}"


@contextlib.contextmanager
def refusing() -> Iterator[int]:
    """A server that answers whatever it is asked with what it was asked, as a careless one does in its errors."""

    def talk(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(2)
            asked = client.recv(65536)
            line = asked.replace(b"\r", b" ").replace(b"\n", b" ")[:2000]
            if b"RTSP" in asked:
                client.sendall(b"RTSP/1.0 454 " + line + b"\r\nCSeq: 1\r\n\r\n")
            elif asked.startswith((b"CAP", b"PASS")):
                client.sendall(b":s 001 x :hi\r\nERROR :Closing link, you said " + line + b"\r\n")
            else:
                client.sendall(b"HTTP/1.1 500 " + line + b"\r\nX-You-Said: " + line + b"\r\nContent-Length: 0\r\n\r\n")

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def config(folder: Path, port: int, metrics: int) -> Path:
    host = f"127.0.0.1:{port}"
    (folder / "secret.txt").write_text(SECRETS["file"] + "\n")
    path = folder / "planted.yaml"
    path.write_text(f"""
sources:
  a: {{kind: rtsp, url: "rtsp://ann:${{RTSP}}@{host}/x", cascade: people-ssdlite}}
  b: {{kind: rtsp, url: "https://{host}/x?access_token=${{QUERY}}", cascade: people-ssdlite}}
  c: {{kind: rtsp, url: "rtmp://{host}/live/${{RTMP}}", cascade: people-ssdlite}}
  d: {{kind: rtsp, url: "http://ann:${{WEB}}@{host}/x", cascade: people-ssdlite}}
  e: {{kind: websocket, url: "ws://{host}/x?sig=${{QUERY}}", token: "${{BEARER}}", say: ["${{SAY}}"], cascade: chat}}
  f: {{kind: irc, server: localhost, port: {port}, tls: false, password: "${{IRC}}", channels: [x], cascade: chat}}
  g: {{kind: rtsp, url: "rtsp://ann:${{ISOLATED}}@{host}/x", isolation: process, cascade: people-ssdlite}}
  h: {{kind: rtsp, url: "rtsp://ann:${{file:{folder}/secret.txt}}@{host}/x", cascade: people-ssdlite}}
  i: {{kind: websocket, listen: {free_port()}, token: "${{BEARER}}", cascade: chat}}
  j: {{kind: pattern, fps: 5, cascade: people-ssdlite}}
sinks:
  rows: {{kind: sqlite, path: out.sqlite}}
  lines: {{kind: jsonl, path: out.jsonl}}
  table: {{kind: console}}
metrics: {{listen: {metrics}}}
""")
    return path


def environment(project: Path, folder: Path) -> dict[str, str]:
    planted = {name.upper(): quote(secret, safe="") if name in {"rtsp", "web", "isolated"} else secret
               for name, secret in SECRETS.items()}  # fmt: skip
    own = {"PYTHONPATH": str(project), "HOME": str(folder), "XDG_STATE_HOME": str(folder / "state")}
    return os.environ | planted | own


def everything_in(folder: Path, but: Path) -> Iterator[tuple[str, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "secret.txt" and path != but:
            yield str(path.relative_to(folder)), path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("words", [["validate"], ["graph"], ["--debug", "run", "--set", "sources.a.nonsense=1"]])
def test_commands_that_look(tmp_path: Path, project: Path, words: list[str]) -> None:
    path = config(tmp_path, 1, free_port())
    command = [sys.executable, "-m", "pipeline.app.cli", *words]
    at = len(command) if "--set" not in words else command.index("--set")
    command.insert(at, str(path))
    ran = subprocess.run(command, cwd=tmp_path, env=environment(project, tmp_path), capture_output=True, timeout=120)
    assert ran.returncode == (2 if "--set" in words else 0), ran.stderr.decode()
    check("standard output", ran.stdout)
    check("standard error", ran.stderr)
    for name, data in everything_in(tmp_path, path):
        check(name, data)


@pytest.mark.slow
def test_a_run_in_which_everything_fails(tmp_path: Path, project: Path) -> None:
    metrics = free_port()
    with refusing() as port:
        path = config(tmp_path, port, metrics)
        with subprocess.Popen(
            [sys.executable, "-m", "pipeline.app.cli", "--debug", "run", str(path), "--json"],
            cwd=tmp_path,
            env=environment(project, tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as running:
            answered, seen = b"", 0
            end = time.monotonic() + 90
            while time.monotonic() < end and (seen < 12 or b'windows_total{stream="j"}' not in answered):
                assert running.poll() is None
                me = psutil.Process(running.pid)
                for process in (me, *me.children(recursive=True)):
                    with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                        check("a command line", Path(f"/proc/{process.pid}/cmdline").read_bytes())
                        check("a thread's name", b" ".join(
                            one.read_bytes() for one in Path(f"/proc/{process.pid}/task").glob("*/comm")))  # fmt: skip
                with (
                    contextlib.suppress(OSError),
                    urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics") as answer,
                ):
                    answered = answer.read()
                    check("/metrics", answered)
                    seen += 1
                time.sleep(0.5)
            assert seen >= 12
            running.send_signal(signal.SIGTERM)
            out, err = running.communicate(timeout=60)
    check("standard output", out)
    check("standard error", err)
    states = {name: one["state"] for name, one in json.loads(out)["streams"].items()}
    assert all(states[name] in {"connecting", "failed"} for name in "abcdefgh"), states
    for name in "abcdefgh":
        assert f"{name}: ".encode() in err, f"{name} said why it fails"
    looked_at = dict(everything_in(tmp_path, path))
    assert {"out.jsonl", "out.sqlite"} <= looked_at.keys()
    for name, data in looked_at.items():
        check(name, data)


@pytest.mark.slow
def test_a_trace_that_is_forced(tmp_path: Path, project: Path) -> None:
    """Whatever breaks, and wherever: with the secret in the error, and in what the error is about."""
    path = config(tmp_path, 1, free_port())
    program = (
        "import sys, pipeline.app.wiring as wiring, pipeline.app.cli as cli\n"
        "real = wiring.prepare\n"
        "def broken(document, *given):\n"
        "    plan, generations = real(document, *given)\n"
        "    raise RuntimeError(f'broken: {plan.sources!r} {document.data!r} {plan.sources[\"a\"].url}')\n"
        "wiring.prepare = broken\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    for words in (["--debug"], []):
        ran = subprocess.run(
            [sys.executable, "-c", program, *words, "run", str(path)],
            cwd=tmp_path,
            env=environment(project, tmp_path),
            capture_output=True,
            timeout=120,
        )
        assert ran.returncode == 1
        assert b"unexpected RuntimeError" in ran.stderr
        check("standard error", ran.stderr)
        check("standard output", ran.stdout)
    logs = [name for name, _ in everything_in(tmp_path, path) if name.endswith("last-error.log")]
    assert logs
    for name, data in everything_in(tmp_path, path):
        check(name, data)
