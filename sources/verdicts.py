"""The word on a message, for who asked: what was said of its pieces, in one that is no weaker than any."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.core.records import ACTIONS, Outcome, Result, detection_document, outcome_document

_VERDICTS = ("reject", "unknown", "accept")  # the strongest first
_KINDS = ("failed", "shed", "result")


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
    """One document for all pieces of a message: that of the first that is rejected, else of one that nobody vouches
    for, else of the first; with what was found in any of them, the strongest action, and the slowest one's latency. It
    is certified, and trusted, where all of them are."""
    told = min(outcomes, key=_weight)
    document = outcome_document(told)
    if len(outcomes) == 1:
        return document
    results = [outcome for outcome in sorted(outcomes, key=_place) if isinstance(outcome, Result)]
    document["pieces"] = len(outcomes)
    document["latency_ms"] = max(outcome_document(outcome)["latency_ms"] for outcome in outcomes)
    if isinstance(told, Result):
        document["detections"] = [detection_document(found) for one in results for found in one.detections]
        document["certified"] = len(results) == len(outcomes) and all(one.certified for one in results)
        if not all(one.trusted for one in results):
            document["trusted"] = False
    acting = [one for one in results if one.action is not None]
    if acting:
        strongest = max(acting, key=lambda one: ACTIONS.index(one.action or "allow"))
        document.pop("rule", None)
        document |= {"action": strongest.action} | ({"rule": strongest.rule} if strongest.rule else {})
    return document


def _weight(outcome: Outcome) -> tuple[int, int, int]:
    return _VERDICTS.index(outcome.verdict), _KINDS.index(outcome.kind), _place(outcome)


def _place(outcome: Outcome) -> int:
    return outcome.window.seq
