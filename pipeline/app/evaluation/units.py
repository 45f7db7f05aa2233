"""What is judged: the parts that a data set makes, or its pictures as they are; and their judging."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from detectors.datasets.base import BadPicture, DataSet
from detectors.datasets.files import read_text
from detectors.datasets.parts import Part, as_it_is, parts_of
from detectors.evaluation.judged import Judged
from detectors.replay import places_at_any_threshold, see
from pipeline.app.evaluation.subject import Measured
from pipeline.core.catalogue import nearest
from pipeline.core.errors import InputError
from pipeline.core.media import Payload
from pipeline.core.payloads import Image

log = logging.getLogger(__name__)
Kind = Literal["honest", "as-is"]
T = TypeVar("T")
_NAMED = 20


@dataclass
class Skipped:
    """What could not be judged: how many by reason, and the first few by name."""

    counts: dict[str, int] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    def add(self, reason: str, detail: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1
        if len(self.names) < _NAMED:
            self.names.append(detail)
        log.warning("%s: left out", detail)


def chosen(data: DataSet, groups: Sequence[str], only: Path | None, limit: int | None) -> DataSet:
    """The samples that are asked for: of these groups, named in the file `only`, at most `limit` of them, spread
    evenly. Raises `InputError` for what is not there."""
    known = data.groups
    for group in groups:
        if group not in known:
            hint = nearest(group, known) or f" There are {', '.join(sorted(filter(None, known))[:20]) or 'none'}."
            raise InputError(f'there is no group "{group}" in --data.{hint}', "--group")
    if groups:
        data = data.where(lambda sample: sample.group in groups)
    if only is not None:
        names = _names(only, {sample.name for sample in data.samples})
        data = data.where(lambda sample: sample.name in names)
    return data if limit is None else replace(data, samples=spread(data.samples, limit))


def spread(ones: Sequence[T], most: int) -> tuple[T, ...]:
    """At most so many, evenly from first to last: a data set is often sorted by what is in it."""
    if len(ones) <= most:
        return tuple(ones)
    return tuple(ones[index] for index in np.linspace(0, len(ones) - 1, most).round().astype(int))


def kind_of(data: DataSet, asked: Kind | None, cascade: bool) -> Kind:
    """Honest parts for cascades where the data have references, pictures as they are otherwise."""
    able = any(sample.reference is not None and len(sample.boxes) for sample in data.samples)
    if asked == "honest" and not able:
        raise InputError(
            "honest parts are made of a picture, its reference and its boxes; these data have none", "--parts"
        )
    return asked or ("honest" if able and cascade else "as-is")


def units_of(data: DataSet, kind: Kind, skipped: Skipped) -> list[Part]:
    """The parts; what cannot be read already here (a mask) is left out."""
    parts: list[Part] = []
    for sample in data.samples:
        try:
            parts += parts_of(replace(data, samples=(sample,))) if kind == "honest" else [as_it_is(data, sample)]
        except BadPicture as error:
            skipped.add("unreadable", f"{sample.mask or sample.file} {error}")
    return parts


def judge(measured: Measured, parts: Sequence[Part], skipped: Skipped, progress: Callable[[int], None]) -> list[Judged]:
    """Have every part judged by all stages. A part that cannot be read is left out. Raises `StageError`."""
    judged: list[Judged] = []
    places = places_at_any_threshold(measured.rule)
    size = max(stage.max_batch for stage in measured.stages)
    done = 0
    for group in _groups(parts, size):
        images: list[tuple[Part, Payload]] = []
        for part in group:
            try:
                images.append((part, part.payload(measured.cheap.spec)))
            except BadPicture as error:
                skipped.add("unreadable", f"{part.sample.file} {error}")
        try:
            seen = see(measured.cheap, measured.heavy, [image for _, image in images], places) if images else []
            for (part, image), one in zip(images, seen, strict=True):
                judged.append(
                    Judged(
                        part.name, part.sample.group, *size_of(image), part.defects, part.boxes,
                        part.classes, one,
                    )
                )  # fmt: skip
        finally:
            for _, image in images:
                image.release()
        done += len(group)
        progress(done)
    return judged


def size_of(payload: Payload) -> tuple[int, int]:
    """Width and height of a picture; of what has none, 1 each."""
    return (payload.width, payload.height) if isinstance(payload, Image) else (1, 1)


def _groups(parts: Sequence[Part], size: int) -> Iterator[Sequence[Part]]:
    for start in range(0, len(parts), size):
        yield parts[start : start + size]


def _names(file: Path, known: set[str]) -> set[str]:
    """The samples that `file` names, one a line: by name, or by the path of a picture, as data sets' own lists do; what
    stands behind it on the line is not looked at. Raises `InputError`."""
    names: set[str] = set()
    for number, line in lines_of(file, "--only"):
        word = line.split()[0]
        name = next((one for one in (line, word, Path(word).stem) if one in known), None)
        if name is None:
            raise InputError(f'{file}:{number}: there is no "{word}" in --data.{nearest(word, known)}', "--only")
        names.add(name)
    return names


def lines_of(file: Path, option: str) -> list[tuple[int, str]]:
    """What an option's file names, each with its line's number, empty lines aside. Raises `InputError`, also where
    there is nothing."""
    try:
        lines = read_text(file).splitlines()
    except InputError as error:
        raise InputError(f"{file} {error.message}", option) from None
    found = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise InputError(f"{file} names nothing", option)
    return found
