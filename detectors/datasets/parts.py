"""Parts as a line sees them, with the truth about each: what recall, certificates and the demo count."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from detectors.datasets.base import DataSet, Sample
from detectors.datasets.boards import repaired, sensed
from pipeline.core.media import Payload, Spec
from pipeline.core.payloads import FrameImage
from pipeline.core.records import Array


@dataclass(frozen=True, slots=True)
class Part:
    """One part. `defects` counts what is wrong with it (1 where all that is known is that something is); `boxes` and
    `classes` say where and what, if that is known. `kept` are the indices of the sample's boxes that the part still
    has, None where the sample is the part as it is."""

    name: str
    sample: Sample
    defects: int
    boxes: Array
    classes: Array
    kept: Array | None = None

    @property
    def bad(self) -> bool:
        return self.defects > 0

    def payload(self, spec: Spec) -> Payload:
        """What a source hands over to a model of `spec`: always the same for the same part. Raises `BadPicture`."""
        return self.sample.payload(spec) if self.kept is None else self.image()

    def image(self) -> FrameImage:
        """What the camera hands over: always the same for the same part. Raises `BadPicture`."""
        if self.kept is None:
            return self.sample.image()
        rng = np.random.default_rng(list(hashlib.blake2b(self.name.encode(), digest_size=8).digest()))
        picture = repaired(self.sample.image().rgb(), self.sample.boxes, self.kept)
        return FrameImage.from_array(sensed(picture, rng))


def parts_of(data: DataSet, seed: int = 0) -> list[Part]:
    """Every sample as it is; but where samples have a reference and boxes, three honest parts each (see `boards`):
    a good one, one with a single defect, and one with the others, so that no two parts share a defect."""
    return [part for sample in data.samples for part in _of(data, sample, seed)]


def as_it_is(data: DataSet, sample: Sample) -> Part:
    """Raises `BadPicture` where its mask has to be looked at, and cannot."""
    defects = max(len(sample.boxes), 1) if data.bad(sample) else 0
    return Part(sample.name, sample, defects, sample.boxes, sample.classes)


def _of(data: DataSet, sample: Sample, seed: int) -> Iterator[Part]:
    if sample.reference is None or not len(sample.boxes):
        yield as_it_is(data, sample)
        return
    order = np.random.default_rng([seed, *sample.name.encode()]).permutation(len(sample.boxes))
    for name, kept in (("good", order[:0]), ("single", order[:1]), ("several", np.sort(order[1:]))):
        if len(kept) or name == "good":
            boxes, classes = sample.boxes[kept], sample.classes[kept]
            yield Part(f"{sample.name}-{name}", sample, len(kept), boxes, classes, kept)
