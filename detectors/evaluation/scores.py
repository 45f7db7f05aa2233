"""What stages said of a data set, in a file: gzip over JSON lines.

The first line is the header: `format`, `version`, whose scores they are, the labels of stages and data, and the rule
that was evaluated. Then a line a unit: `name`, `group`, `size` (width, height), `defects`, the true `boxes` and
`classes`, `cheap`, and `heavy`, a list of `[place, answer]` with a place of four numbers or null for the whole unit. An
answer has `s`, scores, `c`, classes, `b`, boxes or null, `p`, spans if there are any, and `t`, seconds. Numbers that
were float32 are written so that they are the same float32 again: a replay decides on the very scores that the stages
gave. The last line counts the units, so that a file that was cut off is known.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from detectors.calibration.certificate import StageIdentity
from detectors.evaluation.judged import Judged
from detectors.replay import Heard, Place, Seen
from pipeline.core.errors import InputError
from pipeline.core.records import Array, Findings
from pipeline.core.secrets import redact
from pipeline.core.settings import Settings

FORMAT = "thresher-scores"
VERSION = 1
_LONGEST_LINE = 64 << 20  # no honest unit has as many findings; a hostile file shall not fill the memory


class Header(Settings):
    """The first line. `rule` is its kind and its settings; `heavy` is None for a model by itself; `parts` says whether
    the units were honest parts or the pictures as they are; `tile` is the heavy stage's, if it looks at such. `stages`
    says exactly which models gave the scores (none: nobody noted it), `truth` whether somebody said which units are
    bad. With `ladder_only`, of the heavy stage only that is there which `rule` could hear, at any step of its
    ladder."""

    format: Literal["thresher-scores"] = "thresher-scores"
    version: Literal[1] = 1
    model: str
    model_version: str
    data: str
    split: str = ""
    parts: str
    cheap: tuple[str, ...] = Field(min_length=1)
    heavy: tuple[str, ...] | None
    labels: tuple[str, ...] = Field(description="of the data; none where only good and bad are known")
    rule: dict[str, Any]
    tile: int | None = Field(default=None, ge=1)
    stages: tuple[StageIdentity, ...] = ()
    truth: bool = True
    ladder_only: bool = False


class ScoresInTheMaking:
    """A file of scores that grows unit by unit and is there whole, once it is kept, or not at all. Raises
    `InputError`."""

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.part")
        self._count = 0
        with self._told():
            self._file = gzip.open(self._part, "wt", encoding="utf-8")  # noqa: SIM115  # closed by keep or drop
            self._file.write(f"{header.model_dump_json()}\n")

    def add(self, unit: Judged) -> None:
        with self._told():
            self._file.write(json.dumps(_written(unit), ensure_ascii=False, separators=(",", ":")) + "\n")
            self._count += 1

    def keep(self) -> None:
        with self._told():
            self._file.write(json.dumps({"units": self._count}) + "\n")
            self._file.close()
            self._part.replace(self._path)

    def drop(self) -> None:
        """Safe at any time; what was kept stays."""
        with suppress(OSError):
            self._file.close()
        self._part.unlink(missing_ok=True)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._part.unlink(missing_ok=True)
            raise InputError(f"cannot be written: {error.strerror}", str(self._path)) from None


def save_scores(path: Path, header: Header, units: Sequence[Judged]) -> None:
    """Whole or not at all. Raises `InputError`."""
    file = ScoresInTheMaking(path, header)
    try:
        for unit in units:
            file.add(unit)
        file.keep()
    finally:
        file.drop()


def load_scores(path: Path) -> tuple[Header, list[Judged]]:
    """Raises `InputError` for a file that is not there, no such file, damaged, or cut off."""
    place = str(path)
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines = _lines(file, place)
            header = _header(next(lines, ""), place)
            units: list[Judged] = []
            for number, line in enumerate(lines, 2):
                document = _json(line, place, number)
                if isinstance(document, dict) and document.keys() == {"units"}:
                    if document["units"] != len(units) or next(lines, None) is not None:
                        raise InputError("is damaged: its last line counts other units than there are", place)
                    return header, units
                units.append(_read(document, header, place, number))
    except (gzip.BadGzipFile, zlib.error):
        raise InputError(f"is damaged, or no file of scores: {_MADE}", place) from None
    except EOFError:
        raise InputError(_CUT, place) from None
    except UnicodeDecodeError:
        raise InputError(f"is damaged: it holds no text in UTF-8; {_MADE}", place) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", place) from None
    raise InputError(_CUT, place)


_MADE = "`thresher eval` makes them"
_CUT = "is cut off: the line that counts its units is missing. Copy it again, or evaluate again"


def _lines(file: Any, place: str) -> Iterator[str]:
    while line := file.readline(_LONGEST_LINE):
        if len(line) >= _LONGEST_LINE:
            raise InputError("is damaged: a line has no end", place)
        yield line


def _header(line: str, place: str) -> Header:
    document = _json(line, place, 1)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError(f"is no file of scores: {_MADE}", place)
    if document.get("version") != VERSION:
        raise InputError(
            f"is of version {document.get('version')}, and this program reads version {VERSION}: evaluate again", place
        )
    try:
        return Header.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InputError(redact(f"is damaged: {'.'.join(map(str, first['loc']))}: {first['msg']}"), place) from None


def _json(line: str, place: str, number: int) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        what = f"is no file of scores: {_MADE}" if number == 1 else f"is damaged: line {number} is no JSON"
        raise InputError(what, place) from None


def _written(unit: Judged) -> dict[str, Any]:
    return {
        "name": unit.name,
        "group": unit.group,
        "size": [unit.width, unit.height],
        "defects": unit.defects,
        "boxes": _floats(unit.boxes),
        "classes": unit.classes.tolist(),
        "cheap": _answer(unit.seen.cheap),
        "heavy": [[place, _answer(one)] for place, one in unit.seen.heavy.items()],
    }


def _answer(heard: Heard) -> dict[str, Any]:
    findings = heard.findings
    return {
        "s": _floats(findings.scores),
        "c": findings.classes.tolist(),
        "b": None if findings.boxes is None else _floats(findings.boxes),
        "t": heard.seconds,
    } | ({} if findings.spans is None else {"p": findings.spans.tolist()})


def _floats(values: Array) -> list[Any]:
    """The shortest decimals that are the same float32 again."""
    short = [float(str(value)) for value in np.asarray(values, np.float32).ravel()]
    if values.ndim == 1:
        return short
    width = values.shape[1]
    return [short[start : start + width] for start in range(0, len(short), width)]


@np.errstate(over="ignore")  # what is too large for a float32 is infinite, and refused as such
def _read(document: Any, header: Header, place: str, number: int) -> Judged:
    try:
        width, height = (int(side) for side in document["size"])
        classes = _indices(document["classes"], header.labels)
        boxes = np.array(document["boxes"], np.float32).reshape(-1, 4)
        heavy: dict[Place, Heard] = {}
        for where, answer in document["heavy"]:
            heavy[_place(where)] = _heard(answer, header.heavy or ())
        if (header.heavy is not None) != (None in heavy) or width < 1 or height < 1 or int(document["defects"]) < 0:
            raise ValueError
        if not np.isfinite(boxes).all():
            raise ValueError
        return Judged(
            str(document["name"]), str(document["group"]), width, height, int(document["defects"]), boxes, classes,
            Seen(_heard(document["cheap"], header.cheap), heavy),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, OverflowError):
        raise InputError(f"is damaged: line {number} is not a unit as it should be", place) from None


def _place(where: Any) -> Place:
    if where is None:
        return None
    x1, y1, x2, y2 = (float(side) for side in where)
    return x1, y1, x2, y2


def _heard(answer: Any, labels: tuple[str, ...]) -> Heard:
    scores = np.array(answer["s"], np.float32).reshape(-1)
    classes = _indices(answer["c"], labels)
    boxes = None if answer["b"] is None else np.array(answer["b"], np.float32).reshape(-1, 4)
    spans = np.array(answer["p"], np.int64).reshape(-1, 2) if answer.get("p") is not None else None
    if spans is not None and len(spans) != len(scores):
        raise ValueError
    if len(scores) != len(classes) or (boxes is not None and len(boxes) != len(scores)):
        raise ValueError
    if not np.isfinite(scores).all() or (boxes is not None and not np.isfinite(boxes).all()):
        raise ValueError
    seconds = float(answer["t"])
    if not 0 <= seconds < math.inf:
        raise ValueError
    return Heard(Findings(labels, scores, classes, boxes, spans), seconds)


def _indices(numbers: Any, labels: Sequence[str]) -> Array:
    indices = np.array(numbers, np.int64).reshape(-1)
    if len(indices) and (indices.min() < 0 or indices.max() >= len(labels)):
        raise ValueError
    return indices
