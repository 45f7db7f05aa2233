"""What is learned from, whatever its medium: the loop asks for batches and knows no more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from detectors.datasets.base import Sample
from detectors.training.recipe import Recipe, Schedule, SoundRecipe, TextRecipe


@dataclass(frozen=True, slots=True)
class Pick:
    """One example to come: which sample, and the chances that are taken with it."""

    index: int
    rng: np.random.Generator


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples as the network takes them, and how wrong an answer to them is. `adversarial` is how far FGSM may move an
    input, 0 for not at all."""

    inputs: Tensor
    loss: Callable[[Tensor], Tensor]
    adversarial: float = 0.0


class Matter(ABC):
    """Samples of one medium, prepared. `digest` stands for all that is learned from them, `left_out` says in words what
    cannot be used, `taught` is what a teacher says, by the sample's name. Raises `InputError` where nothing is left."""

    digest: str
    left_out: list[str]
    taught: Mapping[str, Any]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def network(self) -> nn.Module:
        """A network of the recipe's kind, with its first weights."""

    @abstractmethod
    def batch(self, picks: Sequence[Pick]) -> Batch: ...


def matter_of(recipe: Schedule, samples: Sequence[Sample], taught: Mapping[str, Any]) -> Matter:
    """The samples as that recipe learns from them."""
    if isinstance(recipe, SoundRecipe):
        from detectors.training.sounds import SoundMatter

        return SoundMatter(recipe, samples, taught)
    if isinstance(recipe, TextRecipe):
        from detectors.training.texts import TextMatter

        return TextMatter(recipe, samples, taught)
    from detectors.training.pictures import PictureMatter

    assert isinstance(recipe, Recipe)
    return PictureMatter(recipe, samples, taught)
