"""What was changed while it ran is so again after a restart, unless somebody edits the config."""

from __future__ import annotations

import logging
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from calling import Thresher

from pipeline.app.config.document import Document
from pipeline.app.kept import Kept
from pipeline.core.errors import InputError

DOOR = {"kind": "rtsp", "url": "rtsp://door"}
YARD = {"kind": "rtsp", "url": "rtsp://yard", "max_fps": 5}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "streams.yaml"


def begun(file: Path, **sources: Mapping[str, Any]) -> tuple[Kept, dict[str, Any], Document]:
    """A run whose config has these, and what it watches in the end."""
    document = Document({"sources": dict(sources), "web": {"keep": str(file)}}, Path())
    kept = Kept.over(document)
    assert kept is not None
    return kept, document.data["sources"], document


def test_what_was_added_changed_and_removed_is_so_again(file: Path) -> None:
    kept, watched, _ = begun(file, door=DOOR, gate=DOOR)
    assert watched == {"door": DOOR, "gate": DOOR}
    kept.note("yard", YARD)
    kept.note("door", {**DOOR, "max_fps": 2})
    kept.note("gate", None)
    for _ in range(2):
        kept, watched, document = begun(file, door=DOOR, gate=DOOR)
        assert watched == {"door": {**DOOR, "max_fps": 2}, "yard": YARD}
        assert document.place(("sources", "yard", "max_fps")) == f"{file}: yard: max_fps"
    kept.note("yard", None)
    kept.note("gate", DOOR)
    assert begun(file, door=DOOR, gate=DOOR)[1] == {"door": {**DOOR, "max_fps": 2}, "gate": DOOR}


def test_whoever_edits_the_config_is_not_overruled(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept, *_ = begun(file, door=DOOR, gate=DOOR)
    kept.note("door", {**DOOR, "max_fps": 2})
    kept.note("gate", None)
    edited = {**DOOR, "url": "rtsp://elsewhere"}
    with caplog.at_level(logging.WARNING):
        kept, watched, _ = begun(file, door=edited, gate=DOOR)
    assert watched == {"door": edited}
    assert "door: the config says something else" in caplog.text
    kept.note("yard", YARD)  # what does not hold any more is not kept either
    assert begun(file, door=DOOR, gate=DOOR)[1] == {"door": DOOR, "yard": YARD}


def test_references_are_kept_as_references_and_the_file_is_private(file: Path) -> None:
    kept, *_ = begun(file)
    kept.note("cam", {"kind": "rtsp", "url": "rtsp://${CAM}"})
    assert "${CAM}" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_that_cannot_be_written_stops_nothing(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept, *_ = begun(file)
    file.parent.parent.joinpath("kept").write_text("in the way")
    kept.note("yard", YARD)
    assert "a restart will know less" in caplog.text


def test_nothing_is_kept_unless_it_is_asked_for() -> None:
    assert Kept.over(Document({"sources": {"door": DOOR}, "web": {}}, Path())) is None
    assert Kept.over(Document({"sources": {"door": DOOR}}, Path())) is None
    assert Kept.over(Document({"sources": [1], "web": {"keep": "x"}}, Path())) is None


@pytest.mark.parametrize(
    "text", ["{", "- a", "door: {kind: rtsp}", "door: {was: 1, is: null}", "a: &a {was: *a}", "x" * (2 << 20)]
)
def test_a_file_of_something_else_is_told_so(file: Path, text: str) -> None:
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        begun(file)
    assert str(file) in str(caught.value)


def test_an_empty_file_is_one_that_keeps_nothing(file: Path) -> None:
    file.parent.mkdir()
    file.touch()
    assert begun(file, door=DOOR)[1] == {"door": DOOR}


def test_a_mistake_in_it_names_it(thresher_here: Thresher, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("sources: {}\nweb: {keep: streams.yaml}\n")
    (tmp_path / "streams.yaml").write_text("yard: {was: null, is: {kind: rtsp, url: rtsp://yard, fps_max: 5}}\n")
    ran = thresher_here("run", "c.yaml")
    assert ran.returncode == 2
    assert "streams.yaml: yard" in ran.stderr and "fps_max" in ran.stderr and "Traceback" not in ran.stderr
