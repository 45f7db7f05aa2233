"""What a service manager hears, at a real socket of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pipeline.app.notify import Notifier
from pipeline.engine.pipeline import Pipeline, StreamPlan
from sinks.memory import Memory
from sources.pattern import Pattern
from tests.engine.parts import Brightness, generation


@contextmanager
def manager(folder: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        path = folder / "notify"
        listening.bind(str(path))
        listening.settimeout(30)
        yield listening, {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "1500000"}


def heard(listening: socket.socket, seconds: float) -> list[str]:
    said: list[str] = []
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        listening.settimeout(left)
        try:
            said += listening.recv(4096).decode().splitlines()
        except TimeoutError:
            break
    return said


def until(listening: socket.socket, word: str) -> list[str]:
    said: list[str] = []
    listening.settimeout(60)
    while word not in said:
        said += listening.recv(4096).decode().splitlines()
    return said


@pytest.mark.slow
def test_a_service_manager_hears_how_it_is(tmp_path: Path, project: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("sources: {a: {kind: pattern, fps: 5}}\nsinks: {log: {kind: jsonl, path: out.jsonl}}\n")
    with manager(tmp_path) as (listening, environment):
        running = subprocess.Popen(
            [sys.executable, "-m", "pipeline.app.cli", "run", str(config)],
            cwd=tmp_path,
            env=os.environ | environment | {"PYTHONPATH": str(project)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert until(listening, "READY=1")[0] == "READY=1", "before that there is nothing to say"
            said = until(listening, "WATCHDOG=1")
            assert any(line.startswith("STATUS=streams: 1 ") for line in said)
            until(listening, "WATCHDOG=1")
            running.send_signal(signal.SIGSTOP)
            heard(listening, 0.3)
            assert "WATCHDOG=1" not in heard(listening, 2), "what stands still gives no sign of life"
            running.send_signal(signal.SIGCONT)
            until(listening, "WATCHDOG=1")
            running.send_signal(signal.SIGTERM)
            until(listening, "STOPPING=1")
            assert running.wait(30) == 0
        finally:
            running.kill()
            running.wait()


@pytest.mark.slow
def test_a_stage_that_hangs_is_no_sign_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process lives, its main thread looks about as ever: the watchdog is not fed."""
    monkeypatch.setattr("pipeline.engine.cascade.HANGING_S", 0.5)
    free = threading.Event()  # while it is set, nothing hangs
    free.set()

    with manager(tmp_path) as (listening, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        judging = generation(Brightness(hang=free))
        pipeline = Pipeline([StreamPlan("a", Pattern(fps=20), "c", judging)], {"m": Memory()})
        pipeline.start()
        with closing(Notifier(lambda: pipeline.healthy)) as notifier:

            def look(seconds: float) -> list[str]:
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    notifier.look(lambda: "well")
                    time.sleep(0.05)
                return heard(listening, 0.1)

            assert look(1.5).count("WATCHDOG=1") >= 2
            free.clear()
            look(4)
            assert not pipeline.healthy
            assert "WATCHDOG=1" not in look(1.5)
            assert pipeline.snapshot().healthy is False
            free.set()
            look(2.5)
            assert "WATCHDOG=1" in look(1.5), "it came back"
        pipeline.stop(2)


def test_without_a_service_manager_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    with closing(Notifier(lambda: True)) as notifier:
        notifier.look(lambda: 1 / 0)  # type: ignore[arg-type, return-value]  # nobody asks
        notifier.stopping(1)


def test_a_watchdog_of_another_process_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with manager(tmp_path) as (listening, environment):
        for name, value in (environment | {"WATCHDOG_PID": "1"}).items():
            monkeypatch.setenv(name, value)
        with closing(Notifier(lambda: True)) as notifier:
            notifier.look(lambda: "well")
            assert heard(listening, 0.2) == ["READY=1", "STATUS=well"]
