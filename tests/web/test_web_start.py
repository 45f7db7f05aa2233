"""From the command line to the page: where it is told, whom it is shown to, how it ends, and who asks whether it is
well."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from pipeline.app.cli import main
from pipeline.app.web.browser import somebody_sits_in_front
from tests.web.serving import GUARDED, VIEWER, bearer, serving
from tests.web.test_web_tls import made

ENDLESS = "sources: {a: {kind: pattern, fps: 5, realtime: true}}\nsinks: {log: {kind: jsonl, path: log.jsonl}}\n"


@contextmanager
def program(
    folder: Path, config: str, *options: str, stdout: int, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    (folder / "c.yaml").write_text(config)
    command = [sys.executable, "-m", "pipeline.app.cli", "run", "c.yaml", "--set", "web.listen=127.0.0.1:0", *options]
    known = {name: value for name, value in os.environ.items() if name not in {"CI", "DISPLAY", "SSH_CONNECTION"}}
    where = {"PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(
        command, cwd=folder, stdout=stdout, stderr=subprocess.PIPE, text=True, env=known | where | environment
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def url_of(running: subprocess.Popen[str]) -> str:
    assert running.stderr is not None
    said = ""
    for line in running.stderr:
        said += line
        if found := re.match(r"page: (\S+?)[,;]?(?:$|\s)", line):
            return found[1]
    raise AssertionError(said)


@pytest.mark.slow
def test_it_says_where_the_page_is_and_ends_with_the_run(tmp_path: Path) -> None:
    with program(tmp_path, ENDLESS, "--web", stdout=subprocess.DEVNULL) as running:
        url = url_of(running)
        assert httpx.get(url).status_code == 200
        with httpx.stream("GET", f"{url}/api/feed") as feed:  # a browser that stays connected holds nobody up
            next(feed.iter_raw())
            running.send_signal(signal.SIGINT)
            assert running.wait(30) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)


@pytest.mark.slow
def test_it_is_shown_to_whoever_sits_in_front(tmp_path: Path) -> None:
    browser, shown = tmp_path / "browser", tmp_path / "shown"
    browser.write_text(f'#!/bin/sh\necho "$1" > {shown}.part && mv {shown}.part {shown}\n')
    browser.chmod(0o755)
    ours, theirs = pty.openpty()
    try:
        with program(tmp_path, ENDLESS, "--web", stdout=theirs, DISPLAY=":77", BROWSER=f"{browser} %s") as running:
            url = url_of(running)
            end = time.monotonic() + 30
            while not shown.exists() and time.monotonic() < end:
                time.sleep(0.05)
            assert shown.read_text().strip() == url
            shown.unlink()
        off = ("--web", "--set", "web.open=false")
        with program(tmp_path, ENDLESS, *off, stdout=theirs, DISPLAY=":77", BROWSER=f"{browser} %s") as running:
            assert httpx.get(url_of(running)).status_code == 200
            time.sleep(1)
            assert not shown.exists()
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize(
    ("environment", "platform", "terminal", "shown"),
    [
        ({"DISPLAY": ":0"}, "linux", True, True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True, True),
        ({}, "darwin", True, True),
        ({}, "win32", True, True),
        ({}, "linux", True, False),
        ({"DISPLAY": ":0"}, "linux", False, False),
        ({}, "darwin", False, False),
        ({"DISPLAY": ":0", "CI": "true"}, "linux", True, False),
        ({"DISPLAY": ":10", "SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22"}, "linux", True, False),
    ],
)
def test_who_sits_in_front(environment: dict[str, str], platform: str, terminal: bool, shown: bool) -> None:
    assert somebody_sits_in_front(environment, platform, terminal) == shown


def test_a_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = tmp_path / "c.yaml"
        config.write_text(ENDLESS + f"web: {{listen: '{taken.getsockname()[1]}'}}\n")
        assert main(["run", str(config), "--for", "1s"]) == 2
    said = capsys.readouterr().err
    assert "c.yaml:3: web.listen: cannot listen on 127.0.0.1:" in said and "in use" in said
    assert "Traceback" not in said


def test_health_asks_the_page_as_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(GUARDED) as served:  # not started: no model is warm
        assert main(["health", str(served.port)]) == 1
        assert "not ready" in capsys.readouterr().err
    with serving(GUARDED, start=True) as served:
        end = time.monotonic() + 60
        while httpx.get(f"{served.url}/api/ready").status_code != 200 and time.monotonic() < end:
            time.sleep(0.1)
        assert main(["health", served.url]) == 0
        assert "ready, healthy" in capsys.readouterr().out
        assert httpx.get(f"{served.url}/api/ready", headers=bearer(VIEWER)).status_code == 200
    certificate, key = made(tmp_path, "own")
    with serving({**GUARDED, "certificate": str(certificate), "key": str(key)}) as served:
        assert main(["health", served.url]) == 1
        assert "not ready" in capsys.readouterr().err
    assert main(["health", f"127.0.0.1:{served.port}"]) == 1
    assert "nobody answers" in capsys.readouterr().err
    for wrong in ("ftp://127.0.0.1:1", "nowhere", "127.0.0.1:x"):
        assert main(["health", wrong]) == 2
        assert "should be host:port" in capsys.readouterr().err


def test_health_is_not_taken_in_by_what_else_answers(capsys: pytest.CaptureFixture[str]) -> None:
    from prometheus_client import CollectorRegistry, start_http_server

    server, thread = start_http_server(0, addr="127.0.0.1", registry=CollectorRegistry())
    try:
        assert main(["health", str(server.server_port)]) == 1
        assert "something else" in capsys.readouterr().err
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        with suppress(OSError):
            server.socket.close()


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "aiortc", "httptools"])
def test_without_its_packages_it_says_what_to_install(tmp_path: Path, package: str) -> None:
    (tmp_path / "c.yaml").write_text(ENDLESS)
    script = f"import sys; sys.modules['{package}'] = None; from pipeline.app.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", script, "run", "c.yaml", "--web"]
    where = os.environ | {"PYTHONPATH": str(Path.cwd())}
    ended = subprocess.run(command, cwd=tmp_path, env=where, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2, ended.stderr
    assert "the page needs some packages: pip install 'thresher[web]'" in ended.stderr
    assert not (tmp_path / "log.jsonl").exists()
