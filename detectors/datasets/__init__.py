"""Labelled pictures: what models are trained, measured and certified on. Reading them needs no torch."""

from __future__ import annotations

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
        "folders": "detectors.datasets.folders:FORMAT",
    },
)


def read_dataset(path: Path, format: str | None = None) -> DataSet:
    """The data set in the folder `path`, of the kind `format`, or of the first that fits what lies there. Raises
    `InputError`: for a folder that is none, for a format that there is not, for a data set that cannot be used."""
    place = str(path)
    try:
        if not path.is_dir():
            raise InputError("is not a folder" if path.exists() else "there is no such folder", place)
        found: Format = FORMATS.load(format, "format") if format is not None else _detected(path)
        return found.read(path)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", str(error.filename or path)) from None


def _detected(path: Path) -> Format:
    formats: dict[str, Format] = {kind: FORMATS.load(kind) for kind in FORMATS.kinds()}
    for format in formats.values():
        if format.fits(path):
            return format
    looked = "; ".join(f"{kind}: {format.looks_for}" for kind, format in formats.items())
    raise InputError(f"holds no data set that is known. Looked for {looked}", str(path))


__all__ = ["FORMATS", "DataSet", "Format", "read_dataset", "split"]
