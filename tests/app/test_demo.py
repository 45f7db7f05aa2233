"""The demo: the first thing that anybody sees."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import av
import pytest
from calling import Thresher

from pipeline.app.demo import document


@pytest.mark.slow
def test_it_shows_what_it_found_and_where_that_lies(thresher: Thresher, tmp_path: Path) -> None:
    ran = thresher("demo")
    assert ran.returncode == 0, ran.stderr
    assert "person from 0.0 s to" in ran.stdout
    for word in ("decided by:", "resnet", "mobilenet", "uncertified", "sqlite3 -box results/demo.sqlite"):
        assert word in ran.stdout
    outcomes = [json.loads(line) for line in (tmp_path / "results" / "demo.jsonl").read_text().splitlines()]
    assert sum("outcome" in one for one in outcomes) == 200
    with contextlib.closing(sqlite3.connect(tmp_path / "results" / "demo.sqlite")) as database:
        query = ran.stdout.partition('demo.sqlite "')[2].partition('"')[0]
        assert database.execute(query).fetchall()
    with av.open(str(tmp_path / "results" / "demo.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == 200


def test_an_earlier_demo_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    for name in ("demo.jsonl", "demo.sqlite", "mine.jsonl"):
        (tmp_path / name).write_text("old")
    document(tmp_path, as_json=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.jsonl"]
