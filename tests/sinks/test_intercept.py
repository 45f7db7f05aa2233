"""A delayed video with what the policy rules done to it, on real frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.core.contracts import Picture
from pipeline.core.payloads import FrameImage
from pipeline.core.records import Array, Detection, Result, Window
from pipeline.core.rulings import Anchor, Evidence, Ruling
from sinks import intercept
from sinks.video import Video
from tests.contracts.sink_suite import NOON, result
from tests.sinks.test_video import frames, grey, picture

ROOT = Path(__file__).parents[2]
PEOPLE = ROOT / "pipeline" / "app" / "demo" / "people.mp4"
S = 1_000_000_000
BOX = (300.0, 250.0, 500.0, 450.0)


def film(count: int, epoch: str = "e", found: tuple[Detection, ...] = ()) -> list[tuple[Picture, Array]]:
    """The first frames of the film, ten a second, and as they are."""
    out = []
    with av.open(PEOPLE) as container:
        for seq, frame in zip(range(count), container.decode(video=0), strict=False):
            start = seq * S // 10
            window = Window("cam", epoch, seq, start, start + S // 10, start, NOON + start)
            outcome = Result(window, start + 7, decided_by="m", generation="g", detections=found)
            out.append((Picture(outcome, FrameImage(frame)), frame.to_ndarray(format="rgb24")))
    return out


def ruling(action: Any, start_s: float, end_s: float, kind: Any = "end", **fields: Any) -> Ruling:
    seen = Evidence("cam/e/1", "cam", "skin", 0.9, 0.5, "m", "m", "g", False)
    start, end = round(start_s * S), round(end_s * S)
    usual: dict[str, Any] = {
        "targets": ("cam",),
        "evidence": (seen,),
        "missing": (),
        "newest_ns": 0,
        "done_ns": 1,
        "anchors": (Anchor("cam", "e", 0),),
    }
    return Ruling(f"show/{action}/{start}", kind, "show", action, f"r-{action}", start_ns=start, end_ns=end,
                   start_wall_ns=NOON + start, end_wall_ns=NOON + end, **usual | fields)  # fmt: skip


def written(folder: Path, items: list[Any], **options: Any) -> list[Array]:
    writer = Video.model_validate({"path": f"{folder}/{{stream}}.mp4", "delay_s": 1} | options).open()
    for item in items:
        writer.write([item])
    writer.close()
    return frames(folder / "cam.mp4")


def detail(pixels: Array) -> float:
    """How much neighbouring pixels differ, in the middle of the picture."""
    return float(np.abs(np.diff(pixels[200:500, 250:650].astype(int), axis=1)).mean())


def test_what_is_ruled_later_is_done_to_the_pictures_of_its_time(tmp_path: Path) -> None:
    shots = film(30)
    items: list[Any] = [shot for shot, _ in shots]
    items.insert(16, ruling("blur", 0.9, 9, "new"))  # the picture of 0.6 s was written just now
    items.insert(25, ruling("blur", 0.9, 1.8))
    shown = written(tmp_path, items)
    assert len(shown) == 30
    blurred = [detail(out) < 0.5 * detail(as_it_was) for out, (_, as_it_was) in zip(shown, shots, strict=True)]
    assert [number for number, was in enumerate(blurred) if was] == list(range(9, 18))
    untouched = np.abs(shots[3][1][200:500].astype(int) - shown[3][200:500]).mean()
    assert untouched < 6


def test_only_the_things_that_it_is_about_are_blurred_where_they_are_known(tmp_path: Path) -> None:
    shots = film(12, found=(Detection("skin", 0.9, BOX), Detection("face", 0.9, (700.0, 250.0, 760.0, 310.0))))
    shown = written(
        tmp_path, [*(shot for shot, _ in shots[:2]), ruling("blur", 0, 5, "new"), *(s for s, _ in shots[2:])]
    )
    for out, (_, was) in zip(shown, shots, strict=True):
        inside, outside = (slice(260, 440), slice(310, 490)), (slice(260, 440), slice(520, 690))
        assert (
            np.abs(np.diff(out[inside].astype(int), axis=1)).mean()
            < 0.5 * np.abs(np.diff(was[inside].astype(int), axis=1)).mean()
        )
        assert np.abs(out[outside].astype(int) - was[outside]).mean() < 6


def test_block_is_black_with_a_word_and_marks_leave_the_picture(tmp_path: Path) -> None:
    shots = film(8)
    muted = ruling("mute", 0.4, 0.6, targets=("cam.sound",), anchors=(Anchor("cam.sound", "e", 0),))
    shown = written(tmp_path, [*(s for s, _ in shots), ruling("block", 0.1, 0.3), muted, ruling("flag", 0.7, 0.8)])
    assert [out[100:].max() < 24 for out in shown] == [False, True, True, *[False] * 5]
    assert all(out[:34].max() > 100 for out in shown[1:3]), "and it says so"

    def strip(number: int) -> float:
        return float(shown[number][:30].mean() / shots[number][1][:30].mean())

    assert [strip(number) < 0.7 for number in range(8)] == [False, True, True, False, True, True, False, True]
    assert np.abs(shots[4][1][200:500].astype(int) - shown[4][200:500]).mean() < 6


def test_rulings_over_others_or_other_times_change_nothing(tmp_path: Path) -> None:
    shots = film(4)
    others = [
        ruling("block", 0, 9, targets=("door",)),
        ruling("blur", 0, 9, targets=("cam.sound",)),
        ruling("block", 5, 9),
    ]
    shown = written(tmp_path, [*others, *(shot for shot, _ in shots)])
    assert all(out[100:].max() > 100 and out[:30].mean() > 40 for out in shown)


def test_another_connection_goes_by_the_clock_on_the_wall(tmp_path: Path) -> None:
    shots = film(4)
    elsewhere = (Anchor("cam", "before", -77 * S),)
    shown = written(tmp_path, [*(shot for shot, _ in shots), ruling("block", 0.1, 0.2, anchors=elsewhere)])
    assert [out[100:].max() < 24 for out in shown] == [False, True, False, False]


def test_without_a_delay_nothing_is_held_and_nothing_done(tmp_path: Path) -> None:
    shots = film(2)
    shown = written(tmp_path, [ruling("block", 0, 9, "new"), *(shot for shot, _ in shots)], delay_s=0)
    assert all(out[100:].max() > 100 for out in shown)
    for delay in (-1, 10.5):
        with pytest.raises(ValidationError):
            Video(delay_s=delay)


def test_no_more_is_held_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intercept, "MOST_HELD", 5)
    holding = intercept.Interceptor(10)
    handed = []
    for seq in range(20):
        pixels = np.full((48, 64, 3), seq, np.uint8)
        handed += [outcome.window.seq for outcome, _, _ in holding.hold(result(seq), pixels, 1.0)]
        again = list(holding.hold(result(seq), pixels, 1.0))
        assert not again, "it came again after a hitch"
    assert handed == list(range(15))
    assert holding.early == 15
    other = result(0)
    other = replace(other, window=replace(other.window, epoch="next"))
    ended = [outcome.window.seq for outcome, _, _ in holding.hold(other, np.zeros((48, 64, 3), np.uint8), 1.0)]
    assert ended == list(range(15, 20)), "another connection begins: the old one is over"
    assert len(list(holding.rest())) == 1
    for number in range(1000):
        holding.ruled(ruling("flag", number, number + 1))
    assert len(holding._ended) == 256


def test_an_end_has_the_last_word_however_often_things_come(tmp_path: Path) -> None:
    begun, over = ruling("block", 0, 9, "new"), ruling("block", 0, 0.1)
    writer = Video(path=f"{tmp_path}/{{stream}}.mp4", delay_s=5).open()
    window = replace(result(0).window, stream="cam", epoch="e", start_ns=S, end_ns=2 * S)
    writer.write([picture(replace(result(0), window=window), grey()), begun, over, begun, over])
    writer.close()
    assert frames(tmp_path / "cam.mp4")[0].mean() > 60


def test_another_action_of_a_rule_ends_the_one_before_whose_end_was_lost(tmp_path: Path) -> None:
    shots = film(12)
    items: list[Any] = [ruling("block", 0, 0.2, "new"), *(shot for shot, _ in shots)]
    items += [ruling("block", 0.6, 0.7, "new"), ruling("block", 0.6, 0.8)]
    shown = written(tmp_path, items, delay_s=5)
    assert [out[100:].max() < 24 for out in shown] == [n < 2 or 6 <= n < 8 for n in range(12)]
    holding = intercept.Interceptor(1)
    for number in range(1000):
        holding.ruled(ruling("block", number, number + 1, "new"))
    assert len(holding._going) == 1
    holding.ruled(ruling("block", 998, 998.5))
    assert len(holding._going) == 1, "the end of an older one is not that of the last"
    assert holding._ended["show/block/998000000000"].end_ns == 998.5 * S
