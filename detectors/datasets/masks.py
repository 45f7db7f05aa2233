"""Pictures with a mask that shows where something is.

    magnetic-tile/                         bottle/ (MVTec AD)
      MT_Blowhole/ NAME.jpg NAME.png …       train/good/000.png …
      MT_Crack/    NAME.jpg NAME.png …       test/good/000.png …
      MT_Free/     NAME.jpg NAME.png …       test/crack/000.png …  ground_truth/crack/000_mask.png …

On the left, `NAME.png` beside a picture of another suffix is its mask; a folder is a kind of defect (a leading `MT_` is
dropped), pictures may lie deeper in it, and pairs without any folder are all of the kind `defect`. On the right, the
masks lie apart. A mask has its picture's size and is above 127 of 255 where something is.

Labels are `good` and the kinds, sorted. A sample of a kind has that one class, and its mask; one of a folder whose name
says that nothing is wrong (`good`, `MT_Free`, …) has neither, so that whether a sample is bad is known without looking
at its mask again. Where both disagree (a picture of a kind whose mask is black, one of a good folder whose mask is not)
nobody knows which is right: it is left out and counted. Without folders, the mask decides.

A split must not have one part on both sides, so a group is what surely holds all pictures of one. Elsewhere each
picture stands for itself; magnetic tiles are called `expE_num_N.jpg`. N is no tile: it runs on through the whole
recording, so that no two pictures share it. The exposures 1 to 6 of a tile are 10 to 50 apart, and tiles come back up
to some 2500 later: of 810 pictures, 48 would have one of the same tile in another group if a gap of 200 parted groups,
but only 5 if it takes one of more than 2600. Those are of one tile, seen again 12 000 later, which is put where it was
first seen. What is then still alike across groups (correlation of what is finer than 4 of 96 pixels, shifted by up to
6) stays below 0.5, where two exposures of one tile reach 0.6 in the median. The groups are few and large for it: 34 of
810 pictures.

Left out and counted, besides: pictures without a mask, masks without a picture, masks of another size, what cannot be
read or leads outside, and of two pictures with one mask (`1.jpg`, `1.bmp`) the second.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from detectors.datasets.base import DataSet, Format, Reading, Sample, mask_of, says_good
from detectors.datasets.files import files_under, is_inside, is_picture, readable, relative, subfolders
from pipeline.core.errors import InputError
from pipeline.core.pictures import BadPicture

_TILE = re.compile(r"exp\d+_num_(\d{1,12})")
_APART = 2600  # a larger gap between numbers parts groups: see above
_AGAIN, _FIRST = range(65001, 65068), 53011  # one tile, seen again


@dataclass(frozen=True, slots=True)
class _Pair:
    """A picture, the folder's word for it (None where there is no folder), and its mask, if there is one."""

    picture: Path
    kind: str | None
    mask: Path | None


def fits(folder: Path) -> bool:
    """Whether this is MVTec's layout, or some picture has a mask beside it."""
    if _is_mvtec(folder):
        return True
    files = (file for place in (folder, *subfolders(folder)) for file in place.rglob("*.png"))
    return any(_pictures_of(mask) for mask in files)


def read_masks(folder: Path) -> DataSet:
    """Raises `InputError` where there is no such pair, or a kind without a picture."""
    reading = Reading(folder)
    pairs = list(_mvtec(reading) if _is_mvtec(folder) else _beside(reading))
    if not any(pair.mask for pair in pairs) and not reading.samples:
        raise InputError("holds no picture with a mask", str(folder))
    kinds = sorted({kind for pair in pairs if not says_good(kind := pair.kind or "defect")})
    labels = ["good", *kinds]
    for pair in pairs:
        sample = _sample(reading, pair, labels)
        if sample is not None:
            reading.samples.append(sample)
    used = {int(kind) for sample in reading.samples for kind in sample.classes}
    for index, kind in enumerate(labels):
        if index and index not in used and any(pair.kind == kind for pair in pairs):
            why = "; ".join(reading.remarks)
            raise InputError(f'"{kind}" is an empty class: nothing of it can be used ({why})', str(folder))
    reading.samples = _grouped(reading.samples)
    return reading.done(labels)


def _is_mvtec(folder: Path) -> bool:
    return (folder / "ground_truth").is_dir() and (folder / "test").is_dir()


def _pictures_of(mask: Path) -> list[Path]:
    suffixes = (".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
    return [file for suffix in suffixes if (file := mask.with_suffix(suffix)).is_file()]


def _beside(reading: Reading) -> Iterator[_Pair]:
    kinds = subfolders(reading.place)
    for place in kinds:
        files = list(files_under(reading, place))
        if not any(map(is_picture, files)):
            raise InputError(f'"{place.name}" is an empty class: it has no picture', str(place))
        yield from _paired(reading, files, place.name.removeprefix("MT_"))
    yield from _paired(reading, list(files_under(reading, reading.place, deep=False)), None)


def _paired(reading: Reading, files: list[Path], kind: str | None) -> Iterator[_Pair]:
    """PNGs are masks, all others pictures."""
    masks = {file.with_suffix(""): file for file in files if file.suffix.lower() == ".png"}
    seen: set[Path] = set()
    for file in files:
        stem = file.with_suffix("")
        if not is_picture(file):
            if kind is not None:
                reading.leave_out("no pictures", f"{relative(reading, file)} is no picture")
        elif file.suffix.lower() == ".png":
            continue
        elif stem in seen:
            reading.leave_out("duplicate names", f"{relative(reading, file)} shares its mask with another picture")
        else:
            seen.add(stem)
            yield _Pair(file, kind, masks.get(stem))
    for stem, mask in masks.items():
        if stem not in seen:
            reading.leave_out("masks of no picture", f"{relative(reading, mask)} belongs to no picture")


def _mvtec(reading: Reading) -> Iterator[_Pair]:
    root, used = reading.place, set[Path]()
    for part in (root / "train", root / "test"):
        for place in subfolders(part) if part.is_dir() else []:
            pictures = [file for file in files_under(reading, place) if is_picture(file)]
            if not pictures:
                raise InputError(f'"{place.name}" is an empty class: it has no picture', str(place))
            for file in pictures:
                mask = root / "ground_truth" / place.name / f"{file.stem}_mask.png"
                used.add(mask)
                yield _Pair(file, place.name, mask if mask.is_file() else None)
    for mask in files_under(reading, root / "ground_truth"):
        if mask not in used:
            reading.leave_out("masks of no picture", f"{relative(reading, mask)} belongs to no picture")


def _sample(reading: Reading, pair: _Pair, labels: list[str]) -> Sample | None:
    """None, and counted, where picture and mask do not go together."""
    called = relative(reading, pair.picture)
    size = readable(reading, pair.picture)
    if size is None:
        return None
    sample = Sample(called, pair.picture)
    good = pair.kind is not None and says_good(pair.kind)
    if pair.mask is None:
        if not good:
            reading.leave_out("missing masks", f"{called} has no mask")
        return sample if good else None
    there = _looked_at(reading, replace(sample, mask=pair.mask), size)
    if there is None:
        return None
    if pair.kind is not None and there == good:
        said = (
            "lies among the good ones, but its mask is not black" if good else f"is {pair.kind}, but its mask is black"
        )
        reading.leave_out("masks that contradict their folder", f"{called} {said}")
        return None
    kind = labels.index(pair.kind or "defect") if there else 0
    return replace(sample, mask=pair.mask, classes=np.array([kind], np.int64)) if there else sample


def _looked_at(reading: Reading, sample: Sample, size: tuple[int, int]) -> bool | None:
    """Whether the mask shows anything; None, and counted, where it cannot be used."""
    assert sample.mask is not None
    called = relative(reading, sample.mask)
    if not is_inside(reading.place, sample.mask):
        reading.leave_out("paths that leave the folder", f"{called!a} leads outside")
        return None
    try:
        mask = mask_of(sample)
    except BadPicture as error:
        reading.leave_out("unreadable masks", f"{called} {error}")
        return None
    height, width = mask.shape
    if (width, height) != size:
        reading.leave_out("masks of another size", f"{called} is {width}×{height}, its picture {size[0]}×{size[1]}")
        return None
    return bool(mask.any())


def _grouped(samples: list[Sample]) -> list[Sample]:
    """Magnetic tiles by when they were recorded; others as they are."""
    numbers = [_number(sample) for sample in samples]
    known = sorted({number for number in numbers if number is not None})
    group = {number: number for number in known[:1]}
    for before, number in pairwise(known):
        group[number] = number if number - before > _APART else group[before]
    return [
        sample if number is None else replace(sample, group=f"from {group[number]}")
        for sample, number in zip(samples, numbers, strict=True)
    ]


def _number(sample: Sample) -> int | None:
    found = _TILE.fullmatch(sample.file.stem)
    if found is None:
        return None
    number = int(found[1])
    return _FIRST if number in _AGAIN else number


FORMAT = Format("pictures with a mask of the same name as .png, or test/ and ground_truth/", fits, read_masks)
