"""What was added, changed and removed over HTTP, kept for the next start: `web: {keep: streams.yaml}`.

Each stream is kept with what the config said of it then. Where the config says something else by now, the config holds:
whoever edits it is not overruled by what somebody clicked before.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from pipeline.app.config.document import Document, plain
from pipeline.core.errors import InputError
from pipeline.core.files import sync_folder, write_whole
from pipeline.core.secrets import redact
from pipeline.core.yaml_text import plain_yaml, yaml_text

log = logging.getLogger(__name__)

_WAS, _IS = "was", "is"
_HEAD = "# Written by thresher: streams that were changed while it ran. `was` is what the config said of each then.\n"
_LARGEST_BYTES = 1 << 20


class Kept:
    """The file, and the sections of the config that it was made from. Thread-safe."""

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self._path, self._config = path, config
        self._lock = threading.Lock()
        self._entries = _read(path)

    @classmethod
    def over(cls, document: Document) -> Kept | None:
        """Has `document`, before its references are followed, say what the last run said in the end; None where nothing
        is to be kept. Raises `InputError` where the file is of no use."""
        web, sources = document.data.get("web"), document.data.get("sources") or {}
        named = web.get("keep") if isinstance(web, dict) else None
        if not isinstance(named, str) or not named or not isinstance(sources, dict):
            return None  # if it is a mistake, whoever checks the settings says so
        kept = cls(Path(os.path.expanduser(named)), deepcopy(sources))
        kept._put_into(document, sources)
        return kept

    def _put_into(self, document: Document, sources: Mapping[str, Any]) -> None:
        now = dict(sources)
        for name, entry in list(self._entries.items()):
            if entry[_WAS] != self._config.get(name):
                where = redact(f"{self._path}: {name}")
                log.warning("%s: the config says something else of it by now, which holds", where)
                del self._entries[name]
            elif entry[_IS] is None:
                now.pop(name, None)
            else:
                now[name] = deepcopy(entry[_IS])
                document.names["sources", name] = f"{self._path}: {name}"
        document.data["sources"] = now

    def note(self, name: str, section: Mapping[str, Any] | None) -> None:
        """It runs as `section` says, or no more; on the disk when this returns. What cannot be written is logged."""
        with self._lock:
            was = self._config.get(name)
            if section == was:
                self._entries.pop(name, None)
            else:
                self._entries[name] = {_WAS: was, _IS: section}
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(self._path, (_HEAD + yaml_text(self._entries)).encode("utf-8"), private=True)
                sync_folder(self._path.parent)
            except OSError as error:
                log.error("%s cannot be written, so a restart will know less: %s", self._path, error.strerror)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    place = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", place) from None
    entries = None
    if len(data) <= _LARGEST_BYTES:
        entries = plain(plain_yaml(data.decode("utf-8", "replace"), place), place)
    if entries is None and not data.strip():
        return {}
    if not isinstance(entries, dict) or not all(_is_entry(entry) for entry in entries.values()):
        raise InputError("is not what was written there (each stream with `was` and `is`): take the file away", place)
    return entries


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and entry.keys() == {_WAS, _IS}
        and all(one is None or isinstance(one, dict) for one in entry.values())
    )
