"""Whether a model looks at parts, or at how their files came about.

The reference of a board, put through the same simulated sensor, is a part without a fault; so is a board whose faults
were repaired. Nothing that is a fault tells them apart, so a model that does looks at how files came about: an AUC of
about 0.5 is honest. (Not quite 0.5 for whoever compares pixels: a real board differs from its template a little besides
its faults, at edges, which repair leaves as they are.) The trap itself stands beside it: in raw files the share of
mid-grey pixels tells a clean template from a repaired board every time, after the sensor it should not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detectors.datasets.base import Sample
from detectors.datasets.boards import repaired, sensed
from detectors.datasets.parts import Part
from detectors.evaluation.classes import auroc
from detectors.evaluation.judged import suspicions
from detectors.replay import heard
from pipeline.core.contracts import Stage
from pipeline.core.payloads import FrameImage
from pipeline.core.pictures import BadPicture
from pipeline.core.records import Array

GREY = (32, 223)
"""Neither black nor white, whatever a lossy format adds to those."""
_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two parts without a fault, uint8 `[h, w, 3]` as a camera hands them over: the reference, and the board repaired;
    and the grey of both as it lies in the files, uint8 `[h, w]`."""

    template: Array
    repaired: Array
    raw_template: Array
    raw_repaired: Array


def pair_of(sample: Sample) -> Pair:
    """Of a sample with a reference. Raises `BadPicture`."""
    picture = sample.image().rgb()
    clean = picture.copy()
    clean[..., 0] = clean[..., 1]
    name = f"{sample.name}-template"
    rng = np.random.default_rng(list(hashlib.blake2b(name.encode(), digest_size=8).digest()))
    # just as `parts_of` makes the good part of it, noise and shift included
    good = Part(f"{sample.name}-good", sample, 0, sample.boxes[_NONE], sample.classes[_NONE], _NONE)
    raw = repaired(picture, sample.boxes, _NONE)[..., 0]
    return Pair(sensed(clean, rng), good.image().rgb(), clean[..., 0], raw)


def grey_share(pixels: Array) -> float:
    """The share of uint8 `[h, w]` that is neither black nor white."""
    low, high = GREY
    return float(((pixels >= low) & (pixels <= high)).mean())


def honesty(
    samples: Sequence[Sample], stages: Mapping[str, tuple[Stage, Sequence[str]]]
) -> tuple[dict[str, float | int | None], list[str]]:
    """For each of `stages` (with the labels that it watches), under its name: how likely its suspicion of a repaired
    board is larger than of a template. Beside that the trap's figures, and the samples that cannot be read, in words.
    Raises `StageError`."""
    suspicion: dict[str, list[float]] = {name: [] for name in stages}
    raw: list[float] = []
    seen: list[float] = []
    unreadable: list[str] = []
    for sample in samples:
        try:
            pair = pair_of(sample)
        except BadPicture as error:
            unreadable.append(f"{sample.name}: {error}")
            continue
        images = [FrameImage.from_array(pair.template), FrameImage.from_array(pair.repaired)]
        for name, (stage, watched) in stages.items():
            suspicion[name] += suspicions(heard(stage, images, [None, None]), watched).tolist()
        raw += [grey_share(pair.raw_template), grey_share(pair.raw_repaired)]
        seen += [grey_share(pair.template[..., 0]), grey_share(pair.repaired[..., 0])]
    out: dict[str, float | int | None] = {name: _auc(values) for name, values in suspicion.items()}
    return out | {"histogram_auc_raw": _auc(raw), "histogram_auc": _auc(seen), "boards": len(raw) // 2}, unreadable


def _auc(values: Sequence[float]) -> float | None:
    """Templates and repaired boards by turns."""
    return auroc(np.array(values), np.arange(len(values)) % 2 == 1)
