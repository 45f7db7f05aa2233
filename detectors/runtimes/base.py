"""The contract of a runtime: tensors in, tensors out.

A runtime opens a `Model` (manifest and weights) as a `Session`. A session takes views of the model's own size (uint8
pictures, float32 sound, uint8 text) and answers with named float arrays, batch first. Layout, mean, scale and precision
are the session's business, compiled into the graph wherever the runtime can; what the arrays mean is the decoder's.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

import platformdirs

from detectors.manifest import Model
from pipeline.core.records import Array

Precision: TypeAlias = Literal["f32", "bf16", "f16"]
PRECISIONS: tuple[Precision, ...] = ("f32", "bf16", "f16")

Tensors: TypeAlias = dict[str, Array]
"""What a session answers: float32 (or integer) arrays by the graph's own output names, in the graph's order, each with
the batch as its first axis. A tensor of several names stands under each of them.

Sessions over torchvision detectors answer `boxes` float32 `[N, M, 4]` (x1 y1 x2 y2, pixels of the model's input),
`scores` float32 `[N, M]`, `labels` int `[N, M]` and `counts` int `[N]`: the first `counts[i]` of picture `i` count, the
rest is padding.
"""


Shapes: TypeAlias = dict[str, tuple[int | None, ...]]


@dataclass(frozen=True, slots=True)
class Options:
    """How a model is to be opened. `workers` threads may call `infer` at once; no batch is larger than `max_batch`. All
    of them together get no more than `threads` of the machine, where the runtime can be told so."""

    precision: Precision = "f32"
    workers: int = 1
    max_batch: int = 8
    threads: int | None = None


class Session(ABC):
    """A model that is ready to run. Safe to call from `workers` threads."""

    runtime: str
    precision: str
    """What really runs, asked of the runtime and not what was wished for: `f32`, `bf16`, `f16` or `int8`."""
    workers: int
    batches: tuple[int, ...]
    """The batch sizes worth calling `infer` with, ascending; the caller splits into them, and pads to the smallest."""
    outputs: Shapes
    """The outputs' shapes as far as they are known beforehand, None for a side that varies; empty if nothing is."""

    @abstractmethod
    def infer(self, batch: Array) -> Tensors:
        """`[N, …]` views as their spec has them (pictures: uint8 `[N, height, width, 3]` in the manifest's colour
        order), N in `batches` → the graph's outputs.

        The arrays are the caller's own. Raises `StageError` if the runtime cannot run it.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the model. Safe twice."""


class Runtime(ABC):
    """A way to run models on this machine. Stateless; constructed without arguments."""

    name: ClassVar[str]

    @abstractmethod
    def missing(self) -> str | None:
        """None if it can be used here, or one line on how to get it. Imports nothing heavy."""

    @abstractmethod
    def version(self) -> str:
        """Of the underlying library; imports nothing heavy. Only asked where `missing()` is None."""

    @abstractmethod
    def precisions(self, model: Model) -> tuple[Precision, ...]:
        """The precisions this machine runs `model` in with this runtime, `f32` first; empty if it cannot read it."""

    @abstractmethod
    def open(self, model: Model, options: Options) -> Session:
        """Raises `InputError` naming the weights file if it is corrupt or does not fit its manifest, `MissingPart` if
        the runtime is not installed."""


def batch_sizes(most: int) -> tuple[int, ...]:
    """1, 2, 4, … and `most` itself: few enough to warm each, near enough to split any number into."""
    return tuple(sorted({1 << power for power in range(most.bit_length())} | {most}))


def cache_folder() -> Path:
    """Where compiled models, measurements and downloads are kept: `THRESHER_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("THRESHER_CACHE") or platformdirs.user_cache_dir("thresher", appauthor=False))
