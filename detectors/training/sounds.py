"""Words to learn from: stretches of sound are composed of them anew each time (see `composing`)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from detectors.datasets.base import Sample
from detectors.networks.audio import FRAMES, RATE, sound_network
from detectors.training.composing import Sizes, window, word
from detectors.training.matter import Batch, Matter, Pick
from detectors.training.recipe import SoundRecipe
from pipeline.core.errors import InputError
from pipeline.core.records import Array
from pipeline.core.sounds import BadSound, read_sound

_SMOOTHING = 0.05
Ask = Callable[[Array], Array]
"""A teacher's answer `[N, T, 1 + C]` to sounds `[N, S]`."""


class SoundMatter(Matter):
    """A sample is a word; of each pick, the rng decides which words make up the stretch, so that an epoch is no more
    than a number of stretches."""

    def __init__(self, recipe: SoundRecipe, samples: Sequence[Sample], taught: Mapping[str, Ask]) -> None:
        self.recipe, self.taught = recipe, taught
        self.words, self.left_out = [], []
        seen = hashlib.blake2b(digest_size=16)
        for sample in samples:
            try:
                heard = read_sound(sample.file, RATE)
            except BadSound as error:
                self.left_out.append(f"{sample.name}: {error}")
                continue
            kind = int(sample.classes[0])
            seen.update(sample.name.encode() + bytes([kind % 256]) + heard.tobytes())
            self.words.append(word(heard, kind, reversible=kind not in recipe.augment.palindromes))
        self.digest = seen.hexdigest()
        if not self.words:
            raise InputError("no sound of the training data can be read", "data")
        how = recipe.augment
        self.sizes = Sizes(
            speed=(1 - how.speed, 1 + how.speed), room=how.room, nothing=how.nothing, sounds=how.distractors,
            clean=how.clean, ratio=(how.least_ratio_db, 35.0),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.words)

    def network(self) -> nn.Module:
        network = sound_network(self.recipe.network)
        network.warp = self.recipe.augment.warp
        return network

    def batch(self, picks: Sequence[Pick]) -> Batch:
        made = [window(pick.rng, self.words, sizes=self.sizes) for pick in picks]
        sounds = np.stack([samples for samples, _, _ in made])
        wanted = torch.from_numpy(np.stack([kinds for _, kinds, _ in made]))
        weight = torch.from_numpy(np.stack([weights for *_, weights in made]))
        ask = next(iter(self.taught.values()), None)
        told = None if ask is None else torch.from_numpy(ask(sounds))
        return Batch(torch.from_numpy(sounds), lambda answer: self._loss(answer.float(), wanted, weight, told))

    def _loss(
        self, answer: torch.Tensor, wanted: torch.Tensor, weight: torch.Tensor, told: torch.Tensor | None
    ) -> torch.Tensor:
        flat = answer.reshape(-1, answer.shape[-1])
        entropy = F.cross_entropy(flat, wanted.reshape(-1), reduction="none", label_smoothing=_SMOOTHING)
        loss = (entropy.view(-1, FRAMES) * weight).sum() / weight.sum().clamp(min=1)
        if told is None:
            return loss
        share = self.recipe.distill
        apart = F.kl_div(answer.log_softmax(-1), told, reduction="none").sum(-1).mean()
        return (1 - share) * loss + share * apart
