"""Data sets of boxes: COCO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectors.datasets import coco as coco_format
from detectors.datasets import read_dataset
from detectors.datasets.base import DataSet
from pipeline.core.contracts import Picture
from pipeline.core.errors import InputError
from pipeline.core.payloads import FrameImage
from pipeline.core.records import Detection, Result, Window
from sinks.doubts import Doubts
from tests.detectors.made_pictures import coco, picture, text


def label(image: Any = 1, category: Any = 3, bbox: Any = (1, 2, 10, 20), **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": list(bbox) if isinstance(bbox, tuple) else bbox, **more}


def read_one(data: DataSet, index: int = 0) -> tuple[list[list[float]], list[int]]:
    return data.samples[index].boxes.tolist(), data.samples[index].classes.tolist()


# COCO


@pytest.mark.parametrize("name", ["annotations.json", "_annotations.coco.json", "instances_all.json", "any.json"])
@pytest.mark.parametrize("folder", ["", "annotations"])
def test_coco_boxes_and_dense_classes(tmp_path: Path, name: str, folder: str) -> None:
    document = coco(tmp_path, [label(), label(1, 7, (0.5, 0, 4, 5)), label(2, 7)], name=name)
    if folder:
        (tmp_path / folder).mkdir()
        document.rename(tmp_path / folder / name)
    data = read_dataset(tmp_path)
    assert data.labels == ("scratch", "dent")  # in the order of their ids
    assert read_one(data) == ([[1, 2, 11, 22], [0.5, 0, 4.5, 5]], [0, 1])
    assert [sample.name for sample in data.samples] == ["images/1.jpg", "images/2.jpg"]
    assert data.samples[0].boxes.dtype == np.float32 and data.groups == {"": 2}
    assert not data.left_out and not data.remarks


def test_a_picture_without_annotations_shows_nothing(tmp_path: Path) -> None:
    coco(tmp_path, [label()])
    data = read_dataset(tmp_path)
    assert read_one(data, 1) == ([], [])
    assert [data.bad(sample) for sample in data.samples] == [True, False]
    assert data.remarks == ("an empty class: nothing is labelled dent",)


def test_several_documents_are_parts(tmp_path: Path) -> None:
    for part in ("train2017", "val2017"):
        images = [{"id": 1, "file_name": f"{part}.jpg"}]
        coco(tmp_path, [label()], images, name=f"annotations/instances_{part}.json")
        picture(tmp_path / part / f"{part}.jpg")
    assert read_dataset(tmp_path).groups == {"train2017": 1, "val2017": 1}
    text(
        tmp_path / "annotations" / "instances_x.json",
        '{"images":[],"annotations":[],"categories":[{"id":1,"name":"x"}]}',
    )
    with pytest.raises(InputError, match=r"has other categories than instances_train2017\.json"):
        read_dataset(tmp_path)


def test_a_document_in_each_part(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        coco(tmp_path / part, [label()], name="_annotations.coco.json")
    data = read_dataset(tmp_path)
    assert data.groups == {"train": 2, "valid": 2}
    assert data.samples[2].name == "valid/images/1.jpg"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (label(iscrowd=1), "crowds"),
        (label(category=4), "labels out of range"),
        (label(category=None), "labels out of range"),
        (label(category=True), "labels out of range"),
        (label(category=[3]), "labels out of range"),
        (label(image=9), "labels of no picture"),
        (label(image=None), "malformed entries"),
        ("text", "malformed entries"),
        (label(bbox=(1, 2, 3)), "labels that are no numbers"),
        (label(bbox=None), "labels that are no numbers"),
        (label(bbox=("1", 2, 3, 4)), "labels that are no numbers"),
        (label(bbox=(True, 2, 3, 4)), "labels that are no numbers"),
        (label(bbox=(float("nan"), 2, 3, 4)), "labels that are no numbers"),
        (label(bbox=(1, 2, float("inf"), 4)), "labels that are no numbers"),
        (label(bbox=(1, 10**400, 3, 4)), "labels that are no numbers"),
        (label(bbox=(1, 2, 0, 4)), "empty boxes"),
        (label(bbox=(1, 2, -3, 4)), "empty boxes"),
        (label(bbox=(40, 2, 1, 4)), "empty boxes"),
        (label(bbox=(30, 2, 11.5, 4)), "boxes outside their picture"),
        (label(bbox=(-1.5, 2, 10, 4)), "boxes outside their picture"),
        (label(), "labels written twice"),
    ],
)
def test_a_bad_annotation_is_counted(tmp_path: Path, bad: Any, reason: str) -> None:
    coco(tmp_path, [label(), bad])
    data = read_dataset(tmp_path)
    assert data.left_out == {reason: 1}
    assert read_one(data) == ([[1, 2, 11, 22]], [0])


def whole(image: Any = 1, category: Any = 3, bbox: Any = (0, 0, 40, 30), **more: Any) -> dict[str, Any]:
    return label(image, category, bbox, whole=True, **more)


def test_words_on_the_whole_are_classes_without_a_place(tmp_path: Path) -> None:
    coco(tmp_path, [whole(category=7, score=0.6), whole(score=0.4)])
    data = read_dataset(tmp_path)
    assert data.labels == ("good", "scratch", "dent")
    assert [read_one(data, n) for n in (0, 1)] == [([], [2]), ([], [0])]
    assert [data.bad(sample) for sample in data.samples] == [True, False]
    assert data.left_out == {"words on the whole": 1}


def test_the_sets_own_word_for_good_comes_first(tmp_path: Path) -> None:
    document = coco(tmp_path, [whole()])
    document.write_text(document.read_text().replace('"dent"', '"OK"'))
    data = read_dataset(tmp_path)
    assert data.labels == ("OK", "scratch")
    assert [sample.classes.tolist() for sample in data.samples] == [[1], [0]]


def test_beside_boxes_a_word_on_the_whole_tells_no_place(tmp_path: Path) -> None:
    coco(tmp_path, [label(), whole(category=7), whole(2, 7)])
    data = read_dataset(tmp_path)
    assert data.labels == ("scratch", "dent")
    assert [sample.name for sample in data.samples] == ["images/1.jpg"]
    assert read_one(data) == ([[1, 2, 11, 22]], [0])
    assert data.left_out == {"words on the whole": 2}


def test_whoever_moved_the_box_has_said_where(tmp_path: Path) -> None:
    coco(tmp_path, [whole(bbox=(5, 5, 10, 10)), label(2, 7, (0, 0, 40, 30))])
    data = read_dataset(tmp_path)
    assert [read_one(data, n) for n in (0, 1)] == [([[5, 5, 15, 15]], [0]), ([[0, 0, 40, 30]], [1])]


def test_what_was_in_doubt_comes_back_as_it_was_said(tmp_path: Path) -> None:
    pixels = FrameImage.from_array(np.zeros((48, 64, 3), np.uint8))
    said = [(Detection("unsafe", 0.6),), (Detection("ok", 0.5), Detection("unsafe", 0.4)), ()]
    writer = Doubts(path=str(tmp_path), every_s=0, cleared_by=("heavy",)).open()
    for seq, found in enumerate(said):
        window = Window("door", "01K0EPOCH", seq, 0, 1, 0, 0)
        writer.write([Picture(Result(window, 1, "heavy", "g@1", found), pixels)])
    writer.close()
    data = read_dataset(tmp_path)
    assert data.labels == ("ok", "unsafe")
    assert [[data.labels[kind] for kind in sample.classes] for sample in data.samples] == [["unsafe"], ["ok"], ["ok"]]
    assert not any(len(sample.boxes) for sample in data.samples)


def test_a_box_that_rounding_put_outside_is_cut_off(tmp_path: Path) -> None:
    coco(tmp_path, [label(bbox=(-1, -0.5, 42, 31))])
    data = read_dataset(tmp_path)
    assert read_one(data)[0] == [[0, 0, 40, 30]]
    assert not data.left_out


def test_a_bad_picture_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    picture(tmp_path / "secret.jpg")
    text(folder / "images" / "broken.jpg", b"\xff\xd8\xff")
    files_named = [
        {"id": 1, "file_name": "1.jpg"},
        {"id": 1, "file_name": "2.jpg"},
        {"id": 3, "file_name": "1.jpg"},
        {"id": 4, "file_name": "none.jpg"},
        {"id": 5, "file_name": "../secret.jpg"},
        {"id": 6, "file_name": str(tmp_path / "secret.jpg")},
        {"id": 7, "file_name": "..\\secret.jpg"},
        {"id": 8, "file_name": "linked.jpg"},
        {"id": 9, "file_name": "broken.jpg"},
        {"id": 10, "file_name": "2.jpg", "width": 30, "height": 40},
        {"id": 11, "file_name": "x" * 5000},
        {"id": 12, "file_name": "\ud800.jpg"},
        {"id": "13", "file_name": "2.jpg"},
        {"id": 14},
        None,
    ]
    coco(folder, [label(number) for number in (1, 4, 4, 10)], files_named)
    (folder / "images" / "linked.jpg").symlink_to(tmp_path / "secret.jpg")
    data = read_dataset(folder)
    assert [sample.name for sample in data.samples] == ["images/1.jpg"]
    assert data.left_out == {
        "duplicate names": 2,
        "missing pictures": 3,
        "paths that leave the folder": 4,
        "unreadable pictures": 1,
        "pictures of another size": 1,
        "malformed entries": 3,
        "labels of pictures left out": 3,
    }


def test_a_document_with_a_mark_and_other_line_ends(tmp_path: Path) -> None:
    document = coco(tmp_path, [label()])
    plain = json.dumps(json.loads(document.read_text()), indent=1)
    document.write_bytes(b"\xef\xbb\xbf" + plain.replace("\n", "\r\n").encode())
    assert len(read_dataset(tmp_path)) == 2


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"images": [', "annotations.json:1: is not JSON"),
        (b"\xff\xfe\0", "is no text in UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" + b"1" * 5000 + b"]", "a number is too long"),
        (b"[]", "is not a mapping"),
        (b'{"images": [], "annotations": []}', "has no list `categories`"),
        (b'{"images": [], "annotations": [], "categories": []}', "has no categories"),
        (b'{"images": [], "annotations": [], "categories": [{"id": 1}]}', "without a whole number `id`"),
        (b'{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}', "twice"),
        (b'{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "holds nothing"),
    ],
)
def test_a_document_that_is_none(tmp_path: Path, content: bytes, why: str) -> None:
    text(tmp_path / "annotations.json", content)
    with pytest.raises(InputError, match=why):
        read_dataset(tmp_path)


def test_a_document_is_bounded_and_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = coco(tmp_path / "outside", [label()])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "annotations.json").symlink_to(document)
    with pytest.raises(InputError, match="leads outside"):
        read_dataset(tmp_path / "data")
    monkeypatch.setattr(coco_format, "LARGEST", 100)
    with pytest.raises(InputError, match="is larger than"):
        read_dataset(tmp_path / "outside")
