"""What to calibrate on: each picture of a folder is a unit, or each part that a labelled data set makes, or frames of
a film that lie far enough apart."""

from __future__ import annotations

import hashlib
import logging
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from detectors.calibration.calibrate import Unit
from detectors.datasets import read_dataset
from detectors.datasets.base import DataSet
from detectors.datasets.parts import Part
from detectors.manifest import digest
from pipeline.app.evaluation.units import Skipped, chosen, kind_of, lines_of
from pipeline.app.evaluation.units import units_of as parts_in
from pipeline.core.catalogue import nearest
from pipeline.core.errors import InputError
from pipeline.core.media import Medium, Payload, Spec
from pipeline.core.payloads import FrameImage
from pipeline.core.pictures import MAX_PIXELS, BadPicture, read_picture
from pipeline.core.plain import plain
from pipeline.core.records import Array, Chunk, Gap
from pipeline.core.sound import Sound, SoundSpec
from pipeline.core.sounds import read_sound
from pipeline.core.text import Text, TextSpec
from sources.file import File, content_digest
from sources.folder import Folder, is_picture

log = logging.getLogger(__name__)
_THING: dict[Medium, str] = {
    "picture": "a part",
    "sound": "a recording, in windows 0.1 s apart; flagged if any of them is",
    "text": "a message",
}
_HOPS_A_SECOND = 10  # as sources of sound have it


@dataclass
class Units(ABC):
    """Iterate it once; then `left_out` says what was not counted, and why. `expected` is about how many there are."""

    what: str
    expected: int | None
    left_out: dict[str, int] = field(default_factory=dict)

    @abstractmethod
    def __iter__(self) -> Iterator[Unit]: ...

    def _leave_out(self, reason: str, count: int = 1) -> None:
        self.left_out[reason] = self.left_out.get(reason, 0) + count


class Pictures(Units):
    """The pictures of a folder. A second copy of a picture is no second unit."""

    def __init__(self, folder: Path, truth: Path | None = None) -> None:
        plan = Folder.model_validate({"path": folder})
        plan.check()
        self._paths = plan.pictures()
        self._true = None if truth is None else _names(truth, {path.name for path in self._paths})
        super().__init__("a picture", len(self._paths))

    def __iter__(self) -> Iterator[Unit]:
        seen: set[str] = set()
        for path in self._paths:
            try:
                content = digest(path)
                if content in seen:
                    self._leave_out("copies of another")
                    continue
                frame = read_picture(path, MAX_PIXELS)
            except (BadPicture, InputError) as error:
                log.warning("%s: %s", path, error.message if isinstance(error, InputError) else error)
                self._leave_out("unreadable")
                continue
            seen.add(content)
            true = None if self._true is None else path.name in self._true
            yield Unit(path.name, content, FrameImage(frame), true)


class Parts(Units):
    """The parts of a labelled data set (see `detectors.datasets.parts`): whether each is bad is known. Where a sample
    makes several with defects, one of them is taken: parts of one board have too much in common to count as
    independent. A second copy of a picture is no second unit."""

    def __init__(self, data: DataSet, spec: Spec) -> None:
        self._spec = spec
        self._skipped = Skipped(dict(data.left_out))
        self._parts = parts_in(data, kind_of(data, None, True), self._skipped)
        self._parts = _independent(self._parts)
        honest = any(part.kept is not None for part in self._parts)
        groups = len({part.sample.group for part in self._parts if part.sample.group})
        thing = _THING[spec.medium]
        what = "a part: of each board one with defects, and it repaired" if honest else thing
        super().__init__(what + (f"; {groups} groups" if groups else ""), len(self._parts))

    def __iter__(self) -> Iterator[Unit]:
        seen: set[tuple[str, bool]] = set()
        for part in self._parts:
            picture = part.name if part.sample.text is not None else str(part.sample.file)
            try:
                content = _content(part)
                if (content, part.bad) in seen:
                    self._skipped.add("copies of another", picture)
                    continue
                windows = self._windows(part)
            except (BadPicture, InputError) as error:
                self._skipped.add("unreadable", f"{picture}: {error}")
                continue
            seen.add((content, part.bad))
            if not windows:
                self._skipped.add("longer than one piece", picture)
                continue
            yield Unit(part.name, content, windows[0], part.bad, windows[1:])
        self.left_out |= self._skipped.counts

    def _windows(self, part: Part) -> tuple[Payload, ...]:
        """As a stream would hand it over; nothing of a message that a stream would cut up. Raises `BadPicture`."""
        spec = self._spec
        if isinstance(spec, SoundSpec):
            return _slid(read_sound(part.sample.file, spec.rate), spec)
        payload = part.payload(spec)
        if isinstance(payload, Text) and isinstance(spec, TextSpec) and len(payload.plain) >= spec.length:
            return ()
        return (payload,)


def _slid(samples: Array, spec: SoundSpec) -> tuple[Payload, ...]:
    """The windows of a recording, a hop apart, with silence before and behind it."""
    hop = spec.rate // _HOPS_A_SECOND
    around = np.concatenate([np.zeros(spec.samples, np.float32), samples, np.zeros(spec.samples, np.float32)])
    ends = range(spec.samples + hop, len(around) + 1, hop)
    second = 1_000_000_000
    return tuple(
        Sound(around[end - spec.samples : end].copy(), spec.rate, (end - spec.samples) * second // spec.rate)
        for end in ends
    )


def _content(part: Part) -> str:
    """Equal for units that are copies of each other. Raises `InputError`."""
    if part.sample.text is not None:
        return hashlib.sha256(plain(part.sample.text).encode()).hexdigest()
    return digest(part.sample.file)


def _independent(parts: Sequence[Part]) -> list[Part]:
    """Of the parts with defects that a sample makes, one, always the same; and the one without any."""
    good: list[Part] = []
    bad: dict[str, list[Part]] = {}
    for part in parts:
        if part.bad:
            bad.setdefault(part.sample.name, []).append(part)
        else:
            good.append(part)
    return good + [ones[zlib.crc32(name.encode("utf-8", "replace")) % len(ones)] for name, ones in bad.items()]


class Frames(Units):
    """Frames of a film that lie `every_s` seconds apart."""

    def __init__(self, film: Path, every_s: float) -> None:
        self._plan = File.model_validate({"path": film, "threads": 1})
        self._plan.check()
        self._every_ns = int(every_s * 1e9)
        super().__init__(f"a frame, {every_s:g} s from the next", None)

    def __iter__(self) -> Iterator[Unit]:
        reader = self._plan.open("film")
        content = content_digest(self._plan.path)
        due_ns: int | None = None
        try:
            for item in reader:
                if isinstance(item, Gap):
                    self._leave_out("damaged frames", item.count)
                elif isinstance(item, Chunk):
                    if due_ns is None or item.pts_ns >= due_ns:
                        due_ns = item.pts_ns + self._every_ns
                        yield Unit(str(item.seq), content, item.payload)
                    else:
                        item.payload.release()
        finally:
            reader.close()


def _names(file: Path, known: set[str]) -> set[str]:
    """The names of pictures in `file`, one a line. Raises `InputError` for one that is not there."""
    lines = lines_of(file, "--truth")
    for number, name in lines:
        if name not in known:
            raise InputError(
                f'{file}:{number}: there is no picture "{name}" in --data.{nearest(name, known)}', "--truth"
            )
    return {name for _, name in lines}


def units_of(
    data: Path,
    every_s: float | None,
    truth: Path | None = None,
    *,
    data_format: str | None = None,
    groups: Sequence[str] = (),
    only: Path | None = None,
    spec: Spec,
) -> Units:
    """Raises `InputError`, also for a film of which nobody says how far apart its frames are independent."""
    if not data.exists():
        raise InputError(f"there is no such folder: {data}", "--data")
    if data.is_dir():
        if every_s is not None:
            raise InputError("is for a film; every picture of a folder counts as a unit", "--every")
        if data_format is None and not groups and only is None and spec.medium == "picture" and _plain(data):
            return Pictures(data, truth)
        if truth is not None:
            raise InputError("is for a folder of pictures; a labelled data set says itself what is true", "--truth")
        return Parts(chosen(read_dataset(data, data_format), groups, only, None), spec)
    if every_s is None:
        raise InputError(
            f"{data} is a single file. Neighbouring frames of a film are not independent units: they show the same"
            " thing again, and a proof that counts them proves nothing. Give a folder of pictures taken independently,"
            " or say with --every how many seconds lie between frames that have nothing to do with each other",
            "--data",
        )
    if truth is not None:
        raise InputError("names pictures of a folder; the frames of a film have no names", "--truth")
    return Frames(data, every_s)


def _plain(folder: Path) -> bool:
    """Whether there are pictures in it, or at least no folders in which labelled ones may lie."""
    inside = list(folder.iterdir())
    return any(is_picture(path) for path in inside) or not any(path.is_dir() for path in inside)
