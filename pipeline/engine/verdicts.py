"""Verdicts that hold again for what says the same: in a raid, a thousand copies of one message are judged once."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from threading import Lock

from pipeline.core.media import Key
from pipeline.core.records import Result, Window


class VerdictCache:
    """Of one generation, the `size` verdicts that were last of use. Thread-safe."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: OrderedDict[bytes, tuple[int, Result]] = OrderedDict()
        self._lock = Lock()

    def recall(self, key: Key, window: Window, done_ns: int) -> Result | None:
        """The verdict on what says the same, as one on this window. Where it is written otherwise, the places in it
        are not told; where the heavy stage had settled it, which knew what was said before, nobody certifies that."""
        said, written = key
        with self._lock:
            found = self._known.get(said)
            if found is None:
                return None
            self._known.move_to_end(said)
        as_written, known = found
        detections = known.detections
        if as_written != written:
            detections = tuple(replace(one, chars=None) for one in detections)
        again = replace(known, window=window, done_ns=done_ns, detections=detections)
        return replace(again, decided_by="cache", carried_from=known.window.id)

    def remember(self, key: Key, result: Result, certified: bool) -> None:
        said, written = key
        with self._lock:
            self._known[said] = written, replace(result, certified=certified)
            self._known.move_to_end(said)
            if len(self._known) > self._size:
                self._known.popitem(last=False)
