"""Runs at full load with a fault every ten seconds, and watches what grows.

    python -m tests.durability.soak --minutes 30

A camera on RTSP, films, and a chat that is followed go to SQLite, JSON Lines and a webhook. In turns the receiver is
killed or frozen, the server of the camera is killed or frozen, the log is rotated, the run is stopped; one film has
faults of its own. Memory counts after a warm-up of a fifth of the time, at most five minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import Any

import psutil
from scipy import stats

from tests.durability.receivers import Hook
from tests.rtsp.rtsp_servers import RtspServer

ROOT = Path(__file__).parents[2]
_FAULT_S = 10.0
_LASTS_S = 4.0
_SAMPLE_S = 1.0
_MESSAGES_A_SECOND = 50
_MIB = float(1 << 20)
_ALLOCATOR = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "1048576"}
"""As in the service's unit: what threads free goes back to the system."""


class Chat(threading.Thread):
    """Somebody who writes a log."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._path, self._over = path, threading.Event()
        path.touch()

    def run(self) -> None:
        number = 0
        while not self._over.wait(0.2):
            with self._path.open("a") as log:
                for _ in range(_MESSAGES_A_SECOND // 5):
                    log.write(f"message {number}, and nobody minds\n")
                    number += 1

    def rotate(self) -> None:
        self._path.replace(self._path.with_suffix(".1"))

    def stop(self) -> None:
        self._over.set()
        self.join()


def soak(folder: Path, minutes: float) -> dict[str, Any]:
    clip = ROOT / "pipeline" / "app" / "demo" / "people.mp4"  # of small pictures: what waits is to hide no leak
    with ExitStack() as stack:
        hook = stack.enter_context(Hook())
        camera = stack.enter_context(RtspServer(f"cam={clip}"))
        chat = Chat(folder / "chat.log")
        config = folder / "run.yaml"
        config.write_text(json.dumps(_config(folder, clip, hook, camera)))
        with (folder / "log").open("ab") as log:
            run = subprocess.Popen(
                [sys.executable, "-m", "pipeline.app.cli", "run", str(config), "--json"],
                cwd=ROOT, env=os.environ | _ALLOCATOR, stdout=subprocess.PIPE, stderr=log, text=True,
                start_new_session=True,
            )  # fmt: skip
        stack.callback(run.kill)
        chat.start()
        faults = cycle(_faults(hook, camera, chat, run))
        try:
            samples = _watch(run, faults, minutes * 60)
        except AssertionError as error:
            raise AssertionError(f"{error}: {(folder / 'log').read_text()[-3000:]}") from None
        chat.stop()
        hook.well()
        os.kill(run.pid, signal.SIGTERM)
        assert run.stdout is not None
        said, _ = run.communicate(timeout=120)
    return _document(samples, json.loads(said), minutes)


def _config(folder: Path, clip: Path, hook: Hook, camera: RtspServer) -> dict[str, Any]:
    film = {"kind": "file", "path": str(clip), "realtime": True, "loop": True, "max_fps": 10}
    script = [
        {"fault": "none", "for_s": 10},
        {"fault": "damaged", "for_s": 2},
        {"fault": "silent", "for_s": 3},
        {"fault": "lost", "times": 1},
        {"fault": "none", "for_s": 10},
        {"fault": "leap", "times": 1, "by_s": 3600},
        {"fault": "raise", "times": 1},
        {"fault": "frozen", "for_s": 3},
    ]
    return {
        "state": str(folder / "state"),
        "network": {"private": True},
        "sources": {
            "cam": {"kind": "rtsp", "url": camera.url("cam"), "max_fps": 10, "cascade": "people"},
            "film": film | {"cascade": "people"},
            "bad": {
                "kind": "faulty",
                "of": film,
                "cascade": "people",
                "as_live": True,
                "repeat": True,
                "script": script,
            },
            "chat": {"kind": "lines", "path": str(folder / "chat.log"), "follow": True, "cascade": "said"},
        },
        "cascades": {"said": {"base": "chat", "cache": 500}},  # which is full before memory counts
        "sinks": {
            "db": {"kind": "sqlite", "path": str(folder / "results.db")},
            "lines": {"kind": "jsonl", "path": str(folder / "results.jsonl"), "rotate_mb": 20, "keep": 2},
            "hook": hook.settings() | {"outbox": {"path": str(folder / "outbox")}},
        },
    }


def _faults(hook: Hook, camera: RtspServer, chat: Chat, run: subprocess.Popen[str]) -> list[Callable[[], None]]:
    """Each begins and mends one."""

    def restarted(stop: Callable[[], None], start: Callable[[], None]) -> Callable[[], None]:
        def fault() -> None:
            stop()
            time.sleep(_LASTS_S)
            start()

        return fault

    def stopped() -> None:
        os.kill(run.pid, signal.SIGSTOP)
        time.sleep(_LASTS_S)
        os.kill(run.pid, signal.SIGCONT)

    return [
        restarted(hook.stop, hook.start),
        restarted(hook.freeze, hook.thaw),
        restarted(camera.kill, camera.start),
        restarted(camera.freeze, camera.thaw),
        chat.rotate,
        stopped,
    ]


def _watch(run: subprocess.Popen[str], faults: Any, seconds: float) -> list[tuple[float, float, int, int]]:
    """`(minutes, MiB, threads, descriptors)`, once a second."""
    process, begun = psutil.Process(run.pid), time.monotonic()
    samples: list[tuple[float, float, int, int]] = []
    following, trouble = begun + 2 * _FAULT_S, None
    while (now := time.monotonic()) < begun + seconds:
        assert run.poll() is None, "it ended by itself"
        if now >= following and (trouble is None or not trouble.is_alive()):
            following += _FAULT_S
            trouble = threading.Thread(target=next(faults), daemon=True)
            trouble.start()
        with process.oneshot():
            samples.append(
                ((now - begun) / 60, process.memory_info().rss / _MIB, process.num_threads(), process.num_fds())
            )
        time.sleep(_SAMPLE_S)
    if trouble is not None:
        trouble.join(60)
    return samples


def slope(times: Sequence[float], sizes: Sequence[float], every: int = 30) -> tuple[float, float]:
    """Growth a minute by least squares, and its upper 95 % bound. What lies close together in time is alike, so that
    medians of `every` samples count."""
    chunks = range(0, len(times) - every + 1, every)
    x = [float(sorted(times[n : n + every])[every // 2]) for n in chunks]
    y = [float(sorted(sizes[n : n + every])[every // 2]) for n in chunks]
    if len(x) < 3:
        return math.nan, math.inf
    fit = stats.linregress(x, y)
    return float(fit.slope), float(fit.slope + stats.t.ppf(0.95, len(x) - 2) * fit.stderr)


def _document(samples: Sequence[tuple[float, float, int, int]], said: dict[str, Any], minutes: float) -> dict[str, Any]:
    settled = [one for one in samples if one[0] > min(5.0, minutes / 5)]
    growth, upper = slope([one[0] for one in settled], [one[1] for one in settled])
    half = len(settled) // 2
    frames, windows = said["ledgers"]["frames"], said["ledgers"]["windows"]
    outbox = said["sinks"]["hook"]["outbox"]
    settled_letters = sum(outbox[fate] for fate in ("delivered", "refused", "expired", "dropped", "damaged", "waiting"))
    return {
        "minutes": minutes,
        "memory_mib": {"first": settled[0][1], "last": settled[-1][1], "most": max(one[1] for one in settled)},
        "memory_every_30_s": [round(one[1], 1) for one in samples[::30]],
        "slope_mib_a_minute": growth,
        "slope_upper_95": upper,
        "threads": [max(one[2] for one in part) for part in (settled[:half], settled[half:])],
        "descriptors": [max(one[3] for one in part) for part in (settled[:half], settled[half:])],
        "frames": frames,
        "windows": windows,
        "outbox": outbox,
        "ledgers_exact": (
            frames["received"] == sum(count for name, count in frames.items() if name != "received")
            and windows["windows"] == sum(count for name, count in windows.items() if name != "windows")
            and outbox["accepted"] == settled_letters
        ),
        "problems": said["problems"],
        "decided_by": said["decided_by"],
        "latency_ms": said["latency_ms"],
    }


if __name__ == "__main__":
    options = argparse.ArgumentParser(prog="python -m tests.durability.soak", description=__doc__)
    options.add_argument("--minutes", type=float, default=30.0)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="thresher-soak-") as place:
        print(json.dumps(soak(Path(place), given.minutes), indent=2))
