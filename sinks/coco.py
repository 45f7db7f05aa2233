"""A COCO data set that grows, and forgets its oldest pictures.

A picture is written before it is named in `annotations.json`, and that file is replaced, never written into: a program
that is killed leaves at most a picture that nobody names. A large file is not replaced for each picture: what is new
waits in a journal beside it meanwhile, and is in the file soon after, when the program ends, or when it starts again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError
from pipeline.core.records import Detection, Outcome, Result, iso_time
from sinks.journal import Journal
from sinks.stills import sweep, write_whole

ANNOTATIONS = "annotations.json"
IMAGES = "images"
_INFO = {
    "description": "what was in doubt, with what the models found as pre-labels: correct them before you train",
    "contributor": "thresher",
}
_LISTS = ("images", "annotations", "categories")
_JOURNAL = ".annotations.journal"
_AT_ONCE = 1 << 18  # bytes of a document that is written whenever there is something new
_BYTES_PER_S = 1 << 18  # of a larger one, on average


class CocoFolder:
    """Used by one thread. Raises `OSError` where the disk fails."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder = folder
        self._file = folder / ANNOTATIONS
        self._keep = keep
        self._known: tuple[int, int, int] | None = None
        self._data = _empty()
        self._fresh: list[dict[str, Any]] = []  # what was added since the last save
        self._journal = Journal(folder / _JOURNAL)
        self._waiting = False  # something is in the journal
        self._looked: object = ()
        self._saved_s = 0.0

    def check(self) -> None:
        """Raises `InputError` where something lies there that this is not."""
        if self._file.exists():
            self._read()

    def open(self) -> None:
        """Go on with what is there. Raises `InputError` as `check` does."""
        (self._folder / IMAGES).mkdir(parents=True, exist_ok=True)
        for place in (self._folder, self._folder / IMAGES):
            sweep(place)
        self.refresh()
        if self._waiting:
            self._write()

    def refresh(self) -> None:
        """See what somebody made of it: corrected labels, or took the set away. Raises `InputError` as `check` does."""
        stamp = self._stamp()
        if stamp is None:
            if self._known is not None:
                self.forget()
            self._journal.clear()
            self._waiting = False
        elif stamp != self._known:
            self._data = self._read()
            self._known = stamp
            waiting = self._journal.read()
            self._replay(waiting)
            self._waiting = bool(waiting)

    def look(self) -> dict[str, Any] | None:
        """All that was saved by now, as one document; None where it is what the last look found. For who reads along
        while another thread or process adds, by an instance of its own: nothing is written. Raises as `refresh`."""
        seen = self._stamp(), self._journal.stamp()
        if seen == self._looked:
            return None
        waiting = self._journal.read()  # first: what leaves it meanwhile is in the document by then
        self._known = self._stamp()
        self._data = _empty() if self._known is None else self._read()
        self._replay(waiting)
        self._looked = seen
        return self._data

    def holds(self, window_id: str) -> bool:
        return any(image.get("window") == window_id for image in self._data["images"])

    def forget(self) -> None:
        """What was added and not saved is void."""
        self._known = None
        self._data = _empty()
        self._fresh = []

    def add(
        self,
        name: str,
        data: bytes,
        shape: tuple[int, ...],
        outcome: Outcome,
        reason: str,
        *,
        missed: Sequence[Detection] = (),
    ) -> None:
        """A picture, `data` being its file; `shape` is `[h, w, 3]`. What an audit showed to be `missed` is labelled in
        place of what was found. It counts once it was saved."""
        (self._folder / IMAGES).mkdir(parents=True, exist_ok=True)
        write_whole(self._folder / IMAGES / name, data)
        window = outcome.window
        image: dict[str, Any] = {
            "file_name": f"{IMAGES}/{name}",
            "height": shape[0],
            "width": shape[1],
            "date_captured": iso_time(window.wall_ns),
            "window": window.id,
            "reason": reason,
            "verdict": outcome.verdict,
        }
        if window.file:
            image["part"] = window.file
        if isinstance(outcome, Result):
            image |= {"decided_by": outcome.decided_by, "generation": outcome.generation}
        if missed:
            image["missed"] = True
        labels = _labels(missed or (outcome.detections if isinstance(outcome, Result) else ()), shape)
        entry = {"image": image, "labels": labels, "upon": self._known}
        self._put(entry)
        self._fresh.append(entry)

    def _put(self, entry: dict[str, Any]) -> None:
        found, image = self._data, entry["image"]
        self._drop([one for one in found["images"] if one.get("window") == image["window"]])
        number, first = _next_id(found["images"]), _next_id(found["annotations"])
        found["images"].append({"id": number, **image})
        for n, label in enumerate(entry["labels"]):
            own = {key: value for key, value in label.items() if key != "label"}
            place = {"id": first + n, "image_id": number, "category_id": self._category(label["label"])}
            found["annotations"].append(place | own)

    def _replay(self, entries: list[dict[str, Any]]) -> None:
        """What waits in the journal, on top of the document. Where somebody has changed that since, what they made of a
        picture stands."""
        for entry in entries:
            try:
                same = entry["upon"] == list(self._known or ())
                if same or not self.holds(entry["image"]["window"]):
                    self._put(entry)
            except (KeyError, TypeError):
                continue  # none of ours

    def _category(self, label: str) -> int:
        categories = self._data["categories"]
        known = next((one["id"] for one in categories if one["name"] == label), None)
        if known is None:
            known = _next_id(categories)
            categories.append({"id": known, "name": label})
        return int(known)

    def save(self) -> None:
        """All that was added is kept from now on, if not yet in the document."""
        size = 0 if self._known is None else self._known[1]
        pause_s = size / _BYTES_PER_S if size > _AT_ONCE else 0.0
        if time.monotonic() - self._saved_s >= pause_s:
            self._write()
        elif self._fresh:
            self._journal.append(self._fresh)
            self._fresh, self._waiting = [], True

    def close(self) -> None:
        """What waits goes into the document. Raises `InputError` as `check` does; safe twice."""
        self.refresh()
        if self._waiting:
            self._write()

    @property
    def waits(self) -> bool:
        """Whether there is something that the document does not say yet."""
        return self._waiting

    def _write(self) -> None:
        """The document anew; what is too much, and oldest, goes."""
        surplus = self._data["images"][: max(0, len(self._data["images"]) - self._keep)]
        self._drop(surplus)
        text = json.dumps(self._data, ensure_ascii=False)
        write_whole(self._file, text.encode("utf-8", "backslashreplace"))
        self._known = self._stamp()
        self._journal.clear()
        self._fresh, self._waiting, self._saved_s = [], False, time.monotonic()
        kept = {image["file_name"] for image in self._data["images"]}
        for image in surplus:
            name = str(image["file_name"])
            path = self._folder / IMAGES / Path(name).name  # whatever somebody wrote in there, nothing else is removed
            if name not in kept and path.is_file():
                path.unlink()

    def _drop(self, images: list[dict[str, Any]]) -> None:
        gone = {image["id"] for image in images}
        if gone:
            data = self._data
            data["images"] = [image for image in data["images"] if image["id"] not in gone]
            data["annotations"] = [one for one in data["annotations"] if one.get("image_id") not in gone]

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            stat = os.stat(self._file)
        except FileNotFoundError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read(self) -> dict[str, Any]:
        try:
            data = json.loads(self._file.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"cannot be read: {getattr(error, 'strerror', None) or error}", str(self._file)) from None
        sound = isinstance(data, dict) and all(
            isinstance(data.get(name), list)
            and all(isinstance(one, dict) and isinstance(one.get("id"), int) for one in data[name])
            for name in _LISTS
        )
        if not sound or any("file_name" not in image for image in data["images"]):
            raise InputError("is no COCO data set; give another folder", str(self._file))
        return dict(data)


def _labels(detections: Sequence[Detection], shape: tuple[int, ...]) -> list[dict[str, Any]]:
    """What was found, as annotations that have a name and no ids yet."""
    labels: list[dict[str, Any]] = []
    for found in detections:
        x1, y1, x2, y2 = found.box or (0.0, 0.0, float(shape[1]), float(shape[0]))
        label = {
            "label": found.label,
            "bbox": [round(side, 1) for side in (x1, y1, x2 - x1, y2 - y1)],
            "area": round((x2 - x1) * (y2 - y1), 1),
            "iscrowd": 0,
            "score": round(found.score, 4),
        }
        # a word on the whole picture, which COCO knows no place for
        labels.append(label if found.box else {**label, "whole": True})
    return labels


def _empty() -> dict[str, Any]:
    return {"info": dict(_INFO), "licenses": [], **{name: [] for name in _LISTS}}


def _next_id(records: list[dict[str, Any]]) -> int:
    return max((record["id"] for record in records), default=0) + 1
