"""A config as it was written: plain data, and where each part of it stands.

Every mistake that is found later names its place by `Document.place`, so a person can go straight to the line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pipeline.core import secrets
from pipeline.core.errors import InputError

if TYPE_CHECKING:
    from pipeline.app.kept import Kept

Key: TypeAlias = tuple[str, ...]

_REFERENCE = re.compile(r"\$\$(?=\{)|\$\{(?P<name>[^}]*)\}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_DEEPEST = 64  # names in a dotted path
_MOST_NODES = 100_000  # an anchor that repeats anchors grows without bound
_LARGEST_BYTES = 1 << 20
_LARGEST_SECRET = 64 << 10


@dataclass
class Document:
    """`data` is made of dict, list, str, int, float, bool and None.

    `lines` maps the path of a part to its line. `names` maps the path of a part that no file holds to what the person
    wrote instead (a target or an option on the command line).
    """

    data: dict[str, Any]
    folder: Path
    origin: str = ""
    lines: dict[Key, int] = field(default_factory=dict)
    names: dict[Key, str] = field(default_factory=dict)
    written: dict[str, Any] = field(default_factory=dict)
    """The data before references were followed: what may be shown."""
    kept: Kept | None = None
    """Where what is changed while it runs is kept."""

    def place(self, key: Sequence[str] = ()) -> str:
        """Where `key` stands: `people.yaml:7: sources.door.url`, or the words on the command line."""
        path = tuple(key)
        for length in range(len(path), 0, -1):
            name = self.names.get(path[:length])
            if name is not None:
                rest = ".".join(path[length:])
                return secrets.redact(f"{name}: {rest}" if rest and rest not in {"path", "url"} else name)
        for length in range(len(path), 0, -1):
            if (line := self.lines.get(path[:length])) is not None:
                return secrets.redact(f"{self.origin}:{line}: {'.'.join(path)}")
        return secrets.redact(": ".join(part for part in (self.origin, ".".join(path)) if part))

    def set(self, assignment: str) -> None:
        """Apply one `KEY=VALUE` of the command line: a dotted path and a YAML value; `null` takes a part away."""
        dotted, equals, text = assignment.partition("=")
        if not equals or not dotted.strip():
            raise InputError(
                f'"{secrets.redact(assignment)}" should be KEY=VALUE, like sources.door.max_fps=5', "--set"
            )
        path: list[str] = []
        here: Any = self.data
        words = dotted.strip().split(".")
        if len(words) > _DEEPEST:
            raise InputError(f"no setting lies {len(words)} names deep", "--set")
        while True:
            word = _longest_known(here, words)
            words = words[len(word.split(".")) :]
            path.append(word)
            if isinstance(here, list):
                if not word.isdigit() or int(word) >= len(here):
                    raise InputError(f'there is no entry "{word}" in this list of {len(here)}', f"--set {dotted}")
                word_key: Any = int(word)
            elif isinstance(here, dict):
                word_key = word
            else:
                raise InputError(f'"{path[-2]}" is a value, nothing can be set inside it', f"--set {dotted}")
            if not words:
                here[word_key] = _plain_yaml(text, f"--set {dotted}")
                self.names[tuple(path)] = f"--set {dotted}"
                return
            if isinstance(here, dict) and here.get(word_key) is None:
                here[word_key] = {}
            here = here[word_key]

    def resolve(self, environment: Mapping[str, str] = os.environ, below: Key | None = None) -> dict[Key, InputError]:
        """Put the values of `${NAME}` and `${file:/path}` in their place and remember them as secrets; with `below`,
        there alone.

        `$${` stands for a plain `${`. Returns the references that lead nowhere, by where they stand.
        """
        mistakes: dict[Key, InputError] = {}
        if below is None:
            self.written = deepcopy(self.data)
        for holder, name, key in list(_strings(self.data)):
            if below is not None and key[: len(below)] != below:
                continue
            try:
                holder[name] = _filled(holder[name], environment)
            except InputError as error:
                mistakes[key] = InputError(error.message, self.place(key))
        return mistakes


def read(path: Path) -> Document:
    """The YAML 1.2 file at `path`. Raises `InputError` naming file and line."""
    origin = str(path)
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise InputError("this is too large to be a config", origin)
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(error.strerror or "cannot be read", origin) from error
    except UnicodeDecodeError as error:
        raise InputError("this is no text in UTF-8", origin) from error
    lines: dict[Key, int] = {}
    data = _load(text, origin, lines)
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise InputError("a config is a mapping (`sources: …`), not a list or a single value", origin)
    return Document(data, path.resolve().parent, origin, lines)


def plain(data: object, origin: str) -> Any:
    """What another program said, as plain data. Raises `InputError` where no config could hold it."""
    try:
        return _Plain(origin, {}).of(data, ())
    except RecursionError:
        raise InputError("this is nested too deeply", origin) from None


def _load(text: str, origin: str, lines: dict[Key, int]) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.parser import Parser
    from ruamel.yaml.scanner import Scanner

    yaml = YAML(typ="rt", pure=True)  # which knows the lines
    yaml.Scanner, yaml.Parser = Scanner, Parser  # but not the comments: it stumbles over where some of them stand
    try:
        loaded = yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{origin}:{mark.line + 1}" if mark else origin
        problem = str(error.problem or error.context or "this is no YAML").splitlines()[0]
        if isinstance(error, DuplicateKeyError):
            found = re.search(r'duplicate key "([^"]*)"', problem)
            problem = f'the key "{found[1]}" stands here twice' if found else "a key stands here twice"
        raise InputError(secrets.redact(problem), place) from None
    except YAMLError as error:
        raise InputError(secrets.redact(str(error).splitlines()[0]), origin) from None
    except RecursionError:
        raise InputError("this is nested too deeply to be a config", origin) from None
    except (AttributeError, LookupError, TypeError, ValueError) as error:  # what the parser stumbles over by itself
        raise InputError(f"this cannot be read as a config: {secrets.redact(error)}", origin) from None
    try:
        return _Plain(origin, lines).of(loaded, ())
    except RecursionError:
        raise InputError("this is nested too deeply to be a config (an anchor inside itself?)", origin) from None


class _Plain:
    """ruamel's round-trip types → plain data, with the lines on the side."""

    def __init__(self, origin: str, lines: dict[Key, int]) -> None:
        self.origin, self.lines, self.nodes = origin, lines, 0

    def of(self, node: Any, path: Key) -> Any:
        self.nodes += 1
        if self.nodes > _MOST_NODES:
            raise InputError("this is too large to be a config (an anchor inside itself?)", self.origin)
        if isinstance(node, dict):
            self._note(node, node, path)
            return {self._text(str(key), path): self.of(value, (*path, str(key))) for key, value in node.items()}
        if isinstance(node, list):
            self._note(node, range(len(node)), path)
            return [self.of(value, (*path, str(index))) for index, value in enumerate(node)]
        if node is None or isinstance(node, bool):
            return node
        for plain in (int, float, str):
            if isinstance(node, plain):
                return self._text(str(node), path) if plain is str else plain(node)
        if type(node).__name__ == "ScalarBoolean":
            return bool(node)
        return self._text(str(node), path)  # a date, say: whatever wants it takes text

    def _text(self, text: str, path: Key) -> str:
        """What no file name and no other program can take, is refused here and now."""
        wrong = "a zero byte" if "\0" in text else "half a character (a lone surrogate)"
        if "\0" in text or (not text.isascii() and _SURROGATE.search(text)):
            place = ".".join(path).encode("utf-8", "replace").decode()
            raise InputError(f"a text holds {wrong}", f"{self.origin}: {place}" if place else self.origin)
        return text

    def _note(self, node: Any, keys: Iterable[Any], path: Key) -> None:
        """The lines of `keys`. What a merge (`<<`) brought in has none here."""
        lines = (node.lc.data if hasattr(node, "lc") else None) or {}
        self.lines |= {(*path, str(key)): lines[key][0] + 1 for key in keys if key in lines}


def _plain_yaml(text: str, place: str) -> Any:
    """The YAML value that stands behind `--set KEY=`."""
    try:
        return _load(text, place, {})
    except InputError as error:
        raise InputError(error.message, place) from None


def _longest_known(here: Any, words: Sequence[str]) -> str:
    """The key of `here` that the next words spell: a name may hold dots itself."""
    if isinstance(here, dict):
        for length in range(len(words), 1, -1):
            if (joined := ".".join(words[:length])) in here:
                return joined
    return words[0]


def _strings(node: Any, path: Key = ()) -> Iterator[tuple[Any, Any, Key]]:
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, value in entries:
        key = (*path, str(name))
        if isinstance(value, str):
            if "${" in value:
                yield node, name, key
        else:
            yield from _strings(value, key)


def _filled(text: str, environment: Mapping[str, str]) -> str:
    return _REFERENCE.sub(lambda m: "$" if m["name"] is None else _looked_up(m["name"].strip(), environment), text)


def _path(written: str, environment: Mapping[str, str]) -> Path:
    """A path may begin with a folder that the environment names, as a service manager's `$CREDENTIALS_DIRECTORY`."""
    first, slash, rest = written.partition("/")
    if not first.startswith("$"):
        return Path(written)
    folder = environment.get(first[1:])
    if not folder or not slash:
        raise InputError(f"the folder {first} of ${{file:{written}}} is not set")
    return Path(folder) / rest


def _looked_up(name: str, environment: Mapping[str, str]) -> str:
    if name.startswith("file:"):
        path = _path(name.removeprefix("file:"), environment)
        try:
            if path.exists() and not path.is_file():
                raise InputError(f"the file {path} of ${{{name}}}: is no regular file")
            with path.open("rb") as file:
                value = file.read(_LARGEST_SECRET).decode("utf-8").strip()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "is no text in UTF-8"
            raise InputError(f"the file {path} of ${{{name}}}: {reason}") from None
    else:
        found = environment.get(name)
        if not found:
            state = "is empty" if found == "" else "is not set"
            raise InputError(f"the environment variable {name} {state}")
        value = found
    secrets.remember(value)
    secrets.remember_url(value)
    return value
