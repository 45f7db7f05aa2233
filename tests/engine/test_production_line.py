"""A line through the whole engine: every part has its word by its deadline, and every part is counted."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from parts import Brightness, Levels, generation
from pydantic import PrivateAttr

from pipeline.core.contracts import Delivery, Generation, Writer
from pipeline.core.records import Outcome
from pipeline.core.snapshot import StreamSnapshot
from pipeline.engine.pipeline import Pipeline, StreamPlan
from sinks.memory import Memory
from sinks.stills import encode
from sources.line import Line


class Clock(Memory):
    """Notes when it was told: `told[window id]` is the part's age in ns then."""

    _told: dict[str, int] = PrivateAttr(default_factory=dict)

    @property
    def told(self) -> dict[str, int]:
        return self._told

    def open(self) -> Writer:
        return _Writer(super().open(), self._told)


class _Writer:
    def __init__(self, inner: Writer, told: dict[str, int]) -> None:
        self._inner, self._told = inner, told

    def write(self, items: Sequence[Delivery]) -> None:
        now_ns = time.monotonic_ns()
        self._told.update({o.window.id: now_ns - o.window.mono_ns for o in items if isinstance(o, Outcome)})
        self._inner.write(items)

    def close(self) -> None:
        self._inner.close()


def belt(folder: Path, *levels: int) -> Path:
    for n, level in enumerate(levels):
        (folder / f"{n:03}.png").write_bytes(encode(np.full((16, 16, 3), level, np.uint8), "png"))
    return folder


def run(source: Line, gen: Generation, wait_s: float = 30) -> tuple[StreamSnapshot, list[Outcome], int]:
    """To its end; the ledgers hold and the order is kept. Also the age in ns of the part that was told of last."""
    sink = Clock()
    pipeline = Pipeline([StreamPlan("s", source, "levels", gen)], {"clock": sink})
    pipeline.start()
    assert pipeline.wait(wait_s)
    stream = pipeline.snapshot().streams[0]
    pipeline.stop(2.0)
    outcomes = sink.collector.outcomes
    assert stream.received == stream.windows + stream.undecoded
    assert stream.windows == stream.results + sum(stream.shed.values()) + stream.failed == len(outcomes)
    assert [o.window.seq for o in outcomes] == sorted({o.window.seq for o in outcomes})
    said = Counter(o.verdict for o in outcomes)
    said["unknown"] += stream.undecoded
    assert said == Counter(stream.verdicts)
    assert sum(stream.verdicts.values()) == stream.received
    return stream, outcomes, max(sink.told.values())


def test_parts_are_accepted_and_rejected(tmp_path: Path) -> None:
    source = Line(path=belt(tmp_path, 20, 220, 20, 90), fps=200, repeat=25, deadline_ms=4000)
    stream, outcomes, _ = run(source, generation())
    assert stream.verdicts == {"accept": 50, "reject": 50}
    assert {(o.window.file, o.verdict) for o in outcomes} == {
        ("000.png", "accept"), ("001.png", "reject"), ("002.png", "accept"), ("003.png", "reject"),
    }  # fmt: skip


@pytest.mark.parametrize("level", [0, 90])
def test_parts_that_look_alike_are_each_judged(tmp_path: Path, level: int) -> None:
    """Neither a black part nor one like the last is a fault of the camera."""
    stage = Brightness()
    source = Line(path=belt(tmp_path, level), fps=100, repeat=300, deadline_ms=4000)
    stream, *_ = run(source, generation(stage))
    assert stream.decided_by == {"cheap": stream.results} and stream.results == sum(stage.batches) > 250


def test_a_late_part_is_unknown_and_holds_up_nobody(tmp_path: Path) -> None:
    """One part hangs in the heavy stage for good. It is given up in time, and so are none of those behind it."""
    hang = threading.Event()
    gen = generation(Brightness(), Brightness("heavy", hang=hang), Levels())
    source = Line(path=belt(tmp_path, 120, *[20] * 60), fps=100, deadline_ms=6000, margin_ms=3000)
    stream, outcomes, oldest_ns = run(source, gen)
    hang.set()
    assert [o.verdict for o in outcomes] == ["unknown", *["accept"] * 60]
    assert stream.shed == {"deadline": 1}
    assert oldest_ns <= 6_000_000_000, "said before the deadline, the wait for one's turn included"


@pytest.mark.parametrize("slow_s", [60.0, 0.05])
def test_a_model_that_cannot_keep_pace_leaves_no_part_without_a_word_in_time(tmp_path: Path, slow_s: float) -> None:
    hang = threading.Event() if slow_s > 1 else None
    stage = Brightness(max_batch=1, slow_s=0 if hang else slow_s, hang=hang)
    source = Line(path=belt(tmp_path, 20, 220), fps=200, repeat=100, preload=True, deadline_ms=3000, margin_ms=2500)
    stream, _, oldest_ns = run(source, generation(stage))
    if hang is not None:
        hang.set()
    assert stream.received == 200
    assert stream.verdicts["unknown"] > 100
    assert oldest_ns <= 3_000_000_000


def test_a_part_that_cannot_be_decoded_is_unknown(tmp_path: Path) -> None:
    (belt(tmp_path, 20, 20, 20) / "001.png").write_bytes(b"no picture")
    stream, *_ = run(Line(path=tmp_path, fps=50, repeat=4, deadline_ms=4000), generation())
    assert (stream.undecoded, stream.verdicts) == (4, {"accept": 8, "unknown": 4})


def test_a_line_in_a_process_of_its_own(tmp_path: Path) -> None:
    source = Line(path=belt(tmp_path, 20, 220), fps=50, repeat=20, deadline_ms=8000, isolation="process")
    stream, *_ = run(source, generation(), 60)
    assert stream.received == 40 and stream.verdicts.get("unknown", 0) < 40
