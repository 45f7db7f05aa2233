"""A model's folder that takes another's place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from detectors.choice import ZOO, ModelChoice, find_model
from detectors.manifest import aside
from detectors.training.pack import take_place


class Killed(BaseException):
    """The program dies."""


def model(folder: Path, note: str) -> Path:
    shutil.copytree(ZOO / "nsfw-mobilenet", folder)
    (folder / "note").write_text(note)
    return folder


def found(folder: Path) -> str:
    return (find_model(ModelChoice(model=str(folder))).weights.parent / "note").read_text()


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("dies_at", range(6))
def test_wherever_it_dies_there_is_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int, keep: bool
) -> None:
    home = model(tmp_path / "mine", "old")
    kept = model(tmp_path / "mine-f16", "older") if keep else None
    calls = 0

    def counted(function: object) -> object:
        def call(*args: object, **named: object) -> object:
            nonlocal calls
            calls += 1
            if calls > dies_at:
                raise Killed
            return function(*args, **named)  # type: ignore[operator]

        return call

    with monkeypatch.context() as dying:
        dying.setattr(Path, "rename", counted(Path.rename))
        dying.setattr(shutil, "rmtree", counted(shutil.rmtree))
        try:
            take_place(model(tmp_path / ".new", "new"), home, kept)
        except Killed:
            assert found(home) in {"old", "new"}
        else:
            assert dies_at >= 4
    take_place(model(tmp_path / ".newer", "newer"), home, kept)
    assert found(home) == "newer"
    assert not aside(home).exists()
    assert kept is None or (kept / "note").read_text() in {"old", "new", "older"}


def test_where_it_cannot_be_moved_all_is_as_it_was(tmp_path: Path) -> None:
    home = model(tmp_path / "mine", "old")
    with pytest.raises(OSError, match="No such file"):
        take_place(tmp_path / "gone", home)
    assert found(home) == "old" and not aside(home).exists()


def test_the_one_before_is_kept_where_it_shall_be(tmp_path: Path) -> None:
    home = model(tmp_path / "mine", "old")
    take_place(model(tmp_path / ".new", "new"), home, tmp_path / "mine-f16")
    assert (found(home), found(tmp_path / "mine-f16")) == ("new", "old")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "mine-f16"]
