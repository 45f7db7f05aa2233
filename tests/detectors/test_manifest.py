from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from detectors.choice import ZOO
from detectors.manifest import MANIFEST, format_of, read_manifest, read_model
from pipeline.core.errors import InputError, InputErrors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder of one's own: a copy of a shipped one."""
    return Path(shutil.copytree(ZOO / "people-ssdlite", tmp_path / "mine"))


def edit(folder: Path, old: str, new: str) -> None:
    file = folder / MANIFEST
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")


def test_reads_what_stands_there(folder: Path) -> None:
    model = read_model(folder)
    assert model.weights == folder / "model.xml"
    assert model.manifest.labels == ("person",)
    assert (model.manifest.view.spec().width, model.manifest.output.iou) == (300, 0.6)


def test_a_changed_byte_shows(folder: Path) -> None:
    weights = folder / "model.xml"
    weights.write_bytes(weights.read_bytes() + b" ")
    with pytest.raises(InputError, match=r"model\.xml: its SHA-256 is .* damaged or not the one"):
        read_model(folder)


def test_a_changed_byte_shows_in_companions_too(folder: Path) -> None:
    with (folder / "model.bin").open("r+b") as weights:
        weights.seek(1000)
        weights.write(b"\xff\xff")
    with pytest.raises(InputError, match=r"model\.bin: its SHA-256"):
        read_model(folder)


@pytest.mark.parametrize("name", ["model.xml", "model.bin"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{name}: .*not there"):
        read_model(folder)


def test_a_folder_without_manifest_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no manifest"):
        read_model(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("labels: [person]", "labels: [person, person]", "differ"),
        ("labels: [person]", "labels: []", r"manifest\.yaml: labels"),
        ("labels: [person]", "lables: [person]", r"manifest\.yaml: lables"),
        ("kind: ssd", "kind: sdd", r"manifest\.yaml: output\.kind"),
        ("width: 300", "width: wide", r"manifest\.yaml: view\.width"),
        ("width: 300", "width: -3", r"manifest\.yaml: view\.width"),
        ("sha256: d5", "sha256: zz", r"manifest\.yaml: weights\.sha256"),
        ("file: model.xml", "file: ../../etc/passwd", r"manifest\.yaml: weights\.file"),
        ("file: model.xml", "file: model.pt", "refused"),
        ("name: people-ssdlite", "name: ../up", r"manifest\.yaml: name"),
        ("dtype: uint8", "std: [0, 1, 1]", "std must not be zero"),
        ("name: people-ssdlite", "name: [", "is not YAML"),
    ],
)
def test_mistakes_name_their_place(folder: Path, old: str, new: str, said: str) -> None:
    edit(folder, old, new)
    with pytest.raises(InputError, match=said) as caught:
        read_manifest(folder / MANIFEST)
    assert str(folder) in str(caught.value)


def test_all_mistakes_come_at_once(folder: Path) -> None:
    edit(folder, "width: 300", "width: wide")
    edit(folder, "kind: ssd", "kind: sdd")
    with pytest.raises(InputErrors) as caught:
        read_manifest(folder / MANIFEST)
    assert len(caught.value.errors) == 2


@pytest.mark.parametrize("text", ["", "just words", "- a\n- list"])
def test_other_documents_are_no_manifest(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    with pytest.raises(InputError, match="mapping"):
        read_manifest(folder / MANIFEST)


def test_binary_rubbish_is_no_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="is not YAML"):
        read_manifest(folder / MANIFEST)


@pytest.mark.parametrize("name", ["best.pt", "x.pth", "x.PKL", "x.bin", "x.ckpt", "x.joblib"])
def test_pickles_are_refused_unopened(name: str) -> None:
    with pytest.raises(InputError, match=r"can run code.*ONNX"):
        format_of(Path(name))


def test_other_endings_are_no_model() -> None:
    with pytest.raises(InputError, match=r"models end in \.onnx"):
        format_of(Path("notes.txt"))
