from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from detectors.choice import ZOO, ModelChoice, build_stage, find_model, readers, zoo_names
from detectors.manifest import MANIFEST
from pipeline.core.errors import InputError, MissingPart
from pipeline.core.payloads import FrameImage
from tests.detectors.test_stages import nudenet
from tests.detectors.tiny_models import mean_colour, save

LABELS = ["red", "green", "blue"]


def choice(**said: Any) -> ModelChoice:
    return ModelChoice.model_validate({"runtime": "openvino", "precision": "f32"} | said)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return mean_colour(tmp_path / "my colours.onnx")


def test_shipped_models_are_found_by_name() -> None:
    assert {"people-ssdlite", "nsfw-mobilenet", "open-nsfw"} <= set(zoo_names())
    assert find_model(choice(model="open-nsfw")).manifest.labels == ("safe", "unsafe")


def test_a_wrong_name_gets_the_nearest_right_one() -> None:
    with pytest.raises(InputError, match=r'no model called "people-sdlite"\. Did you mean "people-ssdlite"\?'):
        find_model(choice(model="people-sdlite"))


@pytest.mark.parametrize("path", ["./models/nowhere", "x.onnx", "/no/such/model.xml"])
def test_a_wrong_path_is_named(path: str) -> None:
    with pytest.raises(InputError, match="no such model file or folder") as caught:
        find_model(choice(model=path))
    assert caught.value.place == path


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ZOO / "people-ssdlite", tmp_path / "mine"))
    assert find_model(choice(model=str(folder))).weights == folder / "model.xml"
    assert find_model(choice(model=str(folder / MANIFEST))).weights == folder / "model.xml"
    assert build_stage(choice(model=str(folder), name="guard")).name == "guard"


@pytest.mark.parametrize("said", [{"output": "yolo"}, {"labels": ["x"]}, {"input": "unit"}])
def test_a_manifest_is_not_talked_over(said: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="describe a bare file"):
        find_model(choice(model="people-ssdlite", **said))


def test_a_bare_classifier(weights: Path) -> None:
    stage = build_stage(choice(model=str(weights), output="classification", labels=LABELS, input="unit"))
    assert (stage.name, stage.labels, stage.spec.width, stage.spec.fit) == ("my-colours", tuple(LABELS), 8, "stretch")
    green = np.zeros((40, 60, 3), np.uint8)
    green[..., 1] = 255
    found = stage.score([FrameImage.from_array(green).view(stage.spec)])[0]
    assert found.labels[int(found.scores.argmax())] == "green"


def test_bare_labels_are_numbered_where_nobody_names_them(weights: Path) -> None:
    stage = build_stage(choice(model=str(weights), output="classification", input="unit"))
    assert stage.labels == ("class_0", "class_1", "class_2")


@pytest.mark.parametrize("names", ["{0: 'rot', 1: 'grün', 2: 'blau'}", "['rot', 'grün', 'blau']"])
def test_bare_labels_come_from_the_metadata(tmp_path: Path, names: str) -> None:
    file = mean_colour(tmp_path / "named.onnx", metadata={"names": names, "license": "Unlicense"})
    model = find_model(choice(model=str(file), output="classification", input="raw"))
    assert model.manifest.labels == ("rot", "grün", "blau")
    assert model.manifest.licence == "Unlicense"


def test_metadata_is_data_and_never_run(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    names = f"__import__('pathlib').Path({str(trap)!r}).touch()"
    file = mean_colour(tmp_path / "trap.onnx", metadata={"names": names, "imgsz": names})
    model = find_model(choice(model=str(file), output="classification", input="raw"))
    assert model.manifest.labels == ("class_0", "class_1", "class_2")
    assert not trap.exists()


def test_three_lines_for_a_file_that_people_bring() -> None:
    stage = build_stage(choice(model=nudenet(), output="yolo", labels=[f"thing {n}" for n in range(18)]))
    assert stage.labels[17] == "thing 17"


def test_a_view_of_ones_own() -> None:
    view = {"width": 640, "height": 448, "fit": "letterbox"}
    stage = build_stage(choice(model=nudenet(), output="yolo", view=view))
    picture = FrameImage.from_array(np.full((300, 400, 3), 128, np.uint8))
    assert (stage.spec.width, stage.spec.height) == (640, 448)
    assert len(stage.score([picture.view(stage.spec)])) == 1


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({}, "say how to read its answers"),
        ({"output": "classification"}, "say how it wants its pixels"),
        ({"output": "yolo", "labels": LABELS}, "does not fit 3 labels"),
        ({"output": "classification", "input": "unit", "labels": ["a", "b"]}, "does not fit 2 labels"),
        ({"output": "classification", "input": "unit", "view": {"width": 9, "height": 9}}, "correct `view`"),
        ({"output": "ssd", "input": "unit"}, "add `labels"),
        ({"output": {"kind": "classification", "scores": "logits"}, "input": "unit"}, 'no output "logits"'),
    ],
)
def test_what_a_bare_file_leaves_open(weights: Path, said: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        build_stage(choice(model=str(weights), **said))


def test_a_graph_that_takes_no_picture(tmp_path: Path) -> None:
    nodes = [helper.make_node("Softmax", ["x"], ["scores"])]
    file = save(tmp_path / "vector.onnx", nodes, {"x": ["N", 3]}, {"scores": ["N", 3]}, {})
    with pytest.raises(InputError, match="no single input of four axes"):
        build_stage(choice(model=str(file), output="classification", input="unit"))


def test_pickles_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "best.pt"
    file.write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match="can run code"):
        find_model(choice(model=str(file), output="yolo"))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"runtime": "openvina"}, r'Did you mean "openvino"\?'),
        ({"runtime": "onnxruntime"}, "does not read ir weights"),
    ],
)
def test_runtimes_that_cannot(said: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        build_stage(choice(model="people-ssdlite", **said))


def test_a_precision_that_is_not_to_be_had_says_which_are(weights: Path) -> None:
    said = {"model": str(weights), "output": "classification", "input": "unit", "runtime": "onnxruntime"}
    with pytest.raises(InputError, match="does not run it in bf16"):
        build_stage(choice(**said | {"precision": "bf16"}))


def test_weights_without_a_runtime_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from detectors.runtimes.openvino import OpenVino

    monkeypatch.setattr(OpenVino, "missing", lambda self: "pip install openvino")
    with pytest.raises(MissingPart, match=r"reads ir weights .*pip install openvino"):
        readers(find_model(choice(model="people-ssdlite")))


@pytest.mark.parametrize("said", [{"max_batch": 0}, {"workers": 0}, {"precision": "f64"}, {"modle": "x"}])
def test_settings_that_mean_nothing(said: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(said))):
        choice(model="people-ssdlite", **said)
