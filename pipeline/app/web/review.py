"""What people should look at, and what they decide about it. What is in doubt a `doubts` sink gathers; what was decided
becomes a data set beside it (`reviewed.py`)."""

from __future__ import annotations

import hashlib
import logging
import shlex
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectors.datasets.base import says_good
from detectors.rules.regions import Regions
from detectors.rules.scores import Scores
from pipeline.app.config.plan import Plan
from pipeline.app.config.targets import safe_name
from pipeline.app.web.review_labels import Tells, Wrong, as_said, checked, detection
from pipeline.app.web.reviewed import GOOD, Decision, Doubt, Label, Reviewed, Word
from pipeline.core.contracts import Generation, Sink
from pipeline.core.errors import InputError
from sinks.coco import CocoFolder
from sinks.doubts import Doubts
from sinks.messages import MessageFile
from sinks.paths import expanded

if TYPE_CHECKING:
    from pipeline.app.web.site import Site

log = logging.getLogger(__name__)

GATHERED = "web:review"
"""The name of the sink that the page brings along; no config can have one of that name."""
REVIEWED = "reviewed"
_EVERY_S = 5.0
_KEPT = 500


class NoSuchItem(LookupError):
    """Nothing of that id is in doubt."""


class Gone(Exception):
    """Its picture is not there any more."""


def gathering(plan: Plan, generations: Mapping[str, Generation]) -> dict[str, Sink]:
    """A sink for doubts beside the other results, where pictures are judged (or messages, if those may be kept),
    results are written to files and the config names no such sink."""
    if plan.web is None or not plan.web.review or any(isinstance(sink, Doubts) for sink in plan.sinks.values()):
        return {}
    media = {"picture", "text"} if plan.web.review_text else {"picture"}
    watched = [one for name, one in generations.items() if name in plan.watches.values()]
    judging = [one for one in watched if one.cheap.spec.medium in media]
    paths = (getattr(sink, "path", None) for sink in plan.sinks.values())
    beside = next((Path(path) for path in paths if path and Path(path).suffix in {".jsonl", ".sqlite"}), None)
    if beside is None or not judging:
        return {}
    sink = Doubts(
        path=str(beside.with_suffix(".doubts")),
        cleared_by=tuple({one.heavy.name for one in judging if one.heavy is not None}),
        keep=_KEPT,
        every_s=_EVERY_S,
        text=plan.web.review_text,
    )
    try:
        sink.check()
    except InputError as error:
        log.warning("nothing is gathered for review: %s", error)
        return {}
    return {GATHERED: sink}


class _Set:
    """What one sink gathered, and what was decided about it. Thread-safe."""

    def __init__(self, name: str, sink: Doubts, labels: _Labels) -> None:
        self.name = name
        self._labels = labels
        self.folder = expanded(sink.path)
        self._coco = CocoFolder(self.folder, sink.keep)
        self._messages = MessageFile(self.folder, sink.keep)
        self._lock = threading.Lock()
        self._pictured: dict[str, Doubt] = {}
        self._worded: dict[str, Doubt] = {}
        self.reviewed = Reviewed(self.folder / REVIEWED)

    def doubts(self) -> dict[str, Doubt]:
        with self._lock:
            if (document := self._coco.look()) is not None:
                self._pictured = {doubt.id: doubt for doubt in self._pictures(document)}
            if (said := self._messages.look()) is not None:
                self._worded = {doubt.id: doubt for doubt in self._texts(said)}
            return self._pictured | self._worded

    def _pictures(self, document: dict[str, Any]) -> Iterator[Doubt]:
        names = {one["id"]: one.get("name") for one in document["categories"]}
        found: dict[int, list[Label]] = {}
        for one in document["annotations"]:
            found.setdefault(one.get("image_id"), []).append(one)
        for image in document["images"]:
            try:
                labels = [detection(one, names[one["category_id"]]) for one in found.get(image["id"], [])]
                place = {
                    "file": Path(str(image["file_name"])).name,
                    "width": int(image["width"]),
                    "height": int(image["height"]),
                }
                time = image.get("date_captured", "")
                yield self._doubt({**image, "time": time}, labels, tuple(names.values()), place)
            except (KeyError, TypeError, ValueError):
                continue  # somebody else put it there

    def _texts(self, said: Sequence[Mapping[str, Any]]) -> Iterator[Doubt]:
        for one in said:
            try:
                found = [{"label": str(label["label"]), "score": float(label["score"])} for label in one["detections"]]
                text = str(one["text"]).encode("utf-8", "replace").decode()  # half a character cannot be told
                yield self._doubt(one, found, (), {"text": text})
            except (KeyError, TypeError, ValueError):
                continue

    def _doubt(
        self, said: Mapping[str, Any], found: list[Label], names: tuple[Any, ...], place: Mapping[str, Any]
    ) -> Doubt:
        """Raises `KeyError`, `TypeError` or `ValueError` for what is none."""
        window = str(said["window"])
        stream = window.partition("/")[0]
        return Doubt.of(
            {
                "id": hashlib.blake2s(f"{self.folder.name}\n{window}".encode(), digest_size=8).hexdigest(),
                "window": window,
                "stream": stream,
                "time": str(said.get("time", "")),
                "reason": str(said.get("reason", "")),
                "verdict": str(said.get("verdict", "")),
                "decided_by": str(said.get("decided_by", "")),
                "missed": said.get("missed") is True,
                "labels": self._labels.of(stream) or names,
                "detections": found,
                **place,
            }
        )

    def picture(self, doubt: Doubt) -> Path:
        """Raises `Gone`."""
        if doubt.file is None:
            raise NoSuchItem(doubt.id)
        gathered = self.folder / "images" / doubt.file
        for path in (gathered, self.reviewed.picture(doubt)):
            if path.is_file() and not path.is_symlink():
                return path
        raise Gone


class _Labels:
    """What the cascades that run can report."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def generation(self, stream: str) -> Generation | None:
        name = self._site.plan.watches.get(stream)
        return None if name is None else self._site.generations.get(name)

    def of(self, stream: str) -> tuple[str, ...]:
        generation = self.generation(stream)
        if generation is None:
            return ()
        reports = getattr(generation.rule, "reports", None)
        labels = tuple(reports()) if callable(reports) else generation.cheap.labels
        if generation.cheap.spec.medium != "text":
            return labels
        return (*labels, next((one for one in generation.cheap.labels if says_good(one)), GOOD))


class Reviews:
    """Of all that is in doubt. Thread-safe. Raises `OSError` and `InputError` where a folder cannot be used."""

    def __init__(self, site: Site) -> None:
        self._labels = _Labels(site)
        self._sets = [
            _Set(name, sink, self._labels) for name, sink in site.plan.sinks.items() if isinstance(sink, Doubts)
        ]

    def close(self) -> None:
        for one in self._sets:
            try:
                one.reviewed.close()
            except (OSError, InputError) as error:
                log.warning(
                    "the data set of what was reviewed was not written, and will be at the next start: %s", error
                )

    # What is to be looked at.

    def items(self, **wanted: str | None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Newest first, and counts of all. `wanted`: the values that fields of an item have to have."""
        known = [
            _item(doubt, decision, partial=self._partial(doubt)) for one in self._sets for doubt, decision in _all(one)
        ]
        known.sort(key=cursor_of, reverse=True)
        counts = {
            "open": sum(one["state"] == "open" for one in known),
            "done": sum(one["state"] == "done" for one in known),
            "reasons": Counter(one["reason"] for one in known if one["state"] == "open"),
            "streams": Counter(one["stream"] for one in known if one["state"] == "open"),
            "decisions": Counter(one["decision"]["decision"] for one in known if one["state"] == "done"),
        }
        for key, value in wanted.items():
            known = [one for one in known if value is None or one[key] == value]
        return known, counts

    def datasets(self) -> list[dict[str, Any]]:
        """What was decided, sink by sink: where it lies, and how to train with it."""
        told = []
        for one in self._sets:
            one.reviewed.tidy()
            rows = sum(done.word in {"confirm", "correct"} for done in one.reviewed.decisions().values())
            path = str(one.reviewed.folder)
            called = safe_name(one.folder.stem) or "doubts"
            train = f"thresher train {shlex.quote(path)} --name {called}-reviewed"
            told.append({"sink": one.name, "path": path, "rows": rows, "train": train})
        return told

    def picture(self, item: str) -> Path:
        """Raises `NoSuchItem` or `Gone`."""
        one, doubt, _ = self._find(item)
        return one.picture(doubt)

    # What is decided.

    def decide(self, item: str, word: Word, detections: Sequence[Label] | None, by: str) -> dict[str, Any]:
        """The same once more changes nothing. Raises `NoSuchItem`, `Gone`, `Wrong`, `OSError`, `InputError`."""
        one, doubt, before = self._find(item)
        if word == "correct" and detections is None:
            raise Wrong("detections", "say what is there; [] for nothing")
        if word != "correct" and detections is not None:
            raise Wrong("detections", "go with `correct`; `confirm` takes what the models said")
        there: list[Label] = []
        if word == "confirm":
            there = as_said(doubt)
        elif detections is not None:
            there = checked(doubt, detections, self._tells(doubt))
        if doubt.text is not None and word != "unsure" and not there:  # every message has a class
            there = [{"label": next((one for one in doubt.labels if says_good(one)), GOOD)}]
        if before is not None and before.word == word and list(before.detections) == there:
            return _item(doubt, before, partial=self._partial(doubt))
        return self._keep(one, doubt, word, there, by)

    def undo(self, item: str, by: str) -> dict[str, Any]:
        """It is open again. Raises as `decide`."""
        one, doubt, before = self._find(item)
        if before is None or before.word is None:
            return _item(doubt, None, partial=self._partial(doubt))
        return self._keep(one, doubt, None, [], by)

    def _keep(self, one: _Set, doubt: Doubt, word: Word | None, there: Sequence[Label], by: str) -> dict[str, Any]:
        picture = one.picture(doubt) if doubt.file is not None else None
        at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        decision = Decision(doubt, word, tuple(there), by, at)
        try:
            one.reviewed.decide(decision, picture)
        except FileNotFoundError:
            raise Gone from None
        return _item(doubt, decision, partial=self._partial(doubt))

    def _find(self, item: str) -> tuple[_Set, Doubt, Decision | None]:
        for one in self._sets:
            decision = one.reviewed.decisions().get(item)
            doubt = decision.doubt if decision is not None else one.doubts().get(item)
            if doubt is not None:
                return one, doubt, decision
        raise NoSuchItem(item)

    def _partial(self, doubt: Doubt) -> bool:
        """Whether its cascade stopped at the first thing that it found: there may be more, which nobody boxed."""
        generation = self._labels.generation(doubt.stream)
        rule = None if generation is None else generation.rule
        return isinstance(rule, Regions) and rule.at_once is not None and bool(doubt.detections) and not doubt.missed

    def _tells(self, doubt: Doubt) -> Tells:
        """What a word on it may be."""
        generation = self._labels.generation(doubt.stream)
        if doubt.file is None or (generation is not None and isinstance(generation.rule, Scores)):
            return "whole"
        return "places" if generation is not None or any("box" in one for one in doubt.detections) else "either"


def _all(one: _Set) -> Iterator[tuple[Doubt, Decision | None]]:
    decided = one.reviewed.decisions()
    for decision in decided.values():
        yield decision.doubt, decision
    for doubt in one.doubts().values():
        if doubt.id not in decided:
            yield doubt, None


def _item(doubt: Doubt, decision: Decision | None, *, partial: bool) -> dict[str, Any]:
    done = decision is not None and decision.word is not None
    said = None
    if decision is not None and decision.word is not None:
        there = list(decision.detections)
        said = {"decision": decision.word, "detections": there, "by": decision.by, "at": decision.at}
    return {
        "id": doubt.id,
        "window": doubt.window,
        "stream": doubt.stream,
        "time": doubt.time,
        "reason": doubt.reason,
        "missed": doubt.missed,
        "partial": partial,
        "verdict": doubt.verdict,
        "decided_by": doubt.decided_by,
        "detections": list(doubt.detections),
        "labels": list(doubt.labels),
        "picture": None if doubt.file is None else f"/api/review/{doubt.id}/picture",
        "width": doubt.width,
        "height": doubt.height,
        "text": doubt.text,
        "state": "done" if done else "open",
        "decision": said,
    }


def cursor_of(item: Mapping[str, Any]) -> str:
    """What sorts items, and where a list of them goes on."""
    return f"{item['time']}_{item['id']}"
