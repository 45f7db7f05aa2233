"""What every format of data set is read into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np

from pipeline.core.errors import InputError
from pipeline.core.media import Payload, Spec
from pipeline.core.payloads import FrameImage
from pipeline.core.pictures import BadPicture, read_beside, read_picture
from pipeline.core.records import Array
from pipeline.core.sound import Sound, SoundSpec
from pipeline.core.sounds import centred, read_sound
from pipeline.core.text import Text, TextSpec

_LONGEST_LABEL, _LONGEST_REMARK = 100, 300
NO_BOXES = np.zeros((0, 4), np.float32)
NO_CLASSES = np.zeros(0, np.int64)
GOOD = frozenset(
    {"good", "ok", "pass", "free", "normal", "accept", "safe", "neither", "neutral", "harmless", "clean", "fine"}
)
"""Names of classes that say that nothing is wrong."""


def says_good(label: str) -> bool:
    """Whatever the case."""
    return label.casefold() in GOOD


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture, a sound or a message, and what is known of it. A message has its `text`, and the `file` it stands in.

    `boxes` float32 `[n, 4]` (x1 y1 x2 y2, source pixels) with `classes` int `[n]`; or, where no place is known, one
    class and no box; or a `mask`, a picture of the same size that is not black where something is. `group` names what
    it has in common with others (a board, a camera, a day): what is split, is split between groups.
    """

    name: str
    file: Path
    group: str = ""
    boxes: Array = field(default_factory=lambda: NO_BOXES)
    classes: Array = field(default_factory=lambda: NO_CLASSES)
    reference: Path | None = None
    mask: Path | None = None
    text: str | None = None

    def payload(self, spec: Spec) -> Payload:
        """As one thing to judge for a model of `spec`: a recording lies in the middle of its window, a message stands
        alone. Raises `BadPicture` where it cannot be read."""
        if isinstance(spec, SoundSpec):
            return Sound(centred(read_sound(self.file, spec.rate), spec.samples), spec.rate, 0)
        if isinstance(spec, TextSpec):
            if self.text is None:
                raise BadPicture("is no text")
            return Text(self.text)
        return self.image()

    def image(self) -> FrameImage:
        """The picture, beside its reference if it has one. Raises `BadPicture`."""
        if self.reference is None:
            return FrameImage(read_picture(self.file))
        return FrameImage(read_beside(self.file, self.reference))


@dataclass(frozen=True, slots=True)
class DataSet:
    """`left_out` counts by reason what a format's reader could not use, `remarks` says the first few in words."""

    labels: tuple[str, ...]
    samples: tuple[Sample, ...]
    left_out: Counter[str] = field(default_factory=Counter)
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def groups(self) -> dict[str, int]:
        return dict(Counter(sample.group for sample in self.samples))

    def where(self, kept: Callable[[Sample], bool]) -> Self:
        return replace(self, samples=tuple(sample for sample in self.samples if kept(sample)))

    def bad(self, sample: Sample) -> bool:
        """Whether the sample shows anything but a good part. A mask is looked at only where no class is known."""
        if sample.mask is not None and not len(sample.classes):
            return bool(mask_of(sample).any())
        return any(not says_good(self.labels[int(index)]) for index in sample.classes)

    def without(self, groups: Sequence[str]) -> tuple[Self, Self]:
        """Those outside `groups`, and those inside. Raises `InputError` for a group that is not there."""
        known = self.groups
        for group in groups:
            if group not in known:
                there = ", ".join(sorted(filter(None, known))) or "none"
                raise InputError(f'there is no group "{group}"; there are {there}', "hold_out")
        return self.where(lambda s: s.group not in groups), self.where(lambda s: s.group in groups)


def mask_of(sample: Sample) -> Array:
    """bool `[h, w]`: where something is. Raises `BadPicture`."""
    assert sample.mask is not None
    return np.asarray(read_picture(sample.mask).reformat(format="gray").to_ndarray() > 127)


@dataclass(frozen=True, slots=True)
class Format:
    """How data sets of one kind are told and read: what the catalogue holds.

    `looks_for` says in words what a folder of this kind holds; `fits` whether one does, from a glance; `read` reads it,
    and raises `InputError` where it cannot be used at all.
    """

    looks_for: str
    fits: Callable[[Path], bool]
    read: Callable[[Path], DataSet]


class Reading:
    """What readers share: mistakes are counted by reason, and the first few are said in words."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.samples: list[Sample] = []
        self.left_out: Counter[str] = Counter()
        self.remarks: list[str] = []

    def leave_out(self, reason: str, detail: str) -> None:
        self.left_out[reason] += 1
        if self.left_out[reason] <= 3:
            self.remarks.append(f"{detail:.{_LONGEST_REMARK}}: left out")

    def done(self, labels: Sequence[str]) -> DataSet:
        """Raises `InputError` where nothing is left, or a label is none that can be shown and written down."""
        for label in labels:
            if not label.isprintable() or len(label) > _LONGEST_LABEL:
                raise InputError(
                    f"has the label {label[:_LONGEST_LABEL]!a}: a label is up to {_LONGEST_LABEL} letters without"
                    " control characters",
                    str(self.place),
                )
        if not self.samples:
            why = "; ".join(self.remarks) or "nothing of the kind was found"
            raise InputError(f"holds nothing to learn or measure from ({why})", str(self.place))
        return DataSet(tuple(labels), tuple(self.samples), self.left_out, tuple(self.remarks))


__all__ = ["BadPicture", "DataSet", "Format", "Reading", "Sample", "mask_of", "says_good"]
