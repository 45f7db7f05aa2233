"""Going on behind what was judged for good before a restart."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Self

from pydantic import PrivateAttr

from pipeline.core.contracts import Source
from pipeline.core.places import Place
from pipeline.core.records import Chunk, Gap, Item, Watermark

_TICK_S = 0.5


class Resumable(Source):
    """A source whose readers look into `_behind`, under the name of each track (the empty one for the source's own
    stream)."""

    _behind: Mapping[str, Place] = PrivateAttr(default_factory=dict)

    def resumed(self, places: Mapping[str, Place]) -> Self | None:
        source = self.model_copy()
        source._behind = dict(places)
        return source


class PassedOver:
    """What comes of one stream, without what `place` is behind: read once more, for the numbers and times of what
    follows, and handed over to nobody."""

    def __init__(self, stream: str, place: Place | None) -> None:
        self._stream, self._place = stream, place
        self._received = 0
        self._told_s = 0.0

    @property
    def passing(self) -> bool:
        """Whether nothing new has come yet."""
        return self._place is not None

    def __call__(self, items: Iterable[Item]) -> Iterable[Item]:
        return items if self._place is None else self._new(items)

    def _new(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            if self._place is not None and self._is_old(item, self._place):
                if (now_s := time.monotonic()) - self._told_s > _TICK_S:  # so that a stop is not waited for
                    self._told_s = now_s
                    yield Watermark(self._stream, self._place.pts_ns)
            else:
                yield item

    def _is_old(self, item: Item, place: Place) -> bool:
        if isinstance(item, Chunk):
            self._received = item.seq + 1
        elif isinstance(item, Gap):
            self._received += item.count
        else:
            return True
        if self._received - 1 > place.seq:
            self._place = None
            return False
        if isinstance(item, Chunk):
            item.payload.release()
        return True
