"""Every bench runs and says what it should: no figure is judged here, the machine is busy with tests."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from calling import Thresher

from detectors.gates.motion import Motion
from pipeline.app.bench import cameras
from pipeline.app.bench.cameras import Tap, server
from pipeline.app.bench.clips import Clip, pictures
from pipeline.core.errors import MissingPart
from pipeline.core.payloads import FrameImage, ViewSpec

FIGURES = {
    "engine": ["engine: pictures from memory"],
    "file": ["file: 1080p", "file: decode alone", "file: convert alone", "file: infer alone"],
    "still": ["still: "],
    "resnet": ["resnet: 1080p", "int8 against bf16", "int8 against torch eager", "int8 outputs, mean cosine"],
    "line": [
        "line: parts a second",
        "heavy stage alone",
        "int8 against f32",
        "int8 against bf16",
        "one defect rejected",
    ],
    "start": ["start: process start to first result", "start: torch imported"],
    "memory": ["memory: resident", "memory: growth"],
    "rtsp": ["rtsp: results of the slowest", "p99", "without a result"],
    "faults": ["one of 8 dies", "one of 8 hangs", "one of 8 sends garbage"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_a_bench_says_its_figures(thresher: Thresher, name: str) -> None:
    done = thresher("bench", name, "--quick", "--json")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["bench"] == name
    assert document["quick"] is True
    assert document["machine"]["processor"]
    assert document["conditions"]
    for wanted in FIGURES[name]:
        rows = [row for row in document["rows"] if wanted in row["figure"]]
        assert rows, wanted
        for row in rows:
            assert {"figure", "value", "unit", "baseline", "ratio"} <= set(row)
            assert row["ratio"] is None or row["ratio"] > 0
    told = {row["figure"]: row for row in document["rows"]}
    if name == "start":
        assert told["start: torch imported"]["value"] == 0
    if name == "resnet":
        assert told["resnet: int8 outputs, mean cosine"]["value"] > 0.95
        assert document["conditions"]["int8"]["precision"] == "int8"


def test_clips_are_what_they_say(thresher_cache: Path) -> None:
    still, moving = (Clip(scene, 640, 360, 15, 6.0) for scene in ("still", "moving"))
    moved, differing = {}, {}
    for clip in (still, moving):
        file = clip.made()
        assert file.is_relative_to(thresher_cache)
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 640, 360)
            frames = list(container.decode(stream))
        assert len(frames) == clip.frames == 90
        assert PictureType.B not in {frame.pict_type for frame in frames}
        lumas = [FrameImage(frame).luma() for frame in frames[30:]]  # the encoder has found its rate
        gate = Motion().start()
        gate.judged(lumas[0], 0)
        moved[clip.scene] = sum(gate.changed(luma, 0) for luma in lumas) / len(lumas)
        differing[clip.scene] = sum(not np.array_equal(luma, lumas[0]) for luma in lumas)
        made_ns = file.stat().st_mtime_ns
        assert clip.made().stat().st_mtime_ns == made_ns  # kept, not made again
    assert moved["still"] < 0.1
    assert moved["moving"] > 0.8
    assert differing["still"] > 0  # noise, not one picture again and again


def test_pictures_differ_and_come_again() -> None:
    spec = ViewSpec(32, 24)
    some = pictures(spec, 6)
    assert some.shape == (6, 24, 32, 3)
    assert np.array_equal(some, pictures(spec, 6))
    assert not np.array_equal(some, pictures(spec, 6, seed=1))
    assert len({picture.tobytes() for picture in some}) == 6


def test_a_tap_can_be_dirtied_choked_and_cut() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def echo() -> None:
            side, _ = listener.accept()
            with side, suppress(ConnectionResetError):  # it is cut in the end
                while piece := side.recv(1024):
                    side.sendall(piece)

        threading.Thread(target=echo, daemon=True).start()
        tap = Tap(listener.getsockname())
        with socket.create_connection(("127.0.0.1", tap.port), timeout=5) as client:
            client.sendall(b"a picture")
            assert client.recv(100) == b"a picture"
            tap.state = "dirty"
            client.sendall(b"a picture")
            assert client.recv(100) != b"a picture"
            tap.state = "choked"
            client.sendall(b"a picture")
            client.settimeout(0.5)
            with pytest.raises(TimeoutError):
                client.recv(100)
            tap.state = "clean"
            client.settimeout(5)
            assert client.recv(100) == b"a picture", "it was held, not lost"
            tap.state = "cut"
            assert client.recv(100) == b""
        tap.close()


def test_without_gstreamer_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cameras, "SYSTEM_PYTHON", str(tmp_path / "python3"))
    with pytest.raises(MissingPart, match=r"apt-get install .*gst-rtsp-server"), server({"cam": tmp_path / "x.mp4"}):
        pass
