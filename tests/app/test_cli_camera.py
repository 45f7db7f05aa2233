"""A camera with a password, from a real RTSP server, through a config that ships."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from calling import COMMAND, Thresher

from tests.rtsp.rtsp_servers import RtspServer

SECRET = "s3cretpw"


@pytest.fixture(scope="module")
def camera() -> Iterator[RtspServer]:
    with RtspServer("cam=pattern:320x240@15", auth=f"viewer:{SECRET}", digest=True) as running:
        yield running


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def metric(text: str, name: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


@pytest.mark.slow
def test_it_is_watched_and_its_password_shows_nowhere(tmp_path: Path, project: Path, camera: RtspServer) -> None:
    port, text = free_port(), ""
    url = camera.url("cam", f"viewer:{SECRET}")
    command = [
        *COMMAND,
        "--debug",
        "run",
        str(project / "configs" / "moderation.yaml"),
        "--json",
        "--metrics",
        str(port),
    ]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "CAM_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        end = time.monotonic() + 60
        while metric(text, "thresher_result_windows_total") < 5:
            assert time.monotonic() < end and running.poll() is None
            time.sleep(0.1)
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                    text = answer.read().decode()
            except urllib.error.URLError:
                continue
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=30)
    assert running.returncode == 0, err
    document = json.loads(out)
    assert document["streams"]["cam"]["connects"] == 1
    assert document["ledgers"]["windows"]["results"] >= 5
    assert metric(text, 'thresher_source_state{state="live",stream="cam"}') == 1
    for said in (out, err, text):
        assert SECRET not in said and "Traceback" not in said
    assert (tmp_path / "results" / "moderation.sqlite").exists()
    for path in (tmp_path / "results").iterdir():
        assert SECRET.encode() not in path.read_bytes()


@pytest.mark.slow
def test_a_wrong_password_is_told_and_not_shown(thresher: Thresher, camera: RtspServer) -> None:
    ran = thresher(
        "run", camera.url("cam", "viewer:wr0ng-passw0rd"), "--for", "3s", "--json", "--detect", "people-ssdlite"
    )
    assert ran.returncode == 0
    assert json.loads(ran.stdout)["streams"]["cam"]["state"] == "connecting"
    assert "wr0ng-passw0rd" not in ran.stdout + ran.stderr
    assert "401" in ran.stderr or "uthori" in ran.stderr
