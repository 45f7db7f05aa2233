"""The source with faults on purpose: around a film, a script, sound and text."""

from __future__ import annotations

import itertools
import pickle
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sounds import sound_file, tone

from pipeline.core.contracts import Source
from pipeline.core.errors import InputError, SourceLost
from pipeline.core.records import Watermark
from pipeline.core.settings import GateChoice
from sources.faulty import Faulty
from sources.file import File
from sources.lines import Lines
from sources.memory import LiveMemory, Memory
from sources.sound_file import SoundFile
from tests.contracts import source_suite as suite

BIKES = Path(__file__).parents[1] / "data" / "bikes.mp4"


def grey(level: int) -> np.ndarray:
    return np.full((48, 64, 3), level, np.uint8)


def numbered(count: int = 10, **settings: Any) -> Memory:
    return Memory(script=[grey(20 * (n + 1)) for n in range(count)], fps=10, **settings)


def faulty(source: Source, *script: dict[str, Any], **settings: Any) -> Faulty:
    return Faulty(of=source, script=script, **settings)


def levels(items: list[Any]) -> list[int]:
    return [round(float(chunk.payload.luma().mean())) for chunk in suite.chunks(items)]


@pytest.mark.slow
def test_contract_with_nothing_in_the_script() -> None:
    plan = faulty(File(path=BIKES))
    suite.check_plan(plan)
    suite.check_closing(plan)
    _, items = suite.read(plan)
    suite.check_items(items, received=250)
    suite.check_replay(plan, most=30)


@pytest.mark.slow
def test_contract_with_faults() -> None:
    script = [
        {"fault": "none", "times": 20},
        {"fault": "damaged", "times": 40, "share": 0.3},
        {"fault": "duplicate", "times": 5},
        {"fault": "frozen", "times": 10},
        {"fault": "black", "times": 3},
    ]
    plan = faulty(File(path=BIKES), *script, seed=4)
    suite.check_plan(plan)
    suite.check_closing(plan)
    _, items = suite.read(faulty(File(path=BIKES), *script, seed=4))
    suite.check_items(items, received=255, intact=False)
    assert 5 <= suite.gaps(items, "damaged") <= 20
    shown = [(chunk.seq, suite.shown(chunk)) for chunk in suite.chunks(items)]
    _, again = suite.read(faulty(File(path=BIKES), *script, seed=4))
    assert shown == [(chunk.seq, suite.shown(chunk)) for chunk in suite.chunks(again)], "the seed decides"


def test_pictures_that_freeze_go_black_or_come_twice() -> None:
    plain_levels = levels(suite.read(numbered())[1])
    _, items = suite.read(faulty(numbered(), {"fault": "none", "times": 2}, {"fault": "frozen", "times": 3}))
    assert levels(items) == plain_levels[:2] + [plain_levels[2]] * 3 + plain_levels[5:]
    suite.check_items(items, received=10)
    assert len({chunk.payload.fingerprint() for chunk in suite.chunks(items)[2:5]}) == 1
    _, items = suite.read(faulty(numbered(), {"fault": "black", "times": 2}))
    assert max(levels(items)[:2]) <= 16 and levels(items)[2:] == plain_levels[2:]
    _, items = suite.read(faulty(numbered(3), {"fault": "duplicate", "times": 2}))
    assert [chunk.seq for chunk in suite.chunks(items)] == [0, 1, 2, 3, 4]
    assert [chunk.pts_ns // 100_000_000 for chunk in suite.chunks(items)] == [0, 0, 1, 1, 2]


def test_damage_is_a_gap_and_a_leap_moves_all_that_follows() -> None:
    script = {"fault": "damaged", "times": 2}, {"fault": "leap", "by_s": 3600}, {"fault": "none", "times": 2}
    _, items = suite.read(faulty(numbered(), *script, {"fault": "leap", "by_s": -7200}))
    suite.check_items(items, received=10, intact=False)
    assert suite.gaps(items, "damaged") == 2
    seconds = [chunk.pts_ns // 1_000_000_000 for chunk in suite.chunks(items)]
    assert seconds == [3600, 3600, 3600, -3600, -3600, -3600, -3600, -3599 - 1]


def test_breaks_and_what_no_reader_should_do() -> None:
    kinds = ("lost", SourceLost), ("refused", InputError), ("raise", RuntimeError)
    for fault, error in kinds:
        reader = faulty(numbered(), {"fault": "none"}, {"fault": fault}).open("s")
        items = iter(reader)
        next(items)
        with pytest.raises(error, match="as the script says"):
            next(items)
        reader.close()


def test_a_film_taken_for_a_camera_is_lost_every_so_often() -> None:
    plan = faulty(numbered(), {"fault": "none", "times": 3}, {"fault": "lost"}, repeat=True, as_live=True)
    assert plan.live and plan.paced and not faulty(numbered()).live
    suite.check_epochs(plan)
    epochs = []
    for _ in range(3):
        reader = plan.open("s")
        found = []
        with pytest.raises(SourceLost):
            found += [item for item in reader if not found.append(item)]
        assert len(suite.chunks(found)) == 3
        assert {chunk.epoch for chunk in suite.chunks(found)} == {reader.epoch}
        epochs.append(reader.epoch)
        reader.close()
    assert epochs == sorted(set(epochs))


def test_silence_loses_what_is_live_and_lets_a_file_wait() -> None:
    script = {"fault": "none", "times": 2}, {"fault": "silent", "for_s": 0.7}
    began = time.monotonic()
    _, items = suite.read(faulty(numbered(), *script))
    assert time.monotonic() - began >= 0.7
    suite.check_items(items, received=10)
    assert any(isinstance(item, Watermark) for item in items)
    live = LiveMemory(script=[grey(20 * (n + 1)) for n in range(12)], fps=10, realtime=True)
    reader = faulty(live, *script).open("s")
    found = list(suite.until(reader, 4))
    reader.close()
    seqs = [chunk.seq for chunk in suite.chunks(found)]
    assert seqs[:2] == [0, 1] and seqs[2] >= 8, "what was sent meanwhile is gone"
    live = LiveMemory(script=[grey(50)] * 20, fps=10, realtime=True)
    gives_up = faulty(live, {"fault": "silent", "for_s": 60}, silence_s=0.2).open("s")
    with pytest.raises(SourceLost, match="nothing has come"):
        list(gives_up)


def test_a_reader_that_is_slow_or_stuck() -> None:
    for act in ({"fault": "slow", "each_s": 0.2}, {"fault": "hang", "for_s": 0.2}):
        began = time.monotonic()
        _, items = suite.read(faulty(numbered(), act))
        assert time.monotonic() - began >= 0.2
        suite.check_items(items, received=10)


def test_what_is_said_of_the_stream_holds() -> None:
    inner = numbered(max_fps=3, in_flight=7, isolation="process", gate=GateChoice(kind="motion"), cascade="people")
    plan = faulty(inner, cascade="other")
    assert (plan.max_fps, plan.in_flight, plan.isolation, plan.cascade) == (3, 7, "process", "other")
    assert plan.gate == inner.gate
    assert pickle.loads(pickle.dumps(faulty(File(path=BIKES), {"fault": "lost"}))).script[0].fault == "lost"


def test_sound_and_text_have_their_faults_too(tmp_path: Path) -> None:
    sound = SoundFile(path=sound_file(tmp_path / "a.wav", tone(1.0, 16_000), 16_000), window_s=0.2, hop_s=0.1)
    _, plain = suite.read(sound)
    shifted = faulty(sound, {"fault": "leap", "by_s": 5}, {"fault": "duplicate"})
    assert shifted.medium == "sound"
    _, items = suite.read(shifted)
    assert suite.chunks(items)[0].payload.start_ns == suite.chunks(plain)[0].pts_ns + 5_000_000_000
    assert len(suite.chunks(items)) == len(suite.chunks(plain)) + 1
    for a, b in itertools.pairwise(suite.chunks(items)):
        assert a.payload is not b.payload
    (tmp_path / "a.txt").write_text("one\ntwo\nthree\n")
    said = faulty(Lines(path=str(tmp_path / "a.txt")), {"fault": "duplicate"}, {"fault": "damaged"})
    assert said.medium == "text"
    _, items = suite.read(said)
    assert [c.payload.raw for c in suite.chunks(items)] == ["one", "one", "three"]
    with pytest.raises(InputError, match="for pictures") as caught:
        faulty(sound, {"fault": "black"}).check()
    assert caught.value.place == "script.0.fault"


def test_scripts_that_make_no_sense_are_refused() -> None:
    for act in ({"fault": "silent"}, {"fault": "hang", "times": 2}, {"fault": "nope"}, {"fault": "lost", "by": 3}):
        with pytest.raises(ValidationError):
            faulty(numbered(), act)


def test_a_stuck_reader_that_comes_back_does_not_disturb_its_successor() -> None:
    plan = faulty(numbered(), {"fault": "hang", "for_s": 0.3}, {"fault": "lost"})
    first = iter(plan.open("s"))
    late: list[Any] = []
    thread = threading.Thread(target=lambda: late.append(next(first)))
    thread.start()
    thread.join()
    assert len(late) == 1
    with pytest.raises(SourceLost):
        next(iter(plan.open("s")))
