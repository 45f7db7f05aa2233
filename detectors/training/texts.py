"""Messages to learn from: words left out, letters mistaken, earlier messages behind them, anew each time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from detectors.datasets.base import Sample
from detectors.networks.text import text_network
from detectors.training.matter import Batch, Matter, Pick
from detectors.training.recipe import TextRecipe
from detectors.training.teacher import Lesson
from pipeline.core.errors import InputError
from pipeline.core.text import Text

_SMOOTHING = 0.05
_ROUNDED = 64  # bytes: batches are as long as their longest message, in windows of attention
_EARLIER = 3  # messages of the author, and of the room, at most
_LEET = dict(zip(b"aeiost", b"4310$7", strict=True))


class TextMatter(Matter):
    def __init__(self, recipe: TextRecipe, samples: Sequence[Sample], taught: Mapping[str, Lesson]) -> None:
        self.recipe, self.taught = recipe, taught
        self.samples = [sample for sample in samples if sample.text is not None]
        self.left_out = [f"{sample.name}: is no text" for sample in samples if sample.text is None]
        if not self.samples:
            raise InputError("holds no message to learn from", "data")
        self.said = [Text(sample.text or "").plain for sample in self.samples]
        self.kinds = np.array([int(sample.classes[0]) for sample in self.samples], np.int64)
        content = [f"{sample.name}\0{kind}\0".encode() for sample, kind in zip(self.samples, self.kinds, strict=True)]
        self.digest = hashlib.blake2b(b"\0".join([*content, *self.said]), digest_size=16).hexdigest()
        counts = np.bincount(self.kinds, minlength=recipe.network.classes)
        share = len(self.kinds) / len(counts) / np.maximum(counts, 1)
        self.weights = torch.from_numpy(share**recipe.balance).float()

    def __len__(self) -> int:
        return len(self.samples)

    def network(self) -> nn.Module:
        return text_network(self.recipe.network)

    def batch(self, picks: Sequence[Pick]) -> Batch:
        messages = [self._message(pick) for pick in picks]
        longest = min(max(map(len, messages)) + 1, self.recipe.view.length)
        length = min(-(-longest // _ROUNDED) * _ROUNDED, self.recipe.view.length)
        codes = np.zeros((len(messages), length), np.uint8)
        for row, message in zip(codes, messages, strict=True):
            cut = message[: length - 1]
            row[: len(cut)] = np.frombuffer(cut, np.uint8)
        kinds = torch.from_numpy(self.kinds[[pick.index for pick in picks]])
        told = [self.taught.get(self.samples[pick.index].name) for pick in picks]
        shares = [None if one is None else one.shares for one in told]
        known = F.one_hot(kinds, self.recipe.network.classes).float().numpy()
        soft = np.stack([one if mine is None else mine for mine, one in zip(shares, known, strict=True)])
        return Batch(torch.from_numpy(codes), lambda answer: self._loss(answer, torch.from_numpy(soft)))

    def _loss(self, answer: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(answer.float(), wanted, self.weights, label_smoothing=_SMOOTHING)

    def _message(self, pick: Pick) -> bytes:
        how, rng = self.recipe.augment, pick.rng
        message = misspelt(self.said[pick.index], rng, how.drop, how.typos)
        if not self.recipe.view.context or rng.random() >= how.context:
            return message
        earlier = [
            [self.said[int(rng.integers(len(self.said)))] for _ in range(int(rng.integers(0, _EARLIER + 1)))]
            for _ in range(2)
        ]
        text = Text("", normalised=message, author_said=earlier[0], room_said=earlier[1])
        return text.view(self.recipe.view.spec()).data.tobytes().rstrip(b"\0")


def misspelt(message: bytes, rng: np.random.Generator, drop: float, typos: float) -> bytes:
    """Words left out with the probability `drop` (word dropout: Iyyer et al. 2015, DAN); of a share `typos` of messages
    one to three letters mistaken, doubled, left out, put the wrong way round, or written as digits."""
    words = message.split(b" ")
    message = b" ".join(word for word, gone in zip(words, rng.random(len(words)) < drop, strict=True) if not gone)
    message = message or words[0]
    if rng.random() >= typos:
        return message
    letters = bytearray(message)
    for _ in range(int(rng.integers(1, 4))):
        if not letters:
            break
        at, kind = int(rng.integers(len(letters))), int(rng.integers(6))
        if kind == 0:
            letters[at] = int(rng.integers(97, 123))
        elif kind == 1:
            del letters[at]
        elif kind == 2:
            letters.insert(at, 32)
        elif kind == 3:
            letters.insert(at, letters[at])
        elif kind == 4 and at + 1 < len(letters):
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
        else:
            letters[at] = _LEET.get(letters[at], letters[at])
    return bytes(letters) or message
