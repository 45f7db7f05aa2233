"""Verdicts that hold again for what says the same: in a raid, copies of one message need not be judged again.

A verdict for which a stage read what was said before holds for no other place, and is not kept; one that was given
without anything before it, by a stage that would have read it, holds where there is nothing before, too.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from threading import Lock

from pipeline.core.media import Key
from pipeline.core.records import Result, Window


@dataclass(frozen=True, slots=True)
class _Known:
    written: int
    result: Result
    for_alone: bool


class VerdictCache:
    """Of one generation, the `size` verdicts that were last of use. Thread-safe."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._lock = Lock()

    def recall(self, key: Key, window: Window, done_ns: int, *, alone: bool = True) -> Result | None:
        """The verdict on what says the same, as one on this window, which is `alone` or behind others. Where it is
        written otherwise, the places in it are not told."""
        said, written = key
        with self._lock:
            known = self._known.get(said)
            if known is None or (known.for_alone and not alone):
                return None
            self._known.move_to_end(said)
        result = known.result
        detections = result.detections
        if known.written != written:
            detections = tuple(replace(one, chars=None) for one in detections)
        again = replace(result, window=window, done_ns=done_ns, detections=detections)
        return replace(again, decided_by="cache", carried_from=result.window.id)

    def remember(self, key: Key, result: Result, *, for_alone: bool = False) -> None:
        """`for_alone`: it holds only where nothing was before."""
        said, written = key
        with self._lock:
            self._known[said] = _Known(written, result, for_alone)
            self._known.move_to_end(said)
            if len(self._known) > self._size:
                self._known.popitem(last=False)
