"""Pictures that nobody labelled, as they lie in a folder and in the folders in it: a recorded stream. They are read
only where somebody asks for them by name: a labelled data set that was laid out wrongly is never taken for one.
"""

from __future__ import annotations

from pathlib import Path

from detectors.datasets.base import DataSet, Format, Reading, Sample
from detectors.datasets.files import files_under, is_picture, readable, relative


def read_unlabelled(folder: Path) -> DataSet:
    """A data set without labels. Raises `InputError` where no picture can be read."""
    reading = Reading(folder)
    for file in filter(is_picture, files_under(reading, folder)):
        if readable(reading, file) is not None:
            reading.samples.append(Sample(relative(reading, file), file))
    return reading.done(())


FORMAT = Format("pictures that nobody labelled, only if asked for", lambda folder: False, read_unlabelled)
