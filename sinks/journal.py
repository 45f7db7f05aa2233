"""What was acknowledged and is not in its document yet: a line an entry, on the disk once it was appended."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Journal:
    """Used by one thread. Raises `OSError` where the disk fails."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, entries: Sequence[dict[str, Any]]) -> None:
        # each on a line of its own, also where the one before was cut off
        text = "".join(f"\n{json.dumps(entry)}" for entry in entries)
        with self._path.open("ab") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[dict[str, Any]]:
        """Without what was cut off when the program was killed: that was never acknowledged."""
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        entries: list[dict[str, Any]] = []
        for line in lines:
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(entry, dict):
                entries.append(entry)
        return entries

    def stamp(self) -> tuple[int, int] | None:
        """Another one whenever it is another journal; None where there is none."""
        try:
            stat = os.stat(self._path)
        except FileNotFoundError:
            return None
        return stat.st_mtime_ns, stat.st_size

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)
