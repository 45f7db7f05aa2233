"""Secrets planted in every place of a config that can hold one: none is in anything that is written, printed, answered
or to be seen of the processes, with everything failing, at debug logging, with traces forced. Outboxes and their dead
letters are among what is written."""

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
    "hook": "pl4nted/hook&passw?rd",
    "hook_key": "cGw0bnRlZC1rZXktb2YtYS13ZWJob29rLXRvLXNpZ24td2l0aA==",
    "hook_path": "pl4nted-written-into-the-path",
    "header": "pl4nted header; of=no name",
    "header_key": "pl4nted-written-into-a-header",
    "mqtt": "pl4nted mqtt:passw0rd",
    "kafka": "pl4nted kafka=passw0rd",
    "redis": "pl4nted#redis@passw0rd",
    "postgres": "pl4nted/postgres?passw0rd",
    "words": "pl4nted words of=a DSN",
    "s3": "pl4nted/s3+secret+key",
}
WRITTEN = ("hook_path", "header_key")  # as they are, into the config
IN_URLS = ("rtsp", "web", "isolated", "hook", "redis", "postgres")
SENDERS = ("hook", "gone", "home", "records", "stream", "tables", "words")


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
            if asked[4:8] in {b"\x04\xd2\x16\x2f", b"\x04\xd2\x16\x30"}:  # PostgreSQL, and would it be encrypted?
                client.sendall(b"N")
                asked = client.recv(65536)
            if asked[4:8] == b"\x00\x03\x00\x00":
                client.sendall(b"R\x00\x00\x00\x08\x00\x00\x00\x03")  # the password, please, as it is
                asked = b"postgres " + client.recv(65536).replace(b"\0", b" ")
            line = asked.replace(b"\r", b" ").replace(b"\n", b" ")[:2000]
            if asked.startswith(b"postgres "):
                said = b"SFATAL\0C28P01\0Myou said " + line + b"\0\0"
                client.sendall(b"E" + (len(said) + 4).to_bytes(4, "big") + said)
            elif asked.startswith(b"*"):  # Redis
                client.sendall(b"-ERR you said " + line + b"\r\n")
            elif asked[4:8] == b"MQTT":
                said = b"\x1f" + min(len(line), 90).to_bytes(2, "big") + line[-90:]
                client.sendall(bytes([0x20, len(said) + 3, 0, 0x86, len(said)]) + said)
            elif b"RTSP" in asked:
                client.sendall(b"RTSP/1.0 454 " + line + b"\r\nCSeq: 1\r\n\r\n")
            elif asked.startswith((b"CAP", b"PASS")):
                client.sendall(b":s 001 x :hi\r\nERROR :Closing link, you said " + line + b"\r\n")
            else:
                status = b"410 " if b"/gone" in asked else b"500 "
                headers = b"\r\nX-You-Said: %s\r\nContent-Length: %d\r\n\r\n" % (line, len(line))
                client.sendall(b"HTTP/1.1 " + status + line + headers + line)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):  # what is closed with something unread takes the answer with it
                pass

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
  hook:
    kind: webhook
    url: "http://ann:${{HOOK}}@{host}/{SECRETS["hook_path"]}?sig=${{QUERY}}"
    secrets: "whsec_${{HOOK_KEY}}"
    headers: {{X-Thing: "${{HEADER}}", X-Api-Key: {SECRETS["header_key"]}}}
  gone:
    kind: webhook
    url: "http://{host}/gone/{SECRETS["hook_path"]}"
    headers: {{Authorization: "Bearer ${{HEADER}}"}}
  home: {{kind: mqtt, host: 127.0.0.1, port: {port}, username: ann, password: "${{MQTT}}"}}
  records: {{kind: kafka, brokers: "{host}", username: ann, password: "${{KAFKA}}"}}
  stream: {{kind: redis, url: "redis://:${{REDIS}}@{host}/0"}}
  tables: {{kind: postgres, dsn: "postgresql://ann:${{POSTGRES}}@{host}/db"}}
  words: {{kind: postgres, dsn: "host=127.0.0.1 port={port} user=ann password='${{WORDS}}'"}}
metrics: {{listen: {metrics}}}
network: {{private: true}}
""")
    return path


def environment(project: Path, folder: Path) -> dict[str, str]:
    planted = {name.upper(): quote(secret, safe="") if name in IN_URLS else secret
               for name, secret in SECRETS.items() if name not in WRITTEN}  # fmt: skip
    own = {"PYTHONPATH": str(project), "HOME": str(folder), "XDG_STATE_HOME": str(folder / "state")}
    return os.environ | planted | own


def everything_in(folder: Path, but: Path) -> Iterator[tuple[str, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "secret.txt" and path != but:
            yield str(path.relative_to(folder)), path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["validate"], ["graph"], ["outbox"], ["--debug", "run", "--set", "sources.a.nonsense=1"]]
)
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
            dead = tmp_path / "outbox" / "gone" / "dead.jsonl"
            while time.monotonic() < end and (
                seen < 12 or b'windows_total{stream="j"}' not in answered or not dead.exists()
            ):
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
    for name in SENDERS:
        assert f"sink {name} ".encode() in err, f"{name} said why it fails"
    looked_at = dict(everything_in(tmp_path, path))
    boxes = {f"outbox/{name}/cursor" for name in SENDERS}
    assert {"out.jsonl", "out.sqlite", "outbox/gone/dead.jsonl", *boxes} <= looked_at.keys()
    for name, data in looked_at.items():
        check(name, data)
    for words in ([], ["--json"], ["--send", "--for", "1s"]):
        ran = subprocess.run(
            [sys.executable, "-m", "pipeline.app.cli", "--debug", "outbox", str(path), *words],
            cwd=tmp_path,
            env=environment(project, tmp_path),
            capture_output=True,
            timeout=120,
        )
        assert ran.returncode == int("--send" in words), ran.stderr.decode()
        assert b"answered 410" in ran.stdout
        check("standard output", ran.stdout)
        check("standard error", ran.stderr)


@pytest.mark.slow
def test_a_store_of_clips_that_fails(tmp_path: Path, project: Path) -> None:
    """By itself: whoever cuts clips wants no source to be isolated."""
    (tmp_path / "clips" / "j").mkdir(parents=True)
    film = "20260131T120004Z_person_0123456789abcdef.mp4"
    for name in (f"{film}.json", film):  # of an earlier run
        (tmp_path / "clips" / "j" / name).write_text("{}")
    with refusing() as port:
        path = tmp_path / "planted.yaml"
        path.write_text(f"""
sources:
  j: {{kind: pattern, fps: 5, cascade: people-ssdlite}}
sinks:
  clips:
    kind: clip
    path: clips
    s3: {{bucket: evidence, endpoint: "http://127.0.0.1:{port}", access_key: ann, secret_key: "${{S3}}"}}
""")
        ran = subprocess.run(
            [sys.executable, "-m", "pipeline.app.cli", "--debug", "run", str(path), "--json", "--for", "2s"],
            cwd=tmp_path,
            env=environment(project, tmp_path),
            capture_output=True,
            timeout=120,
        )
    assert b"clips wait for the bucket" in ran.stderr, ran.stderr.decode()
    check("standard output", ran.stdout)
    check("standard error", ran.stderr)
    for name, data in everything_in(tmp_path, path):
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
