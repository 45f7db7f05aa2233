"""From answers a frame to spans of sound."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from detectors.decode import Decoder
from detectors.runtimes.base import Shapes, Tensors
from pipeline.core.errors import StageError
from pipeline.core.records import Array, Findings
from pipeline.core.sound import SoundView

_SWITCH = 1.0  # nepers: a lone frame has to be so much surer than its neighbours
_NOTHING = 0.8  # a border is where nothing is likelier than that
_DOUBT = 2.0  # nepers: nothing has to be so much likelier; what is then found by little has a low score
_LEAST = 2  # frames of a sound
_JOINED = 4  # frames: of two that nearly touch, one that is shorter is a part of the other
_RARE = 1e-4


class Frames(Decoder):
    """Probabilities `[N, T, 1 + C]`: of T frames that share the view evenly, of nothing and of each label. Each finding
    is one run of frames with a label, its score the mean over them."""

    def check(self, shapes: Shapes) -> None:
        shape = shapes[self.pick(list(shapes), self.output.scores, [next(iter(shapes))])]
        if shape and (len(shape) != 3 or shape[2] not in {1 + len(self.labels), None}):
            raise self.mismatch(shape, f"frames [N, T, {1 + len(self.labels)}] are expected, nothing first")

    def read(self, tensors: Tensors, views: Sequence[SoundView]) -> list[Findings]:
        frames = tensors[self.pick(list(tensors), self.output.scores, [next(iter(tensors))])][: len(views)]
        if frames.ndim != 3 or frames.shape[2] != 1 + len(self.labels):
            raise StageError(str(self.mismatch(frames.shape, "frames are expected, nothing first")))
        frames = self.scores(frames.astype(np.float32))
        runs = paths(frames)
        return [self._read(one, run, view) for one, run, view in zip(frames, runs, views, strict=True)]

    def _read(self, frames: Array, path: Array, view: SoundView) -> Findings:
        found = [(*_inside(frames, run), frames[slice(*run), 1:].mean(0)) for run in _runs(path)]
        seconds = len(view.samples) / view.rate / len(frames)
        spans = np.array([(first * seconds, last * seconds) for first, last, _ in found]).reshape(-1, 2)
        scores = np.array([mean.max() for *_, mean in found], np.float32)
        classes = np.array([mean.argmax() for *_, mean in found], np.int64)
        kept = scores >= self.output.score_floor
        return Findings(self.labels, scores[kept], classes[kept], spans=view.to_source(spans[kept]))


def paths(frames: Array, switch: float = _SWITCH) -> Array:
    """`[N, T, 1 + C]` → the likeliest class of every frame, int `[N, T]`, where a change of class costs `switch` nepers
    (Viterbi 1967; all changes cost the same, so that a step is O(C)), and being nothing `_DOUBT`."""
    scores = np.log(np.maximum(frames, _RARE))
    scores[:, :, 0] -= _DOUBT
    count, steps, classes = scores.shape
    back = np.zeros((count, steps, classes), np.int64)
    stay = np.broadcast_to(np.arange(classes), (count, classes))
    best = scores[:, 0]
    for step in range(1, steps):
        top = best.argmax(1)
        moved = np.take_along_axis(best, top[:, None], 1) - switch
        moves = moved > best
        back[:, step] = np.where(moves, top[:, None], stay)
        best = np.where(moves, moved, best) + scores[:, step]
    out = np.empty((count, steps), np.int64)
    out[:, -1] = best.argmax(1)
    rows = np.arange(count)
    for step in range(steps - 1, 0, -1):
        out[:, step - 1] = back[rows, step, out[:, step]]
    return out


def _inside(frames: Array, run: tuple[int, int]) -> tuple[int, int]:
    """Without the frames at its borders that are surely nothing: a doubt finds sounds, and moves no border."""
    heard = np.flatnonzero(frames[slice(*run), 0] < _NOTHING)
    return (run[0] + int(heard[0]), run[0] + int(heard[-1]) + 1) if len(heard) else run


def _runs(path: Array) -> list[tuple[int, int]]:
    """First and last frame (one past) of each sound: runs that nearly touch are one where either is short."""
    bounds = [0, *(np.flatnonzero(np.diff(path)) + 1).tolist(), len(path)]
    runs: list[tuple[int, int]] = []
    for first, last in pairwise(bounds):
        if path[first] == 0:
            continue
        if runs and first - runs[-1][1] <= 1 and min(last - first, runs[-1][1] - runs[-1][0]) < _JOINED:
            runs[-1] = (runs[-1][0], last)
        else:
            runs.append((first, last))
    return [run for run in runs if run[1] - run[0] >= _LEAST]
