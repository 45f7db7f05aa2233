"""Results and events from a store that a real run wrote, over real HTTP."""

from __future__ import annotations

import base64
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from pipeline.app.web import store as storing
from pipeline.app.web.store import Cursor, EventQuery, ResultQuery, Store, StoreBusy
from pipeline.core.records import Detection
from sinks.sqlite import Sqlite
from tests.contracts.sink_suite import EVERY_KIND, documents, event, person, result, shed
from tests.web.feed_parts import serving
from tests.web.store_parts import ALONE, ASKED, NOTHING, Ran, ran

SCRIPT = [NOTHING] * 5 + [ASKED] * 12 + [NOTHING] * 70 + [ALONE] * 10 + [NOTHING] * 3


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    with ran(tmp_path_factory.mktemp("run"), {"door": SCRIPT, "yard": [NOTHING] * 30}) as one:
        yield one


def test_each_result_is_what_the_jsonl_sink_wrote(real: Ran) -> None:
    written = real.written()
    assert len(written) == len(SCRIPT) + 30
    found = real.all("results", limit=17)
    assert {one["id"]: one for one in found} == written
    assert len(found) == len(written)  # none twice
    assert [one["time"] for one in found] == sorted((one["time"] for one in found), reverse=True)
    for name in list(written)[::9]:
        assert real.get(f"/api/results/{name}") == written[name]
        assert list(real.get(f"/api/results/{name}")) == list(written[name])  # in the same order, too


def test_each_event_is_what_the_jsonl_sink_wrote_and_more(real: Ran) -> None:
    written = real.written("event")
    assert len(written) == 2
    for one in real.all("events", limit=1):
        assert one["open"] is False
        assert {name: value for name, value in one.items() if name in written[one["event"]]} == written[one["event"]]
        assert one.keys() - written[one["event"]].keys() == {"open", "picture", "picture_shows", "clip"}


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        ({"stream": "yard"}, lambda one: one["stream"] == "yard"),
        ({"label": "bright"}, lambda one: bool(one["detections"])),
        ({"label": "nothing"}, lambda one: False),
        ({"flagged": "true"}, lambda one: one["flagged"]),
        ({"flagged": "false", "stream": "door"}, lambda one: one["stream"] == "door" and not one["flagged"]),
        ({"flagged": "true", "stream": "yard"}, lambda one: False),
        ({"verdict": "accept"}, lambda one: one["verdict"] == "accept"),
        ({"verdict": "unknown"}, lambda one: one["verdict"] == "unknown"),
        ({"outcome": "shed"}, lambda one: one["outcome"] == "shed"),
        ({"decided_by": "heavy"}, lambda one: one["decided_by"] == "heavy"),
        ({"decided_by": "cheap", "label": "bright"}, lambda one: one["decided_by"] == "cheap" and one["detections"]),
    ],
)
def test_results_are_found_by_what_they_are(real: Ran, query: dict[str, str], holds: Any) -> None:
    expected = {name for name, one in real.written().items() if holds(one)}
    assert {one["id"] for one in real.all("results", limit=7, **query)} == expected


def test_results_and_events_are_found_by_time(real: Ran) -> None:
    written = sorted(real.written().values(), key=lambda one: one["time"])
    first, last = written[20]["time"], written[60]["time"]
    expected = {one["id"] for one in written if first <= one["time"] < last}
    assert {one["id"] for one in real.all("results", **{"from": first, "to": last})} == expected
    local = first.replace("Z", "+00:00")
    assert {one["id"] for one in real.all("results", **{"from": local, "to": last})} == expected
    (older, newer) = sorted(real.written("event").values(), key=lambda one: one["start"])
    assert [one["event"] for one in real.all("events", to=newer["start"])] == [older["event"]]
    assert [one["event"] for one in real.all("events", **{"from": newer["end"]})] == [newer["event"]]
    assert real.all("events", open="true") == []
    assert real.all("events", stream="yard") == []


@pytest.mark.parametrize(
    ("path", "query", "place"),
    [
        ("results", "limit=0", "limit"),
        ("results", "limit=501", "limit"),
        ("results", "limit=many", "limit"),
        ("results", "stream=../../etc", "stream"),
        ("results", "stream=a%00b", "stream"),
        ("results", "outcome=maybe", "outcome"),
        ("results", "verdict=maybe", "verdict"),
        ("results", "flagged=2", "flagged"),
        ("results", "from=yesterday", "from"),
        ("results", "from=0001-01-01T00:00:00%2B14:00", "from"),
        ("results", "to=9999-12-31T23:59:59-10:00", "to"),
        ("results", f"label={'x' * 300}", "label"),
        ("events", "open=perhaps", "open"),
        ("events", "after=%22", "after"),
        *[
            ("results", f"after={quote(base64.urlsafe_b64encode(json.dumps(bad).encode()).decode())}", "after")
            for bad in (1, [], ["x", 1], ["2026-01-01T00:00:00.000000Z", "1"], ["2026-01-01T00:00:00.000000Z", 1 << 70])
        ],
        ("results", "after=" + "A" * 201, "after"),
    ],
)
def test_what_is_asked_for_wrongly_is_refused_with_its_place(real: Ran, path: str, query: str, place: str) -> None:
    answer = httpx.get(f"{real.url}/api/{path}?{query}")
    assert answer.status_code == 422, answer.text
    assert place in answer.text


@pytest.mark.parametrize(
    "name", ["door/x/1", "../../../etc/passwd", "%2e%2e/x", "a%00b", "'; DROP TABLE results; --", "é" * 300]
)
def test_an_id_that_is_none_is_not_found(real: Ran, name: str) -> None:
    for path in ("results", "events", "event-pictures", "clips/door", f"clips/{name}"):
        answer = httpx.get(f"{real.url}/api/{path}/{name}")
        assert answer.status_code in {400, 404, 422}, (path, answer.text)
    assert real.all("results", stream="yard")


def test_without_a_store_it_says_what_to_do() -> None:
    with serving() as (_, url):
        for path in ("results", "events", "results/a/b/1", "events/a/b/c/1"):
            answer = httpx.get(f"{url}/api/{path}")
            assert answer.status_code == 404
            assert "kind: sqlite" in answer.json()["detail"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


def test_documents_of_every_kind(path: Path) -> None:
    strange = [
        result(20, person(), decided_by="resnet", action="blur", rule="people"),
        replace(result(21, person()), trusted=False),
        replace(result(22), trusted=False),
        replace(result(23), window=replace(result(23).window, start_ns=1_769_860_800_123_456_789, file="a.png")),
    ]
    with closing(Sqlite(path=str(path)).open()) as writer:
        writer.write([*EVERY_KIND, *strange])
        heard = Detection("yes", 0.8, span_ns=(1_234_567_891, 1_734_567_891))
        words = replace(event("update", 3, "chat/e/hate/1"), best=Detection("hate", 0.7, chars=(0, 17)))
        placed = replace(event("end", 9, "e3"), zone="gate", direction="in", track="t", held_back=3)
        events = [event("new"), replace(event("end", 7, "e2"), best=heard, start_ns=10**18 + 1), words, placed]
        writer.write(events)
        store = Store(path)
        for name, document in documents([*EVERY_KIND, *strange]).items():
            if document["outcome"] == "failed":
                document["reason"] = document["reason"].replace("\udcff", "\\udcff")
            assert store.result(name) == document
        page = store.events(EventQuery(), None, 10)
        expected = documents(events)
        assert {one["event"]: {k: v for k, v in one.items() if k != "open"} for one in page.found} == expected
        assert {one["event"] for one in page.found if one["open"]} == {event().id, "chat/e/hate/1"}


def test_pages_stand_still_while_rows_are_written(path: Path) -> None:
    """Newest first, while newer ones come and older ones are judged again: of what was there, each once."""
    writer = Sqlite(path=str(path)).open()
    before = [result(seq, person()) for seq in range(500)]
    writer.write(before)
    store, stop = Store(path), threading.Event()

    def write() -> None:
        seq = 500
        while not stop.is_set():
            writer.write([result(seq + n) for n in range(20)] + [result(seq % 500, person(0.4))])
            seq += 20

    thread = threading.Thread(target=write)
    thread.start()
    try:
        seen, after = [], None
        while True:
            page = store.results(ResultQuery(), after, 23)
            seen += [one["seq"] for one in page.found]
            if page.next is None:
                break
            after = Cursor.read(page.next)
    finally:
        stop.set()
        thread.join()
        writer.close()
    assert [seq for seq in seen if seq < 500] == list(range(499, -1, -1))
    assert seen == sorted(set(seen), reverse=True)


def test_many_of_the_same_time_come_once_each(path: Path) -> None:
    same = [replace(result(seq), window=replace(result(seq).window, wall_ns=10**18)) for seq in range(100)]
    with closing(Sqlite(path=str(path)).open()) as writer:
        writer.write(same)
    store, seen, after = Store(path), [], None
    while True:
        page = store.results(ResultQuery(), after, 7)
        seen += [one["seq"] for one in page.found]
        if page.next is None:
            break
        after = Cursor.read(page.next)
    assert sorted(seen) == list(range(100))
    assert len(page.found) == 2


def test_a_label_is_found_whether_it_is_rare_or_not(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Sqlite(path=str(path)).open()) as writer:
        writer.write([result(seq, person(), person(0.3)) for seq in range(300)])
        writer.write([result(seq, Detection("dog", 0.5)) for seq in range(300, 310)])
    for few in (5, 5_000):  # both ways of looking
        monkeypatch.setattr(storing, "_FEW", few)
        for label, count in (("person", 300), ("dog", 10), ("cat", 0)):
            found = Store(path).results(ResultQuery(label=label), None, 500).found
            assert [one["seq"] for one in found] == sorted((one["seq"] for one in found), reverse=True)
            assert len(found) == count


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (ResultQuery(), "results_by_time"),
        (ResultQuery(stream="door"), "results_by_stream"),
        (ResultQuery(flagged=True), "results_flagged"),
        (ResultQuery(stream="door", flagged=True), "results_flagged"),
        (ResultQuery(verdict="unknown", stream="door"), "results_unknown"),
        (ResultQuery(outcome="shed"), "results_unknown"),
        (ResultQuery(stream="door", since="2026", to="2027"), "results_by_stream"),
    ],
)
def test_questions_use_an_index_and_sort_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, query: ResultQuery, index: str
) -> None:
    Sqlite(path=str(path)).open().write(EVERY_KIND)
    plans: list[str] = []

    class Explaining(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if "results r" in sql:
                plans.append(str([tuple(row) for row in super().execute(f"EXPLAIN QUERY PLAN {sql}", *values)]))
            return super().execute(sql, *values)

    real_connect = sqlite3.connect
    monkeypatch.setattr(storing.sqlite3, "connect", lambda *a, **k: real_connect(*a, **k, factory=Explaining))
    for after in (None, Cursor("2026-01-31T12:00:00.000000Z", 5)):
        Store(path).results(query, after, 10)
    assert all(index in plan and "TEMP B-TREE" not in plan for plan in plans)
    assert len(plans) == 2


def test_a_question_that_takes_too_long_is_broken_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Sqlite(path=str(path)).open()) as writer:
        writer.write([result(seq, person()) for seq in range(2_000)])
    monkeypatch.setattr(storing, "_LONGEST_S", 0.0)
    monkeypatch.setattr(storing, "_LOOK", 10)
    with pytest.raises(StoreBusy, match="narrow it down by time"):
        Store(path).results(ResultQuery(decided_by="nobody"), None, 10)
    monkeypatch.setattr(storing, "_LONGEST_S", 5.0)
    assert Store(path).results(ResultQuery(decided_by="nobody"), None, 10).found == []


def test_only_so_many_questions_at_once_and_nobody_else_waits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Sqlite(path=str(path)).open()) as writer:
        writer.write([result(0)])
    monkeypatch.setattr(storing, "_WAIT_S", 0.3)
    with serving({"db": Sqlite(path=str(path))}) as (site, url), ThreadPoolExecutor(60) as clients:
        assert site.store is not None
        go, asked = threading.Event(), threading.Semaphore(0)
        real = Store.results

        def slow(*given: Any) -> storing.Page:
            asked.release()
            go.wait(20)
            return real(*given)

        monkeypatch.setattr(Store, "results", slow)
        answers = [clients.submit(httpx.get, f"{url}/api/results", timeout=30) for _ in range(60)]
        for _ in range(storing._AT_ONCE):
            assert asked.acquire(timeout=10)
        assert httpx.get(f"{url}/api/health").status_code == 200  # while they wait
        late = httpx.get(f"{url}/api/results")
        assert (late.status_code, late.headers["retry-after"]) == (503, "2")
        go.set()
        statuses = [one.result().status_code for one in answers]
        assert statuses.count(200) == storing._AT_ONCE
        assert set(statuses) == {200, 503}
        assert len(httpx.get(f"{url}/api/results").json()["results"]) == 1


def test_a_file_that_is_not_there_or_none_of_ours_is_no_server_error(tmp_path: Path) -> None:
    for name, make in (("absent", None), ("empty", b""), ("text", b"no database at all" * 500)):
        path = tmp_path / name
        if make is not None:
            path.write_bytes(make)
        with pytest.raises(StoreBusy):
            Store(path).results(ResultQuery(), None, 1)
    assert not (tmp_path / "absent").exists()


def test_reading_changes_nothing_and_leaves_nothing_open(path: Path) -> None:
    with closing(Sqlite(path=str(path)).open()) as writer:
        writer.write([result(seq) for seq in range(100)])
        store = Store(path)
        for _ in range(50):
            store.results(ResultQuery(), None, 10)
        with store.reading() as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM results")
    assert sorted(one.name for one in path.parent.iterdir()) == ["results.db"]  # its log was written back
    assert len(Store(path).results(ResultQuery(), None, 500).found) == 100  # and it can be read by itself


def test_a_store_of_an_older_version_is_read_once_its_sink_has_opened_it(path: Path) -> None:
    from tests.sinks.test_sqlite import _OF_VERSION_1

    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(_OF_VERSION_1)
    with pytest.raises(StoreBusy, match="version 1"):
        Store(path).result("old/e/1")
    with closing(Sqlite(path=str(path)).open()):
        found = Store(path).result("old/e/1")
        assert found is not None
        assert (found["pts_ns"], found["verdict"], found["detections"]) == (
            0,
            "reject",
            [{"label": "old", "score": 0.9}],
        )
        (old,) = Store(path).events(EventQuery(), None, 1).found
        assert (old["type"], old["end_ns"], old["best"]["box"]) == ("end", 10**9, [1, 2, 3, 4])


def test_asking_takes_no_longer_beside_a_writer(path: Path) -> None:
    """A reader waits for no writer: not even for one that holds its transaction open."""
    writer = Sqlite(path=str(path)).open()
    writer.write([result(0), shed(1)])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        assert len(Store(path).results(ResultQuery(), None, 10).found) == 2
        assert time.monotonic() - begun < storing._WAIT_S
        other.execute("ROLLBACK")
    writer.close()
