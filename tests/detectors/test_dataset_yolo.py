"""Data sets of boxes: YOLO, and boxes by themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.datasets import files, read_dataset
from detectors.datasets.base import DataSet
from detectors.datasets.boxes import Boxes
from pipeline.core.errors import InputError
from tests.detectors.made_pictures import encoded, picture, text, turned, yolo


def read_one(data: DataSet, index: int = 0) -> tuple[list[list[float]], list[int]]:
    return data.samples[index].boxes.tolist(), data.samples[index].classes.tolist()


def test_yolo_boxes(tmp_path: Path) -> None:
    yolo(tmp_path, a=b"\xef\xbb\xbf0 0.5 0.5 0.5 0.2\r\n\r\n1 0.25 0.5 0.5 1\r\n", b="")
    picture(tmp_path / "images" / "train" / "c.jpg")
    data = read_dataset(tmp_path)
    assert data.labels == ("scratch", "dent")
    assert read_one(data) == ([[10, 12, 30, 18], [0, 0, 20, 30]], [0, 1])
    assert [data.bad(sample) for sample in data.samples] == [True, False, False]
    assert data.groups == {"train": 3}
    assert data.remarks == ("pictures without a file of labels, taken to show nothing: 1",)


def test_yolo_without_a_yaml(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "deeper" / "a.jpg")
    text(tmp_path / "labels" / "deeper" / "a.txt", "1 0.5 0.5 0.5 0.2\n")
    text(tmp_path / "classes.txt", b"\xef\xbb\xbfscratch\r\ndent\r\n")
    data = read_dataset(tmp_path)
    assert data.labels == ("scratch", "dent") and data.groups == {"": 1}
    assert read_one(data)[1] == [1]


@pytest.mark.parametrize(
    "document",
    [
        "names: {0: scratch, 1: dent}\nnc: 2\ntrain: train/images\nval: valid/images",
        "names: [scratch, dent]\ntrain: ../train/images\nval: ../valid/images",
        "path: .\nnames: [scratch, dent]\ntrain: [train/images]\nval: [valid/images]",
        "names: [scratch, dent]\ntrain: train.txt\nval: valid/images",
    ],
)
def test_where_a_yaml_may_say_that_pictures_are(tmp_path: Path, document: str) -> None:
    for part in ("train", "valid"):
        picture(tmp_path / part / "images" / "a.jpg")
        text(tmp_path / part / "labels" / "a.txt", "1 0.5 0.5 0.5 0.2")
    text(tmp_path / "train.txt", "./train/images/a.jpg\r\n\r\n")
    text(tmp_path / "boards.yaml", document)
    text(tmp_path / "other.yaml", "nothing: of that")
    assert read_dataset(tmp_path).groups == {"train": 1, "val": 1}


def test_a_camera_held_sideways(tmp_path: Path) -> None:
    yolo(tmp_path, a="0 0.5 0.5 1 0.5")
    pixels = np.zeros((30, 40, 3), np.uint8)
    text(tmp_path / "images" / "train" / "a.jpg", turned(encoded(".jpg", pixels), 6))
    data = read_dataset(tmp_path)
    assert (data.samples[0].image().width, data.samples[0].image().height) == (30, 40)
    assert read_one(data)[0] == [[0, 10, 30, 30]]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 0.5 0.5 0.5", "labels that are no numbers"),
        ("0 0.5 0.5 0.5 0.5 0.9", "labels that are no numbers"),
        ("zero 0.5 0.5 0.5 0.5", "labels that are no numbers"),
        ("0 nan 0.5 0.5 0.5", "labels that are no numbers"),
        ("0 0.5 0.5 inf 0.5", "labels that are no numbers"),
        ("2 0.5 0.5 0.5 0.5", "labels out of range"),
        ("-1 0.5 0.5 0.5 0.5", "labels out of range"),
        ("0.5 0.5 0.5 0.5 0.5", "labels out of range"),
        ("nan 0.5 0.5 0.5 0.5", "labels out of range"),
        ("0 0.5 0.5 0 0.5", "empty boxes"),
        ("0 0.9 0.5 0.5 0.5", "boxes outside their picture"),
        ("0 20 15 10 10", "boxes outside their picture"),
        ("1 0.5 0.5 0.5 0.2", "labels written twice"),
    ],
)
def test_a_bad_line_is_counted(tmp_path: Path, line: str, reason: str) -> None:
    yolo(tmp_path, a=f"1 0.5 0.5 0.5 0.2\n{line}\n")
    data = read_dataset(tmp_path)
    assert data.left_out == {reason: 1}
    assert read_one(data)[1] == [1]
    assert data.remarks[0].startswith("labels/train/a.txt:2 ")


def test_what_yolo_cannot_use_is_counted(tmp_path: Path) -> None:
    folder, secret = tmp_path / "data", picture(tmp_path / "secret.jpg")
    good = "0 0.5 0.5 0.5 0.5"
    yolo(folder, a=good, broken=good, coded=b"\xff\xfe", linked=good)
    text(folder / "images" / "train" / "broken.jpg", b"")
    picture(folder / "images" / "train" / "a.png")
    text(folder / "labels" / "train" / "orphan.txt", good)
    (folder / "labels" / "train" / "linked.txt").unlink()
    (folder / "labels" / "train" / "linked.txt").symlink_to(text(tmp_path / "secret.txt", good))
    (folder / "images" / "train" / "outside.jpg").symlink_to(secret)
    names = ["images/train/a.jpg", "none.jpg", "../secret.jpg", str(secret), "images/train/outside.jpg", "x" * 5000]
    text(folder / "list.txt", "\n".join(names))
    text(folder / "data.yaml", "names: [scratch, dent]\ntrain: images/train\nval: list.txt\n")
    data = read_dataset(folder)
    assert [sample.name for sample in data.samples] == ["images/train/a.jpg"]
    assert data.left_out == {
        "duplicate names": 2,
        "unreadable pictures": 1,
        "unreadable labels": 1,
        "paths that leave the folder": 5,
        "missing pictures": 2,
        "labels of no picture": 1,
    }


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ("names: [a", "is not YAML"),
        ("names: [a]\nnames: [b]", "is not YAML"),
        ("[" * 5000, "nested too deeply"),
        ("- a", "is not a mapping"),
        ("train: images", "`names` has to be a list"),
        ("names: []\ntrain: images", "has no names"),
        ("names: [a, '']\ntrain: images", "has no names"),
        ("names: [a, a]\ntrain: images", 'has the name "a" twice'),
        ("names: [[a]]\ntrain: images", "`names` has to be a list"),
        ("names: {0: a, 2: b}\ntrain: images", "without a gap"),
        ("names: [a]\nnc: 2\ntrain: images", "`nc` says 2 classes"),
        ("names: [a]", "names no pictures"),
        ("names: [a]\ntrain: 7", "has to be a path"),
        ("names: [a]\ntrain: [[images]]", "has to be a path"),
        ("names: [a]\ntrain: none", "there is no 'none'"),
        ("names: [a]\ntrain: ../outside", "leaves the data set's folder"),
        ("names: [a]\ntrain: ../../data/images", "leaves the data set's folder"),
        ("names: [a]\ntrain: /etc", "leaves the data set's folder"),
        ("names: [a]\ntrain: linked", "leaves the data set's folder"),
        ("names: [a]\npath: /etc\ntrain: images", "leaves the data set's folder"),
        ("names: [a]\npath: [x]\ntrain: images", "has to be a path"),
        ("names: [a]\ntrain: images", "has no file of labels for any"),
    ],
)
def test_a_yaml_that_is_none(tmp_path: Path, document: str, why: str) -> None:
    folder, outside = tmp_path / "data", picture(tmp_path / "outside" / "a.jpg").parent
    picture(folder / "images" / "a.jpg")
    (folder / "linked").symlink_to(outside)
    text(folder / "data.yaml", document)
    with pytest.raises(InputError, match=why):
        read_dataset(folder)


def test_a_yaml_is_bounded_and_inside_and_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    yolo(tmp_path / "data", a="0 0.5 0.5 0.5 0.5")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "data.yaml").symlink_to(tmp_path / "data" / "data.yaml")
    with pytest.raises(InputError, match="leads outside"):
        read_dataset(tmp_path / "linked")
    text(tmp_path / "data" / "data.yml", "names: [a]")
    with pytest.raises(InputError, match=r"holds several: data\.yaml, data\.yml"):
        read_dataset(tmp_path / "data")
    (tmp_path / "data" / "data.yml").unlink()
    monkeypatch.setattr(files, "LARGEST_YAML", 20)
    with pytest.raises(InputError, match="is larger than"):
        read_dataset(tmp_path / "data")


# Boxes


@given(st.data())
def test_yolo_says_what_was_meant(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("yolo")
    xs = st.tuples(st.integers(0, 39), st.integers(1, 40)).filter(lambda x: x[0] < x[1])
    ys = st.tuples(st.integers(0, 29), st.integers(1, 30)).filter(lambda y: y[0] < y[1])
    meant = data.draw(st.lists(st.tuples(xs, ys, st.integers(0, 1)), max_size=5, unique=True))
    lines = [
        f"{kind} {(x1 + x2) / 80:.6f} {(y1 + y2) / 60:.6f} {(x2 - x1) / 40:.6f} {(y2 - y1) / 30:.6f}"
        for (x1, x2), (y1, y2), kind in meant
    ]
    read = read_dataset(yolo(folder, a="\n".join(lines)))
    expected = np.array([[x1, y1, x2, y2] for (x1, x2), (y1, y2), _ in meant], float).reshape(-1, 4)
    assert np.allclose(read.samples[0].boxes, expected, atol=1e-3)
    assert read.samples[0].classes.tolist() == [kind for *_, kind in meant]
    assert not read.left_out


@given(st.lists(st.tuples(*[st.floats(-50, 50) | st.floats()] * 4, st.integers(0, 3)), max_size=10))
def test_a_box_is_inside_or_said_to_be_wrong(rows: list[tuple[float, float, float, float, int]]) -> None:
    boxes = Boxes(40, 30)
    faults = sum(boxes.add(*row) is not None for row in rows)
    corners, classes = boxes.arrays()
    assert corners.shape == (len(rows) - faults, 4) and classes.shape == (len(rows) - faults,)
    assert (corners >= 0).all() and (corners <= [40, 30, 40, 30]).all()
    assert (corners[:, :2] < corners[:, 2:]).all()
