"""What training has to know of each medium beside what is learned: which labels, which manifest, which figure decides,
how a teacher speaks, and what is exported."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from detectors.compression.parity import answers
from detectors.datasets.base import BadPicture, DataSet, Sample
from detectors.decode import decoder
from detectors.evaluation.classes import accuracy, confusion, f1_weighted
from detectors.evaluation.judged import likeliest
from detectors.manifest import Manifest, Output
from detectors.stage import ModelStage
from detectors.training.pack import OUTPUTS, no_weights, reading_of
from detectors.training.recipe import Recipe, Schedule, SoundRecipe, TextRecipe
from detectors.training.teacher import lessons
from pipeline.core.contracts import Stage
from pipeline.core.errors import InputError
from pipeline.core.media import View
from pipeline.core.records import Findings


class Judge(Protocol):
    """The figures of a network under training, or of whatever judges a view; the one that decides comes first."""

    def __call__(self, network: nn.Module) -> dict[str, float]: ...
    def figures(self, score: Callable[[View], Findings]) -> dict[str, float]: ...


class Trade(ABC):
    """Of sound and of text; pictures have theirs in `project`, with places and references."""

    figure: str

    @abstractmethod
    def manifest(self, name: str, recipe: Any, labels: Sequence[str]) -> Manifest: ...

    @abstractmethod
    def taught(self, teacher: Stage, samples: Sequence[Sample], recipe: Any, labels: Sequence[str]) -> dict[str, Any]:
        """What a teacher says to a learner of `labels`. Raises `InputError` for one who speaks of something else."""

    def labels(self, recipe: Any, data: DataSet, key: str) -> tuple[str, ...]:
        """Raises `InputError` where the network tells apart more or less than there is."""
        if recipe.network.classes != len(data.labels):
            raise InputError(
                f"is {recipe.network.classes}, and the data have {len(data.labels)} labels: {', '.join(data.labels)}",
                f"{key}.recipe.network.classes",
            )
        return data.labels


class WholeJudge:
    """Samples sorted by their highest score."""

    def __init__(self, held: DataSet, manifest: Manifest, trade: Trade, most: int = 2000) -> None:
        spec = manifest.view.spec()
        self._decoder, self._trade, self._labels, self._medium = decoder(manifest), trade, manifest.labels, spec.medium
        self._views: list[Any] = []
        kinds: list[int] = []
        for sample in held.samples[:: max(1, -(-len(held) // most))]:
            try:
                payload: Any = sample.payload(spec)
            except BadPicture:
                continue
            self._views.append(payload.view(spec))
            kinds.append(int(sample.classes[0]))
        if len(set(kinds)) < 2:
            raise InputError("fewer than two classes are held out: hold out others", "data.hold_out")
        self._kinds = np.array(kinds, np.int64)

    def __call__(self, network: nn.Module) -> dict[str, float]:
        exported = reading_of(network, self._medium)
        found: list[Findings] = []
        with torch.inference_mode():
            for start in range(0, len(self._views), 64):
                some = self._views[start : start + 64]
                answer = exported(torch.from_numpy(np.stack([view.data for view in some])))
                answers = answer if isinstance(answer, tuple) else (answer,)
                named = zip(OUTPUTS[self._medium], (one.numpy() for one in answers), strict=True)
                found += self._decoder.read(dict(named), some)
        return self._figures(found)

    def figures(self, score: Callable[[View], Findings]) -> dict[str, float]:
        return self._figures([score(view) for view in self._views])

    def _figures(self, found: Sequence[Findings]) -> dict[str, float]:
        said = np.array([likeliest(one) for one in found], np.int64)
        table = confusion(self._kinds, said, len(self._labels))
        out = {"accuracy": accuracy(table) or 0.0, "f1_weighted": f1_weighted(table) or 0.0}
        return dict(sorted(out.items(), key=lambda item: item[0] != self._trade.figure))


class SoundTrade(Trade):
    figure = "accuracy"

    def manifest(self, name: str, recipe: SoundRecipe, labels: Sequence[str]) -> Manifest:
        return Manifest(
            name=name, task="detection", weights=no_weights(), view=recipe.view,
            output=Output(kind="frames", score_floor=0.1), labels=tuple(labels), licence="yours",
        )  # fmt: skip

    def taught(
        self, teacher: Stage, samples: Sequence[Sample], recipe: SoundRecipe, labels: Sequence[str]
    ) -> dict[str, Any]:
        """It is asked about the very sounds that are learned from, which are composed anew each time."""
        if not isinstance(teacher, ModelStage) or teacher.model.manifest.output.kind != "frames":
            raise InputError(f"{teacher.name} gives no answer a frame", "teacher")
        if tuple(teacher.labels) != tuple(labels):
            raise InputError(
                f"knows {', '.join(teacher.labels)}, and this stage is to learn {', '.join(labels)}", "teacher"
            )
        session, frame = teacher.session, 1 + len(labels)
        return {teacher.name: lambda sounds: answers(session, sounds).reshape(len(sounds), -1, frame)}


class TextTrade(Trade):
    figure = "f1_weighted"

    def manifest(self, name: str, recipe: TextRecipe, labels: Sequence[str]) -> Manifest:
        return Manifest(
            name=name, task="classification", weights=no_weights(), view=recipe.view,
            output=Output(kind="passages", scores="scores"), labels=tuple(labels), licence="yours",
        )  # fmt: skip

    def taught(
        self, teacher: Stage, samples: Sequence[Sample], recipe: TextRecipe, labels: Sequence[str]
    ) -> dict[str, Any]:
        """It reads every message once."""
        return {**lessons(teacher, samples, recipe.distill, labels, whole=True)}


def trade_of(recipe: Schedule) -> Trade | None:
    """None for pictures."""
    if isinstance(recipe, Recipe):
        return None
    return SoundTrade() if isinstance(recipe, SoundRecipe) else TextTrade()
