"""Where models are made: nothing that is no model is replaced, and no two trainings share a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from training_parts import folders, recipe

from detectors.datasets import read_dataset
from detectors.manifest import MANIFEST
from detectors.training.labels import likeliest_wrong
from detectors.training.project import Maker, Project
from detectors.training.workplace import check_place, claimed
from pipeline.core.errors import InputError


def project(path: Path, **data: object) -> Project:
    parts = {"recipe": recipe(network={"head": "classification", "classes": 2}, batch=2).model_dump()}
    return Project.model_validate({"name": "x", "data": {"path": path} | data, "heavy": parts, "cheap": parts})


def test_what_is_no_model_is_not_replaced(tmp_path: Path) -> None:
    check_place(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    check_place(tmp_path / "empty")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / MANIFEST).touch()
    check_place(tmp_path / "model")
    (tmp_path / "file").touch()
    (tmp_path / "gone").symlink_to("nowhere")
    folders(tmp_path / "parts", 4)
    for name in ("file", "gone", "parts"):
        with pytest.raises(InputError, match="is no model, and one would take its place"):
            check_place(tmp_path / name)


def test_data_are_not_replaced_by_a_model_of_their_name(tmp_path: Path) -> None:
    data = folders(tmp_path / "x-resnet", 8)
    with pytest.raises(InputError, match="is no model, and one would take its place"):
        Maker(project(data), tmp_path, lambda what, row: None)
    assert len(read_dataset(data)) == 8


def test_one_training_at_a_time(tmp_path: Path) -> None:
    with claimed(tmp_path / "work"):
        with pytest.raises(InputError, match="another training is at work here"), claimed(tmp_path / "work"):
            raise AssertionError
        with claimed(tmp_path / "other"):
            pass
    with claimed(tmp_path / "work"):
        pass


def test_a_second_training_of_the_same_name_is_refused(tmp_path: Path) -> None:
    made = project(folders(tmp_path / "parts", 8))
    with claimed(tmp_path / "models" / ".training" / "x-resnet"):
        maker = Maker(made, tmp_path / "models", lambda what, row: None)
        with pytest.raises(InputError, match="another training is at work here"):
            maker.heavy()
    with claimed(tmp_path / "models" / ".training" / "x-fold-0"), pytest.raises(InputError, match="another training"):
        likeliest_wrong(made, tmp_path / "models", 2, lambda text: None)


def test_nowhere_to_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written: Not a directory"), claimed(tmp_path / "file" / "work"):
        raise AssertionError


@pytest.mark.parametrize(("heavy", "cheap"), [("a", "a"), ("a", "a-f16"), ("a-f16", "a"), ("x-mobilenet", None)])
def test_stages_that_would_be_one_folder(tmp_path: Path, heavy: str, cheap: str | None) -> None:
    said = project(tmp_path).model_dump()
    said["heavy"]["name"], said["cheap"]["name"] = heavy, cheap
    with pytest.raises(ValueError, match="would be written to the same folder"):
        Project.model_validate(said)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hold_out": 0.8}, "leaves one kind of picture only to learn from"),
        ({"hold_out": 2.0}, "data.hold_out: the share to hold out has to lie between 0 and 1"),
        ({"apart": [""]}, "data.apart: leaves nothing to train with"),
        ({"apart": ["x"]}, 'data.apart: there is no group "x"; there are none'),
    ],
)
def test_what_is_held_out_eats_too_much(tmp_path: Path, change: dict[str, object], words: str) -> None:
    data = folders(tmp_path / "parts", 8)
    if "hold_out" in change:
        for path in sorted((data / "bad").iterdir())[1:]:
            path.unlink()
    with pytest.raises(InputError, match=words):
        Maker(project(data, **change), tmp_path / "models", lambda what, row: None)
    assert not (tmp_path / "models").exists()
