"""What people decided, as a data set that `thresher train` reads.

    reviewed/
      decisions.jsonl      every decision, on the disk before it is acknowledged: the truth of all that follows
      annotations.json     of pictures: those that were confirmed or corrected, in COCO's form
      images/              their pictures, kept however soon the `doubts` sink forgets its own
      labeled.csv          of messages: the same, with the columns class and text

It belongs to one writer, the page; the sink that gathers doubts has its own files. So neither can lose what the other
wrote.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

from pipeline.core.errors import InputError
from pipeline.core.files import sync_folder, write_whole

log = logging.getLogger(__name__)

Word: TypeAlias = Literal["confirm", "correct", "unsure"]
Label = dict[str, Any]
"""`label`, and `box` (x1 y1 x2 y2 in pixels of the picture) where it has a place."""

LOG, ANNOTATIONS, MESSAGES, IMAGES = "decisions.jsonl", "annotations.json", "labeled.csv", "images"
GOOD = "good"  # the class of a message in which nothing is
_AT_ONCE = 1 << 18  # bytes of a document that is written with each decision
_BYTES_PER_S = 1 << 20  # of a larger one, on average
_INFO = {"description": "what people confirmed or corrected", "contributor": "thresher"}


@dataclass(frozen=True, slots=True)
class Doubt:
    """What somebody should look at: a picture (`file`, its size) or a message (`text`). `detections` are what the
    models said, with scores; `labels` those that the cascade reports."""

    id: str
    window: str
    stream: str
    time: str
    reason: str
    verdict: str
    decided_by: str
    missed: bool
    labels: tuple[str, ...]
    detections: tuple[Label, ...]
    file: str | None = None
    width: int = 0
    height: int = 0
    text: str | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Raises `TypeError` or `ValueError` for what is none."""
        read = cls(**document)
        if not isinstance(read.id, str) or (read.file is None) == (read.text is None):
            raise ValueError("no doubt")
        if read.file is not None and (Path(read.file).name != read.file or read.width < 1 or read.height < 1):
            raise ValueError("no picture of ours")
        return replace(read, labels=tuple(read.labels), detections=tuple(read.detections))


@dataclass(frozen=True, slots=True)
class Decision:
    """`word` is None where it was taken back. `detections` are what is there, as decided."""

    doubt: Doubt
    word: Word | None
    detections: tuple[Label, ...]
    by: str
    at: str


class Reviewed:
    """Thread-safe. What `decide` returned from survives `kill -9` and a loss of power. Raises `OSError` where the disk
    fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._decisions: dict[str, Decision] | None = None  # nothing was read yet
        self._claim: int | None = None
        self._stale = False
        self._size = 0
        self._wrote_s = 0.0

    def decisions(self) -> dict[str, Decision]:
        """All that were ever made, by the doubt's id, oldest first."""
        with self._lock:
            return dict(self._read())

    def decide(self, decision: Decision, picture: Path | None) -> None:
        """Keep it, with the picture that it is about. Of two about one doubt the later one counts."""
        with self._lock:
            self._take_place()
            known = self._read()
            if picture is not None and decision.doubt.file is not None and not self.picture(decision.doubt).is_file():
                _keep(picture, self.picture(decision.doubt))
            self._append(decision)
            known.pop(decision.doubt.id, None)
            known[decision.doubt.id] = decision
            self._stale = True
            self._tidy(at_once=self._size <= _AT_ONCE)

    def picture(self, doubt: Doubt) -> Path:
        assert doubt.file is not None
        return self.folder / IMAGES / doubt.file

    def tidy(self) -> None:
        """Write what waits into the data set, if its turn has come."""
        with self._lock:
            self._tidy(at_once=False)

    def close(self) -> None:
        """Write what waits, and let others have the folder. Safe twice."""
        with self._lock:
            try:
                self._tidy(at_once=True)
            finally:
                if self._claim is not None:
                    os.close(self._claim)
                    self._claim = None

    # The log.

    def _read(self) -> dict[str, Decision]:
        """Once. A line that was cut off was never acknowledged; what follows it stands on a line of its own."""
        if self._decisions is not None:
            return self._decisions
        known: dict[str, Decision] = {}
        with suppress(FileNotFoundError), (self.folder / LOG).open("rb") as file:
            for line in file:
                try:
                    document = json.loads(line)
                    decision = Decision(**{**document, "doubt": Doubt.of(document["doubt"])})
                    decision = replace(decision, detections=tuple(decision.detections))
                except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                    continue
                known.pop(decision.doubt.id, None)
                known[decision.doubt.id] = decision
        self._stale = bool(known)  # the program may have died between the log and the data set
        self._decisions = known
        return known

    def _append(self, decision: Decision) -> None:
        path = self.folder / LOG
        fresh = not path.exists()
        with path.open("ab") as file:
            file.write(f"\n{json.dumps(asdict(decision))}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        if fresh:
            sync_folder(self.folder)

    def _take_place(self) -> None:
        """Two programs that wrote here would undo each other's work. Raises `InputError` where another one does."""
        if self._claim is not None:
            return
        (self.folder / IMAGES).mkdir(parents=True, exist_ok=True)
        claim = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(claim)
            raise InputError("another run keeps its decisions here: decide in its page", str(self.folder)) from None
        self._claim = claim
        self._decisions = None  # whoever had it before may have gone on
        self._read()

    # The data set.

    def _tidy(self, *, at_once: bool) -> None:
        if not self._stale or self._decisions is None:
            return
        if not at_once and time.monotonic() - self._wrote_s < self._size / _BYTES_PER_S:
            return
        self._take_place()
        assert self._decisions is not None
        decided = [one for one in self._decisions.values() if one.word in {"confirm", "correct"}]
        pictures = [one for one in decided if one.doubt.file is not None and self.picture(one.doubt).is_file()]
        messages = [one for one in decided if one.doubt.text is not None]
        self._size = 0
        for name, ones, written in ((ANNOTATIONS, pictures, _coco), (MESSAGES, messages, _table)):
            if ones or (self.folder / name).exists():
                data = written(ones)
                write_whole(self.folder / name, data)
                self._size += len(data)
        self._stale, self._wrote_s = False, time.monotonic()


def _keep(picture: Path, there: Path) -> None:
    """Under another name, if the file system can: the sink replaces its files and never writes into one."""
    try:
        os.link(picture, there)
    except OSError:
        write_whole(there, picture.read_bytes())
    sync_folder(there.parent)


def _coco(decided: Sequence[Decision]) -> bytes:
    """A picture without annotations is one that shows nothing. Labels that the cascades report come first, so that a
    set in which all is well has categories, too."""
    labels = dict.fromkeys(label for one in decided for label in one.doubt.labels)
    labels |= dict.fromkeys(found["label"] for one in decided for found in one.detections)
    numbers = {label: number for number, label in enumerate(labels, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, one in enumerate(decided, 1):
        doubt = one.doubt
        images.append(
            {
                "id": number,
                "file_name": f"{IMAGES}/{doubt.file}",
                "width": doubt.width,
                "height": doubt.height,
                "date_captured": doubt.time,
                "window": doubt.window,
                "reason": doubt.reason,
                "decision": one.word,
                "decided_by": one.by,
                "decided_at": one.at,
            }
        )
        for found in one.detections:
            x1, y1, x2, y2 = found.get("box") or (0.0, 0.0, float(doubt.width), float(doubt.height))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": numbers[found["label"]],
                    "bbox": [x1, y1, round(x2 - x1, 3), round(y2 - y1, 3)],
                    "area": round((x2 - x1) * (y2 - y1), 3),
                    "iscrowd": 0,
                    **({} if found.get("box") else {"whole": True}),
                }
            )
    categories = [{"id": number, "name": label} for label, number in numbers.items()]
    document = {
        "info": _INFO, "licenses": [], "images": images, "annotations": annotations, "categories": categories,
    }  # fmt: skip
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _table(decided: Sequence[Decision]) -> bytes:
    text = io.StringIO()
    table = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    table.writerow(("class", "text"))
    for one in decided:
        table.writerow((one.detections[0]["label"] if one.detections else GOOD, one.doubt.text))
    return text.getvalue().encode("utf-8", "backslashreplace")
