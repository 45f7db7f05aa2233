"""What ships: every model is whole, says where it comes from, and is no heavier than it needs to be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from detectors.choice import ZOO, zoo_names
from detectors.manifest import MANIFEST, Input, read_manifest, read_model

SHIPPED = [name for name in zoo_names() if read_manifest(ZOO / name / MANIFEST).weights.url is None]
every = pytest.mark.parametrize("name", SHIPPED)


def test_they_are_there() -> None:
    assert {"people-ssdlite", "nsfw-mobilenet", "open-nsfw", "pcb-mobilenet", "pcb-resnet"} <= set(SHIPPED)


@every
def test_is_whole_and_named_as_its_folder(name: str) -> None:
    assert read_model(ZOO / name).name == name


@every
def test_says_licence_origin_and_data(name: str) -> None:
    manifest = read_manifest(ZOO / name / MANIFEST)
    assert (ZOO / name / "LICENSE").read_text("utf-8").count("\n") > 10
    assert manifest.licence
    assert "sha256" in manifest.origin or "thresher train" in manifest.origin
    assert manifest.data
    assert manifest.measured


@every
def test_begins_at_views_as_they_are(name: str) -> None:
    manifest = read_manifest(ZOO / name / MANIFEST)
    if manifest.view.spec().medium == "picture":
        assert (manifest.input.layout, manifest.input.dtype) == ("nhwc", "uint8")
    else:
        assert manifest.input == Input()


def test_is_light_enough_to_ship() -> None:
    weights = {name: sum(file.stat().st_size for file in (ZOO / name).iterdir() if file.is_file()) for name in SHIPPED}
    assert sum(weights.values()) < 60e6
    assert weights["pcb-mobilenet"] + weights["pcb-resnet"] < 25e6


@pytest.mark.parametrize("arguments", [[], ["no-such-model", "a", "b"], ["open-nsfw", "only one"]])
def test_conversion_says_how_to_use_it(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "detectors.zoo.convert", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "python -m detectors.zoo.convert" in done.stderr
    assert "Traceback" not in done.stderr


def test_conversion_of_nothing_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "detectors.zoo.convert", "open-nsfw", str(tmp_path / "x.onnx"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "x.onnx" in done.stderr
