"""Messages in doubt, a line of JSON each: the newest so many."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.core.files import write_whole
from pipeline.core.records import Outcome, Result, detection_document, iso_time
from sinks.journal import Journal

MESSAGES = "messages.jsonl"


class MessageFile:
    """Used by one thread; who reads along has an instance of its own. Raises `OSError` where the disk fails."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._path = folder / MESSAGES
        self._journal = Journal(self._path)
        self._keep = keep
        self._fresh: list[dict[str, Any]] = []
        self._lines = 0
        self._looked: object = ()

    def open(self) -> None:
        """Go on with what is there."""
        self._lines = len(self._journal.read())
        self._make_room()

    def add(self, text: str, outcome: Outcome, reason: str, *, missed: tuple[Any, ...] = ()) -> None:
        """It counts once it was saved. What an audit showed to be `missed` is told in place of what was found."""
        window = outcome.window
        found = missed or (outcome.detections if isinstance(outcome, Result) else ())
        self._fresh.append(
            {
                "window": window.id,
                "time": iso_time(window.wall_ns),
                "reason": reason,
                "verdict": outcome.verdict,
                "decided_by": outcome.decided_by if isinstance(outcome, Result) else "",
                "missed": bool(missed),
                "detections": [detection_document(one) for one in found],
                "text": text,
            }
        )

    def save(self) -> None:
        """All that was added is kept from now on."""
        if self._fresh:
            self._journal.append(self._fresh)
            self._lines += len(self._fresh)
            self._fresh = []
            self._make_room()

    def forget(self) -> None:
        """What was added and not saved is void."""
        self._fresh = []

    def look(self) -> list[dict[str, Any]] | None:
        """All that was saved by now, each window once; None where it is what the last look found."""
        seen = self._journal.stamp()
        if seen == self._looked:
            return None
        self._looked = seen
        return self._newest()

    def _newest(self) -> list[dict[str, Any]]:
        """Of a window that came again the later word."""
        by_window: dict[str, dict[str, Any]] = {}
        for one in self._journal.read():
            by_window.pop(str(one.get("window")), None)
            by_window[str(one.get("window"))] = one
        return list(by_window.values())[-self._keep :]

    def _make_room(self) -> None:
        if self._lines > 2 * self._keep:
            kept = self._newest()
            write_whole(self._path, "".join(f"{json.dumps(one)}\n" for one in kept).encode())
            self._lines = len(kept)
