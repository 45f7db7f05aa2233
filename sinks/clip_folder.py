"""The folder of clips: names, what a killed program left behind, and what has to go."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pipeline.core.files import UNFINISHED, write_whole
from pipeline.core.records import Event

log = logging.getLogger(__name__)

_UNFIT = re.compile(r"[^A-Za-z0-9.@-]+")
_OURS = re.compile(r"\d{8}T\d{6}Z_[A-Za-z0-9.@-]+_[0-9a-f]{16}\.(mp4|mov|mkv)")
_DAY_S: Final = 86400.0
SIDECAR = ".json"
SENT = ".sent"
"""How the mark of a clip that has a copy elsewhere ends."""


class ClipFolder:
    """Each stream has a folder of its own. Beside each clip lies what it shows, as JSON. Files of other names are left
    alone. Raises `OSError`."""

    def __init__(self, root: Path, keep_gb: float | None, keep_days: float | None) -> None:
        self.root = root
        self._most_bytes = None if keep_gb is None else int(keep_gb * 1e9)
        self._most_s = None if keep_days is None else keep_days * _DAY_S
        self.deleted = 0
        root.mkdir(parents=True, exist_ok=True)
        self._sweep()
        self._known = {path.stem.rpartition("_")[2]: path for path in self.clips()}
        self.make_room()

    def _sweep(self) -> None:
        """What was being written when the program died is no film; what lacks its film tells of nothing."""
        for path in self.root.glob(f"*/.*{UNFINISHED}"):
            path.unlink(missing_ok=True)
        for path in (*self.root.glob(f"*/*{SIDECAR}"), *self.root.glob(f"*/*{SENT}")):
            film = path.with_suffix("")
            if _OURS.fullmatch(film.name) and not film.exists():
                path.unlink(missing_ok=True)

    def clips(self) -> list[Path]:
        """The oldest first."""
        found = [path for path in self.root.glob("*/*") if _OURS.fullmatch(path.name) and path.is_file()]
        return sorted(found, key=lambda path: (path.name, path.parent.name))

    def path(self, event: Event, suffix: str) -> Path:
        begun = datetime.fromtimestamp(event.start_wall_ns // 1_000_000_000, UTC)
        return self.root / event.stream / f"{clip_name(begun, event.label, event.zone, event.id)}.{suffix}"

    def has(self, event: Event) -> bool:
        """Whether there is a clip of that event already."""
        known = self._known.get(digest(event.id))
        return known is not None and known.exists()

    def keep(self, unfinished: Path, path: Path, document: dict[str, Any]) -> None:
        """A film is whole: from here on it is there, under its own name, and what it shows is beside it."""
        write_whole(Path(f"{path}{SIDECAR}"), json.dumps(document, ensure_ascii=False, indent=1).encode())
        unfinished.replace(path)
        self._known[path.stem.rpartition("_")[2]] = path
        self.make_room()

    def make_room(self) -> None:
        if self._most_bytes is None and self._most_s is None:
            return
        clips = self.clips()
        total = sum(path.stat().st_size for path in clips)
        for path in clips:
            old = self._most_s is not None and time.time() - path.stat().st_mtime > self._most_s
            if not old and (self._most_bytes is None or total <= self._most_bytes):
                continue
            total -= path.stat().st_size
            self.delete(path)
            self.deleted += 1

    def delete(self, path: Path) -> None:
        for one in (path, Path(f"{path}{SIDECAR}"), Path(f"{path}{SENT}")):
            with suppress(FileNotFoundError):
                one.unlink()
        self._known.pop(path.stem.rpartition("_")[2], None)


def clip_name(begun: datetime, label: str, zone: str, event_id: str) -> str:
    """`20260131T120004Z_person_5f3a…`: when the event began, its label, and a digest of its id."""
    what = label + (f"@{zone}" if zone else "")
    return f"{begun:%Y%m%dT%H%M%SZ}_{_UNFIT.sub('-', what).strip('-.')[:60] or 'event'}_{digest(event_id)}"


def is_clip(path: Path) -> bool:
    """Whether `path` is a film that was named here."""
    return _OURS.fullmatch(path.name) is not None and path.is_file() and not path.is_symlink()


def digest(event_id: str) -> str:
    return hashlib.blake2b(event_id.encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()
