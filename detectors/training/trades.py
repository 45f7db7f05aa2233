"""What training has to know of each medium beside what is learned: which labels, which manifest, which figure decides,
how a teacher speaks, and what is exported."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from detectors.datasets.base import BadPicture, DataSet, Sample
from detectors.decode import decoder
from detectors.evaluation.classes import accuracy, confusion, f1_weighted
from detectors.evaluation.judged import likeliest
from detectors.manifest import Manifest, Output, Weights
from detectors.runtimes.base import Tensors
from detectors.stage import ModelStage
from detectors.training.recipe import Recipe, Schedule, SoundRecipe, TextRecipe
from detectors.training.teacher import Lesson
from pipeline.core.contracts import Stage
from pipeline.core.errors import InputError
from pipeline.core.media import View
from pipeline.core.records import Array, Findings

UNKNOWN = "0" * 64


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
    def exported(self, network: nn.Module) -> nn.Module:
        """What begins at a view and ends at what the manifest says."""

    @abstractmethod
    def tensors(self, answer: Any) -> Tensors:
        """What `exported` answers, by the names that its outputs get."""

    @abstractmethod
    def taught(self, teacher: Stage, samples: Sequence[Sample], recipe: Any) -> dict[str, Any]: ...

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
        self._decoder, self._trade, self._labels = decoder(manifest), trade, manifest.labels
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
        exported = self._trade.exported(network).eval()
        found: list[Findings] = []
        with torch.inference_mode():
            for start in range(0, len(self._views), 64):
                some = self._views[start : start + 64]
                answer = exported(torch.from_numpy(np.stack([view.data for view in some])))
                found += self._decoder.read(self._trade.tensors(answer), some)
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
            name=name, task="detection", weights=_no_weights(), view=recipe.view,
            output=Output(kind="frames", score_floor=0.1), labels=tuple(labels), licence="yours",
        )  # fmt: skip

    def exported(self, network: nn.Module) -> nn.Module:
        from detectors.networks.audio import Reading

        return Reading(network)

    def tensors(self, answer: Any) -> Tensors:
        return {"frames": answer.float().numpy()}

    def taught(self, teacher: Stage, samples: Sequence[Sample], recipe: SoundRecipe) -> dict[str, Any]:
        """It is asked about the very sounds that are learned from, which are composed anew each time."""
        if not isinstance(teacher, ModelStage) or teacher.model.manifest.output.kind != "frames":
            raise InputError(f"{teacher.name} gives no answer a frame", "teacher")
        session = teacher.session

        def ask(sounds: Array) -> Array:
            size = max(session.batches)
            parts = [sounds[start : start + size] for start in range(0, len(sounds), size)]
            filled = [
                np.concatenate([part, np.repeat(part[-1:], _filling(part, session.batches), 0)]) for part in parts
            ]
            answers = [
                next(iter(session.infer(one).values()))[: len(part)] for one, part in zip(filled, parts, strict=True)
            ]
            return np.concatenate(answers)

        return {teacher.name: ask}


def _filling(part: Array, batches: Sequence[int]) -> int:
    return min(size for size in batches if size >= len(part)) - len(part)


class TextTrade(Trade):
    figure = "f1_weighted"

    def manifest(self, name: str, recipe: TextRecipe, labels: Sequence[str]) -> Manifest:
        return Manifest(
            name=name, task="classification", weights=_no_weights(), view=recipe.view,
            output=Output(kind="passages", scores="scores"), labels=tuple(labels), licence="yours",
        )  # fmt: skip

    def exported(self, network: nn.Module) -> nn.Module:
        from detectors.networks.text import Reading

        return Reading(network)

    def tensors(self, answer: Any) -> Tensors:
        scores, places = answer
        return {"scores": scores.float().numpy(), "places": places.numpy()}

    def taught(self, teacher: Stage, samples: Sequence[Sample], recipe: TextRecipe) -> dict[str, Any]:
        """It reads every message once."""
        if tuple(teacher.labels) == () or len(teacher.labels) != recipe.network.classes:
            raise InputError(f"{teacher.name} knows {', '.join(teacher.labels)}", "teacher")
        out: dict[str, Any] = {}
        share, classes = recipe.distill, recipe.network.classes
        for start in range(0, len(samples), teacher.max_batch):
            some = samples[start : start + teacher.max_batch]
            payloads: list[Any] = [sample.payload(teacher.spec) for sample in some]
            for sample, found in zip(some, teacher.score([one.view(teacher.spec) for one in payloads]), strict=True):
                known = np.eye(classes, dtype=np.float32)[int(sample.classes[0])]
                none = np.zeros((0, 4), np.float32)
                shares = share * found.scores + (1 - share) * known
                out[sample.name] = Lesson(none, sample.classes, np.zeros(0, np.float32), shares=shares)
        return out


def _no_weights() -> Weights:
    return Weights(file="model.xml", sha256=UNKNOWN, format="ir", companions={"model.bin": UNKNOWN})


def trade_of(recipe: Schedule) -> Trade | None:
    """None for pictures."""
    if isinstance(recipe, Recipe):
        return None
    return SoundTrade() if isinstance(recipe, SoundRecipe) else TextTrade()


Taught = Mapping[str, Any]
