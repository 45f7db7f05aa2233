"""Files of scores: what comes back is what went in, to the bit; and whatever is wrong with one is said."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.evaluation.judged import Judged
from detectors.evaluation.scores import Header, load_scores, save_scores
from detectors.replay import Heard, Place, Seen
from pipeline.core.errors import InputError
from pipeline.core.records import Findings

HEADER = Header(
    model="m", model_version="1", data="d", parts="honest", cheap=("a", "b"), heavy=("c",), labels=("x",),
    rule={"kind": "boxes", "report": {"a": 0.5}},
)  # fmt: skip
PLACES: tuple[Place, ...] = (None, (0.1, -3.7, 1 / 3, 12345.678))


def heard(labels: tuple[str, ...], scores: list[float], boxes: bool) -> Heard:
    count = len(scores)
    placed = (np.arange(4 * count, dtype=np.float32).reshape(-1, 4) / np.float32(7)) if boxes else None
    return Heard(Findings(labels, np.array(scores, np.float32), np.arange(count) % len(labels), placed), 1 / 3)


def unit(name: str, scores: list[float]) -> Judged:
    heavy = {place: heard(("c",), scores[:1], False) for place in PLACES}
    true = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    return Judged(name, "g", 64, 48, 1, true, np.zeros(1, np.int64), Seen(heard(("a", "b"), scores, True), heavy))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "scores.jsonl.gz"
    save_scores(path, HEADER, [unit("eins", [0.1, 0.7]), unit("zwei – ½", []), unit("drei", [1.0])])
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    return path


@settings(deadline=None)
@given(st.lists(st.floats(0, 1, width=32), max_size=5))
def test_the_same_to_the_bit(tmp_path_factory: pytest.TempPathFactory, scores: list[float]) -> None:
    path = tmp_path_factory.mktemp("scores") / "s.gz"
    before = unit("one", scores)
    save_scores(path, HEADER, [before])
    header, (after,) = load_scores(path)
    assert header == HEADER
    assert (after.name, after.group, after.width, after.height, after.defects) == ("one", "g", 64, 48, 1)
    assert tuple(after.seen.heavy) == PLACES
    for mine, theirs in (
        (before.boxes, after.boxes),
        (before.classes, after.classes),
        (before.seen.cheap.findings.scores, after.seen.cheap.findings.scores),
        (before.seen.cheap.findings.boxes, after.seen.cheap.findings.boxes),
        (before.seen.heavy[None].findings.scores, after.seen.heavy[None].findings.scores),
    ):
        assert mine is not None and theirs is not None
        assert mine.dtype == theirs.dtype and mine.tobytes() == theirs.tobytes()
    assert after.seen.heavy[None].findings.boxes is None
    assert after.seen.cheap.seconds == before.seen.cheap.seconds


def refused(path: Path) -> str:
    with pytest.raises(InputError) as raised:
        load_scores(path)
    assert raised.value.place == str(path)
    return raised.value.message


def test_cut_off_wherever(file: Path) -> None:
    whole = file.read_bytes()
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        assert any(word in refused(file) for word in ("cut off", "damaged", "no file of scores")), length


def test_a_byte_that_is_another(file: Path) -> None:
    """Never a traceback; where it is read all the same, the change did not touch what was stored."""
    whole = file.read_bytes()
    _, before = load_scores(file)
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :])
        try:
            _, after = load_scores(file)
        except InputError:
            continue
        assert [one.name for one in after] == [one.name for one in before]


def rewritten(file: Path, change: Any) -> str:
    lines = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    change(lines)
    with gzip.open(file, "wt") as out:
        out.writelines(json.dumps(line) + "\n" for line in lines)
    return refused(file)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines.pop(), "cut off"),
        (lambda lines: lines.pop(1), "counts other units"),
        (lambda lines: lines.append({"units": 3}), "counts other units"),
        (lambda lines: lines[0].update(version=2), "is of version 2"),
        (lambda lines: lines[0].update(format="other"), "no file of scores"),
        (lambda lines: lines[0].update(cheap=[]), "cheap"),
        (lambda lines: lines[2].update(classes=[1]), "line 3 is not a unit"),
        (lambda lines: lines[2].pop("cheap"), "line 3 is not a unit"),
        (lambda lines: lines[2].update(size=[0, 4]), "line 3 is not a unit"),
        (lambda lines: lines[2].update(heavy=[]), "line 3 is not a unit"),
        (lambda lines: lines[1]["cheap"].update(c=[0]), "line 2 is not a unit"),
        (lambda lines: lines[1]["cheap"].update(s=[0.5, "x"]), "line 2 is not a unit"),
        (lambda lines: lines[1].update(boxes=[[0, 0, math.nan, 1]]), "line 2 is not a unit"),
        (lambda lines: lines[1]["cheap"].update(t=math.nan), "line 2 is not a unit"),
        (lambda lines: lines[1]["cheap"].update(t=-1), "line 2 is not a unit"),
        (lambda lines: lines.__setitem__(1, [1, 2]), "line 2 is not a unit"),
    ],
)
def test_what_is_not_as_it_should_be(file: Path, change: Any, words: str) -> None:
    assert words in rewritten(file, change)


def test_no_such_file(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "gone.gz")
    assert "cannot be read" in refused(tmp_path)
    (tmp_path / "text").write_text("hello")
    assert "no file of scores" in refused(tmp_path / "text")
    with gzip.open(tmp_path / "other.gz", "wt") as file:
        file.write("hello\n")
    assert "no file of scores" in refused(tmp_path / "other.gz")


def test_nowhere_to_write(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        save_scores(tmp_path / "no" / "s.gz", HEADER, [])
