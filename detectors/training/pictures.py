"""Pictures to learn from: decoded once, augmented anew each time."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from detectors.datasets.base import Sample, mask_of
from detectors.networks.pyramid import Network
from detectors.training.augment import Example, augmented
from detectors.training.losses import Targets, loss_of
from detectors.training.matter import Batch, Matter, Pick
from detectors.training.recipe import Recipe
from detectors.training.teacher import Lesson, untaught
from pipeline.core.errors import InputError
from pipeline.core.pictures import BadPicture
from pipeline.core.records import Array

log = logging.getLogger(__name__)

_CACHE_BYTES = 4 << 30


class PictureMatter(Matter):
    def __init__(self, recipe: Recipe, samples: Sequence[Sample], taught: Mapping[str, Lesson]) -> None:
        self.recipe = recipe
        self.pictures = Pictures(samples)
        self.digest, self.left_out, self.taught = self.pictures.digest, self.pictures.left_out, taught
        self._masked = any(sample.mask is not None for sample in samples)

    def __len__(self) -> int:
        return len(self.pictures)

    def network(self) -> Network:
        network = Network(self.recipe.network)
        network.to(memory_format=torch.channels_last)
        network.checkpointing = self.recipe.checkpointing
        return network

    def batch(self, picks: Sequence[Pick]) -> Batch:
        examples = [self.example(pick) for pick in picks]
        targets, network = Targets(examples, self.recipe.network), self.recipe.network
        adversarial = self.recipe.augment.adversarial / 255
        return Batch(stacked(examples), lambda answer: loss_of(answer, targets, network), adversarial)

    def example(self, pick: Pick) -> Example:
        sample, picture, mask = self.pictures[pick.index]
        lesson = self.taught.get(sample.name) or untaught(sample, self.recipe.network.classes)
        if mask is None and self._masked:
            mask = np.zeros(picture.shape[:2], bool)
        whole = Example(
            picture, lesson.boxes, lesson.classes, lesson.sure,
            mask=mask, sure_of_mask=lesson.sure_of_mask, shares=lesson.shares,
        )  # fmt: skip
        has_reference = sample.reference is not None
        return augmented(whole, self.recipe.augment, self.recipe.view, pick.rng, has_reference=has_reference)


class Pictures:
    """Samples with their pixels, decoded once as far as memory goes. Unreadable ones are left out, and counted.
    `digest` stands for all that is learned from them: pixels, masks, labels. Raises `InputError` where none is left."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples: list[Sample] = []
        self.left_out: list[str] = []
        self._kept: dict[int, tuple[Array, Array | None]] = {}
        self._bytes = 0
        seen = hashlib.blake2b(digest_size=16)
        for sample in samples:
            try:
                content = self._read(sample)
            except (BadPicture, InputError) as error:
                self.left_out.append(f"{sample.name}: {error}")
                log.warning("%s: %s: left out", sample.file, error)
                continue
            size = content[0].nbytes + (0 if content[1] is None else content[1].nbytes)
            if self._bytes + size <= _CACHE_BYTES:
                self._kept[len(self.samples)] = content
                self._bytes += size
            self.samples.append(sample)
            for part in (np.frombuffer(sample.name.encode(), np.uint8), *content, sample.boxes, sample.classes):
                seen.update(b"-" if part is None else str((part.shape, part.dtype)).encode() + part.tobytes())
        self.digest = seen.hexdigest()
        if not self.samples:
            raise InputError("no picture of the training data can be read", "data")

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Sample, Array, Array | None]:
        sample = self.samples[index]
        picture, mask = self._kept.get(index) or self._read(sample)
        return sample, picture, mask

    @staticmethod
    def _read(sample: Sample) -> tuple[Array, Array | None]:
        picture = sample.image().rgb()
        mask = None if sample.mask is None else mask_of(sample)
        if mask is not None and mask.shape != picture.shape[:2]:
            raise BadPicture(f"its mask is {mask.shape[1]}×{mask.shape[0]}, not {picture.shape[1]}×{picture.shape[0]}")
        return picture, mask


def stacked(examples: Sequence[Example]) -> Tensor:
    """float32 `[N, 3, H, W]` in 0…1."""
    pictures = torch.from_numpy(np.stack([e.picture for e in examples])).permute(0, 3, 1, 2)
    return pictures.float().div_(255).contiguous(memory_format=torch.channels_last)
