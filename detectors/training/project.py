"""From labelled data to a cascade: a heavy stage, its int8 form, a cheap stage that learned from both, a config."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from detectors.choice import ModelChoice, build_stage
from detectors.compression.int8 import LEAST, quantised
from detectors.compression.parity import Disagreement
from detectors.datasets import read_dataset, split
from detectors.datasets.base import DataSet, Sample
from detectors.manifest import MANIFEST, SAMPLES, Manifest, Model, write_manifest
from detectors.networks.pyramid import Architecture
from detectors.training import processes
from detectors.training.judge import Judge
from detectors.training.loop import Training
from detectors.training.pack import manifest_of, packed, show, take_place
from detectors.training.recipe import AnyRecipe, Recipe, Schedule
from detectors.training.teacher import Lesson, labelled, lessons
from detectors.training.trades import Judge as AnyJudge
from detectors.training.trades import WholeJudge, trade_of
from detectors.training.workplace import check_place, claimed
from pipeline.core.contracts import Stage
from pipeline.core.errors import InputError
from pipeline.core.payloads import View, ViewSpec
from pipeline.core.pictures import BadPicture
from pipeline.core.records import Array, Findings
from pipeline.core.settings import Name, Settings

log = logging.getLogger(__name__)

_RANGES = 96  # pictures that the ranges of int8 are estimated from
_LOOKS, _SPOT = "suspicious", "defect"  # the one label of a cheap and of a heavy stage that tells no kinds apart
_APART_SEED = 1
Tell = Callable[[str, Mapping[str, Any]], None]
"""Told what is being made and how it goes: a row of figures now and then."""


class Data(Settings):
    """Which pictures, and what of them is learned from."""

    path: Path
    format: str | None = Field(
        default=None,
        description="folders, coco, yolo, deeppcb, masks, or unlabelled (default: seen by itself, the last never)",
    )
    hold_out: float | tuple[str, ...] = Field(
        default=0.15,
        description="a share of the groups, or their names: what decides when to stop and where thresholds lie",
    )
    apart: float | tuple[str, ...] = Field(
        default=(), description="groups that are not touched, to calibrate and measure on: a share of them, or names"
    )


class Part(Settings):
    """One stage: its recipe and its form. A heavy stage with a `tile` looks at regions at full resolution."""

    name: Name | None = None
    recipe: AnyRecipe
    tile: int | None = Field(default=None, ge=32, le=4096, multiple_of=32)
    int8: bool = True
    onnx: bool = Field(default=False, description="also as ONNX in float32, in NAME-onnx, for other runtimes")
    most_lost: float = Field(
        default=0.003, ge=0, le=1, description="a form whose figure on held-out pictures falls by more is refused"
    )


class Project(Settings):
    """What `thresher train` makes. `teacher` is the stage that the cheap one learns from (default: the heavy one that
    is trained here); how much, its recipe's `distill` says."""

    name: Name
    data: Data
    heavy: Part | None = None
    cheap: Part | None = None
    teacher: ModelChoice | None = None
    licence: str = "yours"
    about: str = Field(default="", description="of the data and their split, for the manifests")

    @property
    def heavy_name(self) -> str:
        return (self.heavy and self.heavy.name) or f"{self.name}-resnet"

    @property
    def cheap_name(self) -> str:
        return (self.cheap and self.cheap.name) or f"{self.name}-mobilenet"

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.heavy is None and self.cheap is None:
            raise ValueError("there is nothing to train: give it heavy, cheap, or both")
        names = self.heavy_name, self.cheap_name
        if self.heavy and self.cheap and any(one in {other, f"{other}-f16"} for one, other in (names, names[::-1])):
            raise ValueError(f"heavy and cheap would be written to the same folder, {names[0]}: name them apart")
        return self


@dataclass(frozen=True, slots=True)
class Made:
    """A model that was made: its folder, its figures on held-out pictures, and what is worth saying of it."""

    model: Model
    figures: dict[str, float]
    remarks: tuple[str, ...] = ()


def read_parts(data: Data, label: Callable[[DataSet], DataSet] | None = None) -> tuple[DataSet, DataSet, DataSet]:
    """All that may be used, what is learned from, and what is held out. `label` is for pictures that nobody labelled;
    without it, they cannot be used. Raises `InputError`."""
    whole = read_dataset(data.path, data.format, labelled=label is None)
    if label is not None and not whole.labels:
        whole = label(whole)
    used, _ = _cut(whole, data.apart, _APART_SEED, "data.apart")
    if not used.samples:
        raise InputError("leaves nothing to train with", "data.apart")
    learned, held = _cut(used, data.hold_out, 0, "data.hold_out")
    for what, part in (("to learn from", learned), ("held out", held)):
        if not part.samples:
            raise InputError(f"leaves nothing {what}", "data.hold_out")
    return used, learned, held


def _cut(data: DataSet, apart: float | tuple[str, ...], seed: int, place: str) -> tuple[DataSet, DataSet]:
    """What is left of the data, and the groups that were named, or a share of them."""
    try:
        if isinstance(apart, tuple):
            return data.without(apart)
        return split(data, apart, seed) if apart else (data, data.where(lambda sample: False))
    except InputError as error:
        raise InputError(error.message, place) from None


def labels_of(network: Architecture, data: DataSet, alone: str, key: str) -> tuple[str, ...]:
    """What a network tells apart in these data: their labels, or the one label `alone` where it tells no kinds apart.
    `key` is the stage's in the config. Raises `InputError` where head and labels do not go together."""
    place = f"{key}.recipe.network"
    boxes, masks = any(len(s.boxes) for s in data.samples), any(s.mask for s in data.samples)
    if network.head == "classification":
        if boxes:
            raise InputError("classification sorts whole pictures, and these have boxes", f"{place}.head")
        if len(data.labels) < 2:
            raise InputError(f"there is one class only ({data.labels[0]}): nothing to tell apart", str(place))
    elif not boxes and (network.head == "boxes" or not masks):
        wanted = "boxes" if network.head == "boxes" else "boxes or masks"
        raise InputError(f"{network.head} is learned from {wanted}, and these data have none", f"{place}.head")
    elif network.classes == 1:
        return (alone,)
    elif not boxes:
        raise InputError("has to be 1: a mask says where something is, not what", f"{place}.classes")
    if network.classes != len(data.labels):
        raise InputError(
            f"is {network.classes}, and the data have {len(data.labels)} labels: {', '.join(data.labels)}",
            f"{place}.classes",
        )
    return data.labels


def _labels(recipe: AnyRecipe, data: DataSet, alone: str, key: str) -> tuple[str, ...]:
    trade = trade_of(recipe)
    if trade is not None:
        return trade.labels(recipe, data, key)
    assert isinstance(recipe, Recipe)
    return labels_of(recipe.network, data, alone, key)


def _manifest(name: str, part: Part, labels: Sequence[str]) -> Manifest:
    trade, recipe = trade_of(part.recipe), part.recipe
    if trade is not None:
        return trade.manifest(name, recipe, labels)
    assert isinstance(recipe, Recipe)
    return manifest_of(name, recipe, labels, part.tile)


def _judge(held: DataSet, manifest: Manifest, recipe: Schedule) -> AnyJudge:
    trade = trade_of(recipe)
    return Judge(held, manifest, bf16=recipe.bf16) if trade is None else WholeJudge(held, manifest, trade)


def _check_learned(learned: DataSet, recipe: AnyRecipe) -> None:
    """Raises `InputError` where all that is left to learn from is of one kind. (A teacher alone needs no labels.)"""
    if recipe.distill >= 1:
        return
    if not isinstance(recipe, Recipe):
        if len({int(sample.classes[0]) for sample in learned.samples}) < 2:
            raise InputError("leaves one class only to learn from: hold out others, or fewer", "data.hold_out")
        return
    kinds: set[object] = {learned.bad(sample) for sample in learned.samples}
    if recipe.network.head == "classification":
        kinds = {int(sample.classes[0]) if len(sample.classes) else 0 for sample in learned.samples}
    if kinds == {False} or len(kinds) < (2 if recipe.network.head == "classification" else 1):
        raise InputError("leaves one kind of picture only to learn from: hold out others, or fewer", "data.hold_out")


class Maker:
    """Makes what a project asks for under `out`: a folder a model, work in progress in `out/.training`. Of several
    processes all train, and the first does everything else. Raises `InputError`, before anything starts if the data do
    not fit what is to be learned of them."""

    def __init__(self, project: Project, out: Path, tell: Tell) -> None:
        self.project, self.out, self.tell = project, out, tell
        self.said: dict[str, Findings] = {}  # by a teacher, of pictures that had no labels
        only_taught = (
            project.teacher is not None
            and project.heavy is None
            and project.cheap is not None
            and project.cheap.recipe.distill == 1
        )
        self.whole, self.learned, self.held = read_parts(project.data, self._labelled if only_taught else None)
        for key, part, alone in (("heavy", project.heavy, _SPOT), ("cheap", project.cheap, _LOOKS)):
            if part is not None:
                labels = _labels(part.recipe, self.whole, alone, key)
                _check_learned(self.learned, part.recipe)
                _judge(self.held, _manifest(project.name, part, labels), part.recipe)
                check_place(out / (project.heavy_name if key == "heavy" else project.cheap_name))
        processes.by_the_first(self._list_apart)
        self.tell("data", {"learned from": len(self.learned), "held out": len(self.held), **self.whole.left_out})
        self.shared = (
            f"trained on {len(self.learned)} samples of {project.data.path.name}, stopped and thresholded on"
            f" {len(self.held)} held-out ones (groups {_few(self.held.groups)}). {project.about}".strip()
        )

    def _labelled(self, data: DataSet) -> DataSet:
        """By the teacher, who is looked for before anything else."""
        teacher = self.project.teacher
        assert teacher is not None
        self.tell("teacher", {"labels": len(data)})
        done, self.said = processes.by_the_first(lambda: labelled(build_stage(teacher), data, self.project.data.path))
        return done

    def _list_apart(self) -> None:
        """Which samples nothing here has seen: for `--only` of eval and calibrate."""
        if not self.project.data.apart:
            return
        used = {sample.name for sample in self.whole.samples}
        known = read_dataset(self.project.data.path, self.project.data.format, labelled=False).samples
        names = [sample.name for sample in known if sample.name not in used]
        file = self.out / f"{self.project.name}-apart.txt"
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror}", str(file)) from None

    def heavy(self) -> Made | None:
        """Raises `InputError`, also where the disk is full; a second call goes on where the first was ended."""
        part = self.project.heavy
        if part is None:
            return None
        labels = _labels(part.recipe, self.whole, _SPOT, "heavy")
        return self._make(part, self.project.heavy_name, labels, {})

    def cheap(self, teacher: Callable[[], Stage | None]) -> Made | None:
        """`teacher` is asked in the first process alone."""
        part = self.project.cheap
        if part is None:
            return None
        labels = _labels(part.recipe, self.whole, _LOOKS, "cheap")
        trade = trade_of(part.recipe)
        if trade is not None:
            speaker = teacher() if part.recipe.distill else None
            if speaker is not None:
                self.tell("teacher", {"samples": len(self.learned)})
            heard = {} if speaker is None else trade.taught(speaker, self.learned.samples, part.recipe, labels)
            return self._make(part, self.project.cheap_name, labels, heard, "" if speaker is None else speaker.name)
        who, taught = processes.by_the_first(lambda: self._taught(part, labels, teacher))
        return self._make(part, self.project.cheap_name, labels, taught, who)

    def _taught(
        self, part: Part, labels: Sequence[str], teacher: Callable[[], Stage | None]
    ) -> tuple[str, dict[str, Lesson]]:
        """Who taught, and what."""
        who = teacher() if part.recipe.distill else None
        if who is None:
            return "", {}
        self.tell("teacher", {"pictures": len(self.learned)})
        assert isinstance(part.recipe, Recipe)
        whole = part.recipe.network.head == "classification"
        share = part.recipe.distill
        return who.name, lessons(who, self.learned.samples, share, labels, whole=whole, said=self.said)

    def _make(self, part: Part, name: str, labels: Sequence[str], taught: Mapping[str, Any], teacher: str = "") -> Made:
        recipe, work = part.recipe, self.out / ".training" / name
        manifest = _manifest(name, part, labels)
        judge = _judge(self.held, manifest, recipe)
        with claimed(work):
            training = Training(
                recipe, self.learned.samples, work, judge,
                taught=taught, teacher=teacher, progress=lambda row: self.tell(name, row),
            )  # fmt: skip
            network = training.run()
            return processes.by_the_first(lambda: self._written(part, manifest, training, network, judge))

    def _written(self, part: Part, manifest: Manifest, training: Training, network: Any, judge: AnyJudge) -> Made:
        figures = judge(network)
        exact = packed(network, manifest, self.held.samples, self.out / manifest.name, {
            "data": self.shared, "licence": self.project.licence, "origin": f"thresher train, {training.step} steps",
            "measured": _measured(figures),
        })  # fmt: skip
        _keep_history(training.history, training.folder)
        lost = len(training.matter.left_out)
        remarks: tuple[str, ...] = ()
        if lost:
            remarks += (f"{lost} pictures could not be used: {training.matter.left_out[0]}",)
        if part.onnx and isinstance(part.recipe, Recipe):
            remarks += (self._onnx(network, exact, part.most_lost, judge, figures),)
        if not part.int8 or not isinstance(part.recipe, Recipe):
            return Made(exact, figures, remarks)
        made = self._int8(exact, part, judge, figures)
        return replace(made, remarks=remarks + made.remarks)

    def _onnx(self, network: Any, exact: Model, most_lost: float, judge: AnyJudge, figures: Mapping[str, float]) -> str:
        """The model's ONNX form beside it, if ONNX Runtime says the same of it; a word on that."""
        self.tell(exact.name, {"onnx": 1})
        folder = self.out / f"{exact.name}-onnx"
        made = packed(network, exact.manifest, self.held.samples, folder, {}, form="onnx")
        lost, found, figure = _lost(made, "onnxruntime", judge, figures)
        if lost > most_lost:
            shutil.rmtree(folder, ignore_errors=True)
            return f"onnx is refused: {figure} falls by {lost:.4f}, more than {most_lost:g}"
        return f"onnx: {figure} {found[figure]:.4f} in ONNX Runtime, exact {figures[figure]:.4f}: {folder.name}"

    def _int8(self, exact: Model, part: Part, judge: AnyJudge, figures: dict[str, float]) -> Made:
        """The model's int8 form in its place, if it holds what the exact one says; both are kept."""
        self.tell(exact.name, {"int8": 1})
        full = exact.weights.parent
        kept = full.with_name(f"{full.name}-f16")
        folder = full.with_name(f".{full.name}-int8")
        seen = views(self.learned.samples, exact.manifest.picture.spec(), _RANGES)
        if len(seen) < LEAST:
            return Made(exact, figures, (f"int8 is left: its ranges need {LEAST} pictures, there are {len(seen)}",))
        shutil.rmtree(folder, ignore_errors=True)
        small = quantised(exact, seen, folder)
        lost, found, figure = _lost(small, "openvino", judge, figures)
        if lost > part.most_lost:
            shutil.rmtree(folder, ignore_errors=True)
            return Made(
                exact, figures, (f"int8 is refused: {figure} falls by {lost:.4f}, more than {part.most_lost:g}",)
            )
        manifest = small.manifest.model_copy(
            update={"measured": _measured(found) | {f"{figure}_exact": round(figures[figure], 4)}}
        )
        try:
            write_manifest(manifest, folder / MANIFEST)
            show(self.held.samples, folder / SAMPLES)
            take_place(folder, full, kept)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise InputError(f"cannot be written: {error.strerror}", str(full)) from None
        return Made(
            Model(manifest, full / "model.xml"),
            found,
            (f"int8: {figure} {found[figure]:.4f}, exact {figures[figure]:.4f}",),
        )


def _lost(
    form: Model, runtime: str, judge: AnyJudge, figures: Mapping[str, float]
) -> tuple[float, dict[str, float], str]:
    """By how much the telling figure of another form falls, all its figures, and which one tells."""
    choice = ModelChoice(model=str(form.weights.parent), runtime=runtime, precision="f32", max_batch=1, workers=1)
    stage = build_stage(choice)
    found = judge.figures(lambda view: stage.score([view])[0])
    figure = next(iter(figures))
    return figures[figure] - found[figure], found, figure


def views(samples: Sequence[Sample], spec: ViewSpec, most: int) -> Array:
    """uint8 `[P, height, width, 3]`: pictures as the model sees them, evenly spread. Raises `InputError`."""
    seen: list[View] = []
    for index in np.unique(np.linspace(0, len(samples) - 1, most).round().astype(int)):
        try:
            seen.append(samples[int(index)].image().view(replace(spec, tile=None)))
        except BadPicture as error:
            log.warning("%s: %s: left out", samples[int(index)].file, error)
    if not seen:
        raise InputError("holds no picture that can be decoded", "data")
    return np.stack([view.pixels for view in seen])


def _measured(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in figures.items()}


def _keep_history(history: Sequence[Mapping[str, float]], work: Path) -> None:
    text = "".join(json.dumps(row) + "\n" for row in history)
    try:
        (work / "history.jsonl").write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", str(work)) from None


def _few(groups: Mapping[str, int]) -> str:
    names = sorted(groups)
    return ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:6])} and {len(names) - 6} more"


__all__ = ["Data", "Disagreement", "Made", "Maker", "Manifest", "Part", "Project", "read_parts", "views"]
