from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.core.contracts import Picture, Sink
from pipeline.core.errors import InputError, SinkRefused
from pipeline.core.payloads import FrameImage
from pipeline.core.pictures import beside, decode_picture
from pipeline.core.records import Audit, Detection, Outcome, Result
from sinks import coco
from sinks.doubts import Doubts
from sinks.stills import write_whole
from tests.contracts.sink_suite import Documents, SinkSuite, person, pictured, result, shed

ROOT = Path(__file__).parents[2]
UNSURE = person(0.5)


def plan(folder: Path, **options: object) -> Doubts:
    return Doubts.model_validate({"path": str(folder), "every_s": 0} | options)


def read(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / "annotations.json").read_text())
    return data


def windows(folder: Path) -> list[int]:
    return [int(image["window"].rpartition("/")[2]) for image in read(folder)["images"]]


class TestContract(SinkSuite):
    """The data set says of each picture whose it is and what was found. Every result is in doubt here."""

    def plan(self, folder: Path) -> Sink:
        return plan(folder / "set", band=(0.0, 1.0), cleared_by=("mobilenet", "resnet"), keep=20_000)

    def expected(self, items: list[Any]) -> Documents:
        wanted = [o for o in items if isinstance(o, Result) and not o.carried_from]
        return {
            o.window.id: {"verdict": o.verdict, "found": [(d.label, round(d.score, 4)) for d in o.detections]}
            for o in wanted
        }

    def read(self, folder: Path) -> Documents:
        if not (folder / "set" / "annotations.json").exists():
            return {}
        data = read(folder / "set")
        names = {one["id"]: one["name"] for one in data["categories"]}
        found: Documents = {}
        for image in data["images"]:
            assert decode_picture((folder / "set" / image["file_name"]).read_bytes()).width == image["width"]
            labels = [
                (names[a["category_id"]], a["score"]) for a in data["annotations"] if a["image_id"] == image["id"]
            ]
            found[image["window"]] = {"verdict": image["verdict"], "found": labels}
        return found


def test_it_is_coco(tmp_path: Path) -> None:
    part, clean = (np.random.default_rng(n).integers(0, 255, (48, 64), np.uint8) for n in (1, 2))
    both = beside(part, clean)
    writer = plan(tmp_path).open()
    boxed = result(7, person(0.55, (10.0, 20.0, 30.0, 44.5)), Detection("smudge", 0.3), flagged=False)
    writer.write([Picture(boxed, FrameImage.from_array(both))])
    writer.write(pictured([result(8, person(0.61))]))
    writer.close()
    data = read(tmp_path)
    assert set(data) == {"info", "licenses", "images", "annotations", "categories"}
    assert data["categories"] == [{"id": 1, "name": "person"}, {"id": 2, "name": "smudge"}]
    first = data["images"][0]
    assert (first["id"], first["width"], first["height"], first["file_name"]) == (
        1, 64, 48, "images/door_01K0EPOCH_00000007.png",
    )  # fmt: skip
    assert first["date_captured"] == "2026-01-31T12:00:00.280000Z"
    assert (first["window"], first["reason"], first["verdict"]) == ("door/01K0EPOCH/7", "band", "accept")
    assert data["annotations"][:2] == [
        {
            "id": 1, "image_id": 1, "category_id": 1, "bbox": [10.0, 20.0, 20.0, 24.5], "area": 490.0,
            "iscrowd": 0, "score": 0.55,
        },
        {
            "id": 2, "image_id": 1, "category_id": 2, "bbox": [0.0, 0.0, 64.0, 48.0], "area": 3072.0,
            "iscrowd": 0, "score": 0.3, "whole": True,
        },
    ]  # fmt: skip
    assert [a["id"] for a in data["annotations"]] == [1, 2, 3] and data["annotations"][2]["image_id"] == 2
    stored = FrameImage(decode_picture((tmp_path / first["file_name"]).read_bytes())).rgb()
    assert (stored == both).all(), "part and reference come back as they were judged"


def audited(outcome: Outcome) -> list[Picture]:
    audit = Audit(outcome.window, 1, "g", "result", 0.1, True)
    return [replace(one, audit=audit) for one in pictured([outcome])]


def test_who_is_in_doubt(tmp_path: Path) -> None:
    sure = person(0.95)
    drawn = result(6, sure)
    items: list[tuple[Outcome, str | None]] = [
        (result(0), None),
        (result(1, sure), None),
        (result(2, person(0.8), person(0.21)), "band"),
        (result(3, person(0.1)), None),
        (result(4, decided_by="resnet"), "cleared"),
        (result(5, sure, decided_by="resnet"), None),
        (drawn, "audited"),
        (shed(7), None),
        (result(8, UNSURE, decided_by="frozen", carried_from="door/01K0EPOCH/2"), None),
    ]
    chosen = plan(tmp_path)
    pictures = [one for outcome, _ in items for one in (audited(outcome) if outcome is drawn else pictured([outcome]))]
    assert [chosen.reason(one) for one in pictures] == [reason for _, reason in items]
    chosen.open().write(pictures)
    assert {image["reason"] for image in read(tmp_path)["images"]} == {"band", "cleared", "audited"}
    assert windows(tmp_path) == [2, 4, 6]


def test_at_most_one_of_a_reason_in_a_while(tmp_path: Path) -> None:
    writer = plan(tmp_path, every_s=1.0).open()
    batch = pictured([result(seq, UNSURE) for seq in range(60)])  # 25 a second
    writer.write(batch)
    writer.write(batch)  # a lost reply: nothing new
    writer.write(audited(result(55)))
    assert windows(tmp_path) == [0, 25, 50, 55]


def test_the_set_keeps_the_newest_and_their_pictures_alone(tmp_path: Path) -> None:
    for start in (0, 5):
        writer = plan(tmp_path, keep=3).open()
        for seq in range(start, start + 5):
            writer.write(pictured([result(seq, UNSURE)]))
        writer.close()
    data = read(tmp_path)
    assert windows(tmp_path) == [7, 8, 9]
    assert {f"images/{file.name}" for file in (tmp_path / "images").iterdir()} == {
        image["file_name"] for image in data["images"]
    }
    assert {one["image_id"] for one in data["annotations"]} == {image["id"] for image in data["images"]}


def test_labels_that_a_person_corrected_are_kept(tmp_path: Path) -> None:
    writer = plan(tmp_path).open()
    writer.write(pictured([result(0, UNSURE)]))
    data = read(tmp_path)
    data["annotations"][0] |= {"bbox": [1, 2, 3, 4], "checked": True}
    (tmp_path / "annotations.json").write_text(json.dumps(data))
    writer.write(pictured([result(1, UNSURE)]))
    after = read(tmp_path)["annotations"]
    assert after[0]["bbox"] == [1, 2, 3, 4] and after[0]["checked"] and len(after) == 2


def test_a_set_that_was_taken_away_is_begun_anew(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    writer = plan(folder).open()
    writer.write(pictured([result(0, UNSURE)]))
    folder.rename(tmp_path / "labelled")
    writer.write(pictured([result(1, UNSURE)]))
    assert windows(folder) == [1] and windows(tmp_path / "labelled") == [0]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"images": 3}', '{"images": [{}], "annotations": [], "categories": []}']
)
def test_what_is_no_data_set_is_left_alone(tmp_path: Path, text: str) -> None:
    file = tmp_path / "annotations.json"
    file.write_text(text)
    for step in (plan(tmp_path).check, plan(tmp_path).open):
        with pytest.raises(InputError) as caught:
            step()
        assert str(caught.value).startswith(str(file))
    assert file.read_text() == text


def test_a_set_that_somebody_broke_refuses_and_is_left_to_be_mended(tmp_path: Path) -> None:
    writer = plan(tmp_path).open()
    writer.write(pictured([result(0, UNSURE)]))
    good = (tmp_path / "annotations.json").read_text()
    (tmp_path / "annotations.json").write_text("oh no")
    with pytest.raises(SinkRefused, match=r"annotations\.json"):
        writer.write(pictured([result(1, UNSURE)]))
    assert (tmp_path / "annotations.json").read_text() == "oh no"
    (tmp_path / "annotations.json").write_text(good)
    writer.write(pictured([result(2, UNSURE)]))
    assert windows(tmp_path) == [0, 2]


def test_nothing_outside_the_folder_is_removed(tmp_path: Path) -> None:
    victim = tmp_path / "victim.png"
    victim.write_bytes(b"mine")
    folder = tmp_path / "set"
    writer = plan(folder, keep=1).open()
    writer.write(pictured([result(0, UNSURE)]))
    data = read(folder)
    data["images"][0]["file_name"] = "../victim.png"
    (folder / "annotations.json").write_text(json.dumps(data))
    writer.write(pictured([result(1, UNSURE)]))
    assert windows(folder) == [1] and victim.read_bytes() == b"mine"


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every document counts as large; returns its writings."""
    written: list[int] = []

    def write(path: Path, data: bytes) -> None:
        if path.name == "annotations.json":
            written.append(len(data))
        write_whole(path, data)

    monkeypatch.setattr(coco, "_AT_ONCE", 0)
    monkeypatch.setattr(coco, "_BYTES_PER_S", 1)
    monkeypatch.setattr(coco, "write_whole", write)
    return written


def test_a_large_set_is_not_written_anew_for_each_picture(tmp_path: Path, slow: list[int]) -> None:
    writer = plan(tmp_path).open()
    for seq in range(50):
        writer.write(pictured([result(seq, UNSURE)]))
    assert len(slow) == 1 and windows(tmp_path) == [0]
    writer.close()
    assert len(slow) == 2 and windows(tmp_path) == list(range(50))
    ids = [one["id"] for one in read(tmp_path)["annotations"]]
    assert ids == list(range(1, 51))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["annotations.json", "images"]


def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path, slow: list[int]) -> None:
    killed = plan(tmp_path).open()
    for seq in (0, 1, 2, 1):
        killed.write(pictured([result(seq, person(0.5 + seq / 100 + len(slow) / 1000))]))
    with (tmp_path / ".annotations.journal").open("ab") as file:
        file.write(b'\n{"image": {"window": "door/x')  # cut off
    plan(tmp_path).open()
    assert windows(tmp_path) == [0, 2, 1]
    assert not (tmp_path / ".annotations.journal").exists()


def test_what_a_person_corrects_meanwhile_is_kept_beside_what_is_new(tmp_path: Path, slow: list[int]) -> None:
    writer = plan(tmp_path).open()
    writer.write(pictured([result(0, UNSURE)]))
    writer.write(pictured([result(1, UNSURE)]))
    data = read(tmp_path)
    data["annotations"][0] |= {"bbox": [1, 2, 3, 4]}
    (tmp_path / "annotations.json").write_text(json.dumps(data))
    writer.write(pictured([result(2, UNSURE)]))
    writer.close()
    assert windows(tmp_path) == [0, 1, 2]
    assert read(tmp_path)["annotations"][0]["bbox"] == [1, 2, 3, 4]


WRITE = """
import sys
from pathlib import Path
from tests.sinks.test_doubts import UNSURE, pictured, plan, result
writer = plan(Path(sys.argv[1]), keep=20).open()
seq = int(sys.argv[2])
while True:
    writer.write(pictured([result(seq, UNSURE)]))
    print(seq, flush=True)
    seq += 1
"""


def test_a_killed_program_leaves_valid_json_and_every_picture_in_it(tmp_path: Path) -> None:
    start = 0
    for _ in range(4):
        command = [sys.executable, "-c", WRITE, str(tmp_path), str(start)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(25):
                child.stdout.readline()
            os.kill(child.pid, signal.SIGKILL)
            last = start + 24 + len(child.stdout.read().splitlines())
        found = windows(tmp_path)
        assert len(found) == 20 and found[-1] in {last, last + 1}
        for image in read(tmp_path)["images"]:
            decode_picture((tmp_path / image["file_name"]).read_bytes())
        start = last + 1
    assert len(list((tmp_path / "images").iterdir())) <= 20 + 4, "each kill may leave one that nobody names"


@pytest.mark.parametrize("band", [(0.8, 0.2), (-0.1, 0.5), (0.5, 1.1)])
def test_a_band_is_two_scores(band: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match="two scores from 0 to 1"):
        Doubts(band=band)
