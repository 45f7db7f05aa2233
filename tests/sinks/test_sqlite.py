from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.contracts import Sink
from pipeline.core.errors import InputError, SinkBusy, SinkRefused
from pipeline.core.outages import Outage
from pipeline.core.records import Detection
from sinks import sqlite as sqlite_sink
from sinks.sqlite import Sqlite
from tests.contracts.sink_suite import EVERY_KIND, Documents, SinkSuite, event, person, result, ruling, shed

ROOT = Path(__file__).parents[2]


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def rows(path: Path, table: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]


def found(row: dict[str, Any], score: str) -> dict[str, Any]:
    document = {"label": row["label"], "score": round(row[score], 4)}
    places = {"box": ("x1", "y1", "x2", "y2"), "span_ns": ("start_ns", "end_ns"), "chars": ("first_char", "last_char")}
    of_best = "best_" if score == "best_score" else ""
    for place, columns in places.items():
        names = columns if place == "box" else tuple(of_best + column for column in columns)
        if row[names[0]] is not None:
            document[place] = [row[name] for name in names]
    return document


class TestContract(SinkSuite):
    def plan(self, folder: Path) -> Sink:
        return Sqlite(path=str(folder / "results.db"))

    def read(self, folder: Path) -> Documents:
        path = folder / "results.db"
        documents: Documents = {}
        for row in rows(path, "results"):
            fields = ("id", "stream", "epoch", "seq", "time", "outcome", "verdict", "latency_ms")
            document = {name: row[name] for name in fields} | {"pts_ns": round(row["pts_s"] * 1e9)}
            if row["outcome"] == "result":
                document |= {name: row[name] for name in ("decided_by", "generation", "certified", "flagged")}
                document["detections"] = []
                document |= {name: row[name] for name in ("carried_from", "action", "rule") if row[name]}
            else:
                # the one character that SQLite cannot hold stands there by its number
                document["reason"] = row["reason"].replace("\\udcff", "\udcff")
            documents[row["id"]] = document
        for row in rows(path, "detections ORDER BY result_id, n"):
            documents[row["result_id"]]["detections"].append(found(row, "score"))
        for row in rows(path, "events"):
            kind = "end" if not row["open"] else "new" if row["windows"] == 1 else "update"
            documents[row["id"]] = {
                "event": row["id"],
                "type": kind,
                "stream": row["stream"],
                "label": row["label"],
                "start": row["start_time"],
                "end": row["end_time"],
                "start_ns": round(row["start_s"] * 1e9),
                "end_ns": round(row["end_s"] * 1e9),
                "windows": row["windows"],
                "count": row["count"],
                "best": found(row, "best_score"),
            }
        for row in rows(path, "rulings"):
            document = {name: row[name] for name in ("show", "action", "rule")}
            document |= {name: json.loads(row[name]) for name in ("targets", "evidence", "missing")}
            document |= {"ruling": row["id"], "type": "new" if row["open"] else "end"}
            document |= {"start": row["start_time"], "end": row["end_time"]}
            document |= {f"{name}_ns": round(row[f"{name}_s"] * 1e9) for name in ("start", "end")}
            if row["open"]:
                document["latency_ms"] = row["latency_ms"]
            documents[row["id"]] = document
        return documents


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


def test_no_verdict_is_lost_to_a_window_that_got_none(path: Path) -> None:
    writer = Sqlite(path=str(path)).open()
    writer.write([result(5, person()), shed(6)])
    writer.write([shed(5), result(6, person())])
    assert query(path, "SELECT seq, outcome, reason FROM results ORDER BY seq") == [
        (5, "result", None),
        (6, "result", None),
    ]
    assert query(path, "SELECT count(*) FROM detections") == [(2,)]


def test_a_window_twice_in_one_batch_is_one_row(path: Path) -> None:
    Sqlite(path=str(path)).open().write([result(0, person()), result(0, person())])
    assert query(path, "SELECT count(*) FROM results") == [(1,)]
    assert query(path, "SELECT count(*) FROM detections") == [(1,)]


def test_the_views_answer_what_people_ask(path: Path) -> None:
    dog = Detection("dog", 0.8)
    Sqlite(path=str(path)).open().write(
        [
            result(0),
            result(1, person(0.6), person(0.9), dog, decided_by="resnet"),
            result(1501, person(0.7)),  # a minute later
            result(1502, person(0.7), flagged=False),
            shed(1503),
            event("end", 24),
        ]
    )
    assert query(path, "SELECT id, labels, top_score, detections FROM flagged_results ORDER BY time") == [
        ("door/01K0EPOCH/1", "person,dog", 0.9, 3),
        ("door/01K0EPOCH/1501", "person", 0.7, 1),
    ]
    assert query(path, "SELECT * FROM labels_per_minute ORDER BY minute, label") == [
        ("door", "2026-01-31T12:00", "dog", 1, 1, 0.8),
        ("door", "2026-01-31T12:00", "person", 1, 2, 0.9),
        ("door", "2026-01-31T12:01", "person", 2, 1, 0.7),
    ]
    assert query(path, "SELECT label, events, open, seconds, most_at_once FROM events_by_label") == [
        ("person", 1, 0, 1.0, 2)
    ]
    assert query(path, "SELECT decided_by, results, share FROM decided_by_share ORDER BY share") == [
        ("resnet", 1, 0.25),
        ("mobilenet", 3, 0.75),
    ]


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        ("SELECT * FROM results WHERE stream = 'door' AND time > '2026'", "results_by_stream"),
        ("SELECT * FROM results WHERE time BETWEEN '2026' AND '2027'", "results_by_time"),
        ("SELECT * FROM results WHERE flagged ORDER BY time DESC", "results_flagged"),
        ("SELECT * FROM detections WHERE label = 'person'", "detections_by_label"),
        ("SELECT * FROM events WHERE stream = 'door' ORDER BY start_time", "events_by_stream"),
        ("SELECT * FROM events WHERE start_time > '2026'", "events_by_time"),
    ],
)
def test_indexes_serve_the_usual_questions(path: Path, sql: str, index: str) -> None:
    Sqlite(path=str(path)).open().write(EVERY_KIND)
    assert index in str(query(path, f"EXPLAIN QUERY PLAN {sql}"))


WRITE = """
import sys
from sinks.sqlite import Sqlite
from tests.contracts.sink_suite import event, person, result
writer = Sqlite(path=sys.argv[1]).open()
seq = 0
while True:
    writer.write([result(seq + n, person()) for n in range(10)] + [event("update", seq)])
    seq += 10
    print(seq, flush=True)
"""


def test_after_kill_9_there_are_whole_batches_and_it_goes_on(path: Path) -> None:
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITE, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            acknowledged = [int(child.stdout.readline()) for _ in range(40)]
            os.kill(child.pid, signal.SIGKILL)
            acknowledged += [int(line) for line in child.stdout.read().split("\n")[:-1]]
        written = {seq for (seq,) in query(path, "SELECT seq FROM results")}
        assert written >= set(range(acknowledged[-1]))
        assert len(written) % 10 == 0  # whole batches
        assert query(path, "SELECT count(*) FROM detections") == [(len(written),)]
        assert query(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_locked_database_is_busy_and_then_takes_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_sink, "_WAIT_S", 0.05)
    writer = Sqlite(path=str(path)).open()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SinkBusy, match=r"results\.db.*locked"):
            writer.write([result(0)])
        with pytest.raises(SinkBusy, match=r"results\.db.*locked"):
            Sqlite(path=str(path)).open().write([result(1)])
        other.execute("COMMIT")
    writer.write([result(0)])
    assert query(path, "SELECT seq FROM results") == [(0,)]


def test_readers_do_not_hold_up_the_writer(path: Path) -> None:
    writer = Sqlite(path=str(path)).open()
    writer.write([result(0)])
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM results").fetchone() == (1,)
        writer.write([result(1)])
        assert reader.execute("SELECT count(*) FROM results").fetchone() == (1,)
    assert query(path, "SELECT count(*) FROM results") == [(2,)]


def test_a_full_disk_is_busy_and_loses_nothing(path: Path) -> None:
    writer = Sqlite(path=str(path)).open()
    writer.write([result(0)])
    connection = writer._connection  # type: ignore[attr-defined]  # the limit is a setting of the connection
    connection.execute("PRAGMA max_page_count = 30")
    batch = [result(seq, person()) for seq in range(1, 2000)]
    with pytest.raises(SinkBusy, match="full"):
        writer.write(batch)
    assert query(path, "SELECT count(*) FROM results") == [(1,)]
    connection.execute("PRAGMA max_page_count = 1000000")
    writer.write(batch)
    assert query(path, "SELECT count(*) FROM results") == [(2000,)]


def test_a_database_that_broke_is_refused_not_retried_for_ever(path: Path) -> None:
    writer = Sqlite(path=str(path)).open()
    with closing(sqlite3.connect(path)) as vandal:
        vandal.execute("DROP TABLE detections")
    with pytest.raises(SinkRefused, match="no such table"):
        writer.write([result(0, person())])


def test_a_database_that_was_moved_away_is_begun_anew(path: Path) -> None:
    writer = Sqlite(path=str(path)).open()
    writer.write([result(0)])
    for file in path.parent.iterdir():
        file.unlink()
    writer.write([result(1)])
    writer.close()
    assert query(path, "SELECT seq FROM results") == [(1,)]


def mistakes(path: Path) -> str:
    texts = set()
    for step in (Sqlite(path=str(path)).check, Sqlite(path=str(path)).open):
        with pytest.raises(InputError) as caught:
            step()
        texts.add(str(caught.value))
    assert len(texts) == 1
    return texts.pop()


def test_what_is_no_database_of_ours_is_left_alone(path: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("my notes, long enough to be read as a header\n" * 100)
    assert mistakes(text) == f"{text}: is not a SQLite database; give another file"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE results (mine)")
    assert mistakes(path) == f"{path}: is a database of another program; give another file"
    assert query(path, "PRAGMA journal_mode") == [("delete",)]


def test_a_newer_database_is_left_alone(path: Path) -> None:
    Sqlite(path=str(path)).open().close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 7")
    assert mistakes(path) == (
        f"{path}: its tables are of version 7, this program writes version 6; update thresher or give another file"
    )


def test_a_ruling_keeps_what_it_was_decided_by(path: Path) -> None:
    writer = Sqlite(path=str(path)).open()
    later = replace(ruling("update", 5), evidence=(), done_ns=99_000_000)
    writer.write([ruling("new", 2), later])
    (row,) = rows(path, "rulings")
    assert (row["end_s"], row["open"], row["latency_ms"]) == (5.0, 1, 12.5)
    assert [one["window"] for one in json.loads(row["evidence"])] == ["chat/01K0EPOCH/7"]
    writer.write([ruling("end", 9), ruling("end", 3, "evening/hate/chat/01K0EPOCH/90")])
    assert query(path, "SELECT * FROM rulings_by_rule") == [("evening", "hate", "block", 2, 0, 12.0, 12.5)]


_OF_VERSION_1 = """
CREATE TABLE results (
    id TEXT PRIMARY KEY, stream TEXT NOT NULL, epoch TEXT NOT NULL, seq INTEGER NOT NULL, pts_s REAL NOT NULL,
    time TEXT NOT NULL, outcome TEXT NOT NULL CHECK (outcome IN ('result', 'shed', 'failed')), decided_by TEXT,
    generation TEXT, certified INTEGER, flagged INTEGER NOT NULL, latency_ms REAL NOT NULL, reason TEXT,
    carried_from TEXT, file TEXT
) STRICT;
INSERT INTO results VALUES
    ('old/e/0', 'old', 'e', 0, 0.0, '2025', 'result', 'm', 'g', 0, 0, 1.0, NULL, NULL, NULL),
    ('old/e/1', 'old', 'e', 1, 0.0, '2025', 'result', 'm', 'g', 0, 1, 1.0, NULL, NULL, NULL),
    ('old/e/2', 'old', 'e', 2, 0.0, '2025', 'shed', NULL, NULL, NULL, 0, 1.0, 'deadline', NULL, NULL);
CREATE TABLE detections (
    result_id TEXT NOT NULL REFERENCES results (id) ON DELETE CASCADE, n INTEGER NOT NULL, label TEXT NOT NULL,
    score REAL NOT NULL, x1 REAL, y1 REAL, x2 REAL, y2 REAL, PRIMARY KEY (result_id, n)
) STRICT, WITHOUT ROWID;
INSERT INTO detections VALUES ('old/e/1', 0, 'old', 0.9, NULL, NULL, NULL, NULL);
CREATE TABLE events (
    id TEXT PRIMARY KEY, stream TEXT NOT NULL, label TEXT NOT NULL, start_time TEXT NOT NULL, end_time TEXT NOT NULL,
    start_s REAL NOT NULL, end_s REAL NOT NULL, seconds REAL NOT NULL, count INTEGER NOT NULL,
    windows INTEGER NOT NULL, open INTEGER NOT NULL, best_score REAL NOT NULL, x1 REAL, y1 REAL, x2 REAL, y2 REAL
) STRICT;
INSERT INTO events VALUES ('old/e/old/0', 'old', 'old', '2025', '2025', 0, 1, 1, 1, 2, 0, 0.9, 1, 2, 3, 4);
PRAGMA application_id = 0x54485253; PRAGMA user_version = 1;
"""


def test_a_database_of_an_older_version_gets_verdicts(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(_OF_VERSION_1)
    for _ in range(2):
        plan = Sqlite(path=str(path))
        plan.check()
        writer = plan.open()
        writer.write([result(0), result(1, person()), shed(2)])
        writer.close()
        assert query(path, "SELECT stream, verdict FROM results ORDER BY stream, seq") == [
            *[("door", verdict) for verdict in ("accept", "reject", "unknown")],
            *[("old", verdict) for verdict in ("accept", "reject", "unknown")],
        ]
    assert query(path, "PRAGMA user_version") == [(6,)]
    assert query(path, "SELECT label, start_ns FROM detections ORDER BY label") == [("old", None), ("person", None)]
    assert {share for *_, share in query(path, "SELECT * FROM verdict_share")} == {1 / 3}
    assert query(path, "SELECT id, zone, direction, track, held_back FROM events") == [
        ("old/e/old/0", None, None, None, 0)
    ]


def test_an_event_says_where_it_was(path: Path) -> None:
    crossing = replace(event("end", 7), zone="door", direction="in", track="door/01K0EPOCH/person/3.1", held_back=2)
    writer = Sqlite(path=str(path)).open()
    writer.write([event("new"), crossing])
    writer.close()
    assert query(path, "SELECT zone, direction, track, held_back FROM events") == [
        ("door", "in", "door/01K0EPOCH/person/3.1", 2)
    ]


def test_an_outage_is_a_row(path: Path) -> None:
    writer = Sqlite(path=str(path)).open()
    outage = Outage("door", "down", 1_700_000_000_000_000_000, 1_700_000_002_500_000_000)
    writer.write([outage])
    writer.write([replace(outage, end_wall_ns=outage.end_wall_ns + 1_000_000_000)])  # told again: the last word counts
    writer.close()
    assert query(path, "SELECT stream, reason, start_time, seconds FROM outages") == [
        ("door", "down", "2023-11-14T22:13:20.000000Z", 3.5)
    ]


def test_a_folder_or_an_impossible_path_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "r.db"):
        with pytest.raises(InputError) as caught:
            Sqlite(path=str(path)).check()
        assert str(caught.value).startswith(str(path))
        with pytest.raises(InputError) as caught:
            Sqlite(path=str(path)).open()
        assert str(caught.value).startswith(str(path))


def test_an_empty_file_is_a_database_to_be(path: Path) -> None:
    path.touch()
    plan = Sqlite(path=str(path))
    plan.check()
    plan.open().write([result(0)])
    assert query(path, "SELECT count(*) FROM results") == [(1,)]
