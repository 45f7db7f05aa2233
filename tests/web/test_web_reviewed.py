"""Decisions outlive everything: the sink that goes on, other threads, `kill -9`, a disk that fails."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.datasets import read_dataset
from pipeline.app.web import reviewed
from pipeline.app.web.review import Gone, Reviews
from pipeline.app.web.reviewed import Decision, Doubt, Reviewed, Word
from pipeline.core.contracts import Picture
from pipeline.core.errors import InputError
from pipeline.core.payloads import FrameImage
from pipeline.core.records import Audit
from sinks.coco import CocoFolder
from sinks.doubts import Doubts
from tests.contracts.sink_suite import person, pictured, result

ROOT = Path(__file__).parents[2]
PIXELS = np.zeros((48, 64, 3), np.uint8)


class _Plan:
    def __init__(self, folder: Path, keep: int) -> None:
        self.sinks = {"doubts": Doubts(path=str(folder), every_s=0, keep=keep)}
        self.watches: dict[str, str] = {}


class _Site:
    """No cascade runs: what is known stands in the folder."""

    def __init__(self, folder: Path, keep: int = 1000) -> None:
        self.plan, self.generations = _Plan(folder, keep), dict[str, Any]()

    def reviews(self) -> Reviews:
        return Reviews(self)  # type: ignore[arg-type]  # all that it asks for is there


def gather(folder: Path, *numbers: int, keep: int = 1000) -> None:
    writer = Doubts(path=str(folder), every_s=0, keep=keep).open()
    for number in numbers:
        writer.write(pictured([result(number, person(0.5, (1.0, 2.0, 30.0, 40.0)))]))
    writer.close()


def numbers_of(items: list[dict[str, Any]]) -> dict[int, str]:
    return {int(one["window"].rpartition("/")[2]): one["id"] for one in items}


def rows(folder: Path) -> dict[int, dict[str, Any]]:
    data = json.loads((folder / "reviewed" / "annotations.json").read_text())
    return {int(one["window"].rpartition("/")[2]): one for one in data["images"]}


Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["gather", "confirm", "correct", "unsure", "undo", "restart"]), st.integers(0, 11)),
    max_size=25,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(STEPS)
def test_nothing_that_was_decided_is_lost_whatever_the_sink_forgets(steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "doubts"
        gather(folder, 0, 1, 2, keep=4)
        reviews, said, told = _Site(folder, 4).reviews(), dict[int, str | None](), numbers_of([])
        for what, number in steps:
            told |= numbers_of(reviews.items()[0])
            if what == "gather":
                gather(folder, number, keep=4)
            elif what == "restart":
                reviews.close()
                reviews = _Site(folder, 4).reviews()
            elif number in told:
                gone = number not in numbers_of(reviews.items()[0])
                try:
                    if what == "undo":
                        reviews.undo(told[number], "me")
                    else:
                        reviews.decide(told[number], what, [] if what == "correct" else None, "me")  # type: ignore[arg-type]
                except LookupError:
                    assert gone
                    continue
                if what != "undo":
                    said[number] = what
                elif number in said:
                    said[number] = None
        reviews.close()
        again = _Site(folder, 4).reviews()
        done = again.items(state="done")[0]
        assert {int(one["window"].rpartition("/")[2]): one["decision"]["decision"] for one in done} == {
            number: word for number, word in said.items() if word is not None
        }
        again.close()
        learned = {number for number, word in said.items() if word in {"confirm", "correct"}}
        if said:
            assert set(rows(folder)) == learned if learned else True
        if learned:
            data = read_dataset(folder / "reviewed")
            assert len(data) == len(learned)
            assert not data.left_out


def test_the_sink_and_several_people_at_once(tmp_path: Path) -> None:
    """The sink adds and forgets in one thread while four people decide in others: whatever was acknowledged is in the
    data set with its picture, and the sink's own document has what the sink would have without them."""
    gather(tmp_path, *range(20), keep=20)
    reviews = _Site(tmp_path, 20).reviews()
    acknowledged: list[int] = []
    failures: list[BaseException] = []
    over = threading.Event()

    def decide(mine: int) -> None:
        try:
            while not over.is_set():
                for number, item in numbers_of(reviews.items(state="open")[0]).items():
                    if number % 4 == mine:
                        try:
                            reviews.decide(item, "confirm", None, f"person {mine}")
                            acknowledged.append(number)
                        except (Gone, LookupError):
                            continue  # it made room meanwhile
        except BaseException as error:  # noqa: BLE001  # told by the test
            failures.append(error)

    people = [threading.Thread(target=decide, args=(mine,)) for mine in range(4)]
    for one in people:
        one.start()
    gather(tmp_path, *range(20, 120), keep=20)
    over.set()
    for one in people:
        one.join()
    assert not failures
    reviews.close()
    assert len(acknowledged) == len(set(acknowledged)) >= 20
    assert set(rows(tmp_path)) == set(acknowledged)
    data = read_dataset(tmp_path / "reviewed")
    assert (len(data), sum(data.left_out.values())) == (len(acknowledged), 0)
    kept = CocoFolder(tmp_path, 20).look()
    assert kept is not None
    assert [int(one["window"].rpartition("/")[2]) for one in kept["images"]] == list(range(100, 120))


DECIDE = """
import sys, threading
from pathlib import Path
from tests.web.test_web_reviewed import _Site, gather, numbers_of
folder, start = Path(sys.argv[1]), int(sys.argv[2])
gather(folder, *range(start, start + 20), keep=30)
more = (folder, *range(start + 20, start + 400))
threading.Thread(target=gather, args=more, kwargs={"keep": 30}, daemon=True).start()
reviews = _Site(folder, 30).reviews()
while True:
    for number, item in numbers_of(reviews.items(state="open")[0]).items():
        try:
            reviews.decide(item, "confirm", None, "me")
        except Exception:
            continue
        print(number, flush=True)
"""


@pytest.mark.slow
def test_what_was_acknowledged_is_there_after_kill_9(tmp_path: Path) -> None:
    acknowledged: set[int] = set()
    for turn in range(4):
        command = [sys.executable, "-c", DECIDE, str(tmp_path), str(turn * 1000)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(10 + 7 * turn):
                acknowledged.add(int(child.stdout.readline()))
            os.kill(child.pid, signal.SIGKILL)
            acknowledged |= {int(line) for line in child.stdout.read().splitlines() if line.isdigit()}
        reviews = _Site(tmp_path, 30).reviews()
        done = set(numbers_of(reviews.items(state="done")[0]))
        assert acknowledged <= done
        assert len(done) <= len(acknowledged) + turn + 1, "each kill may come between the disk and the word"
        reviews.close()
        assert set(rows(tmp_path)) == done
        data = read_dataset(tmp_path / "reviewed")
        assert (len(data), sum(data.left_out.values())) == (len(done), 0)


def decision(number: int, word: Word | None = "confirm", **more: Any) -> Decision:
    found = {"label": "person", "box": [1.0, 2.0, 30.0, 40.0]}
    doubt = Doubt(
        f"{number:016x}", f"door/x/{number}", "door", "2026-01-01T00:00:00Z", "band", "accept", "mobilenet", False,
        ("person",), (found,), f"door_x_{number:08}.png", 64, 48,
    )  # fmt: skip
    return Decision(replace(doubt, **more), word, (found,) if word else (), "me", "2026-01-01T00:00:00Z")


def test_lines_that_were_cut_off_or_are_nobody_s_cost_no_others(tmp_path: Path) -> None:
    gather(tmp_path, 1)
    picture = next((tmp_path / "images").iterdir())
    first = Reviewed(tmp_path / "reviewed")
    first.decide(decision(1), picture)
    first.close()
    with (tmp_path / "reviewed" / "decisions.jsonl").open("ab") as file:
        file.write(b'{"doubt": {"id": "no\n[]\n{"doubt": {"file": "../x"}}\n{"word": 1}\n\xff\xfe\n{"doubt": {"id"')
    second = Reviewed(tmp_path / "reviewed")
    second.decide(decision(2), picture)
    second.close()
    assert set(Reviewed(tmp_path / "reviewed").decisions()) == {f"{1:016x}", f"{2:016x}"}


def test_two_programs_do_not_write_the_same_set(tmp_path: Path) -> None:
    gather(tmp_path, 1)
    picture = next((tmp_path / "images").iterdir())
    one, other = Reviewed(tmp_path / "reviewed"), Reviewed(tmp_path / "reviewed")
    one.decide(decision(1), picture)
    with pytest.raises(InputError, match="another run keeps its decisions here"):
        other.decide(decision(2), picture)
    one.close()
    other.decide(decision(2), picture)
    assert len(other.decisions()) == 2
    other.close()


def test_a_large_set_is_not_written_with_every_decision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reviewed, "_AT_ONCE", 0)
    monkeypatch.setattr(reviewed, "_BYTES_PER_S", 1e-6)
    gather(tmp_path, 1)
    picture = next((tmp_path / "images").iterdir())
    one = Reviewed(tmp_path / "reviewed")
    for number in (1, 2, 3):
        one.decide(decision(number), picture)
    assert set(rows(tmp_path)) == {1}
    one.close()
    assert set(rows(tmp_path)) == {1, 2, 3}
    one.close()


def test_messages_become_a_table(tmp_path: Path) -> None:
    one = Reviewed(tmp_path)
    for number, (text, label) in enumerate([('say "hi",\nthere', "neither"), ("awful\r– ½", "hate")]):
        said = decision(number, file=None, text=text, detections=({"label": label},))
        one.decide(replace(said, detections=({"label": label},)), None)
    one.close()
    data = read_dataset(tmp_path)
    assert [(sample.text, data.labels[sample.classes[0]]) for sample in data.samples] == [
        ('say "hi",\nthere', "neither"), ("awful\r– ½", "hate"),
    ]  # fmt: skip


def test_a_reader_beside_the_sink_sees_what_waits_in_its_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.coco._AT_ONCE", 0)
    monkeypatch.setattr("sinks.coco._BYTES_PER_S", 1e-6)
    writer = Doubts(path=str(tmp_path), every_s=0).open()
    reader = CocoFolder(tmp_path, 1000)
    for count in (1, 2, 3):
        writer.write(pictured([result(count, person(0.5))]))
        seen = reader.look()
        assert seen is not None
        assert len(seen["images"]) == count
        assert reader.look() is None
    assert len(json.loads((tmp_path / "annotations.json").read_text())["images"]) == 1
    writer.close()
    assert len((reader.look() or {"images": []})["images"]) == 3


def test_what_an_audit_shows_to_be_missed_is_labelled_by_the_heavy_model(tmp_path: Path) -> None:
    outcome = result(1, flagged=False)
    found = person(0.93, (5.0, 6.0, 20.0, 30.0))
    writer = Doubts(path=str(tmp_path), every_s=0).open()
    for seq, reported in ((1, False), (2, True)):
        outcome = result(seq, flagged=False)
        audit = Audit(outcome.window, 1, "g", "result", 0.1, reported, (found,))
        writer.write([Picture(outcome, FrameImage.from_array(PIXELS), audit)])
    writer.close()
    items = {one["window"][-1]: one for one in _Site(tmp_path).reviews().items()[0]}
    assert items["1"]["missed"]
    assert items["1"]["detections"] == [{"label": "person", "score": 0.93, "box": [5.0, 6.0, 20.0, 30.0]}]
    assert (items["2"]["missed"], items["2"]["detections"]) == (False, [])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pictures", "messages"])
def test_what_was_decided_trains_models(tmp_path: Path, kind: str) -> None:
    """`thresher train`, as the page says it, with but a few steps."""
    gather(tmp_path, *range(12))
    reviews = _Site(tmp_path).reviews()
    if kind == "pictures":
        for number, item in numbers_of(reviews.items()[0]).items():
            reviews.decide(item, "confirm" if number % 2 else "correct", None if number % 2 else [], "me")
    else:
        mine = Reviewed(tmp_path / "reviewed")
        for number in range(24):
            text, label = [("lovely", "neither"), ("awful", "hate")][number % 2]
            said = decision(number, file=None, text=f"{text} number {number}", detections=())
            mine.decide(replace(said, detections=({"label": label},)), None)
        mine.close()
    (told,) = reviews.datasets()
    reviews.close()
    few = [
        f"{stage}.{said}"
        for stage in ("heavy", "cheap")
        for said in ("recipe.steps=2", "recipe.batch=4", "recipe.evaluate_every=2", "int8=false")
    ]
    words = [*shlex.split(told["train"])[1:], "--json", *(word for one in few for word in ("--set", one))]
    ran = subprocess.run(
        [sys.executable, "-m", "pipeline.app.cli", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert document["left_out"] == {}
    assert len(document["models"]) == 2
    assert (tmp_path / document["config"]).is_file()
