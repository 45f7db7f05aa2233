"""`state`: what a person sees of it."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
from calling import COMMAND, Thresher

from tests.sources.kafka_broker import cluster, produce


def config(tmp_path: Path, **changes: object) -> Path:
    path = tmp_path / "chat.yaml"
    document = {
        "sources": {"chat": {"kind": "lines", "path": "chat.log", "follow": True, "from_start": True}},
        "cascade": "chat",
        "state": "state",
        "sinks": {"db": {"kind": "sqlite", "path": "r.db"}},
        **changes,
    }
    path.write_text(json.dumps(document))
    return path


def rows(tmp_path: Path) -> list[tuple[int]]:
    try:
        with closing(sqlite3.connect(tmp_path / "r.db", timeout=5)) as connection:
            return connection.execute("SELECT seq FROM results ORDER BY seq").fetchall()
    except sqlite3.OperationalError:
        return []


def start(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "run", str(path)], cwd=path.parent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def until(holds, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.slow
def test_a_log_that_is_rotated_while_it_is_killed_is_read_once(tmp_path: Path) -> None:
    log, path = tmp_path / "chat.log", config(tmp_path)
    log.write_text("".join(f"message number {n}\n" for n in range(300)))
    running = start(path)
    try:
        assert until(lambda: len(rows(tmp_path)) >= 100)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        with log.open("a") as file:
            file.write("".join(f"message number {n}\n" for n in range(300, 400)))
        log.rename(tmp_path / "chat.log.1")
        log.write_text("".join(f"message number {n}\n" for n in range(400, 450)))
        running = start(path)
        assert until(lambda: len(rows(tmp_path)) >= 450)
        second = start(path)
        _, said = second.communicate(timeout=60)
        assert second.returncode == 2 and "another thresher that runs now keeps its state there" in said
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0
    finally:
        running.kill()
        running.communicate()
    assert rows(tmp_path) == [(n,) for n in range(450)], "each once, under one epoch"


@pytest.mark.slow
def test_a_topic_is_read_once_however_often_it_is_killed(tmp_path: Path) -> None:
    with cluster() as brokers:
        source = {"kind": "kafka", "brokers": brokers, "topic": "chat", "from_start": True}
        path = config(tmp_path, sources={"chat": source})
        for partition in (0, 1):
            produce(brokers, "chat", *(f"message number {n}" for n in range(150)), partition=partition)
        for least in (60, 200):
            running = start(path)
            try:
                assert until(lambda least=least: len(rows(tmp_path)) >= least)
            finally:
                running.kill()
                running.communicate()
        produce(brokers, "chat", *(f"message number {n}" for n in range(50)), partition=1)
        running = start(path)
        try:
            assert until(lambda: len(rows(tmp_path)) >= 350)
            running.send_signal(signal.SIGTERM)
            assert running.wait(30) == 0
        finally:
            running.kill()
            running.communicate()
    expected = [n * 1_000_000 for n in range(150)] + [n * 1_000_000 + 1000 for n in range(200)]
    assert rows(tmp_path) == [(seq,) for seq in sorted(expected)]


@pytest.mark.slow
def test_a_target_with_state_is_judged_once(tmp_path: Path, thresher: Thresher) -> None:
    (tmp_path / "talk.txt").write_text("hello\nthere\n")
    words = ("run", "talk.txt", "--state", "kept", "--json")
    first, second = thresher(*words), thresher(*words)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    received = [json.loads(called.stdout)["ledgers"]["frames"]["received"] for called in (first, second)]
    assert received == [2, 0]
    assert "talk: goes on with window 2" in second.stderr
    assert (tmp_path / "kept" / "streams" / "talk.json").exists()


def test_a_state_that_is_no_folder(tmp_path: Path, thresher_here: Thresher) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "chat.log").touch()
    for wrong, what in (
        ("file", "is no folder"),
        ("x" * 300, "cannot be a folder"),
        (3, "should be the path of a folder"),
        ("", "should be the path"),
    ):
        called = thresher_here("validate", config(tmp_path, state=wrong))
        assert called.returncode == 2 and what in called.stderr + called.stdout
    assert thresher_here("validate", config(tmp_path, state="~nobody-of-this-name/x")).returncode == 0
    assert thresher_here("validate", config(tmp_path, state=None)).returncode == 0
