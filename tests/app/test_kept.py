"""What was changed while it ran is so again after a restart, unless somebody edits the config."""

from __future__ import annotations

import json
import logging
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from calling import Thresher

from pipeline.app.assemble import assemble
from pipeline.app.config.document import Document
from pipeline.app.control import Control
from pipeline.app.kept import Kept
from pipeline.app.wiring import pipeline, prepare
from pipeline.core.errors import InputError
from pipeline.engine.pipeline import Pipeline, StreamPlan

DOOR = {"kind": "rtsp", "url": "rtsp://door"}
YARD = {"kind": "rtsp", "url": "rtsp://yard", "max_fps": 5}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "streams.json"


def begun(file: Path, **sources: Mapping[str, Any]) -> tuple[Kept, dict[str, Any], Document]:
    """A run whose config has these, and what it watches in the end."""
    document = Document({"sources": dict(sources), "web": {"keep": str(file)}}, Path())
    kept = Kept.over(document)
    assert kept is not None
    kept.begin()
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
    assert begun(file, door=DOOR, gate=DOOR)[1] == {"door": DOOR}  # from then on


def test_references_are_kept_as_references_and_the_file_is_private(file: Path) -> None:
    kept, *_ = begun(file)
    kept.note("cam", {"kind": "rtsp", "url": "rtsp://${CAM}"})
    assert "${CAM}" in file.read_text()  # and no secret
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_that_cannot_be_written_stops_nothing(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept, *_ = begun(file)
    file.unlink()
    file.parent.rmdir()
    file.parent.write_text("in the way")
    kept.note("yard", YARD)
    assert "a restart will know less" in caplog.text
    file.parent.unlink()
    kept.note("gate", DOOR)
    assert begun(file)[1] == {"yard": YARD, "gate": DOOR}


def test_a_place_that_cannot_be_written_is_told_at_the_start(file: Path) -> None:
    file.parent.mkdir()
    file.mkdir()
    with pytest.raises(InputError, match=r"streams\.json"):
        begun(file)


def test_there_is_no_more_room_than_can_be_read_again(file: Path) -> None:
    kept, *_ = begun(file)
    large = {"kind": "rtsp", "url": "rtsp://" + "x" * 60_000}
    for number in range(17):
        kept.check(f"s{number}", large)
        kept.note(f"s{number}", large)
    with pytest.raises(InputError, match="no room"):
        kept.check("one more", large)
    assert len(begun(file)[1]) == 17


@pytest.mark.parametrize("named", ["${FOLDER}/s.json", "~/s.json"])
def test_the_file_may_be_named_by_the_environment(named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDER", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    document = Document({"sources": {}, "web": {"keep": named}}, Path())
    kept = Kept.over(document)
    assert kept is not None
    kept.begin()
    kept.note("yard", YARD)
    assert json.loads((tmp_path / "s.json").read_text())["yard"]["is"] == YARD


def test_what_the_config_admits_no_more_is_passed_over(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept, *_ = begun(file)
    kept.note("log", {"kind": "lines", "path": "secret.txt"})
    kept.note("cam", {"kind": "rtsp", "url": "rtsp://evil/${TOKEN}"})
    kept.note("yard", YARD)
    assert begun(file)[1] == {"yard": YARD}
    assert "log: passed over" in caplog.text and "cam: passed over" in caplog.text


def test_what_is_set_for_one_run_is_no_edit(file: Path) -> None:
    def assembled(*set_to: str) -> dict[str, Any]:
        config = file.parent.parent / "c.yaml"
        config.write_text("sources: {door: {kind: rtsp, url: rtsp://door}}\n")
        document = assemble([str(config)], assignments=[*set_to, f"web={{keep: {file}}}"])
        assert document.kept is not None
        document.kept.begin()
        if not set_to:
            document.kept.note("door", {**DOOR, "max_fps": 2})
        sources: dict[str, Any] = document.data["sources"]
        return sources

    assembled()
    assert assembled("sources.door.width=640") == {"door": {**DOOR, "max_fps": 2, "width": 640}}
    assert assembled("sources.door=null") == {"door": None}
    assert assembled() == {"door": {**DOOR, "max_fps": 2}}


def test_nothing_is_kept_unless_it_is_asked_for() -> None:
    assert Kept.over(Document({"sources": {"door": DOOR}, "web": {}}, Path())) is None
    assert Kept.over(Document({"sources": {"door": DOOR}}, Path())) is None
    assert Kept.over(Document({"sources": [1], "web": {"keep": "x"}}, Path())) is None


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"door": {"kind": "rtsp"}}', '{"door": {"was": 1, "is": null}}', "[" * 9999, "x" * (2 << 20)]
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


def test_what_breaks_off_because_the_program_ends_is_kept_as_it_was(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = file.parent.parent / "c.yaml"
    config.write_text("sources: {a: {kind: pattern}, b: {kind: pattern}}\nsinks: {}\n")
    document = assemble([str(config)], assignments=[f"web={{keep: {file}, kinds: [pattern]}}"])
    plan, generations = prepare(document)
    running = pipeline(plan, generations)
    control = Control(document, plan, generations, running)
    control.change("a", {"fps": 7})

    def ends(self: Pipeline, plan: StreamPlan, *_: object, **__: object) -> None:
        self.remove(plan.name)
        raise InputError("the program is ending")

    monkeypatch.setattr(Pipeline, "change", ends)
    with pytest.raises(InputError, match="ending"):
        control.change("a", {"fps": 9})
    running.stop()
    assert json.loads(file.read_text())["a"]["is"] == {"kind": "pattern", "fps": 7}


def test_a_mistake_in_it_names_it(thresher_here: Thresher, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("sources: {}\nweb: {keep: streams.json}\n")
    (tmp_path / "streams.json").write_text(
        '{"yard": {"was": null, "is": {"kind": "rtsp", "url": "rtsp://yard", "fps_max": 5}}}'
    )
    ran = thresher_here("run", "c.yaml")
    assert ran.returncode == 2
    assert "streams.json: yard" in ran.stderr and "fps_max" in ran.stderr and "Traceback" not in ran.stderr
