from __future__ import annotations

import os
import pickle
import resource
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.core.contracts import Picture
from pipeline.core.errors import InputError, MissingPart, SinkRefused
from pipeline.core.payloads import FrameImage
from pipeline.core.records import Array, Detection, Outcome, Result, ShedReason, Window
from pipeline.core.sound import Sound
from sinks.video import Video
from tests.contracts.sink_suite import NOON, person, result, shed

ROOT = Path(__file__).parents[2]
PEOPLE = ROOT / "pipeline" / "app" / "demo" / "people.mp4"


def grey(width: int = 320, height: int = 240, level: int = 128) -> FrameImage:
    return FrameImage.from_array(np.full((height, width, 3), level, np.uint8))


def picture(outcome: Outcome, image: FrameImage | None = None) -> Picture:
    return Picture(outcome, image or grey())


def plan(folder: Path, **options: object) -> Video:
    return Video.model_validate({"path": f"{folder}/{{stream}}.mp4"} | options)


def frames(path: Path) -> list[Array]:
    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def times(path: Path) -> list[float]:
    with av.open(path) as container:
        return [round(frame.time or 0.0, 3) for frame in container.decode(video=0)]


def reddish(pixels: Array) -> bool:
    red, green, blue = pixels.reshape(-1, 3).mean(axis=0)
    return bool(red > green + 40 and red > blue + 40)


def test_real_frames_come_out_annotated_and_in_their_own_time(tmp_path: Path) -> None:
    writer = plan(tmp_path).open()
    given = []
    with av.open(PEOPLE) as container:
        for seq, frame in zip(range(30), container.decode(video=0), strict=False):
            assert frame.time is not None
            given.append(frame.to_ndarray(format="rgb24"))
            start = int(frame.time * 1e9)
            window = Window("people", "e", seq, start, start + 100_000_000, start, NOON + start)
            outcome = Result(window, start + 7, decided_by="mobilenet", generation="g", detections=(person(),))
            writer.write([picture(outcome, FrameImage(frame))])
    writer.close()
    writer.close()
    out = frames(tmp_path / "people.mp4")
    assert len(out) == 30
    # apart from what was drawn it is the same picture, colours included
    untouched = (slice(300, 500), slice(200, 700))
    apart = [np.abs(a[untouched].astype(int) - b[untouched]).mean() for a, b in zip(given, out, strict=True)]
    assert max(apart) < 6
    assert times(tmp_path / "people.mp4") == [round(n / 10, 3) for n in range(30)]


def test_boxes_are_where_things_are_also_when_the_picture_is_made_smaller(tmp_path: Path) -> None:
    box = (400.0, 400.0, 800.0, 600.0)
    writer = plan(tmp_path, max_width=640).open()
    writer.write([picture(result(seq, person(box=box)), grey(1280, 720)) for seq in range(3)])
    writer.close()
    shown = frames(tmp_path / "door.mp4")[2]
    assert shown.shape == (360, 640, 3)
    changed = np.abs(shown[:330].astype(int) - 128).max(axis=2) > 40  # above the caption
    rows, columns = np.nonzero(changed)
    assert abs(columns.min() - 200) <= 3
    assert abs(columns.max() - 400) <= 3
    assert abs(rows.max() - 300) <= 3
    assert not changed[210:290, 210:390].any()  # a box is not filled


def test_what_speaks_of_the_whole_picture_is_listed_in_the_corner(tmp_path: Path) -> None:
    writer = plan(tmp_path).open()
    one, two = Detection("neutral", 0.6), Detection("Straße 歩行者", 0.3)
    writer.write([picture(result(0, one)), picture(result(1, one, two))])
    writer.close()
    first, second = (np.abs(frame.astype(int) - 128).max(axis=2) > 40 for frame in frames(tmp_path / "door.mp4"))
    assert first[:14, :60].any() and not first[16:100].any()
    assert second[16:28, :60].any() and not second[32:100].any()


def test_a_window_without_a_verdict_shows_that_nobody_judged_it(tmp_path: Path) -> None:
    writer = plan(tmp_path).open()
    writer.write([picture(result(0)), picture(shed(1, ShedReason.OVERLOAD)), picture(result(2))])
    writer.close()
    assert [reddish(frame[:4]) for frame in frames(tmp_path / "door.mp4")] == [False, True, False]


def test_pictures_that_are_gone_are_left_out(tmp_path: Path) -> None:
    writer = plan(tmp_path).open()
    released = grey()
    released.release()
    writer.write([picture(result(0)), Picture(result(1), None), picture(result(2), released), picture(result(3))])
    writer.close()
    assert times(tmp_path / "door.mp4") == [0.0, 0.12]


def test_each_stream_has_its_file_and_each_change_its_part(tmp_path: Path) -> None:
    writer = plan(tmp_path).open()
    later = result(0)
    another_epoch = Result(
        Window("door", "01K0LATER", 0, 0, 40_000_000, 0, NOON), later.done_ns, decided_by="m", generation="g"
    )
    writer.write(
        [
            picture(result(0)),
            picture(result(0, stream="yard")),
            picture(result(1)),
            picture(result(2), grey(640, 480)),
            picture(result(3), grey(641, 481)),  # odd sides lose a line, and are no new size
            picture(another_epoch, grey(640, 480)),
        ]
    )
    writer.close()
    assert {file.name: (len(frames(file)), frames(file)[0].shape[:2]) for file in tmp_path.iterdir()} == {
        "door.mp4": (2, (240, 320)),
        "yard.mp4": (1, (240, 320)),
        "door.2.mp4": (2, (480, 640)),
        "door.3.mp4": (1, (480, 640)),
    }


def test_a_plain_name_is_the_first_streams(tmp_path: Path) -> None:
    writer = Video(path=f"{tmp_path}/street.mp4").open()
    writer.write([picture(result(seq, stream=name)) for seq in range(2) for name in ("door", "yard", "gate")])
    writer.close()
    assert {file.name for file in tmp_path.iterdir()} == {"street.mp4", "street-yard.mp4", "street-gate.mp4"}


def test_an_earlier_run_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    for count, options in ((1, {}), (2, {}), (3, {"overwrite": True})):
        writer = plan(tmp_path, **options).open()
        writer.write([picture(result(seq)) for seq in range(count)])
        writer.close()
    assert {file.name: len(frames(file)) for file in tmp_path.iterdir()} == {"door.mp4": 3, "door.2.mp4": 2}


def test_the_same_pictures_again_and_a_clock_that_stands_still_add_nothing(tmp_path: Path) -> None:
    writer = plan(tmp_path).open()
    batch = [picture(result(seq)) for seq in range(3)]
    writer.write(batch)
    writer.write([batch[2]])
    writer.close()
    assert times(tmp_path / "door.mp4") == [0.0, 0.04, 0.08]


WRITE = """
import sys
from tests.contracts.sink_suite import person, result
from tests.sinks.test_video import Path, grey, picture, plan
writer = plan(Path(sys.argv[1])).open()
seq = 0
while True:
    writer.write([picture(result(seq, person()), grey(level=seq % 200))])
    seq += 1
    print(seq, flush=True)
"""


def test_a_killed_program_leaves_a_playable_file(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITE, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for _ in range(130):
            child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
        written = 130 + len(child.stdout.read().splitlines())
    assert written - 60 <= len(frames(tmp_path / "door.mp4")) <= written + 1  # all but the last two seconds or so


def test_a_full_disk_refuses_and_a_new_part_begins_once_there_is_room(tmp_path: Path) -> None:
    writer = plan(tmp_path).open()
    noise = np.random.default_rng(0)
    loud = [FrameImage.from_array(noise.integers(0, 255, (240, 320, 3), np.uint8)) for _ in range(60)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(SinkRefused, match=r"video of door cannot be written: .*File too large"):
            writer.write([picture(result(seq), image) for seq, image in enumerate(loud)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    writer.write([picture(result(100 + seq)) for seq in range(5)])
    writer.close()
    assert len(frames(tmp_path / "door.2.mp4")) == 5


def test_the_plan_checks_without_writing(tmp_path: Path) -> None:
    video = plan(tmp_path / "deep")
    video.check()
    assert list(tmp_path.iterdir()) == []
    assert pickle.loads(pickle.dumps(video)) == video
    (tmp_path / "file").touch()
    for path in (f"{tmp_path}/file/{{stream}}.mp4", "/proc/none/{stream}.mp4"):
        with pytest.raises(InputError) as caught:
            Video(path=path).open()
        assert str(caught.value).startswith(path)


@pytest.mark.parametrize(
    ("cv2", "advice"),
    [
        ("raise ImportError('libGL.so.1: cannot open shared object file')", "apt-get install libgl1 libglib2.0-0"),
        ("raise ModuleNotFoundError('No module named cv2')", "pip install opencv-python"),
    ],
)
def test_a_missing_library_is_named_with_its_cure(tmp_path: Path, cv2: str, advice: str) -> None:
    (tmp_path / "cv2.py").write_text(cv2)  # how Python finds OpenCV on a bare machine
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from sinks.video import Video; Video().check()"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    last = run.stderr.splitlines()[-1]
    assert last.startswith(f"{MissingPart.__module__}.MissingPart: drawing on pictures needs")
    assert advice in last


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    script = "import sys, sinks.video; print([name for name in ('cv2', 'torch') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_sound_and_text_are_no_pictures_that_are_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    heard = Sound(np.zeros(10, np.float32), 8000, 0)
    for lost in (0, 2):
        writer = plan(tmp_path, overwrite=True).open()
        items = [Picture(result(seq, stream="door.sound"), heard) for seq in range(5)]
        items += [Picture(result(seq, stream="chat"), None) for seq in range(5)]
        items += [picture(result(seq)) for seq in range(3)]
        items += [Picture(result(3 + seq), None) for seq in range(lost)]
        caplog.clear()
        with caplog.at_level("INFO", logger="sinks.video"):
            writer.write(items)
            writer.close()
        assert [record.getMessage() for record in caplog.records] == (
            ["2 pictures were gone before they could be drawn"] if lost else []
        )
