"""Quantising real networks with real pictures, and refusing what it broke."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

import pipeline.app
from detectors.compression.int8 import quantised
from detectors.compression.parity import Disagreement, Tolerance, agreement, answers
from detectors.manifest import Input, Manifest, Model, Output, ViewSettings, Weights, digest, read_model
from detectors.networks.classifiers import classifier, settle
from detectors.networks.export import save_onnx, save_openvino
from detectors.runtimes.base import Options
from detectors.runtimes.openvino import OpenVino
from pipeline.core.errors import InputError
from pipeline.core.payloads import FrameImage, ViewSpec

pytestmark = pytest.mark.slow  # torch, its compiler and NNCF take seconds each

SIDE = 96
CLIP = Path(pipeline.app.__file__).parent / "demo" / "people.mp4"


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    with av.open(str(CLIP)) as container:
        images = [FrameImage(frame) for frame in container.decode(video=0)][::5]
    whole = [image.view(ViewSpec(SIDE, SIDE)).pixels for image in images]
    left = [image.view(ViewSpec(SIDE, SIDE), (0, 0, image.width / 2, image.height)).pixels for image in images]
    return np.stack(whole + left)


def manifest(file: Path, weights_format: str, **changes: object) -> Manifest:
    companions = {file.with_suffix(".bin").name: digest(file.with_suffix(".bin"))} if weights_format == "ir" else {}
    return Manifest.model_validate(
        {
            "name": "small",
            "task": "classification",
            "weights": Weights(file=file.name, sha256=digest(file), format=weights_format, companions=companions),
            "view": ViewSettings(width=SIDE, height=SIDE),
            "input": Input(layout="nhwc", dtype="uint8"),
            "output": Output(kind="classification"),
            "labels": tuple(f"label-{n}" for n in range(10)),
            "licence": "Apache-2.0",
            "measured": {"accuracy": 0.1},
            **changes,
        }
    )


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory, pictures: np.ndarray) -> Model:
    network = classifier("resnet-18", classes=10)
    settle(network, [pictures])
    file = tmp_path_factory.mktemp("resnet") / "model.xml"
    save_openvino(network, SIDE, SIDE, file, half=False)
    return Model(manifest(file, "ir"), file)


def said(model: Model, pictures: np.ndarray) -> tuple[np.ndarray, str]:
    session = OpenVino().open(model, Options(precision="f32", max_batch=8))
    try:
        return answers(session, pictures), session.precision
    finally:
        session.close()


def test_int8_runs_in_int8_and_says_the_same(resnet: Model, pictures: np.ndarray, tmp_path: Path) -> None:
    small = quantised(resnet, pictures[::2], tmp_path / "small-int8")

    assert read_model(tmp_path / "small-int8") == small
    assert small.manifest.weights.precision == "int8"
    assert resnet.manifest.weights.sha256 in small.manifest.origin
    assert small.manifest.measured == {}
    before, full = said(resnet, pictures[1::2])
    after, low = said(small, pictures[1::2])
    assert (full, low) == ("f32", "int8")
    found = agreement(before, after)
    assert found.moved > 0
    assert found.cosine > 0.97


def test_a_form_made_from_the_wrong_pictures_is_refused(resnet: Model, pictures: np.ndarray, tmp_path: Path) -> None:
    black = np.zeros_like(pictures[:8])
    broken = quantised(resnet, black, tmp_path / "broken")
    before, _ = said(resnet, pictures)
    after, _ = said(broken, pictures)
    with pytest.raises(Disagreement, match=r"^small on black is refused on \d+ pictures: .*cosine"):
        Tolerance().check(agreement(before, after), "small on black")


def test_the_manifests_normalisation_becomes_the_graphs(pictures: np.ndarray, tmp_path: Path) -> None:
    """A model as people bring it: ONNX, float, normalised outside."""
    import torch

    network = classifier("resnet-18", classes=10)
    settle(network, [pictures])
    file = tmp_path / "model.onnx"
    bare = network[1]  # without the layer that normalises
    program = torch.onnx.export(
        torch.export.export(
            bare, (torch.zeros(2, 3, SIDE, SIDE),), dynamic_shapes=({0: torch.export.Dim("n", min=1)},)
        ),
        verbose=False,
    )
    program.save(file, external_data=False)
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    model = Model(manifest(file, "onnx", input=Input(mean=mean, std=std)), file)
    small = quantised(model, pictures[::2], tmp_path / "int8")
    before, _ = said(model, pictures[1::2])
    after, _ = said(small, pictures[1::2])
    assert agreement(before, after).cosine > 0.97


def test_onnx_and_openvino_exports_are_one_network(resnet: Model, pictures: np.ndarray, tmp_path: Path) -> None:
    network = classifier("resnet-18", classes=10)
    settle(network, [pictures])
    file = tmp_path / "model.onnx"
    save_onnx(network, SIDE, SIDE, file)
    other, _ = said(Model(manifest(file, "onnx"), file), pictures)
    own, _ = said(resnet, pictures)
    assert agreement(own, other).moved < 1e-3


def test_what_cannot_be_quantised_is_told(resnet: Model, pictures: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 8 pictures"):
        quantised(resnet, pictures[:7], tmp_path / "few")
    with pytest.raises(InputError, match=r"uint8 \[N, 96, 96, 3\]"):
        quantised(resnet, pictures[:, :64], tmp_path / "low")
    with pytest.raises(InputError, match="already there"):
        quantised(resnet, pictures, tmp_path)
    cut = tmp_path / "cut.xml"
    cut.write_bytes(resnet.weights.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"cut\.xml"):
        quantised(replace(resnet, weights=cut), pictures, tmp_path / "new")
    assert not (tmp_path / "new").exists()
