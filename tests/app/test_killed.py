"""`kill -9` at any moment, and a restart: every window is there once, and every event as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from calling import COMMAND

KILLS = int(os.environ.get("THRESHER_KILLS", "4"))
"""Of the short form; the long one says its own number."""
RESULTS = "SELECT id, pts_s, outcome, flagged, (SELECT count(*) FROM detections WHERE result_id = id) FROM results"
EVENTS = "SELECT id, start_s, end_s, windows, count, open, round(best_score, 3) FROM events"


def config(folder: Path, clip: Path, state: bool) -> Path:
    folder.mkdir()
    path = folder / "killed.yaml"
    path.write_text(
        json.dumps({
            "sources": {"film": {"kind": "file", "path": str(clip)}},
            "cascade": {"cheap": {"model": "people-ssdlite"}, "rule": {"kind": "boxes", "report": {"person": 0.93}}},
            "events": {"start_after": 2, "end_after_s": 0.4, "update_every_s": 1},
            "sinks": {"db": {"kind": "sqlite", "path": "r.db"}, "log": {"kind": "jsonl", "path": "r.jsonl"}},
            **({"state": "state"} if state else {}),
        })
    )  # fmt: skip
    return path


def start(path: Path) -> subprocess.Popen[bytes]:
    with (path.parent / "said").open("ab") as said:
        return subprocess.Popen([*COMMAND, "run", str(path)], cwd=path.parent, stdout=said, stderr=said)


def ask(folder: Path, question: str) -> list[tuple[object, ...]]:
    try:
        with closing(sqlite3.connect(folder / "r.db", timeout=5)) as connection:
            return sorted(connection.execute(question).fetchall())
    except sqlite3.OperationalError:
        return []  # it is not there yet


def committed(folder: Path) -> int:
    """The last window that the state says was delivered; -1 for none."""
    path = folder / "state" / "streams" / "film.json"
    if not path.exists():
        return -1
    place = json.loads(path.read_text())["place"]
    return -1 if place is None else place["seq"]


def lines(folder: Path) -> list[int]:
    """The windows of the log, as they were written: of a line that a kill tore, nothing is known."""
    found = []
    for line in (folder / "r.jsonl").read_text().splitlines() if (folder / "r.jsonl").exists() else ():
        try:
            found.append(json.loads(line).get("seq"))
        except ValueError:
            continue
    return [seq for seq in found if seq is not None]


def kill_at_random(path: Path, kills: int, seed: int) -> tuple[int, int]:
    """Run it, and kill it after so many further windows, again and again, then let it end: how often it was killed, and
    how many lines are in the log more than once."""
    folder, dice, killed = path.parent, random.Random(seed), 0
    while True:
        before, behind = committed(folder), len(lines(folder))
        target = behind + dice.randrange(1, max(3, 300 // kills))
        running = start(path)
        try:
            while running.poll() is None and (killed >= kills or len(lines(folder)) < target):
                time.sleep(dice.uniform(0.0, 0.02))
            if running.poll() is None:
                running.send_signal(signal.SIGKILL)
            status = running.wait(120)
        finally:
            running.kill()
        new = lines(folder)[behind:]
        assert not new or new[0] == before + 1, "it went on where every sink had what came before"
        if status == 0:
            break
        assert status == -signal.SIGKILL, (folder / "said").read_text()
        killed += 1
    every = lines(folder)
    return killed, len(every) - len(set(every))


@pytest.mark.slow
def test_every_window_is_there_once_and_the_events_are_whole(tmp_path: Path, people_clip: Path) -> None:
    path = config(tmp_path / "killed", people_clip, state=True)
    killed, repeated = kill_at_random(path, KILLS, seed=5)
    once = config(tmp_path / "once", people_clip, state=False)
    assert start(once).wait(120) == 0
    assert ask(path.parent, RESULTS) == ask(once.parent, RESULTS)
    assert len(ask(path.parent, RESULTS)) == 200
    events = ask(path.parent, EVENTS)
    assert events == ask(once.parent, EVENTS)
    assert len(events) > 2 and not any(row[5] for row in events), "all of them ended"
    assert killed >= KILLS // 2
    assert set(lines(path.parent)) == set(range(200))
    print(f"{killed} kills, {repeated} lines twice", file=sys.stderr)
