"""What was added, changed and removed over HTTP, kept for the next start: `web: {keep: streams.json}`.

Each stream is kept with what the config said of it then. Where the config says something else by now, the config holds
from then on: whoever edits it is not overruled by what somebody clicked before. What the config no longer admits is
passed over.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.app.config.document import Document, plain
from pipeline.app.config.settings import WebSettings
from pipeline.app.web.admission import HttpAdmission
from pipeline.core.errors import InputError
from pipeline.core.files import sync_folder, write_whole
from pipeline.core.secrets import redact

log = logging.getLogger(__name__)

_WAS, _IS = "was", "is"
_ASKED = ("keep", "kinds", "files", "references")
_LARGEST_BYTES = 1 << 20

Entries = dict[str, dict[str, Any]]


class Kept:
    """The file, and the sections of the config that it was made over. Thread-safe."""

    def __init__(self, path: Path, config: Mapping[str, Any], entries: Entries) -> None:
        self._path, self._config, self._entries = path, config, entries
        self._lock = threading.Lock()
        self._passed_over: list[str] = []

    @classmethod
    def over(cls, document: Document) -> Kept | None:
        """Has `document`, before its references are followed, say what an earlier run said in the end; None where
        nothing is to be kept. Writes nothing. Raises `InputError` where the file is of no use."""
        sources = document.data.get("sources")
        settings = _settings(document)
        if settings is None or settings.keep is None or not (sources is None or isinstance(sources, dict)):
            return None  # if it is a mistake, whoever checks the settings says so
        path = Path(os.path.expanduser(settings.keep))
        kept = cls(path, deepcopy(sources or {}), plain(_read(path), str(path)))
        document.data["sources"] = dict(kept._laid_over(HttpAdmission(settings), document))
        return kept

    def _laid_over(self, admission: HttpAdmission, document: Document) -> Iterator[tuple[str, Any]]:
        for name, entry in list(self._entries.items()):
            if entry[_WAS] != self._config.get(name):
                self._passed_over.append(f"{name}: the config says something else of it by now, which holds")
                del self._entries[name]
        admitted = {name: entry for name, entry in self._entries.items() if self._is_admitted(admission, name, entry)}
        for name, section in self._config.items():
            if name not in admitted:
                yield name, section
        for name, entry in admitted.items():
            if entry[_IS] is not None:
                document.names["sources", name] = f"{self._path}: {name}"
                yield name, deepcopy(entry[_IS])

    def _is_admitted(self, admission: HttpAdmission, name: str, entry: Mapping[str, Any]) -> bool:
        try:
            if entry[_IS] is not None:
                admission.check(name, entry[_IS], entry[_WAS])
        except InputError as error:
            self._passed_over.append(f"{name}: passed over, for the config does not admit it any more: {error}")
            return False
        return True

    def begin(self) -> list[str]:
        """The run begins: what is to be said of it, in lines. Raises `InputError` where the file cannot be written."""
        with self._lock:
            try:
                self._write(self._entries)
            except OSError as error:
                raise InputError(f"cannot be written: {error.strerror}", str(self._path)) from None
        for line in self._passed_over:
            log.warning("%s", redact(f"{self._path}: {line}"))
        gone = [name for name, entry in self._entries.items() if entry[_IS] is None]
        here = [name for name, entry in self._entries.items() if entry[_IS] is not None]
        told = [f"{', '.join(here)} as last changed"] * bool(here) + [f"without {', '.join(gone)}"] * bool(gone)
        return [f"{self._path}: {'; '.join(told)}"] if told else []

    def check(self, name: str, section: Mapping[str, Any]) -> None:
        """Whether there is room. Raises `InputError`."""
        with self._lock:
            if len(_text(self._with(name, section))) > _LARGEST_BYTES:
                raise InputError("there is no room for it in the file of `web.keep`", f"sources.{name}")

    def note(self, name: str, section: Mapping[str, Any] | None) -> None:
        """It runs as `section` says, or no more; on the disk when this returns. What cannot be written is logged."""
        with self._lock:
            self._entries = self._with(name, section)
            try:
                self._write(self._entries)
            except OSError as error:
                log.error("%s cannot be written, so a restart will know less: %s", self._path, error.strerror)

    def _with(self, name: str, section: Mapping[str, Any] | None) -> Entries:
        others = {one: entry for one, entry in self._entries.items() if one != name}
        was = self._config.get(name)
        return others if section == was else {**others, name: {_WAS: was, _IS: section}}

    def _write(self, entries: Entries) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._path, _text(entries), private=True)
        sync_folder(self._path.parent)


def _settings(document: Document) -> WebSettings | None:
    """What of them matters here; None where there are none, or they are wrong."""
    web = document.data.get("web")
    if not isinstance(web, dict) or web.get("keep") is None:
        return None
    if any(document.resolve(below=("web", name)) for name in _ASKED):
        return None
    try:
        return WebSettings.model_validate({name: web[name] for name in _ASKED if name in web})
    except ValidationError:
        return None


def _text(entries: Mapping[str, Any]) -> bytes:
    return json.dumps(entries, ensure_ascii=False, indent=1).encode("utf-8")


def _read(path: Path) -> Entries:
    place = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", place) from None
    if not data.strip():
        return {}
    try:
        entries = json.loads(data) if len(data) <= _LARGEST_BYTES else None
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, dict) or not all(_is_entry(entry) for entry in entries.values()):
        raise InputError("is not what was written there (each stream with `was` and `is`): take the file away", place)
    return entries


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and entry.keys() == {_WAS, _IS}
        and all(one is None or isinstance(one, dict) for one in entry.values())
    )
