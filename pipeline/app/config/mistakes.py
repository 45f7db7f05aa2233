"""Collects everything that is wrong with a config, so that a person mends it once and not mistake by mistake."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, Tag, TypeAdapter, ValidationError

from pipeline.app.config.document import Document, Key
from pipeline.core.catalogue import nearest
from pipeline.core.errors import InputError, InputErrors, MissingPart
from pipeline.core.secrets import redact
from pipeline.core.settings import Name

M = TypeVar("M", bound=BaseModel)
_MOST_TOLD = 100
_NAME = TypeAdapter(Name)


class Mistakes:
    """The mistakes of one document, each with its place.

    With `elsewhere`, the document is looked at where it is not going to run: references to an environment and to files
    of secrets that lead nowhere are `notes` then, not mistakes.
    """

    def __init__(self, document: Document, elsewhere: bool = False) -> None:
        self._document = document
        self._elsewhere = elsewhere
        self.notes: list[InputError] = []
        self._unresolved: set[Key] = set()
        self.errors: list[InputError] = []

    def add(self, message: str, key: Sequence[str] = ()) -> None:
        self.errors.append(InputError(redact(message), self._document.place(key)))

    def take(self, error: InputError, key: Sequence[str] = ()) -> None:
        """`error` came from a part that does not know where it stands in the config. Where it names a place of its
        own (a file, a URL), that stays in front of its message."""
        place = self._document.place(key)
        if isinstance(error, InputErrors):
            for one in error.errors:
                self.take(one, key)
            return
        inner = "" if not error.place or error.place in place or error.place in error.message else f"{error.place}: "
        kind = MissingPart if isinstance(error, MissingPart) else InputError
        self.errors.append(kind(redact(inner + error.message), place))

    def unresolved(self, errors: Mapping[Key, InputError]) -> None:
        """References that lead nowhere. What stands there is not looked at any further."""
        self._unresolved |= errors.keys()
        (self.notes if self._elsewhere else self.errors).extend(errors.values())

    def is_resolved(self, key: Sequence[str]) -> bool:
        """Whether every reference at and below `key` led somewhere."""
        return not any(one[: len(key)] == tuple(key) for one in self._unresolved)

    def name(self, name: str, key: Sequence[str]) -> bool:
        """Whether `name` can be used in ids, file names and metrics; a mistake where not."""
        try:
            _NAME.validate_python(name)
        except ValidationError:
            self.add("a name has letters, digits, _ . and - only, 64 at most", key)
            return False
        return True

    def unknown_keys(self, section: Mapping[str, Any], known: Iterable[str], key: Sequence[str] = ()) -> None:
        words = list(known)
        for name in section:
            if name not in words:
                self.add(_unknown(name, words), (*key, name))

    def model(self, kind: type[M], section: object, key: Sequence[str] = ()) -> M | None:
        """`section` as a `kind`, or None and a mistake for each thing that is wrong with it."""
        if section is None:
            section = {}
        if not isinstance(section, dict):
            self.add(f"should be a mapping (key: value), not {_shown(section)}", key)
            return None
        try:
            return kind.model_validate(section)
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_context=True):
                path = (*key, *(str(part) for part in _as_written(kind, detail["loc"])))
                if path not in self._unresolved:
                    self.add(_told(kind, detail), path)
            return None

    def raise_if_any(self) -> None:
        if self.errors:
            told = self.errors + self.notes  # who mends the ones will want to know of the others
            if len(told) > _MOST_TOLD:
                told = [*told[:_MOST_TOLD], InputError(f"and {len(told) - _MOST_TOLD} mistakes more")]
            raise InputErrors(told) if len(told) > 1 else told[0]


def _told(kind: type[BaseModel], detail: Any) -> str:
    """One of pydantic's errors in this program's words."""
    match detail["type"]:
        case "extra_forbidden":
            fields = _fields_at(kind, detail["loc"][:-1])
            return _unknown(str(detail["loc"][-1]), fields)
        case "missing":
            return "is needed"
        case "literal_error":
            expected = str(detail.get("ctx", {}).get("expected", ""))
            words = [word.strip("' ") for word in expected.replace(" or ", ", ").split(",")]
            given = detail.get("input")
            hint = nearest(given, words) if isinstance(given, str) else ""
            return f"should be {expected}, not {_shown(given)}.{hint}"
        case "value_error":
            return str(detail["msg"]).removeprefix("Value error, ")
        case _:
            message = str(detail["msg"])
            for word in ("Input", "String"):
                if message.startswith(f"{word} should "):
                    message = message.removeprefix(f"{word} ")
            if message == "should have at least 1 character":
                return "should not be empty"
            return f"{message}, not {_shown(detail.get('input'))}"


def _fields_at(kind: type[BaseModel], loc: Sequence[object]) -> list[str]:
    """The keys that are known at `loc` inside `kind`, as far as its annotations say."""
    here: type[BaseModel] | None = kind
    inside = False  # an entry of a list or a mapping: its number or name is no field
    annotation: Any = None
    for part in loc:
        if inside or here is None:
            inside = False
            continue
        if (one := _tagged(annotation, part)) is not None:
            here, annotation = one, None
            continue
        field = here.model_fields.get(str(part))
        annotation = None if field is None else field.annotation
        here, inside = _model_in(annotation)
    return list(here.model_fields) if here is not None else []


def _as_written(kind: type[BaseModel], loc: Sequence[int | str]) -> list[int | str]:
    """`loc` without the names of variants, which pydantic puts between a key and what is in it, and nobody wrote."""
    written: list[int | str] = []
    here: type[BaseModel] | None = kind
    annotation: Any = None
    for part in loc:
        if (one := _tagged(annotation, part)) is not None:
            here, annotation = one, None
            continue
        written.append(part)
        field = None if here is None else here.model_fields.get(str(part))
        annotation = None if field is None else field.annotation
        if field is not None:
            here = _model_in(annotation)[0]
    return written


def _tagged(annotation: Any, tag: object) -> type[BaseModel] | None:
    """The settings of a union that go by that tag."""
    for one in get_args(annotation):
        if any(isinstance(said, Tag) and said.tag == tag for said in get_args(one)[1:]):
            return _model_in(one)[0]
        if (found := _tagged(one, tag)) is not None:
            return found
    return None


def _model_in(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The settings that a field holds, and whether it holds several of them, each under its number or name."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    several = get_origin(annotation) in (dict, list, tuple)
    for one in get_args(annotation):
        found, deeper = _model_in(one)
        if found is not None:
            return found, several or deeper
    return None, False


def _unknown(name: str, known: Sequence[str]) -> str:
    words = f" Known: {', '.join(known)}." if known else ""
    return f"there is no such key.{nearest(name, known) or words}"


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    text = redact(value)
    text = text if len(text) <= 60 else text[:57] + "…"
    return f'"{text}"' if isinstance(value, str) else text
