"""Sound through the whole pipeline: how many streams a core bears, and how soon a word that ended is an event."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import ConfigDict, Field

from detectors.gates.voice import Voice
from pipeline.app.bench.measure import core_seconds, in_turns
from pipeline.app.bench.models import cascade
from pipeline.app.bench.report import Report, Row, Scale, paired
from pipeline.app.bench.speech import save, talk
from pipeline.app.bench.subject import Counting, started
from pipeline.app.bench.text import Alone
from pipeline.core.contracts import Delivery, Generation, Sink, Writer
from pipeline.core.errors import ThresherError
from pipeline.core.records import Event, Outcome
from pipeline.engine.pipeline import Pipeline, StreamPlan
from sources.sound_file import SoundFile

_SHARE = 0.25  # of the time somebody speaks
_STREAMS = 10
_HOP_S = 0.1
_BUDGET_MS = 150.0


def bench(scale: Scale) -> Report:
    judged_by = cascade("words")
    with tempfile.TemporaryDirectory() as there:
        folder = Path(there)
        seconds = float(scale.of(60, 6))
        files = [save(talk(folder, seconds, _SHARE, seed), folder / f"talk-{seed}.wav") for seed in range(_STREAMS)]
        cheap = Generation("bench-cheap", judged_by.cheap, None, Alone())

        def streams_a_core(gated: bool) -> float:
            done = core_seconds(lambda: _run(files, cheap, gated))
            return _STREAMS * seconds / (done * _STREAMS * round(seconds / _HOP_S))

        pairs = in_turns(lambda: streams_a_core(True), lambda: streams_a_core(False), scale.of(3, 1))
        rows = [
            paired(
                "sound: streams in real time a core, voice gate and MobileNet", "streams", pairs,
                note=f"somebody speaks {_SHARE:.0%} of the time, hop {_HOP_S:g} s; baseline: without the gate",
            ),
            *_soon(judged_by, folder, scale),
        ]  # fmt: skip
    return Report(rows, {"cheap": judged_by.cheap.describe(), "rate": "as the cascade hears"})


def _run(files: Sequence[Path], judged_by: Generation, gated: bool) -> int:
    """Windows that were settled."""
    sink = Counting()
    pipeline = Pipeline([_plan(path, judged_by, gated) for path in files], {"count": sink})
    with started(pipeline):
        pipeline.wait(600)
    if sink.tally.others or not sink.tally.results:
        raise ThresherError(f"the bench did not run through: {sink.tally.results} results, {sink.tally.others} others")
    return sink.tally.results


def _plan(path: Path, judged_by: Generation, gated: bool, realtime: bool = False) -> StreamPlan:
    spec = judged_by.cheap.spec
    source = SoundFile.model_validate({"path": path, "hop_s": _HOP_S, "realtime": realtime}).fitted(spec)
    gate = Voice.model_validate({}).fitted(spec).start() if gated else None
    return StreamPlan(path.stem, source, "words", judged_by, gate)


@dataclass
class Heard:
    """Media time less the monotonic clock, and when each event's end was told by that."""

    shift_ns: int = 0
    ends: list[tuple[int, int]] = field(default_factory=list)


class Listening(Sink):
    """Notes when it is told that a sound ended."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    heard: Heard = Field(default_factory=Heard, exclude=True)

    def open(self) -> Writer:
        return _Listener(self.heard)


class _Listener:
    def __init__(self, heard: Heard) -> None:
        self._heard = heard

    def write(self, items: Sequence[Delivery]) -> None:
        now = time.monotonic_ns()
        for item in items:
            if isinstance(item, Outcome):
                self._heard.shift_ns = item.window.end_ns - item.window.mono_ns
            elif isinstance(item, Event) and item.kind == "end":
                self._heard.ends.append((item.end_ns, now))

    def close(self) -> None:
        """Nothing is open."""


def _soon(judged_by: Generation, folder: Path, scale: Scale) -> list[Row]:
    """From the end of a word, as it was made, to its event."""
    said = talk(folder, float(scale.of(60, 8)), _SHARE, seed=99)
    sink = Listening()
    pipeline = Pipeline([_plan(save(said, folder / "live.wav"), judged_by, gated=True, realtime=True)], {"hear": sink})
    with started(pipeline):
        pipeline.wait(600)
    taken = []
    for end_ns, told_ns in sink.heard.ends:
        nearest = min((end for _, end in said.words), key=lambda end: abs(end * 1e9 - end_ns))
        if abs(nearest * 1e9 - end_ns) < 250e6:
            taken.append((told_ns + sink.heard.shift_ns - nearest * 1e9) / 1e6)
    if not taken:
        return [Row("sound: words that became events", 0, "words", note=f"of {len(said.words)}")]
    p50, p99 = (float(np.quantile(taken, q)) for q in (0.5, 0.99))
    note = f"{len(taken)} events of {len(said.words)} words; the hop of {1e3 * _HOP_S:g} ms is in it"
    return [
        Row("sound: end of a word to its event, p50", p50, "ms", note=note),
        Row("sound: end of a word to its event, p99", p99, "ms", at_most=_BUDGET_MS + 1e3 * _HOP_S, note=note),
    ]
