"""Pictures as JPEG, for what speaks no WebRTC. Each is encoded once for all who ask for that size."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Final

from pipeline.app.web.drawing import Renderer
from pipeline.app.web.gallery import Gallery, Shot
from sinks.annotate import drawing

_KEPT: Final = 64  # pictures, each of another stream, view or size


class Stills:
    """Used on one loop; the work is done in threads."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, bool, int], tuple[Shot, asyncio.Future[bytes]]] = {}
        self._local = threading.local()
        self.encoded = 0

    def can_draw(self) -> None:
        """Raises `MissingPart` where not."""
        drawing()

    async def jpeg(self, shot: Shot, *, annotated: bool, longest: int) -> bytes:
        """Raises `MissingPart` where drawing is not to be had."""
        key = shot.outcome.window.stream, annotated, longest
        made = self._made.pop(key, None)
        if made is None or made[0] is not shot:
            self.encoded += 1
            made = shot, asyncio.ensure_future(asyncio.to_thread(self._encode, shot, annotated, longest))
        self._made[key] = made
        if len(self._made) > _KEPT:
            del self._made[next(iter(self._made))]
        return await asyncio.shield(made[1])

    def _encode(self, shot: Shot, annotated: bool, longest: int) -> bytes:
        renderers: dict[bool, Renderer] = self._local.__dict__.setdefault("renderers", {})
        if annotated not in renderers:
            renderers[annotated] = Renderer("annotated" if annotated else "raw")
        return renderers[annotated].jpeg(shot, longest)


class Viewing:
    """One who looks at a stream's pictures at his own pace, on the loop where it is made."""

    def __init__(self, gallery: Gallery, stream: str) -> None:
        self._gallery, self._stream = gallery, stream
        self._loop = asyncio.get_running_loop()
        self._came = asyncio.Event()
        if gallery.latest(stream) is not None:
            self._came.set()
        self.close = gallery.watch(stream, self._look)

    def _look(self, _: Shot) -> None:
        """In the gallery's thread."""
        with suppress(RuntimeError):  # the loop was closed
            self._loop.call_soon_threadsafe(self._came.set)

    async def next(self, within_s: float) -> Shot | None:
        """The latest picture that was not looked at yet; None where none came within the time."""
        try:
            await asyncio.wait_for(self._came.wait(), within_s)
        except TimeoutError:
            return None
        self._came.clear()
        return self._gallery.latest(self._stream)
