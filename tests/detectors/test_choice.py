from __future__ import annotations

import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from onnx import helper

from detectors.choice import ZOO, ModelChoice, build_audit_stage, build_stage, find_model, readers, zoo_names
from detectors.manifest import MANIFEST, digest
from pipeline.core.errors import InputError, MissingPart
from pipeline.core.payloads import FrameImage
from pipeline.core.reach import NetworkSettings
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


@pytest.mark.parametrize("name", ["-x.onnx", "Größe 3 (final).ONNX", "_.onnx", "a" * 90 + ".onnx"])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    file = mean_colour(tmp_path / name)
    assert find_model(choice(model=str(file), output="classification", input="unit")).name


@pytest.mark.parametrize("names", ["['a', 'a', 'b']", "['a', 'b', '\\x1b[2J']", "['a', ' ', 'b']"])
def test_labels_that_would_confuse_are_refused(tmp_path: Path, names: str) -> None:
    file = mean_colour(tmp_path / "odd.onnx", metadata={"names": names})
    with pytest.raises(InputError, match="labels must"):
        find_model(choice(model=str(file), output="classification", input="unit"))


def test_half_precision_inputs_are_fed_as_they_like(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["picture"], ["wide"], to=1),
        helper.make_node("ReduceMean", ["wide"], ["scores"], axes=[2, 3], keepdims=0),
    ]
    file = save(tmp_path / "half.onnx", nodes, {"picture": ["N", 3, 8, 8]}, {"scores": ["N", 3]}, {}, element="FLOAT16")
    white = FrameImage.from_array(np.full((8, 8, 3), 255, np.uint8))
    for runtime in ("openvino", "onnxruntime"):
        stage = build_stage(choice(model=str(file), output="classification", input="unit", runtime=runtime))
        assert stage.score([white.view(stage.spec)])[0].scores == pytest.approx([1, 1, 1], abs=1e-3)


def test_weights_of_a_manifest_come_from_its_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THRESHER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("pipeline.core.reach._policy", [NetworkSettings(private=True)])
    site, folder = tmp_path / "site", tmp_path / "model"
    site.mkdir()
    folder.mkdir()
    weights = mean_colour(site / "colours.onnx")
    serve = partial(SimpleHTTPRequestHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        url = f"http://127.0.0.1:{server.server_port}/colours.onnx"
        (folder / MANIFEST).write_text(
            f"name: far\ntask: classification\nlabels: [r, g, b]\nlicence: none\n"
            f"weights: {{file: colours.onnx, sha256: {digest(weights)}, format: onnx, url: '{url}'}}\n"
            f"view: {{width: 8, height: 8}}\ninput: {{std: [255, 255, 255]}}\noutput: {{kind: classification}}\n"
        )
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            assert build_stage(choice(model=str(folder))).labels == ("r", "g", "b")
        finally:
            server.shutdown()
            thread.join()
    assert build_stage(choice(model=str(folder))).labels == ("r", "g", "b")  # kept
    monkeypatch.setenv("THRESHER_CACHE", str(tmp_path / "empty"))
    with pytest.raises(MissingPart, match=r"colours\.onnx"):
        build_stage(choice(model=str(folder)))


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


@pytest.mark.parametrize("form", [("onnxruntime", "f32"), ("openvino", "f32")])
def test_an_audit_sees_by_the_form_that_runs(
    weights: Path, monkeypatch: pytest.MonkeyPatch, form: tuple[str, str]
) -> None:
    """Not by what would be measured as best: what was certified is the word of this one."""
    said = {"model": str(weights), "output": "classification", "input": "unit"}
    live = build_stage(ModelChoice.model_validate(said | dict(zip(("runtime", "precision"), form, strict=True))))

    def no_measuring(*_: object) -> None:
        raise AssertionError("it is settled already")

    monkeypatch.setattr("detectors.runtimes.choose.measured", no_measuring)
    stage = build_audit_stage(ModelChoice.model_validate(said), live)
    assert (stage.describe()["runtime"], stage.describe()["precision"]) == form
    assert (stage.name, stage.workers, stage.max_batch) == ("my-colours-audit", 1, 1)


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
