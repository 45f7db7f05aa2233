"""The word on a message, for who asked: what was said of its pieces, in one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.core.records import Outcome, Result, outcome_document

_RANK = {"failed": 1, "shed": 2}


class Verdict:
    """Collects the outcomes of a message's pieces, and calls `done` with all of them: as a chunk's `answer` it must be
    quick and not raise. Say how many to `expect` once that is known; they may be there already."""

    def __init__(self, done: Callable[[Sequence[Outcome]], None]) -> None:
        self._done = done
        self._lock = threading.Lock()
        self._expected: int | None = None
        self._outcomes: list[Outcome] = []

    def __call__(self, outcome: Outcome) -> None:
        with self._lock:
            self._outcomes.append(outcome)
            complete = len(self._outcomes) == self._expected
        if complete:
            self._done(self._outcomes)

    def expect(self, count: int) -> None:
        with self._lock:
            self._expected = count
            complete = len(self._outcomes) == count
        if complete:
            self._done(self._outcomes)


def joined(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """One document for all pieces of a message: that of the first piece that is flagged, else of one that was not
    judged, else of the first; with what was found in any of them, and the slowest one's latency."""
    told = min(outcomes, key=_weight)
    document = outcome_document(told)
    if len(outcomes) > 1:
        documents = [outcome_document(outcome) for outcome in outcomes]
        document["pieces"] = len(outcomes)
        document["latency_ms"] = max(one["latency_ms"] for one in documents)
        if isinstance(told, Result):
            document["detections"] = [found for one in documents for found in one.get("detections", ())]
            document["certified"] = all(one.get("certified", False) for one in documents)
    return document


def _weight(outcome: Outcome) -> tuple[int, int]:
    flagged = isinstance(outcome, Result) and outcome.flagged
    return (0 if flagged else _RANK.get(outcome.kind, 3), outcome.window.seq)
