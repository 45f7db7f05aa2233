"""Labelled pictures, sounds and messages: what models are trained, measured and certified on. Reading them needs no
torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from detectors.datasets.base import DataSet, Format
from detectors.datasets.splitting import split
from pipeline.core.catalogue import Catalogue
from pipeline.core.errors import InputError

# In the order in which they are looked for: those with a document that says what they are, then those with any JSON,
# then those that are told by how pictures lie.
FORMATS = Catalogue(
    "format of data sets",
    "thresher.datasets",
    {
        "deeppcb": "detectors.datasets.deeppcb:FORMAT",
        "yolo": "detectors.datasets.yolo:FORMAT",
        "coco": "detectors.datasets.coco:FORMAT",
        "masks": "detectors.datasets.masks:FORMAT",
        "messages": "detectors.datasets.messages:FORMAT",
        "spoken": "detectors.datasets.spoken:FORMAT",
        "folders": "detectors.datasets.folders:FORMAT",
        "unlabelled": "detectors.datasets.unlabelled:FORMAT",
    },
)


def read_dataset(path: Path, format: str | None = None, *, labelled: bool = True) -> DataSet:
    """The data set in the folder `path`, of the kind `format`, or of the first that fits what lies there. Raises
    `InputError`: for a folder that is none, for a format that there is not, for a data set that cannot be used, and
    for pictures without labels where it has to be `labelled`."""
    place = str(path)
    try:
        if not path.is_dir():
            raise InputError("is not a folder" if path.exists() else "there is no such folder", place)
        if format is not None:
            found: Format = FORMATS.load(format, "format")
            data = found.read(path)
            if labelled and not data.labels:
                raise InputError(
                    "nobody labelled these pictures: only a cheap stage that learns of a teacher alone can use them"
                    " (`teacher`, `cheap.recipe.distill: 1`, and no `heavy`)",
                    place,
                )
            return data
        kind = _detected(path)
        try:
            return _formats()[kind].read(path)
        except InputError as error:
            raise InputError(error.message + _or_else(path, kind), error.place) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", str(error.filename or path)) from None


def _formats() -> dict[str, Format]:
    return {kind: FORMATS.load(kind) for kind in FORMATS.kinds()}


def _fitting(path: Path) -> Iterator[str]:
    return (kind for kind, format in _formats().items() if format.fits(path))


def _or_else(path: Path, kind: str) -> str:
    """What a person may do who meant it otherwise than it looked: one stray file can make it look so."""
    other = next((other for other in _fitting(path) if other != kind), None)
    return "" if other is None else f". It was read as {kind} by its looks; --format {other} reads it otherwise"


def _detected(path: Path) -> str:
    if (found := next(_fitting(path), None)) is not None:
        return found
    looked = "; ".join(f"{kind}: {format.looks_for}" for kind, format in _formats().items())
    raise InputError(f"holds no data set that is known. Looked for {looked}", str(path))


__all__ = ["FORMATS", "DataSet", "Format", "read_dataset", "split"]
