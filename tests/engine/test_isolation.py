"""Sources in processes of their own: the same to the engine, whatever becomes of the process."""

from __future__ import annotations

import ctypes
import gc
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from pipeline.core.contracts import Source
from pipeline.core.errors import FrameGone, InputError, SourceLost
from pipeline.core.payloads import FrameImage, ViewSpec
from pipeline.core.records import Chunk, Item, Watermark
from pipeline.core.secrets import remember
from pipeline.engine.isolation import Isolated
from sources.file import File
from sources.folder import Folder
from sources.memory import LiveMemory, Lost, Memory, Missing, Refused, Stall
from tests.contracts import source_suite as suite

BIKES = Path(__file__).parents[1] / "data" / "bikes.mp4"
SECRET = "planted-in-the-child"


def grey(value: int) -> np.ndarray:
    return np.full((48, 64, 3), value, np.uint8)


class Crashing(Source):
    """Hands over three pictures; then the process dies in native code."""

    def open(self, stream: str) -> Crasher:
        return Crasher(stream)


class Crasher:
    epoch = "A" * 26

    def __init__(self, stream: str) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[Item]:
        for n in range(3):
            now = time.monotonic_ns()
            yield Chunk(self._stream, self.epoch, n, n, 1, now, time.time_ns(), FrameImage.from_array(grey(n)))
        ctypes.string_at(0)

    def close(self) -> None:
        pass


class Greedy(Source):
    """Takes memory without end, as a decoder may that is fed by somebody hostile."""

    def open(self, stream: str) -> Crasher:
        taken = []
        while True:
            taken.append(bytearray(256 << 20))


class Talkative(Source):
    """Logs, and raises what no source should."""

    def open(self, stream: str) -> Crasher:
        logging.getLogger("sources.talk").warning("connected with %s", SECRET)
        raise RuntimeError(f"no entry with {SECRET}")


def children() -> list[int]:
    """The process ids of ours that read sources."""
    return [p.pid for p in multiprocessing.active_children() if p.pid is not None]


def gone(timeout_s: float = 8) -> bool:
    deadline = time.monotonic() + timeout_s
    while children() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not children()


@pytest.mark.slow
def test_contract() -> None:
    plan = Isolated.around(File(path=BIKES, isolation="process"))
    assert not plan.live and not plan.paced and plan.isolation == "process"
    suite.check_plan(plan)
    suite.check_closing(plan)
    _, items = suite.read(plan)
    suite.check_items(items, received=250)
    del items
    suite.check_replay(plan, most=30)
    gc.collect()
    assert gone()


def test_the_same_ids_and_pictures_as_without() -> None:
    source = File(path=BIKES)
    near, far = source.open("s"), Isolated.around(source).open("s")
    assert near.epoch == far.epoch
    spec = ViewSpec(64, 48, fit="letterbox")
    region = (100.0, 50.0, 300.0, 200.0)
    for ours, theirs in zip(suite.chunks(suite.until(near, 12)), suite.chunks(suite.until(far, 12)), strict=True):
        assert (ours.seq, ours.pts_ns, ours.duration_ns) == (theirs.seq, theirs.pts_ns, theirs.duration_ns)
        assert (ours.payload.width, ours.payload.height) == (theirs.payload.width, theirs.payload.height)
        assert np.array_equal(ours.payload.luma(), theirs.payload.luma())
        assert ours.payload.fingerprint() == theirs.payload.fingerprint()
        assert np.array_equal(ours.payload.rgb(100), theirs.payload.rgb(100))
        for part in (None, region):
            a, b = ours.payload.view(spec, part), theirs.payload.view(spec, part)
            assert np.array_equal(a.pixels, b.pixels) and not b.pixels.flags.writeable
            assert (a.left, a.top, a.step_x, a.step_y, a.bounds) == (b.left, b.top, b.step_x, b.step_y, b.bounds)
    near.close()
    far.close()


def test_settings_and_liveness_show_through() -> None:
    source = LiveMemory(script=[grey(1), Missing(2), grey(2)], max_fps=3, in_flight=7, silence_s=2)
    plan = Isolated.around(source)
    assert plan.live and plan.paced and (plan.max_fps, plan.in_flight, plan.silence_s) == (3, 7, 2)
    suite.check_epochs(plan)
    reader = plan.open(suite.STREAM)
    items = iter(reader)
    found = [next(items) for _ in range(3)]
    suite.check_items(found, received=4, intact=False)
    with pytest.raises(SourceLost, match="over"):
        next(items)
    reader.close()


def test_what_the_child_raises() -> None:
    with pytest.raises(InputError, match="no such file") as caught:
        Isolated.around(File(path=Path("/nowhere.mp4"))).open("s")
    assert caught.value.place == "/nowhere.mp4"
    for step, kind in ((Lost("cable"), SourceLost), (Refused("nonsense"), InputError)):
        reader = Isolated.around(Memory(script=[grey(1), step])).open("s")
        items = iter(reader)
        assert isinstance(next(items), Chunk)
        with pytest.raises(kind, match=r"cable|nonsense"):
            next(items)
        reader.close()
    assert gone()


def test_no_secret_and_every_log_line_comes_home(caplog: pytest.LogCaptureFixture) -> None:
    remember(SECRET)
    with pytest.raises(SourceLost, match="RuntimeError") as caught:
        Isolated.around(Talkative()).open("s")
    assert "connected with ***" in caplog.text
    assert SECRET not in caplog.text + str(caught.value)


def test_a_crash_takes_one_stream_and_names_the_signal() -> None:
    reader = Isolated.around(Crashing()).open("s")
    items = iter(reader)
    found = [next(items) for _ in range(3)]
    with pytest.raises(SourceLost, match="SIGSEGV"):
        next(items)
    with pytest.raises(FrameGone, match="is gone"):
        suite.chunks(found)[0].payload.rgb()
    reader.close()


def test_a_child_has_no_more_than_its_memory() -> None:
    with pytest.raises(SourceLost, match="MemoryError"):
        Isolated.around(Greedy()).open(suite.STREAM)


def test_a_killed_child() -> None:
    reader = Isolated.around(File(path=BIKES, loop=True, realtime=True)).open("s")
    items = iter(reader)
    next(items)
    os.kill(children()[0], signal.SIGKILL)
    with pytest.raises(SourceLost, match="SIGKILL"):
        list(items)
    reader.close()


def test_a_frozen_child_is_lost_and_killed() -> None:
    reader = Isolated.around(LiveMemory(script=[grey(1), Stall(60)], silence_s=1.5)).open("s")
    items = iter(reader)
    assert isinstance(next(items), Chunk)
    os.kill(children()[0], signal.SIGSTOP)
    seen = [next(items)]
    assert isinstance(seen[0], Watermark)
    with pytest.raises(SourceLost, match="hangs"):
        list(items)
    reader.close()
    assert gone()


def test_closing_a_hung_child_does_not_wait_for_it() -> None:
    reader = Isolated.around(Memory(script=[grey(1), Stall(600)])).open("s")
    next(iter(reader))
    os.kill(children()[0], signal.SIGSTOP)
    start = time.monotonic()
    gc.collect()
    reader.close()
    assert time.monotonic() - start < 6
    assert gone(2)


def test_a_slow_parent_slows_the_child_and_loses_nothing() -> None:
    reader = Isolated.around(Memory(script=[grey(n) for n in range(200)], in_flight=1)).open("s")
    spec = ViewSpec(16, 16)
    means = []
    for chunk in suite.until(reader, 200):
        if not isinstance(chunk, Chunk):
            continue
        if not means:
            time.sleep(1)
        means.append(chunk.payload.view(spec).pixels.mean())
        chunk.payload.release()
    reader.close()
    assert means == pytest.approx(range(200), abs=2)


def test_pictures_expire_and_are_released() -> None:
    reader = Isolated.around(Memory(script=[grey(n) for n in range(60)], in_flight=4)).open("s")
    kept = suite.chunks(suite.until(reader, 60))
    with pytest.raises(FrameGone, match="newer"):
        kept[0].payload.rgb()
    assert kept[-1].payload.rgb().mean() == pytest.approx(59, abs=2)
    kept[-1].payload.release()
    kept[-1].payload.release()
    with pytest.raises(FrameGone, match="released"):
        kept[-1].payload.rgb()
    with pytest.raises(TypeError, match="does not cross"):
        pickle.dumps(kept[0].payload)
    for chunk in kept:
        chunk.payload.release()
    reader.close()


def test_leased_pictures_outlive_the_end() -> None:
    """The heavy stage may still look at the last windows of a file when its reader is closed."""
    reader = Isolated.around(Memory(script=[grey(n) for n in range(5)])).open("s")
    kept = suite.chunks(reader)
    assert len(kept) == 5
    reader.close()
    assert kept[2].payload.rgb().mean() == pytest.approx(2, abs=2)
    for chunk in kept:
        chunk.payload.release()
    assert gone()


def test_broken_pictures_do_not_end_the_stream(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"none")
    with pytest.raises(InputError, match="no picture that can be decoded"):
        list(Isolated.around(Folder(path=tmp_path)).open("s"))


@pytest.mark.slow
def test_the_child_goes_with_its_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from pipeline.engine.isolation import Isolated\n"
        "from sources.file import File\n"
        "if __name__ == '__main__':\n"
        "    reader = Isolated.around(File(path=Path(sys.argv[1]), loop=True)).open('s')\n"
        "    print(reader._link._process.pid, flush=True)\n"
        "    for item in reader: pass\n"
    )
    parent = subprocess.Popen([sys.executable, str(script), str(BIKES)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        parent.wait()
    child.wait(10)
    assert not child.is_running()
