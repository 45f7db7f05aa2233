"""Labels that are likely wrong, found by models that never saw them.

The data are cut into folds, a small network is trained on all but one and looks at that one. Where it is surer of
another label than it usually is of the one that was given, the label is suspect (confident learning: Northcutt et al.
2021, arXiv 1911.00068). Of boxes, a labelled one that no model finds and a found one that nobody labelled are suspect
in the same way, and so are boxes of another class.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from detectors.datasets.base import DataSet, Sample
from detectors.image.boxes import between
from detectors.networks.pyramid import Network
from detectors.training.judge import Eye
from detectors.training.loop import Training
from detectors.training.pack import manifest_of
from detectors.training.project import Project, labels_of, read_parts
from detectors.training.recipe import Recipe
from detectors.training.workplace import claimed
from pipeline.core.errors import InputError
from pipeline.core.pictures import BadPicture
from pipeline.core.records import Array, Findings

WARN_FROM = 0.037
"""From this share on the labels are worth a look before anything else: about one in 27."""
_SAME = 0.3  # of overlap: the model means this box
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Suspect:
    """One label, what a model that never saw it says instead, and how sure it is (0…1)."""

    picture: str
    given: str
    likelier: str
    sure: float
    box: tuple[float, ...] | None = None

    def document(self) -> dict[str, Any]:
        place = {} if self.box is None else {"box": [round(side, 1) for side in self.box]}
        return {
            "picture": self.picture,
            "given": self.given,
            "likelier": self.likelier,
            "sure": round(self.sure, 4),
        } | place


@dataclass(frozen=True, slots=True)
class Report:
    """`labels` were looked at, `suspects` among them, the surest first."""

    labels: int
    suspects: tuple[Suspect, ...]

    @property
    def share(self) -> float:
        return len(self.suspects) / self.labels if self.labels else 0.0

    def document(self) -> dict[str, Any]:
        return {
            "labels": self.labels,
            "suspect": len(self.suspects),
            "share": round(self.share, 4),
            "warning": self.share > WARN_FROM,
            "suspects": [one.document() for one in self.suspects],
        }

    def lines(self) -> list[str]:
        out = [f"{len(self.suspects)} of {self.labels} labels are suspect ({self.share:.1%})"]
        for one in self.suspects[:_SHOWN]:
            place = "" if one.box is None else f" at {', '.join(f'{side:.0f}' for side in one.box)}"
            out.append(f"  {one.picture}{place}: labelled {one.given}, rather {one.likelier} ({one.sure:.2f})")
        if len(self.suspects) > _SHOWN:
            out.append(f"  and {len(self.suspects) - _SHOWN} more")
        if self.share > WARN_FROM:
            out.append(
                f"That is more than {WARN_FROM:.1%}: a model learns such mistakes, and a certificate counts them."
                " Look at the list before you train."
            )
        return out


def likeliest_wrong(project: Project, out: Path, folds: int, tell: Callable[[str], None]) -> Report:
    """Trains the project's heavy stage (or its cheap one) `folds` times. Raises `InputError`."""
    key = "heavy" if project.heavy else "cheap"
    part = project.heavy or project.cheap
    assert part is not None
    data, _, _ = read_parts(project.data)
    if not isinstance(part.recipe, Recipe):
        raise InputError("only labels of pictures are checked so far", f"{key}.recipe")
    if part.recipe.network.head == "heatmap":
        raise InputError("labels are checked with a network for classes or boxes", f"{key}.recipe.network.head")
    labels = labels_of(part.recipe.network, data, "defect", key)
    if len(data) < folds:
        raise InputError(f"{len(data)} pictures cannot be dealt out to {folds} folds", "--folds")
    found: dict[str, Findings] = {}
    works = [out / ".training" / f"{project.name}-fold-{fold}" for fold in range(folds)]
    for fold, work in enumerate(works):
        tell(f"fold {fold + 1} of {folds}")
        mine, rest = _dealt(data, part.recipe.seed, fold, folds)
        found |= _looked_at(mine, rest, labels, part.recipe, work)
    for work in works:  # of no use any more: the next check will be of corrected labels
        shutil.rmtree(work, ignore_errors=True)
    samples = [sample for sample in data.samples if sample.name in found]
    if not samples:
        raise InputError("holds no picture that can be decoded", str(project.data.path))
    if part.recipe.network.head == "boxes":
        if len(labels) == 1:
            samples = [replace(sample, classes=np.zeros_like(sample.classes)) for sample in samples]
        return suspect_boxes(labels, samples, [found[sample.name] for sample in samples])
    scores = np.stack([_in_order(found[sample.name]) for sample in samples])
    given = np.array([int(sample.classes[0]) if len(sample.classes) else 0 for sample in samples])
    return suspect_classes(labels, [sample.name for sample in samples], given, scores)


def _dealt(data: DataSet, seed: int, fold: int, folds: int) -> tuple[list[Sample], list[Sample]]:
    """The samples of one fold, and those of all others."""
    position = np.random.default_rng(seed).permutation(len(data.samples)) % folds
    mine = [sample for sample, at in zip(data.samples, position, strict=True) if at == fold]
    return mine, [sample for sample, at in zip(data.samples, position, strict=True) if at != fold]


def _looked_at(
    mine: Sequence[Sample], rest: Sequence[Sample], labels: Sequence[str], recipe: Recipe, work: Path
) -> dict[str, Findings]:
    """What a network that was trained on `rest` says of `mine`."""
    recipe = recipe.model_copy(update={"evaluate_every": recipe.steps})  # the last state is the one that looks
    eye = Eye(manifest_of("fold", recipe, labels), recipe.bf16)
    with claimed(work):
        network = Training(recipe, rest, work, lambda network: {"step": 0.0}).run()
    return {sample.name: findings for sample in mine if (findings := _seen(eye, network, sample)) is not None}


def _seen(eye: Eye, network: Network, sample: Sample) -> Findings | None:
    try:
        return eye.look(network, sample.image())
    except BadPicture:
        return None


def _in_order(findings: Findings) -> Array:
    scores = np.zeros(len(findings.labels))
    scores[findings.classes] = findings.scores
    return scores


def suspect_classes(labels: Sequence[str], names: Sequence[str], given: Array, scores: Array) -> Report:
    """`given` int `[n]`, out-of-fold `scores` `[n, C]`. A label is suspect where another class reaches the mean score
    that pictures labelled so have, and the given one is not the likeliest of those that do."""
    usual = np.array(
        [scores[given == kind, kind].mean() if (given == kind).any() else np.inf for kind in range(len(labels))]
    )
    able = np.where(scores >= usual, scores, -1.0)
    likelier = able.argmax(1)
    wrong = np.flatnonzero((able.max(1) >= 0) & (likelier != given))
    margin = scores[wrong, likelier[wrong]] - scores[wrong, given[wrong]]
    order = wrong[np.argsort(-margin, kind="stable")]
    suspects = [
        Suspect(names[i], labels[int(given[i])], labels[int(likelier[i])], float(scores[i, likelier[i]])) for i in order
    ]
    return Report(len(names), tuple(suspects))


def suspect_boxes(labels: Sequence[str], samples: Sequence[Sample], found: Sequence[Findings]) -> Report:
    """Of boxes; the given ones and the found ones are matched by overlap, whatever their classes."""
    sure_from = _usual_score(samples, found)
    suspects: list[Suspect] = []
    for sample, findings in zip(samples, found, strict=True):
        assert findings.boxes is not None
        sure = findings.scores >= sure_from
        boxes, kinds, scores = findings.boxes[sure], findings.classes[sure], findings.scores[sure]
        same = between(sample.boxes, boxes) >= _SAME
        near = between(sample.boxes, findings.boxes) >= _SAME  # of any score
        for index, (box, kind) in enumerate(zip(sample.boxes, sample.classes, strict=True)):
            place = tuple(box.tolist())
            if not near[index].any():
                suspects.append(Suspect(sample.name, labels[int(kind)], "nothing", 1.0, place))
            elif same[index].any() and not (kinds[same[index]] == kind).any():
                best = int(np.argmax(np.where(same[index], scores, -1)))
                suspects.append(
                    Suspect(sample.name, labels[int(kind)], labels[int(kinds[best])], float(scores[best]), place)
                )
        for found_at in np.flatnonzero(~same.any(0)):
            box = tuple(boxes[found_at].tolist())
            suspects.append(Suspect(sample.name, "nothing", labels[int(kinds[found_at])], float(scores[found_at]), box))
    suspects.sort(key=lambda one: -one.sure)
    return Report(sum(len(sample.boxes) for sample in samples), tuple(suspects))


def _usual_score(samples: Sequence[Sample], found: Sequence[Findings]) -> float:
    """The mean score of findings that are labelled just so."""
    scores: list[float] = []
    for sample, findings in zip(samples, found, strict=True):
        assert findings.boxes is not None
        fits = (between(sample.boxes, findings.boxes) >= _SAME) & (sample.classes[:, None] == findings.classes)
        scores += findings.scores[fits.any(0)].tolist()
    return float(np.mean(scores)) if scores else 1.0
