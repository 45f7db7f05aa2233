"""A microphone: the monitor of a null sink of a real PulseAudio, which the tests start for themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.core.errors import InputError, MissingPart
from sources.microphone import Microphone
from tests.contracts import source_suite as suite
from tests.sources.sounds import sound_file, tone

REPORT = """
import json, sys, time
import numpy as np
from pipeline.core.errors import SourceLost
from pipeline.core.records import Chunk, Gap, Watermark
from sources.microphone import Microphone
from tests.contracts import source_suite as suite

plan = Microphone(device="pulse", window_s=0.5, channel="left")
suite.check_plan(plan)
suite.check_closing(plan)
suite.check_epochs(plan)
reader = plan.open(suite.STREAM)
print("open", flush=True)
items, why, began = [], "", time.monotonic()
try:
    for item in reader:
        items.append(item)
        loud = [float(np.abs(c.payload.sample()).max()) for c in suite.chunks(items)]
        if isinstance(item, Chunk) and len(loud) == 10:
            print("ten", flush=True)
        if len(loud) == int(sys.argv[1]):
            break
except SourceLost as error:
    why = str(error)
reader.close()
suite.check_items(items, intact=not suite.gaps(items, "undecoded"))
spectrum = np.abs(np.fft.rfft(np.concatenate([c.payload.sample() for c in suite.chunks(items)])))
ages = [c.mono_ns for c in suite.chunks(items)]
print(json.dumps({"why": why, "chunks": len(loud), "loudest": max(loud), "ages": ages,
    "hertz": float(np.argmax(spectrum[10:]) + 10) * 16000 / (2 * len(spectrum)), "seconds": time.monotonic() - began}))
"""


class Pulse:
    """A PulseAudio of the test's own, in a folder of its own, whose only source is the monitor of a null sink."""

    def __init__(self, folder: Path) -> None:
        self.environment = os.environ | {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder), "PULSE_SERVER": ""}
        self.environment["PULSE_SERVER"] = f"unix:{folder}/native"
        command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disallow-exit"]
        for module in (
            f"module-native-protocol-unix auth-anonymous=1 socket={folder}/native",
            "module-null-sink sink_name=null rate=48000",
        ):
            command += ["-L", module]
        self._process = subprocess.Popen(command, env=self.environment, stderr=subprocess.PIPE)
        end = time.monotonic() + 20
        while not (folder / "native").exists():
            assert self._process.poll() is None and time.monotonic() < end, "PulseAudio did not start"
            time.sleep(0.05)

    def play(self, path: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["paplay", "--device=null", str(path)], env=self.environment)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()


@pytest.fixture
def pulse(tmp_path: Path) -> Iterator[Pulse]:
    running = Pulse(tmp_path)
    yield running
    running.kill()


@contextmanager
def reading(project: Path, pulse: Pulse, windows: int) -> Iterator[subprocess.Popen[str]]:
    """Reads the microphone in a process of its own: PortAudio is one for the whole process, and looks at the system's
    settings once."""
    command = [sys.executable, "-c", REPORT, str(windows)]
    with subprocess.Popen(command, env=pulse.environment, cwd=project, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            yield process
        finally:
            process.kill()


def report(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    document: dict[str, Any] = json.loads(out.splitlines()[-1])
    return document


def test_what_is_played_is_heard(project: Path, pulse: Pulse, tmp_path: Path) -> None:
    path = sound_file(tmp_path / "tone.wav", tone(12, 44_100, 440, channels=2), 44_100, "pcm_s16le")
    with pulse.play(path) as player, reading(project, pulse, 30) as process:
        said = report(process)
        player.kill()
    assert not said["why"] and said["chunks"] == 30
    assert said["loudest"] == pytest.approx(0.5, abs=0.1)
    assert said["hertz"] == pytest.approx(440, abs=3)
    apart = np.diff(said["ages"]) / 1e6
    assert np.median(apart) == pytest.approx(100, abs=30), "as it arrives, and not in lumps of a second"


def test_a_device_that_disappears_is_lost(project: Path, pulse: Pulse) -> None:
    with reading(project, pulse, 1000) as process:
        assert process.stdout is not None and process.stdout.readline() == "ten\n"
        pulse.kill()
        said = report(process)
    assert "the microphone is gone" in said["why"] and said["seconds"] < 15


def test_a_device_that_is_not_there_is_waited_for(project: Path, tmp_path: Path) -> None:
    code = (
        "from sources.microphone import Microphone; from pipeline.core.errors import SourceLost\n"
        "try: Microphone(device='no such thing').open('mic')\n"
        "except SourceLost as error: print(error)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, timeout=60)
    assert "No input device matching 'no such thing'" in ran.stdout


class PortAudio:
    """In its place: a device whose callback the test calls."""

    PortAudioError = type("PortAudioError", (Exception,), {})
    active = True

    def _terminate(self) -> None: ...
    def _initialize(self) -> None: ...
    def start(self) -> None: ...
    def close(self, ignore_errors: bool = True) -> None: ...

    def query_devices(self, device: object, kind: str) -> dict[str, float]:
        return {"default_samplerate": 16_000.0, "max_input_channels": 1}

    def InputStream(self, **told: Any) -> PortAudio:  # as PortAudio's own is named
        self.callback = told["callback"]
        return self


def test_what_nobody_takes_in_time_is_counted_and_no_window_spans_it(monkeypatch: pytest.MonkeyPatch) -> None:
    device = PortAudio()
    monkeypatch.setattr("sources.microphone.sounddevice", lambda: device)
    reader = Microphone(window_s=0.5).open(suite.STREAM)
    block = np.full((160, 1), 0.25, np.float32)
    for _ in range(300):  # 10 ms each; 44 of them find no room
        device.callback(block, 160, None, None)
    items = list(suite.until(reader, 25))
    for _ in range(50):
        device.callback(-block, 160, None, None)
    items += list(suite.until(reader, 10))
    reader.close()
    suite.check_items(items, intact=False)
    assert suite.gaps(items, "undecoded") == 5, "44 blocks are five hops, the last of them in part"
    assert all(len(set(np.sign(c.payload.samples))) == 1 for c in suite.chunks(items)), (
        "one side of the hole or the other"
    )
    ends = [c.pts_ns + c.duration_ns for c in suite.chunks(items)]
    assert ends[-1] == pytest.approx(3.5e9, abs=1.1e8)


def test_what_the_device_lost_is_a_damaged_hop_and_no_window_spans_it(monkeypatch: pytest.MonkeyPatch) -> None:
    device = PortAudio()
    monkeypatch.setattr("sources.microphone.sounddevice", lambda: device)
    reader = Microphone(window_s=0.5).open(suite.STREAM)
    fine, lost = (SimpleNamespace(input_overflow=over) for over in (False, True))
    block = np.full((160, 1), 0.25, np.float32)
    for n in range(60):
        device.callback(block if n < 25 else -block, 160, None, lost if n == 25 else fine)
    items = list(suite.until(reader, 6))
    reader.close()
    suite.check_items(items, intact=False)
    assert (suite.gaps(items, "damaged"), suite.gaps(items, "undecoded")) == (1, 0)
    assert all(len(set(np.sign(c.payload.samples))) == 1 for c in suite.chunks(items))


def test_settings() -> None:
    plan = Microphone(device=3)
    assert plan.live and plan.paced and plan.medium == "sound"
    suite.check_plan(plan)
    with pytest.raises(InputError, match="0 or more"):
        Microphone(device=-1).check()


def test_without_sounddevice_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingPart, match=r'pip install "thresher\[sound\]"'):
        Microphone().check()
