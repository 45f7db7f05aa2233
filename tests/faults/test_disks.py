"""Disks that are full for a while, or slow, under whole pipelines: what was accepted is there in the end."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from parts import generation, grey

from pipeline.core.contracts import Sink
from pipeline.engine.pipeline import Pipeline, StreamPlan
from sinks.faulty import Faulty
from sinks.jsonl import Jsonl
from sinks.sqlite import Sqlite
from sources.memory import Memory


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes. Needs root, as in a container."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def found(path: Path) -> set[int]:
    """The windows of which a second reader finds the outcome."""
    if path.suffix == ".jsonl":
        lines = path.read_text().splitlines()
        return {document["seq"] for line in lines if "outcome" in (document := json.loads(line))}
    with sqlite3.connect(path) as db:
        return {seq for (seq,) in db.execute("select seq from results")}


def sink(kind: str, path: Path) -> Sink:
    return Jsonl(path=str(path)) if kind == "jsonl" else Sqlite(path=str(path))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl", "sqlite"])
def test_a_disk_that_is_full_holds_a_film_until_there_is_room(small_disk: Path, kind: str) -> None:
    path = small_disk / f"log.{kind}"
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 3_700_000)
    film = Memory(script=[grey(20 + n % 200) for n in range(1500)])
    pipeline = Pipeline([StreamPlan("s", film, "c", generation())], {"log": sink(kind, path)})
    pipeline.start()
    end_s = time.monotonic() + 60
    while pipeline.snapshot().sinks[0].state != "busy" and time.monotonic() < end_s:
        time.sleep(0.05)
    told = pipeline.snapshot().sinks[0]
    assert told.state == "busy" and ("space" in told.detail or "full" in told.detail), told
    ballast.unlink()
    assert pipeline.wait(120), pipeline.snapshot().sinks[0]
    pipeline.stop()
    last = pipeline.snapshot().sinks[0]
    assert (last.dropped, last.refused, last.retries > 0) == (0, 0, True)
    assert found(path) == set(range(1500))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl", "sqlite"])
def test_a_slow_disk_slows_a_film_down_and_loses_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"log.{kind}"
    slow = Faulty.around(sink(kind, path), {"fault": "slow", "each_s": 0.2, "times": 5})
    film = Memory(script=[grey(20 + n % 200) for n in range(600)])
    pipeline = Pipeline([StreamPlan("s", film, "c", generation())], {"log": slow})
    pipeline.start()
    assert pipeline.wait(60)
    pipeline.stop()
    assert pipeline.snapshot().sinks[0].dropped == 0
    assert found(path) == set(range(600))
