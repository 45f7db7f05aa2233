from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.contracts import Picture, Sink
from pipeline.core.errors import InputError, SinkRefused
from pipeline.core.payloads import FrameImage
from pipeline.core.pictures import decode_picture
from pipeline.core.records import Array, Outcome, Result, Window
from sinks.rejects import Rejects
from sinks.stills import encode, file_name
from tests.contracts.sink_suite import Documents, SinkSuite, person, pictured, result, shed

ROOT = Path(__file__).parents[2]
STEPS = ("check", "open")


def identity(name: str) -> str:
    """The window's id, from the file's name."""
    return "/".join([*(parts := Path(name).stem.rsplit("_", 2))[:2], str(int(parts[2]))])


def pixels(path: Path) -> Array:
    return FrameImage(decode_picture(path.read_bytes())).rgb()


def plan(folder: Path, **options: object) -> Rejects:
    return Rejects.model_validate({"path": str(folder)} | options)


class TestContract(SinkSuite):
    """What can be read back of a picture is whose it is."""

    def plan(self, folder: Path) -> Sink:
        return plan(folder / "rejects", keep=100_000)

    def read(self, folder: Path) -> Documents:
        files = (folder / "rejects").iterdir()  # a kill may leave one unfinished, which the next start sweeps
        return {identity(file.name): {} for file in files if not file.name.startswith(".")}

    def expected(self, items: list[object]) -> Documents:
        return {o.window.id: {} for o in items if isinstance(o, Outcome) and o.verdict == "reject"}


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_what_was_found_is_drawn_on_the_part(tmp_path: Path, kind: str) -> None:
    part = np.full((240, 320, 3), 128, np.uint8)
    writer = plan(tmp_path, format=kind).open()
    image = FrameImage.from_array(part)
    writer.write([Picture(result(3, person(box=(100.0, 80.0, 200.0, 160.0))), image), Picture(result(4), image)])
    writer.close()
    (file,) = tmp_path.iterdir()
    assert file.name == f"door_01K0EPOCH_00000003.{kind}"
    drawn = np.abs(pixels(file)[:220].astype(int) - 128).max(axis=2) > 30  # above the caption
    rows, columns = np.nonzero(drawn)
    assert abs(columns.min() - 100) <= 3 and abs(columns.max() - 199) <= 3 and abs(rows.max() - 159) <= 3
    assert not drawn[90:150, 110:190].any()


def test_a_larger_part_is_made_smaller_with_its_boxes(tmp_path: Path) -> None:
    image = FrameImage.from_array(np.full((800, 1600, 3), 128, np.uint8))
    plan(tmp_path, max_width=400).open().write([Picture(result(0, person(box=(800.0, 400.0, 1200.0, 600.0))), image)])
    shown = pixels(next(tmp_path.iterdir()))
    assert shown.shape == (200, 400, 3)
    _, columns = np.nonzero(np.abs(shown[:180].astype(int) - 128).max(axis=2) > 30)
    assert abs(columns.min() - 200) <= 3


def test_the_folder_keeps_the_newest_also_over_restarts(tmp_path: Path) -> None:
    other = tmp_path / "mine.png"
    other.write_bytes(b"not theirs to remove")
    for start in (0, 4):
        writer = plan(tmp_path, keep=3).open()
        for seq in range(start, start + 4):
            writer.write(pictured([result(seq, person())]))
            os.utime(tmp_path / file_name(result(seq).window, "png"), (seq, seq))
        writer.close()
    assert {identity(f.name) for f in tmp_path.iterdir() if f != other} == {f"door/01K0EPOCH/{n}" for n in (5, 6, 7)}
    assert other.exists()


def test_the_folder_is_bounded_by_size_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    writer = plan(tmp_path, keep_mb=0.5).open()
    for seq in range(6):
        noise = FrameImage.from_array(rng.integers(0, 255, (240, 320, 3), np.uint8))
        writer.write([Picture(result(seq, person()), noise)])
    sizes = [file.stat().st_size for file in tmp_path.iterdir()]
    assert 1 <= len(sizes) < 6 and sum(sizes) <= 500_000


def test_what_was_half_written_is_swept_away_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / ".door_01K0EPOCH_00000001.png.unfinished").write_bytes(b"\x89PNG")
    plan(tmp_path).open().write(pictured([result(0, person())]))
    assert [file.name for file in tmp_path.iterdir()] == ["door_01K0EPOCH_00000000.png"]


def test_only_rejected_parts_with_a_picture_are_kept(tmp_path: Path) -> None:
    released = FrameImage.from_array(np.zeros((48, 64, 3), np.uint8))
    released.release()
    writer = plan(tmp_path).open()
    writer.write([*pictured([result(0), shed(1)]), Picture(result(2, person()), None)])
    writer.write([Picture(result(3, person()), released)])
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_names_are_safe_whatever_a_window_is_called(tmp_path: Path) -> None:
    odd = Window("../../etc", "a/b\0c" * 50, 10**9, 0, 1, 0, 0)
    outcome = Result(odd, 1, "m", "g", (person(),), flagged=True)
    plan(tmp_path / "deep" / "er").open().write(pictured([outcome]))
    (file,) = (tmp_path / "deep" / "er").iterdir()
    assert file.name.startswith("etc_a-b-c") and file.name.endswith("_1000000000.png")


def test_a_folder_that_cannot_be_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    steps = [getattr(plan(path), step) for path in (tmp_path / "file", tmp_path / "file" / "x") for step in STEPS]
    for step in [*steps, plan(Path("/proc/none")).open]:  # which looks as if one could write there
        with pytest.raises(InputError) as caught:
            step()
        assert str(caught.value).startswith((str(tmp_path / "file"), "/proc/none"))


def test_a_folder_that_goes_away_comes_back_and_a_full_disk_refuses(tmp_path: Path) -> None:
    folder = tmp_path / "rejects"
    writer = plan(folder).open()
    folder.rmdir()
    writer.write(pictured([result(0, person())]))
    assert len(list(folder.iterdir())) == 1
    (folder / "door_01K0EPOCH_00000001.png").mkdir()  # nothing can be put in its place
    with pytest.raises(SinkRefused, match="directory"):
        writer.write(pictured([result(1, person())]))
    assert not list(folder.glob(".*"))
    writer.write(pictured([result(2, person())]))


def test_pictures_come_back_as_they_were() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (47, 65, 3), np.uint8)
    assert (FrameImage(decode_picture(encode(noise, "png"))).rgb() == noise).all()
    smooth = np.repeat(np.repeat(noise[:8, :8], 8, 0), 8, 1)
    close = FrameImage(decode_picture(encode(smooth, "jpg"))).rgb()
    assert np.abs(close.astype(int) - smooth).mean() < 6


def test_a_missing_library_is_named_with_its_cure(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("raise ModuleNotFoundError('No module named cv2')")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from sinks.rejects import Rejects; Rejects().check()"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert "MissingPart: drawing on pictures needs OpenCV: pip install opencv-python" in run.stderr.splitlines()[-1]
