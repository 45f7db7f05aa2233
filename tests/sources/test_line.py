"""Parts at a pace and parts that arrive as files."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from av.video.frame import VideoFrame
from line_parts import fill, following, grey, noise, png
from pydantic import ValidationError

from pipeline.core.errors import InputError, SourceLost
from pipeline.core.records import Chunk, Gap
from sinks.stills import encode
from sources.line import MARGIN_MS, Line
from sources.line_arriving import ArrivingReader
from tests.contracts import source_suite as suite


def paced(folder: Path, **options: object) -> Line:
    return Line.model_validate({"path": folder, "fps": 200} | options)


def arriving(folder: Path, **options: object) -> Line:
    return Line.model_validate({"path": folder, "trigger": "folder"} | options)


# At a pace.


@pytest.mark.parametrize("options", [{}, {"preload": True}, {"ahead": 1, "threads": 1}])
def test_contract(tmp_path: Path, options: dict[str, Any]) -> None:
    plan = paced(fill(tmp_path, *"abcde"), repeat=3, **options)
    suite.check_plan(plan)
    suite.check_closing(plan)
    suite.check_items(suite.read(plan)[1], received=15)
    suite.check_replay(plan)
    assert plan.paced and plan.parts and not plan.live


@pytest.mark.parametrize("preload", [False, True])
def test_parts_arrive_by_the_clock_and_not_by_the_decoder(tmp_path: Path, preload: bool) -> None:
    for n in range(8):
        (tmp_path / f"{n}.png").write_bytes(noise(n, 200))
    began = time.monotonic_ns()
    _, items = suite.read(paced(tmp_path, repeat=25, preload=preload))
    parts = suite.chunks(items)
    suite.check_items(items, received=200, intact=False)
    numbers = [c.pts_ns // 5_000_000 for c in parts]
    start = parts[0].mono_ns - parts[0].pts_ns
    assert [c.mono_ns - start for c in parts] == [n * 5_000_000 for n in numbers]
    assert [c.file for c in parts] == [f"{n % 8}.png" for n in numbers]
    assert time.monotonic_ns() - began >= 199 * 5_000_000
    assert all(c.duration_ns == 5_000_000 for c in parts)


def test_a_decoder_that_cannot_keep_pace_delays_nobody_and_every_part_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(3):
        (tmp_path / f"{n}.png").write_bytes(noise(n, 1400))
    plan = paced(tmp_path, fps=400, repeat=100, deadline_ms=1000, threads=1, ahead=4)
    _, items = suite.read(plan)
    suite.check_items(items, received=300, intact=False)
    missed = suite.gaps(items, "undecoded")
    assert 0 < missed < 300
    told = [message for message in caplog.messages if "cannot keep pace" in message]
    assert told and len(told) < missed


def test_no_part_is_handed_over_that_is_late_already(tmp_path: Path) -> None:
    """Whoever takes the parts in was away for a while: what passed meanwhile is counted, not judged."""
    with closing(paced(fill(tmp_path, *"abcd"), repeat=50, deadline_ms=130, preload=True).open("s")) as reader:
        items = iter(reader)
        found = following(items, 10)
        time.sleep(0.4)
        found += following(items, 190)
    assert suite.gaps(found, "undecoded") >= 50
    assert [c.seq for c in suite.chunks(found)] == sorted(c.seq for c in suite.chunks(found))


def test_nothing_to_see_in_the_end(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    for options in ({}, {"preload": True}, {"repeat": 0}):
        with pytest.raises(InputError, match="no part that can be decoded"):
            suite.read(paced(tmp_path, **options))


def test_for_ever_means_for_ever_and_a_bad_picture_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, "a", "c")
    (tmp_path / "b.png").write_bytes(b"no picture")
    with closing(paced(tmp_path, repeat=0, fps=500).open("s")) as reader:
        found = following(iter(reader), 100)
    assert suite.gaps(found, "undecoded") >= 33
    assert sum("b.png" in message for message in caplog.messages) == 1


def test_the_wait_for_a_slow_pace_is_no_silence(tmp_path: Path) -> None:
    with closing(paced(fill(tmp_path, *"ab"), fps=0.5).open("s")) as reader:
        assert len(following(iter(reader), 2)) == 2


# Beside a reference.


def boards(folder: Path) -> Path:
    for n, level in enumerate((50, 100, 150)):
        (folder / f"{n}_test.png").write_bytes(png(level))
        (folder / f"{n}_temp.png").write_bytes(png(level + 40))
    return folder


def test_each_part_beside_its_own_reference(tmp_path: Path) -> None:
    plan = paced(boards(tmp_path), names="*_test", reference=tmp_path / "{stem}_temp.png")
    parts = suite.chunks(suite.read(plan)[1])
    assert [c.file for c in parts] == [f"{n}_test.png" for n in range(3)]
    for part, level in zip(parts, (50, 100, 150), strict=True):
        red, green, blue = part.payload.rgb().reshape(-1, 3).mean(axis=0)
        assert abs(red - level) < 2 and abs(green - level - 40) < 2 and abs(blue - level - 40) < 2


def test_all_parts_beside_the_golden_one(tmp_path: Path) -> None:
    golden = fill(tmp_path, "golden", level=200) / "golden.png"
    parts = suite.chunks(suite.read(paced(fill(tmp_path, "a", "b", level=90), reference=golden))[1])
    assert [c.file for c in parts] == ["a.png", "b.png"], "the reference is no part"
    assert [round(float(x)) for x in parts[0].payload.rgb().reshape(-1, 3).mean(axis=0)] == [90, 200, 200]


def test_parts_without_a_fitting_reference_are_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    boards(tmp_path)
    (tmp_path / "0_temp.png").unlink()
    (tmp_path / "1_temp.png").write_bytes(encode(grey(9, 30, 30), "png"))
    plan = paced(tmp_path, names="*_test", reference=tmp_path / "{stem}_temp.png")
    _, items = suite.read(plan)
    suite.check_items(items, received=3, intact=False)
    assert [type(item) for item in items if isinstance(item, (Chunk, Gap))] == [Gap, Gap, Chunk]
    assert "0_test.png: its reference 0_temp.png cannot be read: No such file" in caplog.text
    assert "1_test.png: and its reference 1_temp.png differ in size: 64×48 and 30×30" in caplog.text


def test_another_reference_is_another_run(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    (tmp_path / "refs").mkdir()
    epochs = set()
    for level in (10, 20):
        fill(tmp_path / "refs", "golden", level=level)
        for reference in (None, tmp_path / "refs" / "golden.png", tmp_path / "refs" / "{stem}.png"):
            epochs.add(suite.read(paced(tmp_path, reference=reference, repeat=1), most=1)[0])
        fill(tmp_path / "refs", "a", level=level)
    assert len(epochs) == 4


# As files that arrive.


def test_contract_of_files_that_arrive(tmp_path: Path) -> None:
    plan = arriving(tmp_path)
    suite.check_plan(plan)
    suite.check_epochs(plan)
    assert plan.paced and not plan.live
    with closing(plan.open(suite.STREAM)) as reader:
        items = iter(reader)
        next(items)
        fill(tmp_path, "a", "b")
        found = following(items, 2)
        reader.close()
    suite.check_items(found, received=2)
    assert [c.file for c in suite.chunks(found)] == ["a.png", "b.png"]


def test_what_lies_there_has_passed_and_what_is_no_part_does_not_count(tmp_path: Path) -> None:
    fill(tmp_path, "before_test")
    with closing(arriving(tmp_path, names="*_test", reference=tmp_path / "{stem}_temp.png").open("s")) as reader:
        items = iter(reader)
        next(items)
        fill(tmp_path, "1_temp", "2_temp")
        (tmp_path / "notes.txt").write_text("no picture")
        (tmp_path / ".3_test.png").write_bytes(png())
        fill(tmp_path, "1_test")
        (tmp_path / "broken_test.png").write_bytes(b"no picture")
        first = following(items, 2)
        (tmp_path / "2_test.tmp").write_bytes(png())
        (tmp_path / "2_test.tmp").rename(tmp_path / "2_test.png")
        second = following(items, 1)
        fill(tmp_path, "1_test", level=90)  # the same name is another part
        third = following(items, 1)
    assert sorted(type(item).__name__ for item in first) == ["Chunk", "Gap"]
    assert [c.file for c in suite.chunks([*first, *second, *third])] == ["1_test.png", "2_test.png", "1_test.png"]
    assert suite.chunks(third)[0].seq == 3


def test_a_part_arrives_when_its_writer_lets_go_of_it(tmp_path: Path) -> None:
    with closing(arriving(tmp_path, settle_s=0.3).open("s")) as reader:
        items = iter(reader)
        next(items)
        before = time.monotonic_ns()
        fill(tmp_path, "a")
        after = time.monotonic_ns()
        (part,) = suite.chunks(following(items, 1))
        assert before - 1 <= part.mono_ns <= after + 100_000_000
        assert time.monotonic_ns() - part.mono_ns >= 290_000_000, "the time to settle is part of its age"


def test_parts_are_never_older_than_the_one_before(tmp_path: Path) -> None:
    with closing(arriving(tmp_path).open("s")) as reader:
        items = iter(reader)
        next(items)
        for n in range(40):
            fill(tmp_path, f"{n:02}")
        ages = [c.mono_ns for c in suite.chunks(following(items, 40))]
    assert all(np.diff(ages) > 0)


def test_what_is_late_before_it_is_decoded_is_passed_over_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(arriving(tmp_path, deadline_ms=330).open("s")) as reader:
        assert isinstance(reader, ArrivingReader)
        decode, decoded = reader._bench.read, []

        def slowly(path: Path) -> VideoFrame:
            decoded.append(path.name)
            time.sleep(0.5 if path.name == "a.png" else 0)
            return decode(path)

        monkeypatch.setattr(reader._bench, "read", slowly)
        items = iter(reader)
        next(items)
        fill(tmp_path, "a", "b", "c")
        found = following(items, 3)
        fill(tmp_path, "d")
        found += following(items, 1)
    assert [type(item) for item in found] == [Chunk, Gap, Gap, Chunk]
    assert decoded == ["a.png", "d.png"]
    assert suite.chunks(found)[1].seq == 3
    assert "decoding cannot keep pace: 1 parts were passed over" in caplog.text


def test_a_folder_that_goes_away(tmp_path: Path) -> None:
    folder = tmp_path / "inbox"
    folder.mkdir()
    with closing(arriving(folder).open("s")) as reader:
        items = iter(reader)
        next(items)
        folder.rmdir()
        with pytest.raises(SourceLost, match="is gone"):
            following(items, 1)


# What cannot be.


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"path": "x"}, "say how parts come"),
        ({"path": "x", "fps": 5, "trigger": "folder"}, "`fps` is for lines without a `trigger`"),
        ({"fps": 5, "trigger": "http"}, "`fps` is for lines without a `trigger`"),
        ({"path": "x", "trigger": "folder", "preload": True}, "`preload` is for lines without"),
        ({"path": "x", "fps": 5, "listen": "127.0.0.1:1"}, "`listen` is for lines with `trigger: http`"),
        ({"path": "x", "fps": 5, "settle_s": 1}, "`settle_s` is for lines with `trigger: folder`"),
        ({"path": "x", "trigger": "http"}, "`path`"),
        ({"fps": 5}, "`path`"),
        ({"trigger": "folder"}, "`path`"),
        ({"path": "x", "fps": 5, "overflow": "block"}, "waits for nobody"),
        ({"path": "x", "fps": 5, "names": "test"}, r"one \*"),
        ({"path": "x", "fps": 5, "names": "a/*"}, r"one \*"),
        ({"path": "x", "fps": 5, "deadline_ms": MARGIN_MS}, "leaves nothing"),
        ({"path": "x", "fps": 5, "deadline_ms": 100, "latency_budget_ms": 90}, "not both"),
        ({"path": "x", "fps": 0}, "greater than 0"),
        ({"trigger": "http", "listen": "nowhere"}, "host:port"),
        ({"trigger": "http", "listen": "127.0.0.1:99999"}, "host:port"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Line.model_validate(settings)


def test_the_budget_leaves_time_to_say_so() -> None:
    plan = Line(path=Path("x"), fps=200, deadline_ms=130)
    assert plan.latency_budget_ms == 130 - MARGIN_MS
    assert Line(path=Path("x"), fps=200, deadline_ms=130, margin_ms=10).latency_budget_ms == 120
    assert Line(path=Path("x"), fps=200, latency_budget_ms=90).latency_budget_ms == 90
    assert Line(path=Path("x"), fps=200).latency_budget_ms is None
    assert Line(path=Path("x"), fps=200, deadline_ms=430).in_flight == 120, "as many as come in time, and some"
    assert Line(path=Path("x"), fps=200, in_flight=4).in_flight == 4


def test_folders_and_references_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    wrong = [
        (paced(tmp_path / "none"), "no such folder"),
        (paced(tmp_path / "empty"), "holds no parts"),
        (paced(fill(tmp_path, "a"), names="*_test"), r"holds no parts \(pictures whose name fits \*_test\)"),
        (paced(tmp_path / "a.png"), "is not a folder"),
        (paced(tmp_path, reference=tmp_path / "golden.png"), "cannot be read"),
        (paced(tmp_path, reference=tmp_path / "none" / "{stem}.png"), "no such folder for references"),
        (arriving(tmp_path / "none"), "no such folder"),
        (Line(trigger="http", reference=tmp_path), "cannot be read"),
    ]
    for plan, words in wrong:
        for step in (plan.check, lambda plan=plan: plan.open("s")):
            with pytest.raises(InputError, match=words):
                step()


def test_the_golden_part_may_not_be_fitting_at_all(tmp_path: Path) -> None:
    golden = tmp_path / "golden.png"
    golden.write_bytes(encode(grey(9, 30, 30), "png"))
    with pytest.raises(InputError, match="no part that can be decoded"):
        suite.read(paced(fill(tmp_path, "a"), reference=golden))


def test_nothing_is_logged_where_nothing_is_wrong(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    suite.read(paced(fill(tmp_path, *"abc"), repeat=4))
    assert caplog.messages == []
