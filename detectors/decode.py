"""What a model's numbers mean: named tensors → `Findings`, by the kind of output that the manifest names.

A decoder checks what can be known beforehand (`check`), and reads what came (`read`). It knows no threshold but the
manifest's floor, which only bounds the work.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from detectors.manifest import Manifest, OutputKind
from detectors.runtimes.base import Shapes, Tensors
from pipeline.core.errors import InputError, StageError
from pipeline.core.records import Array, Findings

_SLACK = 0.01  # of rounding in a low precision


class Decoder(ABC):
    """Reads the answers of one model."""

    def __init__(self, manifest: Manifest) -> None:
        self.name = manifest.name
        self.labels = manifest.labels
        self.output = manifest.output

    @abstractmethod
    def check(self, shapes: Shapes) -> None:
        """Raises `InputError` if outputs of these shapes cannot be read."""

    @abstractmethod
    def read(self, tensors: Tensors, views: Sequence[Any]) -> list[Findings]:
        """One `Findings` per view. Raises `StageError` for numbers that mean nothing."""

    def pick(self, names: Sequence[str], wanted: str | None, usual: Sequence[str]) -> str:
        """The output called `wanted`, or else by one of the usual names (`:0` set aside), or else the only one."""
        bare = {name.partition(":")[0]: name for name in reversed(names)}
        for name in (wanted,) if wanted else usual:
            if name in names:
                return name
            if name in bare:
                return bare[name]
        if wanted is None and len(names) == 1:
            return names[0]
        what = f'no output "{wanted}"' if wanted else f"no output called {' or '.join(usual)}"
        raise InputError(f"{what}; it has {', '.join(names)}: name the right one under `output`", self.name)

    def scores(self, values: Array) -> Array:
        """Activated, finite and between 0 and 1, the classes on the last axis."""
        if not np.isfinite(values).all():
            raise StageError(f"{self.name}: the model answered with numbers that are not finite")
        if self.output.activation == "softmax":
            powers = np.exp(values - values.max(axis=-1, keepdims=True))
            return cast(Array, powers / powers.sum(axis=-1, keepdims=True))
        if self.output.activation == "sigmoid":
            return cast(Array, 1 / (1 + np.exp(-np.clip(values, -60, 60))))
        if values.size and (values.min() < -_SLACK or values.max() > 1 + _SLACK):
            raise StageError(
                f"{self.name}: scores from {values.min():.2f} to {values.max():.2f} are no probabilities: "
                "set output.activation to softmax or sigmoid"
            )
        return np.clip(values, 0.0, 1.0)

    def mismatch(self, shape: object, expected: str) -> InputError:
        return InputError(
            f"answers {shape}, which does not fit {len(self.labels)} labels: {expected}; correct `labels` or `output`",
            self.name,
        )


class Classification(Decoder):
    """`[N, C]`, or `[N, C, 1, 1]`: one score a label."""

    def check(self, shapes: Shapes) -> None:
        shape = shapes[self.pick(list(shapes), self.output.scores, [next(iter(shapes))])]
        columns = [side for side in shape[1:] if side != 1] or [1]
        if shape and None not in columns and columns != [len(self.labels)]:
            raise self.mismatch(shape, "one score a label is expected")

    def read(self, tensors: Tensors, views: Sequence[Any]) -> list[Findings]:
        values = tensors[self.pick(list(tensors), self.output.scores, [next(iter(tensors))])]
        rows = values.reshape(values.shape[0], -1)[: len(views)].astype(np.float32)
        if rows.shape != (len(views), len(self.labels)):
            raise StageError(str(self.mismatch(values.shape, "one score a label is expected")))
        classes = np.arange(len(self.labels))
        return [Findings(self.labels, row, classes) for row in self.scores(rows)]


_DECODERS: dict[OutputKind, str] = {
    "classification": "detectors.decode:Classification",
    "ssd": "detectors.image.decode:Ssd",
    "yolo": "detectors.image.decode:Yolo",
    "torchvision": "detectors.image.decode:Torchvision",
    "heatmap": "detectors.image.decode:Heatmap",
    "frames": "detectors.audio.decode:Frames",
    "passages": "detectors.text.decode:Passages",
}


def decoder(manifest: Manifest) -> Decoder:
    """The decoder for a manifest's kind of output."""
    module, _, name = _DECODERS[manifest.output.kind].partition(":")
    kind: type[Decoder] = getattr(importlib.import_module(module), name)
    return kind(manifest)
