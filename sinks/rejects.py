"""What was rejected, as pictures: one a part, with what was found drawn on it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field, PositiveFloat

from pipeline.core.contracts import Delivery, Picture, Sink, Writer
from pipeline.core.errors import InputError, SinkRefused
from sinks.annotate import Annotator, drawing
from sinks.paths import check_folder, expanded
from sinks.stills import Kind, encode, file_name, is_ours, pixels_of, sweep, write_whole

log = logging.getLogger(__name__)


class Rejects(Sink):
    """Boxes, labels, scores, who decided and the time, drawn on a picture of each rejected part. The folder keeps the
    newest; a picture that is rejected again replaces the one before. Files of other names are left alone. When drawing
    falls behind, the oldest pictures go undrawn, and are counted."""

    takes: ClassVar[frozenset[str]] = frozenset({"pictures"})
    backlog: ClassVar[int] = 64

    path: str = Field(default="rejects", min_length=1, description="the folder")
    keep: int = Field(default=1000, ge=1, le=1_000_000, description="at most this many pictures; the oldest go")
    keep_mb: PositiveFloat = Field(default=1000, description="and at most this much of them")
    format: Kind = Field(default="png", description="jpg is smaller and a little blurred")
    max_width: int = Field(default=1280, ge=64, le=7680, description="wider pictures are made smaller")

    def check(self) -> None:
        drawing()
        check_folder(expanded(self.path))

    def open(self) -> Writer:
        return _Writer(self, Annotator())


class _Writer:
    def __init__(self, plan: Rejects, annotator: Annotator) -> None:
        self._plan = plan
        self._annotator = annotator
        self._folder = expanded(plan.path)
        self._most_bytes = int(plan.keep_mb * 1e6)
        self._sizes: dict[Path, int] = {}  # oldest first
        self._gone = 0
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            sweep(self._folder)
            known = [(path.stat().st_mtime_ns, path.name, path) for path in self._folder.iterdir() if is_ours(path)]
        except OSError as error:
            raise InputError(f"cannot be used: {error.strerror}", str(self._folder)) from error
        self._sizes = {path: path.stat().st_size for *_, path in sorted(known)}

    def write(self, items: Sequence[Delivery]) -> None:
        for item in items:
            if isinstance(item, Picture) and item.outcome.verdict == "reject":
                self._add(item)

    def _add(self, picture: Picture) -> None:
        pixels = pixels_of(picture, self._plan.max_width)
        if pixels is None or picture.image is None:
            self._gone += 1
            return
        if not pixels.flags.writeable:
            pixels = pixels.copy()
        self._annotator.draw(pixels, picture.outcome, pixels.shape[1] / picture.image.width)
        data = encode(pixels, self._plan.format)
        path = self._folder / file_name(picture.outcome.window, self._plan.format)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._make_room(path, len(data))
            write_whole(path, data)
        except OSError as error:
            raise SinkRefused(f"{path}: {error.strerror}") from error
        self._sizes[path] = len(data)

    def _make_room(self, coming: Path, size: int) -> None:
        self._sizes.pop(coming, None)
        total = sum(self._sizes.values()) + size
        while self._sizes and (len(self._sizes) >= self._plan.keep or total > self._most_bytes):
            oldest = next(iter(self._sizes))
            oldest.unlink(missing_ok=True)
            total -= self._sizes.pop(oldest)

    def close(self) -> None:
        if self._gone:
            log.info("%d rejected pictures were gone before they could be drawn", self._gone)
            self._gone = 0
