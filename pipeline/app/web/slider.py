"""The slider: what any other threshold of the ladder would have found and cost, over scores that were stored. It
changes nothing; it says what to write into the config."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detectors.calibration.certificate import Certificate, StageIdentity, rule_settings
from detectors.evaluation.judged import Judged, Subject
from detectors.evaluation.ladder import Rung, ladder, path_for
from detectors.evaluation.scores import Header, load_scores
from pipeline.app.evaluation.rules import rule_document
from pipeline.core.contracts import Generation
from pipeline.core.errors import InputError

_LARGEST_BYTES = 64 << 20
_MOST_UNITS = 20_000
_DELTA = 0.05
_PAUSE_S = 0.002  # now and then, so that the pipeline gets its turn
_WORK_S = 0.005


class Slider:
    """Of one file. The answer is made once and kept until the file or what runs is another. Thread-safe: who comes
    meanwhile waits for it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: tuple[object, dict[str, Any]] | None = None

    def answer(self, generation: Generation, certificate: Certificate | None) -> dict[str, Any]:
        """Raises `InputError` where the file cannot be used for what runs."""
        with self._lock:
            try:
                stat = self._path.stat()
            except OSError as error:
                raise InputError(f"cannot be read: {error.strerror}", str(self._path)) from None
            if stat.st_size > _LARGEST_BYTES:
                raise InputError("is larger than 64 MB: evaluate with --limit", str(self._path))
            key = stat.st_mtime_ns, stat.st_size, stat.st_ino, generation.id, certificate is not None
            if self._known is None or self._known[0] != key:
                self._known = key, _answer(self._path, generation, certificate)
            return self._known[1]


def _answer(path: Path, generation: Generation, certificate: Certificate | None) -> dict[str, Any]:
    header, units = load_scores(path)
    remarks = _fits(header, generation, str(path))
    if not units or len(units) > _MOST_UNITS:
        raise InputError(f"holds {len(units)} units, and 1 to {_MOST_UNITS} can be replayed", str(path))
    proof = None if certificate is None else certificate.proof
    delta = _DELTA if proof is None else proof.delta
    subject = Subject(generation.rule, header.cheap, header.heavy, header.labels, header.tile)
    match_iou = None if proof is None else proof.match_iou
    own, rungs = ladder(subject, units, truth=header.truth, delta=delta, match_iou=match_iou, breathe=_Breath())
    proved = None if certificate is None else _proved(generation, certificate)
    return {
        "scores": {
            "file": path.name,
            "data": header.data,
            "split": header.split,
            "units": len(units),
            "parts": header.parts,
            "truth": header.truth,
        },
        "delta": delta,
        "certified_up_to": proved,
        "now": _point(own, certificate, covered=certificate is not None) | {"rule": rule_document(generation.rule)},
        "points": [
            _point(one, certificate, covered=proved is not None and one.threshold <= proved)
            for one in rungs
            if one.threshold is not None
        ],
        "remarks": remarks + _remarks(certificate, header, units),
    }


def _fits(header: Header, generation: Generation, place: str) -> list[str]:
    """What is not known of how the scores fit what runs. Raises `InputError` where they do not."""
    heavy = generation.heavy
    if heavy is None or header.heavy is None:
        raise InputError("there is no heavy stage, so there is nothing that a threshold could spare", place)
    labels = (generation.cheap.labels, heavy.labels)
    if labels != (header.cheap, header.heavy):
        raise InputError("these scores are of models with other labels than those that run", place)
    path_for(generation.rule, None)
    if header.ladder_only:
        key = path_for(generation.rule, None).key
        mine = {"kind": header.rule.get("kind"), **rule_settings(generation.rule), key: None}
        if mine != {**header.rule, key: None} or rule_document(generation.rule)["kind"] != header.rule.get("kind"):
            raise InputError(
                f"these scores were kept for another rule, of which only `{key}` may differ: calibrate again", place
            )
    if not header.stages:
        return ["nobody noted exactly which models gave these scores; their labels fit"]
    wrong = [
        line
        for name, there, stage in zip(("cheap", "heavy"), header.stages, generation.stages, strict=True)
        for line in (f"{name} stage: {one}" for one in there.differences(StageIdentity.of(stage)))
    ]
    models = [one for one in wrong if "for the model" in one]
    if models:
        raise InputError(f"these scores are not of what runs: {models[0]}", place)
    return wrong


def _proved(generation: Generation, certificate: Certificate) -> float | None:
    """The boldest threshold that the certificate proves. Every more cautious one was proved on the way there."""
    value = certificate.rule.calibrated.get(path_for(generation.rule, None).key)
    if isinstance(value, dict):
        return min(value.values(), default=None)
    return value if isinstance(value, float) else None


def _point(rung: Rung, certificate: Certificate | None, *, covered: bool) -> dict[str, Any]:
    """`config` is what to write under the cascade (JSON is YAML, too)."""
    without = "" if certificate is None else "certificate: null\n"
    return {**asdict(rung), "covered": covered, "config": f"{without}rule: {json.dumps(rung.settings)}\n"}


def _remarks(certificate: Certificate | None, header: Header, units: list[Judged]) -> list[str]:
    said = [
        f"counted on {len(units)} stored units ({header.split}), not on what the streams show now; times are those of"
        " the machine that stored them",
        "nothing is changed here: write a point's `config` under the cascade. It runs uncertified then; for a proof,"
        " run `thresher calibrate` on data that nobody has chosen a threshold by",
    ]
    if certificate is not None:
        said.append(
            "what is `covered` was proved on the way to the certificate: `thresher calibrate` with the same data and"
            " --up-to THRESHOLD writes one for it"
        )
    if not header.truth:
        said.append("nobody said which of these units are truly bad: all is counted against the heavy model")
    return said


class _Breath:
    """Called between units: a little work, then a pause."""

    def __init__(self) -> None:
        self._since_s = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._since_s > _WORK_S:
            time.sleep(_PAUSE_S)
            self._since_s = time.monotonic()
