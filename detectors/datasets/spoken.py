"""Spoken words, a file a word, all in one folder, named as the free spoken digit data set names them:
`WORD_SPEAKER_INDEX.wav`. The word is the class, the speaker the group: a split between groups measures voices that were
never heard. Files in folders below count, too; those that are called otherwise, or cannot be read, are left out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from detectors.datasets.base import DataSet, Format, Reading, Sample
from detectors.datasets.files import files_under, relative
from pipeline.core.sounds import SUFFIXES

_NAME = re.compile(r"(?P<word>[^_]+)_(?P<speaker>[^_]+)_(?P<index>[^_]+)")


def fits(folder: Path) -> bool:
    """Whether some sound file is called so."""
    return any(_NAME.fullmatch(file.stem) for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)


def read_spoken(folder: Path) -> DataSet:
    """Raises `InputError` where there is no such file."""
    reading = Reading(folder)
    found: list[tuple[str, Sample]] = []
    for file in files_under(reading, folder):
        if file.suffix.lower() not in SUFFIXES:
            continue
        called = relative(reading, file)
        named = _NAME.fullmatch(file.stem)
        if named is None:
            reading.leave_out("sounds of no word", f"{called} is not called WORD_SPEAKER_INDEX")
        elif not file.stat().st_size:
            reading.leave_out("empty files", f"{called} is empty")
        else:
            found.append((named["word"], Sample(called, file, named["speaker"])))
    labels = sorted({word for word, _ in found})
    for word, sample in found:
        reading.samples.append(
            Sample(sample.name, sample.file, sample.group, classes=np.array([labels.index(word)], np.int64))
        )
    return reading.done(labels)


FORMAT = Format("sound files called WORD_SPEAKER_INDEX", fits, read_spoken)
