"""Data sets that are told by how their pictures lie: folders and masks; and how a format is found."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from detectors.datasets import FORMATS, read_dataset
from detectors.datasets.base import DataSet
from pipeline.core.errors import InputError
from tests.detectors.made_pictures import coco, mask, picture, text, yolo


def names(data: DataSet) -> list[str]:
    return [sample.name for sample in data.samples]


@pytest.fixture(autouse=True)
def no_pipe_is_waited_for() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise AssertionError("somebody waits for a pipe")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


# DeepPCB


def pair(folder: Path, name: str, labels: str, width: int = 640, height: int = 640) -> None:
    for kind in ("test", "temp"):
        picture(folder / "g" / f"{name}_{kind}.jpg", width, height)
    text(folder / "g" / f"{name}.txt", labels)
    with (folder / "test.txt").open("a") as file:
        file.write(f"g/{name}.jpg g/{name}.txt\n")


def test_boxes_of_deeppcb_are_held_against_the_picture_itself(tmp_path: Path) -> None:
    pair(tmp_path, "wide", "1 2 900 40 1\n1 2 30 641 2\n", 960, 640)
    pair(tmp_path, "small", "1 2 30 40 1\n1,2,101,40,2\n", 100, 80)
    data = read_dataset(tmp_path)
    assert [sample.boxes.tolist() for sample in data.samples] == [[[1, 2, 900, 40]], [[1, 2, 30, 40]]]
    assert data.left_out == {"labels": 2}
    assert "g/wide.txt:2 has a box outside the picture of 960×640, or none at all: left out" in data.remarks


def test_nothing_outside_the_folder_of_deeppcb_is_read(tmp_path: Path) -> None:
    data, secret = tmp_path / "data", tmp_path / "secret.txt"
    text(secret, "1 2 30 40 1\n")
    picture(tmp_path / "secret.jpg", 640, 640)
    data.mkdir()
    for name in ("sound", "labels", "part", "reference", "broken", "no-text"):
        pair(data, name, "1 2 30 40 1\n")
    for file, there in (("labels.txt", secret), ("part_test.jpg", tmp_path / "secret.jpg"),
                        ("reference_temp.jpg", tmp_path / "secret.jpg")):  # fmt: skip
        (data / "g" / file).unlink()
        (data / "g" / file).symlink_to(there)
    (data / "g" / "broken_test.jpg").write_bytes(b"no picture")
    (data / "g" / "no-text.txt").write_bytes(b"\xff\xfe")
    with (data / "test.txt").open("a") as file:
        file.write("../secret.jpg ../secret.txt\n/etc/hosts /etc/passwd\n. .\n")
    found = read_dataset(data, "deeppcb")
    assert names(found) == ["sound"]
    assert found.left_out == {
        "paths that leave the folder": 3, "unreadable pictures": 1, "unreadable labels": 1, "malformed lines": 3,
    }  # fmt: skip
    (data / "test.txt").rename(tmp_path / "test.txt")
    (data / "test.txt").symlink_to(tmp_path / "test.txt")
    with pytest.raises(InputError, match="leads outside"):
        read_dataset(data, "deeppcb")


# Folders


def test_a_folder_is_a_class_and_the_good_ones_come_first(tmp_path: Path) -> None:
    for name in ("dent/1.jpg", "ok/1.png", "ok/deeper/2.bmp", "Ash/1.webp"):
        picture(tmp_path / name)
    data = read_dataset(tmp_path)
    assert data.labels == ("ok", "Ash", "dent")
    assert names(data) == ["ok/1.png", "ok/deeper/2.bmp", "Ash/1.webp", "dent/1.jpg"]
    assert [int(sample.classes[0]) for sample in data.samples] == [0, 0, 1, 2]
    assert [data.bad(sample) for sample in data.samples] == [False, False, True, True]
    assert {sample.group for sample in data.samples} == {""}
    assert not data.left_out and not data.remarks
    assert data.samples[0].image().width == 40


def test_a_level_of_parts_is_the_group(tmp_path: Path) -> None:
    for name in ("train/good/1.jpg", "train/bad/2.jpg", "val/good/1.jpg"):
        picture(tmp_path / name)
    data = read_dataset(tmp_path)
    assert data.labels == ("good", "bad")
    assert data.groups == {"train": 2, "val": 1}


def test_a_part_beside_a_class_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "good" / "1.jpg")
    picture(tmp_path / "spare" / "1.jpg")
    with pytest.raises(InputError, match='holds "train" beside "spare"'):
        read_dataset(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"no picture"])
def test_an_empty_class_is_named(tmp_path: Path, content: bytes | None) -> None:
    picture(tmp_path / "good" / "1.jpg")
    (tmp_path / "bad").mkdir()
    if content is not None:
        text(tmp_path / "bad" / "1.jpg", content)
    with pytest.raises(InputError, match='"bad" is an empty class'):
        read_dataset(tmp_path)


def test_classes_that_differ_in_case_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "bad" / "1.jpg")
    picture(tmp_path / "Bad" / "2.jpg")
    with pytest.raises(InputError, match="differ only in case: Bad, bad"):
        read_dataset(tmp_path)


def test_what_a_folder_holds_besides_is_counted(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    picture(outside / "secret.jpg")
    folder = tmp_path / "data"
    kept = picture(folder / "good" / "1.jpg")
    picture(folder / "loose.jpg")
    picture(folder / "good" / ".hidden.jpg")
    text(folder / "good" / "notes.txt", "hello")
    text(folder / "good" / "broken.png", b"\x89PNG\r\n")
    picture(folder / "good" / "two\nlines.jpg")
    (folder / "good" / "linked.jpg").symlink_to(outside / "secret.jpg")
    (folder / "good" / "circle.jpg").symlink_to(folder / "good" / "circle.jpg")
    (folder / "good" / "folder").symlink_to(outside)
    (folder / "other").symlink_to(outside)
    (folder / "good" / "again.jpg").symlink_to(kept)
    data = read_dataset(folder)
    assert names(data) == ["good/1.jpg", "good/again.jpg"]
    assert data.left_out == {
        "pictures outside a class": 1,
        "no pictures": 1,
        "unreadable pictures": 1,
        "names that are no text": 1,
        "paths that leave the folder": 2,
        "links to folders": 2,
    }
    assert "good/broken.png is cut off: left out" in data.remarks


# Masks


def tile(folder: Path, name: str, *, black: bool = False) -> None:
    picture(folder / f"{name}.jpg")
    mask(folder / f"{name}.png", black=black)


def test_a_mask_lies_beside_its_picture(tmp_path: Path) -> None:
    tile(tmp_path / "MT_Crack", "a")
    tile(tmp_path / "MT_Blowhole" / "Imgs", "b")
    tile(tmp_path / "MT_Free", "c", black=True)
    picture(tmp_path / "MT_Free" / "d.jpg")  # nothing has to say that there is nothing
    data = read_dataset(tmp_path)
    assert data.labels == ("good", "Blowhole", "Crack")
    assert names(data) == ["MT_Blowhole/Imgs/b.jpg", "MT_Crack/a.jpg", "MT_Free/c.jpg", "MT_Free/d.jpg"]
    assert [list(sample.classes) for sample in data.samples] == [[1], [2], [], []]
    assert [sample.mask is not None for sample in data.samples] == [True, True, False, False]
    assert not data.left_out
    for sample in data.samples:
        if sample.mask is not None:
            sample.mask.unlink()
    assert [data.bad(sample) for sample in data.samples] == [True, True, False, False]  # without a look at the mask


def test_pairs_without_a_folder_are_told_by_their_mask(tmp_path: Path) -> None:
    tile(tmp_path, "a")
    tile(tmp_path, "b", black=True)
    data = read_dataset(tmp_path)
    assert data.labels == ("good", "defect")
    assert [data.bad(sample) for sample in data.samples] == [True, False]


def test_the_layout_of_mvtec(tmp_path: Path) -> None:
    for name in ("train/good/000.png", "test/good/000.png", "test/crack/000.png", "test/hole/000.png"):
        picture(tmp_path / name)
    for kind in ("crack", "hole"):
        mask(tmp_path / "ground_truth" / kind / "000_mask.png")
    mask(tmp_path / "ground_truth" / "hole" / "007_mask.png")
    data = read_dataset(tmp_path)
    assert data.labels == ("good", "crack", "hole")
    assert names(data) == ["train/good/000.png", "test/crack/000.png", "test/good/000.png", "test/hole/000.png"]
    assert [data.bad(sample) for sample in data.samples] == [False, True, False, True]
    assert data.left_out == {"masks of no picture": 1}


def test_exposures_of_a_tile_are_one_group(tmp_path: Path) -> None:
    for name in (
        "exp1_num_3191",
        "exp2_num_3211",
        "exp6_num_5811",
        "exp1_num_8412",
        "exp1_num_53011",
        "exp6_num_65067",
    ):
        tile(tmp_path / "MT_Crack", name)
    tile(tmp_path / "MT_Crack", "exp1_num_65100")
    tile(tmp_path / "MT_Free", "exp1_num_3250", black=True)
    tile(tmp_path / "MT_Free", "unnumbered", black=True)
    groups = {sample.file.stem: sample.group for sample in read_dataset(tmp_path).samples}
    assert groups == {
        "exp1_num_3191": "from 3191",
        "exp2_num_3211": "from 3191",
        "exp1_num_3250": "from 3191",
        "exp6_num_5811": "from 3191",
        "exp1_num_8412": "from 8412",
        "exp1_num_53011": "from 53011",
        "exp6_num_65067": "from 53011",
        "exp1_num_65100": "from 65100",
        "unnumbered": "",
    }


def test_pairs_that_do_not_go_together_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    crack, free = folder / "crack", folder / "free"
    tile(crack, "whole")
    tile(crack, "black", black=True)
    tile(crack, "size")
    mask(crack / "size.png", 30, 40)
    tile(crack, "broken")
    text(crack / "broken.png", b"no picture")
    tile(crack, "unreadable")
    text(crack / "unreadable.jpg", b"")
    picture(crack / "whole.bmp")
    picture(crack / "maskless.jpg")
    mask(crack / "pictureless.png")
    text(crack / "notes.txt", "hello")
    tile(free, "white")
    elsewhere = mask(tmp_path / "elsewhere.png")
    picture(crack / "linked.jpg")
    (crack / "linked.png").symlink_to(elsewhere)
    data = read_dataset(folder)
    assert names(data) == ["crack/whole.bmp"]
    assert data.left_out == {
        "masks that contradict their folder": 2,
        "masks of another size": 1,
        "unreadable masks": 1,
        "unreadable pictures": 1,
        "duplicate names": 1,
        "missing masks": 2,
        "paths that leave the folder": 1,
        "masks of no picture": 1,
        "no pictures": 1,
    }


def test_a_kind_of_which_nothing_is_left_is_an_empty_class(tmp_path: Path) -> None:
    tile(tmp_path / "crack", "a")
    tile(tmp_path / "hole", "b", black=True)
    with pytest.raises(InputError, match=r'"hole" is an empty class: .*its mask is black'):
        read_dataset(tmp_path)
    (tmp_path / "hole" / "b.jpg").unlink()
    (tmp_path / "hole" / "b.png").unlink()
    with pytest.raises(InputError, match='"hole" is an empty class'):
        read_dataset(tmp_path)


# Finding the format


def test_each_format_is_found_by_what_lies_there(tmp_path: Path) -> None:
    picture(tmp_path / "folders" / "good" / "1.png")
    tile(tmp_path / "masks" / "crack", "a")
    coco(tmp_path / "coco", [])
    yolo(tmp_path / "yolo", a="0 0.5 0.5 0.5 0.5")
    text(tmp_path / "yolo" / "test.txt", "images/train/a.jpg\n")
    for name in ("1_test.jpg", "1_temp.jpg"):
        picture(tmp_path / "deeppcb" / "group1" / name, 640, 640)
    text(tmp_path / "deeppcb" / "group1" / "1.txt", "1 2 30 40 1\n")
    text(tmp_path / "deeppcb" / "test.txt", "group1/1.jpg group1/1.txt\n")
    picture(tmp_path / "unlabelled" / "1.png")
    text(tmp_path / "messages" / "a.csv", "class,text\nfine,hello\nrude,you fool\n")
    text(tmp_path / "spoken" / "yes_anna_0.wav", "RIFF")
    for kind in FORMATS.table:
        if kind == "unlabelled":  # which is never guessed
            with pytest.raises(InputError, match="holds no data set that is known"):
                read_dataset(tmp_path / kind)
            continue
        found = [name for name in FORMATS.kinds() if FORMATS.load(name).fits(tmp_path / kind)]
        assert found[0] == kind
        assert len(read_dataset(tmp_path / kind)) == len(read_dataset(tmp_path / kind, kind)) > 0


def test_where_nothing_fits_it_is_said_what_was_looked_for(tmp_path: Path) -> None:
    text(tmp_path / "readme.txt", "hello")
    with pytest.raises(InputError) as caught:
        read_dataset(tmp_path)
    assert all(f"{kind}: " in str(caught.value) for kind in FORMATS.table)
    for kind in FORMATS.table:
        with pytest.raises(InputError):
            read_dataset(tmp_path, kind)


def test_a_wrong_word_gets_the_nearest_right_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'no format of data sets of kind "cocoa"\. Did you mean "coco"'):
        read_dataset(tmp_path, "cocoa")


def test_a_place_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder"):
        read_dataset(tmp_path / "none")
    with pytest.raises(InputError, match="is not a folder"):
        read_dataset(text(tmp_path / "file", "hello"))


# Whatever the format


def test_a_pipe_is_no_picture_and_no_mask(tmp_path: Path) -> None:
    picture(tmp_path / "folders" / "good" / "1.jpg")
    os.mkfifo(tmp_path / "folders" / "good" / "2.jpg")
    assert read_dataset(tmp_path / "folders").left_out == {"unreadable pictures": 1}
    picture(tmp_path / "masks" / "dent" / "1.jpg")
    mask(tmp_path / "masks" / "dent" / "1.png")
    picture(tmp_path / "masks" / "dent" / "2.jpg")
    os.mkfifo(tmp_path / "masks" / "dent" / "2.png")
    data = read_dataset(tmp_path / "masks")
    assert data.left_out == {"unreadable masks": 1}
    assert data.remarks == ("dent/2.png is no file: left out",)


def test_a_pipe_is_no_list_of_pictures(tmp_path: Path) -> None:
    folder = yolo(tmp_path, a="0 .5 .5 .2 .2")
    text(folder / "data.yaml", "train: pipe\nnames: [a]\n")
    os.mkfifo(folder / "pipe")
    with pytest.raises(InputError, match="neither a folder nor a list"):
        read_dataset(folder)


def test_a_label_that_would_steer_a_terminal_is_refused(tmp_path: Path) -> None:
    for label in ("\\u001b[31m", "\\ud800", "x" * 101):
        categories = f'[{{"id": 1, "name": "{label}"}}]'
        picture(tmp_path / "1.jpg")
        text(
            tmp_path / "annotations.json",
            f'{{"images": [{{"id": 1, "file_name": "1.jpg"}}], "annotations": [], "categories": {categories}}}',
        )
        with pytest.raises(InputError, match="a label is up to 100 letters"):
            read_dataset(tmp_path)


def test_a_long_name_makes_no_long_remark(tmp_path: Path) -> None:
    coco(tmp_path, [], [{"id": 1, "file_name": "x" * 5000}, {"id": 2, "file_name": "2.jpg"}])
    assert all(len(remark) < 400 for remark in read_dataset(tmp_path).remarks)


def test_what_looks_like_two_formats_says_how_to_mean_the_other(tmp_path: Path) -> None:
    for name in ("good/1.png", "bad/2.png", "good/1.jpg"):
        picture(tmp_path / name)
    with pytest.raises(InputError, match="read as masks by its looks; --format folders"):
        read_dataset(tmp_path)
    assert len(read_dataset(tmp_path, "folders")) == 3


def test_bad_lines_of_boards_are_counted(tmp_path: Path) -> None:
    for name in ("1_test.jpg", "1_temp.jpg"):
        picture(tmp_path / "group1" / name, 64, 64)
    labels = "1 2 30 40 1\n1 2 30 40 7\n30 2 1 40 1\n60 60 65 64 1\nnan 2 30 40 1\n1 2 3 4\n"
    text(tmp_path / "group1" / "1.txt", labels)
    line = "group1/1.jpg group1/1.txt\n"
    text(tmp_path / "trainval.txt", f"{line}. .\n./ group1/1.txt\n{line}/ /\none\ngroup1/2.jpg group1/1.txt\n")
    data = read_dataset(tmp_path)
    assert names(data) == ["1"] and data.samples[0].boxes.tolist() == [[1, 2, 30, 40]]
    assert data.left_out == {"labels": 5, "malformed lines": 4, "duplicate names": 1, "missing files": 1}
    assert "group1/1.txt:4 has a box outside the picture of 64×64, or none at all: left out" in data.remarks
