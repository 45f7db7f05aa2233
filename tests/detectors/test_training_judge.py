"""The figures that decide which weights are kept, and what is made of data without being told how."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from board_models import boards
from made_pictures import coco, mask, picture
from training_parts import SIDE, boxed, folders, recipe

from detectors.choice import ModelChoice, build_stage
from detectors.datasets import read_dataset
from detectors.datasets.base import DataSet, Sample
from detectors.manifest import read_model
from detectors.networks.pyramid import Network
from detectors.training.defaults import project_of
from detectors.training.judge import Judge
from detectors.training.pack import manifest_of, packed
from detectors.training.project import Project, labels_of
from detectors.training.recipe import Recipe
from pipeline.core.errors import InputError
from pipeline.core.records import Findings


def found(labels: Sequence[str], boxes: Any, scores: Sequence[float], kinds: Sequence[int]) -> Findings:
    placed = None if boxes is None else np.array(boxes, np.float32).reshape(-1, 4)
    return Findings(tuple(labels), np.array(scores, np.float32), np.array(kinds, np.int64), placed)


def whole(head: str, labels: int = 2) -> Recipe:
    return recipe(network={"head": head, "classes": labels})


def test_whole_pictures_by_what_is_not_good(tmp_path: Path) -> None:
    data = read_dataset(folders(tmp_path, 8))
    judge = Judge(data, manifest_of("m", whole("classification"), data.labels))
    bright = judge.figures(
        lambda view: found(data.labels, None, [0.1, 0.9], [0, 1] if view.pixels.max() > 200 else [1, 0])
    )
    assert bright == {"auroc": 1.0, "false_at_99": 0.0}
    blind = judge.figures(lambda view: found(data.labels, None, [0.5, 0.5], [0, 1]))
    assert blind == {"auroc": 0.5, "false_at_99": 1.0}


def test_places_by_the_defects_own_score(tmp_path: Path) -> None:
    samples = boxed(tmp_path, 8)
    data = DataSet(("defect",), tuple(samples))
    judge = Judge(data, manifest_of("m", whole("heatmap", 1), ["suspicious"]))
    everywhere = judge.figures(lambda view: found(["suspicious"], [[0, 0, 2, 2]], [0.9], [0]))
    assert everywhere["auroc"] == 0.0  # a suspicion that is not at the defect finds nothing, and a good part has it


def test_without_a_good_part_suspicions_beside_the_defects_stand_for_one(tmp_path: Path) -> None:
    data = DataSet(("defect",), tuple(sample for sample in boxed(tmp_path, 8) if len(sample.boxes)))
    judge = Judge(data, manifest_of("m", whole("heatmap", 1), ["suspicious"]))
    where = {tuple(np.array(s.image().rgb())[0, 0].tolist()): s.boxes[0] for s in data.samples}

    def knows(view: Any) -> Findings:
        box = where[tuple(view.pixels[0, 0].tolist())]
        return found(["suspicious"], [box.tolist(), [0, 0, 1, 1]], [0.9, 0.4], [0, 0])

    assert judge.figures(knows) == {"auroc": 1.0, "false_at_99": 0.0}


def test_boxes_by_their_average_precision_and_what_cannot_be_read_left_out(tmp_path: Path) -> None:
    samples = [s for s in boxed(tmp_path, 8) if len(s.boxes)]
    (tmp_path / "cut.png").write_bytes(samples[0].file.read_bytes()[:60])
    cut = Sample("cut", tmp_path / "cut.png", boxes=samples[0].boxes, classes=samples[0].classes)
    data = DataSet(("a", "b"), (*samples, cut))
    judge = Judge(data, manifest_of("m", whole("boxes"), data.labels))
    order = iter(samples)
    figures = judge.figures(lambda view: found("ab", next(order).boxes, [0.8], [0]))
    assert figures == {"map": 1.0, "f": 1.0, "threshold": pytest.approx(0.4)}  # halfway to nothing
    assert judge.figures(lambda view: found("ab", [], [], [])) == {"map": 0.0, "f": 0.0, "threshold": 0.5}
    with pytest.raises(InputError, match="too few of the held-out pictures can be read"):
        Judge(DataSet(("a", "b"), (cut,)), manifest_of("m", whole("boxes"), "ab")).figures(
            lambda view: found("ab", [], [], [])
        )


def test_held_out_pictures_that_cannot_tell(tmp_path: Path) -> None:
    good, bad = (s for s in boxed(tmp_path, 2))
    for kind, labels, held, words in [
        ("boxes", ["a", "b"], good, "no held-out picture has a labelled box"),
        ("heatmap", ["suspicious"], good, "no held-out picture shows a bad part"),
        ("classification", ["good", "bad"], good, "no held-out picture shows a bad part"),
    ]:
        with pytest.raises(InputError, match=words):
            Judge(DataSet(tuple(labels), (held,)), manifest_of("m", whole(kind, len(labels)), labels))
    assert len(bad.boxes)


def test_a_packed_network_says_what_it_said(tmp_path: Path) -> None:
    """Weights in half precision, read by the runtime that will run it; its tile is seen at a size of its own."""
    samples = boxed(tmp_path / "pictures", 3)
    said = recipe(network={"backbone": "resnet-18", "classes": 2})
    network = Network(said.network).eval()
    manifest = manifest_of("mine", said, ["a", "b"], tile=32)
    model = packed(network, manifest, samples, tmp_path / "mine", {"licence": "MIT", "data": "three squares"})
    assert read_model(tmp_path / "mine").manifest == model.manifest
    assert (model.manifest.licence, model.manifest.data, model.manifest.weights.precision) == (
        "MIT",
        "three squares",
        "f16",
    )
    assert model.samples is not None and len(list(model.samples.iterdir())) == 3
    stage = build_stage(
        ModelChoice(model=str(tmp_path / "mine"), runtime="openvino", precision="f32", max_batch=1, workers=1)
    )
    image = samples[1].image()
    (whole_picture,), (region,) = (
        stage.score([image.view(stage.spec)]),
        stage.score([image.view(stage.spec, (0, 0, 9, 9))]),
    )
    assert whole_picture.boxes is not None and region.boxes is not None
    assert region.boxes.max(initial=0) <= 32
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        packed(network, manifest, samples, tmp_path / "file" / "mine", {})


@pytest.mark.slow
def test_a_disk_without_room_leaves_the_model_that_is_there(tmp_path: Path) -> None:
    samples = boxed(tmp_path / "pictures", 2)
    said = recipe()
    manifest = manifest_of("mine", said, ["a"])
    packed(Network(said.network).eval(), manifest, samples, tmp_path / "mine", {})
    model = packed(Network(said.network).eval(), manifest, samples, tmp_path / "mine", {"licence": "MIT"})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"mine: cannot be written: .*is the disk full"):
            packed(Network(said.network).eval(), manifest, samples, tmp_path / "mine", {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_model(tmp_path / "mine").manifest == model.manifest
    assert not list(tmp_path.glob(".mine*"))


@pytest.mark.parametrize("kind", ["folders", "boards", "boxes", "masks"])
def test_what_is_made_of_data_alone_is_a_project_that_fits_them(tmp_path: Path, kind: str) -> None:
    if kind == "folders":
        folders(tmp_path, 8)
    elif kind == "boards":
        boards(tmp_path)
    elif kind == "boxes":
        coco(tmp_path, [{"id": n, "image_id": n, "category_id": 7, "bbox": [5, 5, 10, 10]} for n in (1, 2)])
    else:
        for number in range(3):
            picture(tmp_path / "dent" / f"{number}.jpg")
            mask(tmp_path / "dent" / f"{number}.png")
            picture(tmp_path / "good" / f"g{number}.jpg")
    data = read_dataset(tmp_path)
    project = Project.model_validate({"name": "x", "data": {"path": str(tmp_path)}, **project_of(data)})
    assert project.heavy is not None and project.cheap is not None
    heavy, cheap = (labels_of(part.recipe.network, data, "one", "heavy") for part in (project.heavy, project.cheap))
    expected = {
        "folders": (("good", "bad"), ("good", "bad")), "boards": (data.labels, ("one",)),
        "boxes": (("dent", "scratch"), ("one",)), "masks": (("one",), ("one",)),
    }[kind]  # fmt: skip
    assert (heavy, set(cheap)) == (heavy, set(expected[1])) and set(heavy) == set(expected[0])
    assert (project.heavy.tile is not None) == (kind == "boards")  # the pictures with boxes are not of the view's shape
    assert (project.heavy.recipe.augment.sensor > 0) == (kind == "boards")
    assert project.heavy.recipe.view.width == SIDE


@pytest.mark.parametrize(
    ("size", "tiles"), [((64, 64), True), ((66, 62), True), ((80, 64), False), ((1300, 1300), False)]
)
def test_tiles_only_where_they_show_the_scale_that_was_learned(
    tmp_path: Path, size: tuple[int, int], tiles: bool
) -> None:
    picture(tmp_path / "a.jpg", *size)
    sample = Sample("a", tmp_path / "a.jpg", boxes=np.array([[5, 5, 15, 15]], np.float32), classes=np.array([0]))
    assert ("tile" in project_of(DataSet(("dent",), (sample,)))["heavy"]) == tiles


def test_masks_know_no_kinds(tmp_path: Path) -> None:
    data = DataSet(("good", "dent"), (Sample("a", tmp_path, mask=tmp_path, classes=np.array([1])),))
    with pytest.raises(InputError, match=r"cheap\.recipe\.network\.classes: has to be 1: a mask says where"):
        labels_of(whole("heatmap").network, data, "one", "cheap")
