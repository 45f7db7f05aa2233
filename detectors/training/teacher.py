"""Knowledge distillation (Hinton et al. 2015, arXiv 1503.02531): what a heavy stage says is what a cheap one learns.

The teacher looks at every picture once, before the training, in whatever runtime is fastest here. Labels are optional:
with a share of 1 a cheap stage learns nothing but the teacher's word, on a stream that nobody labelled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from detectors.datasets.base import NO_BOXES, DataSet, Reading, Sample, says_good
from detectors.image.boxes import between
from pipeline.core.contracts import Stage
from pipeline.core.errors import InputError
from pipeline.core.pictures import BadPicture
from pipeline.core.records import Array, Findings

_SAME = 0.3  # of overlap: the teacher means this box
_SURE = 0.5
_WORTH = 0.1  # a score below is noise


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is to be learned of one picture: boxes `[n, 4]` in source pixels with classes `[n]` and how sure each is
    `[n]`, and how sure its mask is, if it has one; or, of a whole picture, `shares` `[C]` of the classes."""

    boxes: Array
    classes: Array
    sure: Array
    shares: Array | None = None
    sure_of_mask: float = 1.0


def untaught(sample: Sample, classes: int) -> Lesson:
    """The labels as they are; with one class, whatever is labelled is that."""
    kinds = sample.classes if classes > 1 else np.zeros(len(sample.classes), np.int64)
    return Lesson(sample.boxes, kinds, np.ones(len(sample.boxes), np.float32))


def lessons(
    teacher: Stage,
    samples: Sequence[Sample],
    share: float,
    labels: Sequence[str],
    *,
    whole: bool,
    said: Mapping[str, Findings] | None = None,
) -> dict[str, Lesson]:
    """By the sample's name: a `share` of the teacher's word, the rest the labels'. `labels` are the learner's, and
    `whole` says whether it sorts whole pictures. What the teacher has `said` before it is not asked again.
    Pictures that cannot be read are left out. Raises `InputError` for a teacher who speaks of something else."""
    taught: dict[str, Lesson] = {}
    kinds = _translation(teacher.labels, labels)
    known = dict(said or {})
    words = known | dict(_words(teacher, [sample for sample in samples if sample.name not in known]))
    for sample in samples:
        found = words.get(sample.name)
        if found is None:
            continue
        if (found.boxes is None) != whole:
            says, learns = ("places", "whole pictures") if whole else ("whole pictures", "places")
            raise InputError(f"{teacher.name} speaks of {says}, and this stage learns of {learns}", "teacher")
        taught[sample.name] = mixed(untaught(sample, len(labels)), _translated(found, kinds, labels), share)
    return taught


def _word(teacher: Stage, sample: Sample) -> Findings:
    return teacher.score([sample.payload(teacher.spec).view(teacher.spec)])[0]


def _words(teacher: Stage, samples: Sequence[Sample]) -> Iterator[tuple[str, Findings]]:
    """By the sample's name, in batches; those that cannot be read are left out."""
    for start in range(0, len(samples), teacher.max_batch):
        names: list[str] = []
        views: list[Any] = []
        for sample in samples[start : start + teacher.max_batch]:
            try:
                views.append(sample.payload(teacher.spec).view(teacher.spec))
            except BadPicture:
                continue
            names.append(sample.name)
        yield from zip(names, teacher.score(views) if views else (), strict=True)


def labelled(teacher: Stage, data: DataSet, place: Path) -> tuple[DataSet, dict[str, Findings]]:
    """Pictures in `place` that nobody labelled, with the teacher's word for it: what it is sure of by half, or of a
    whole picture the likeliest label; and that word itself, by the sample's name. Those that cannot be read are left
    out, and counted. Raises `InputError` where none can."""
    labels = tuple(sorted(teacher.labels, key=lambda label: not says_good(label)))
    kinds = _translation(teacher.labels, labels)
    reading, said = Reading(place), dict[str, Findings]()
    for sample in data.samples:
        try:
            found = said[sample.name] = _word(teacher, sample)
        except BadPicture as error:
            reading.leave_out("unreadable pictures", f"{sample.name} {error}")
            continue
        sure = np.flatnonzero(found.scores >= _SURE) if found.boxes is not None else [int(found.scores.argmax())]
        boxes = NO_BOXES if found.boxes is None else found.boxes[sure]
        reading.samples.append(replace(sample, boxes=boxes, classes=kinds[found.classes[sure].astype(np.int64)]))
    done = reading.done(labels)
    return replace(done, left_out=data.left_out + done.left_out, remarks=(*data.remarks, *done.remarks)), said


def _translation(theirs: Sequence[str], ours: Sequence[str]) -> Array:
    """The teacher's classes as the learner counts them, `[len(theirs)]`."""
    if len(ours) == 1:
        return np.zeros(len(theirs), np.int64)
    if set(theirs) != set(ours):
        raise InputError(f"knows {', '.join(theirs)}, and this stage is to learn {', '.join(ours)}", "teacher")
    return np.array([list(ours).index(label) for label in theirs], np.int64)


def _translated(found: Findings, kinds: Array, labels: Sequence[str]) -> Findings:
    return Findings(tuple(labels), found.scores, kinds[found.classes.astype(np.int64)], found.boxes)


def mixed(known: Lesson, found: Findings, share: float) -> Lesson:
    """A `share` of what the teacher found, the rest what is known; both count classes alike."""
    if found.boxes is None:
        word = np.zeros(len(found.labels), np.float32)
        word[found.classes] = found.scores
        told = np.zeros_like(word)
        told[known.classes[0] if len(known.classes) else 0] = 1  # what nobody labelled is good
        return Lesson(known.boxes, known.classes, known.sure, share * word + (1 - share) * told)
    worth = found.scores >= _WORTH
    boxes, scores, kinds = found.boxes[worth], found.scores[worth], found.classes[worth]
    named = known.classes[: len(known.boxes)]  # a class without a box is the picture's, not a place's
    same = (between(known.boxes, boxes) >= _SAME) & (named[:, None] == kinds)
    confirmed = np.where(same, scores, 0).max(1, initial=0)
    new = ~same.any(0)
    return Lesson(
        np.concatenate([known.boxes, boxes[new]]).astype(np.float32),
        np.concatenate([named, kinds[new]]).astype(np.int64),
        np.concatenate([1 - share + share * confirmed, share * scores[new]]).astype(np.float32),
        sure_of_mask=1 - share,
    )
