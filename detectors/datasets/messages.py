"""Labelled messages in CSV files with the columns `class` and `text` (and `group`, if there is one: a conversation, an
author): as the data set of Davidson et al. (2017, "Automated Hate Speech Detection and the Problem of Offensive
Language") comes. Messages that say the same once they are normalised are one group, so that none is both learned from
and measured on; empty ones, and those of which copies have different classes, are left out and counted."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from pathlib import Path

import numpy as np

from detectors.datasets.base import DataSet, Format, Reading, Sample, says_good
from pipeline.core.errors import InputError
from pipeline.core.plain import plain

_COLUMNS = {"class", "text"}
_LARGEST_FIELD = 1 << 20
_LONGEST_HEADER = 1 << 16
_FILES = 100


def fits(folder: Path) -> bool:
    return any(_header(file) >= _COLUMNS for file in sorted(folder.glob("*.csv"))[:_FILES])


def _header(file: Path) -> set[str]:
    try:
        with file.open("rb") as stream:
            first = stream.readline(_LONGEST_HEADER).decode("utf-8-sig", "replace")
            return {name.strip().lower() for name in next(csv.reader([first]), [])}
    except (OSError, csv.Error):
        return set()


def read_messages(folder: Path) -> DataSet:
    """Raises `InputError` where no such file is there, or one cannot be read."""
    reading = Reading(folder)
    files = sorted(folder.glob("*.csv"))
    able = [file for file in files if _header(file) >= _COLUMNS]
    if not able:
        there = f": {files[0].name} has {', '.join(sorted(_header(files[0]))) or 'none'}" if files else ""
        raise InputError(f"holds no CSV file whose first line names the columns class and text{there}", str(folder))
    rows = [row for file in able for row in _rows(reading, file)]
    kinds: dict[str, set[str]] = defaultdict(set)
    for _, kind, said, _ in rows:
        kinds[said].add(kind)
    labels = sorted({kind for _, kind, _, _ in rows}, key=lambda label: (not says_good(label), label))
    for sample, kind, said, group in rows:
        if len(kinds[said]) > 1:
            reading.leave_out("copies of which one is labelled otherwise", f"{sample.name} is said twice")
            continue
        reading.samples.append(
            Sample(
                sample.name,
                sample.file,
                group or hashlib.blake2s(said.encode(), digest_size=8).hexdigest(),
                classes=np.array([labels.index(kind)], np.int64),
                text=sample.text,
            )
        )
    return reading.done(labels)


def _rows(reading: Reading, file: Path) -> list[tuple[Sample, str, str, str]]:
    """Sample, class, the message normalised, and its group."""
    csv.field_size_limit(_LARGEST_FIELD)
    rows = []
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            table = csv.DictReader(stream, restval="", strict=True)
            for number, row in enumerate(table, 2):
                fields = {(name or "").strip().lower(): value for name, value in row.items()}
                kind, text = str(fields.get("class", "")).strip(), str(fields.get("text", ""))
                said = plain(text)
                name = f"{file.name}:{number}"
                if not kind or not said:
                    reading.leave_out("rows without class or text", f"{name} has none")
                    continue
                rows.append((Sample(name, file, text=text), kind, said, str(fields.get("group", "")).strip()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        where = f" behind line {table.line_num}" if isinstance(error, csv.Error) else ""
        raise InputError(f"cannot be read as CSV in UTF-8{where}: {error}", str(file)) from None
    return rows


FORMAT = Format("a CSV file with the columns class and text", fits, read_messages)
