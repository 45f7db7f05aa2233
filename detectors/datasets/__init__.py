"""Labelled pictures: what models are trained, measured and certified on. Reading them needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detectors.datasets.base import DataSet


def read_dataset(path: Path, format: str | None = None) -> DataSet:
    """The data set in `path`. Raises `InputError`."""
    from detectors.datasets.deeppcb import read_deeppcb

    return read_deeppcb(path)
