"""Whether a model in another runtime or precision still says the same of the same views."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detectors.image.boxes import between
from pipeline.core.media import Spec, View
from pipeline.core.payloads import FrameImage, ViewSpec
from pipeline.core.pictures import SUFFIXES, read_picture
from pipeline.core.records import Array, Box, Findings
from pipeline.core.sound import Sound, SoundSpec
from pipeline.core.text import Text, TextSpec

SAMPLES = Path(__file__).parents[1] / "zoo" / "samples"
_SAME_THING = 0.5  # of overlap
_WORTH_COMPARING = 0.1  # boxes below that are noise in either
_SOUNDS = 6
_SENTENCES = (
    "good morning everyone",
    "that was the best round of the night, well played!!",
    "你好，今天的直播几点开始？",
    "wait for it...",
    "does anybody know how to turn the subtitles off? i cannot find it in the menu at all, and it worked yesterday",
    "see you tomorrow \U0001f44b",
)


def sample_views(spec: Spec, folder: Path | None = None) -> list[View]:
    """What a model with that input is compared on: real pictures, those in `folder` or the shipped ones; tones as a
    voice has them, and sentences."""
    if isinstance(spec, ViewSpec):
        return _pictures(spec, folder)
    if isinstance(spec, SoundSpec):
        return [Sound(_tones(spec, seed), spec.rate, 0).view(spec) for seed in range(_SOUNDS)]
    assert isinstance(spec, TextSpec)
    said = [sentence.encode() for sentence in _SENTENCES]
    return [Text(one, room_said=said[:at]).view(spec) for at, one in enumerate(_SENTENCES)]


def _tones(spec: SoundSpec, seed: int) -> Array:
    """Gliding tones over noise, float32 `[samples]`: as a voice has them."""
    rng = np.random.default_rng(seed)
    pitch = np.cumsum(np.interp(np.arange(spec.samples), [0, spec.samples], rng.uniform(90, 400, 2))) / spec.rate
    voice = sum(np.sin(2 * np.pi * n * pitch) / n for n in range(1, 9)) * rng.uniform(0.02, 0.3)
    return np.clip(voice + rng.normal(0, rng.uniform(0.001, 0.05), spec.samples), -1, 1).astype(np.float32)


def _pictures(spec: ViewSpec, folder: Path | None) -> list[View]:
    """A model of tiles sees the four quarters' middles of each."""
    views: list[View] = []
    for file in sorted(path for path in (folder or SAMPLES).iterdir() if path.suffix in SUFFIXES):
        image = FrameImage(read_picture(file))
        if spec.tile is not None and (spec.width, spec.height) == (spec.tile, spec.tile):
            views += [image.view(spec, _around(image, x, y)) for y in (0.25, 0.75) for x in (0.25, 0.75)]
        else:
            views.append(image.view(spec))
    return views


def _around(image: FrameImage, x: float, y: float) -> Box:
    return (image.width * x - 1, image.height * y - 1, image.width * x + 1, image.height * y + 1)


def moved(reference: Sequence[Findings], candidate: Sequence[Findings]) -> float:
    """The furthest that any score went between two readings of the same views, from 0 to 1.

    Boxes are compared with the one of their label in the other reading that overlaps them most; one that is missing
    there moved by all of its score above the noise.
    """
    pairs = list(zip(reference, candidate, strict=True))
    return max((max(_moved(one, other), _moved(other, one)) for one, other in pairs), default=0.0)


def _moved(one: Findings, other: Findings) -> float:
    if one.boxes is None or other.boxes is None:
        if not one.placed:
            return float(np.abs(one.scores - other.scores).max(initial=0.0))
        each = range(len(one.labels))
        return max(abs(one.score([label]) - other.score([label])) for label in each)
    told = one.scores >= _WORTH_COMPARING
    if not told.any():
        return 0.0
    scores, classes, boxes = one.scores[told], one.classes[told], one.boxes[told]
    if not len(other.scores):
        return float(scores.max() - _WORTH_COMPARING)
    same = (between(boxes, other.boxes) >= _SAME_THING) & (classes[:, None] == other.classes)
    apart = np.where(same, np.abs(scores[:, None] - other.scores), np.inf).min(axis=1)
    return float(np.minimum(apart, np.where(same.any(axis=1), np.inf, scores - _WORTH_COMPARING)).max())
