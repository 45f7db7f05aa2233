"""Parts on a line: which pictures show one, and what each is laid beside."""

from __future__ import annotations

import time
from pathlib import Path

from av.video.frame import VideoFrame

from pipeline.core.errors import InputError
from pipeline.core.payloads import FrameImage
from pipeline.core.pictures import (
    MAX_PIXELS,
    BadPicture,
    decode_picture,
    put_beside,
    read_beside,
    read_picture,
    read_reference,
)
from pipeline.core.records import Chunk, Gap
from sources.folder import is_picture

STEM = "{stem}"
ANY = "*"


class BadReference(BadPicture):
    """The part's picture is sound; what it should be laid beside is not there, or does not fit."""


class Bench:
    """Where a part is laid beside its reference. Thread-safe.

    `names` says which pictures are parts, by their name without its ending, one `*` standing for the part's stem. The
    `reference` is one picture for all of them or, with `{stem}` in it, one a part; None: parts are shown as they are.
    Raises `InputError` where the one picture for all of them cannot be read.
    """

    def __init__(self, names: str = ANY, reference: Path | None = None, max_pixels: int = MAX_PIXELS) -> None:
        self._before, _, self._behind = names.partition(ANY)
        self._reference = reference
        self._max_pixels = max_pixels
        self._own = reference is not None and STEM in str(reference)
        self._golden = None
        if reference is not None and not self._own:
            try:
                self._golden = read_reference(reference, max_pixels)
            except BadPicture as error:
                raise InputError(str(error), str(reference)) from None

    @property
    def asks_for_names(self) -> bool:
        """Whether a part without a name has no reference."""
        return self._own

    def stem(self, name: str) -> str | None:
        """What the `*` stands for in `name`, or None where that is not the name of a part."""
        bare = Path(name).stem
        least = len(self._before) + len(self._behind)
        fits = len(bare) > least and bare.startswith(self._before) and bare.endswith(self._behind)
        return bare[len(self._before) : len(bare) - len(self._behind)] if fits else None

    def is_part(self, path: Path) -> bool:
        return is_picture(path) and self.stem(path.name) is not None and path != self._reference

    def reference_of(self, name: str) -> Path | None:
        """The file that the part of that name is laid beside. Raises `BadReference` where it cannot have one."""
        if self._reference is None or not self._own:
            return self._reference
        stem = self.stem(name)
        if stem is None:
            raise BadReference("has no name that leads to its reference")
        return Path(str(self._reference).replace(STEM, stem))

    def read(self, path: Path) -> VideoFrame:
        """The part in `path`. Raises `BadPicture`."""
        reference = self.reference_of(path.name)
        if reference is None:
            return read_picture(path, self._max_pixels)
        if self._own:
            return read_beside(path, reference, self._max_pixels)
        return self._beside(read_picture(path, self._max_pixels), reference)

    def decode(self, data: bytes, name: str) -> VideoFrame:
        """The part whose picture is `data`. Raises `BadPicture`; `BadReference` where `data` is not what is wrong."""
        part = decode_picture(data, self._max_pixels)
        reference = self.reference_of(name)
        return part if reference is None else self._beside(part, reference)

    def _beside(self, part: VideoFrame, reference: Path) -> VideoFrame:
        try:
            clean = self._golden if self._golden is not None else read_reference(reference, self._max_pixels)
            return put_beside(part, clean, reference.name)
        except BadPicture as error:
            raise BadReference(str(error)) from None


class Belt:
    """Counts the parts of one connection and makes their records. `judged` of them could be decoded."""

    def __init__(self, stream: str, epoch: str, seq: int = 0) -> None:
        self.judged = 0
        self._stream = stream
        self._epoch = epoch
        self._seq = seq

    def chunk(self, frame: VideoFrame, name: str, mono_ns: int, pts_ns: int, duration_ns: int = 0) -> Chunk:
        """A part that arrived at `mono_ns`, which may be a while ago."""
        wall_ns = time.time_ns() - (time.monotonic_ns() - mono_ns)
        seq, self._seq = self._seq, self._seq + 1
        self.judged += 1
        text = name.encode("utf-8", "replace").decode()  # a name on disk may be no text
        return Chunk(self._stream, self._epoch, seq, pts_ns, duration_ns, mono_ns, wall_ns, FrameImage(frame), text)

    def gap(self) -> Gap:
        """A part that nobody can judge."""
        self._seq += 1
        return Gap(self._stream, "undecoded", 1)
