"""The training loop, to be read from top to bottom.

A batch is a function of the seed and the step's number, so that a run which was killed goes on where it was as if
nothing had happened, and several processes share a batch without talking about it.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from detectors.datasets.base import Sample, mask_of
from detectors.networks.pyramid import Network, norms_kept
from detectors.training import processes
from detectors.training.augment import Example, augmented
from detectors.training.losses import Targets, loss_of
from detectors.training.recipe import Recipe
from detectors.training.teacher import Lesson, untaught
from detectors.training.workplace import ended_between_steps
from pipeline.core.errors import InputError
from pipeline.core.pictures import BadPicture
from pipeline.core.records import Array

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
_NORMS = 500  # gradient norms that are remembered
_LOSSES = 50  # steps that the loss which is told is about the mean of
_CACHE_BYTES = 4 << 30

Evaluate = Callable[[nn.Module], dict[str, float]]
"""Figures of a network on held-out pictures; the first is the one that counts, and larger is better. Where there are
none, or it is no number, the loss counts."""
Progress = Callable[[dict[str, float]], None]


class Training:
    """Trains one network.

    `samples` are what it learns from; `evaluate` looks at others. `folder` keeps the checkpoint: where one of the same
    recipe and samples lies there, it goes on from it. `taught` says what to learn of a sample, by its name, in place of
    its labels, and `teacher` who says so. Raises `InputError` where no sample can be read, or the batch cannot be
    shared out among the processes.
    """

    def __init__(
        self,
        recipe: Recipe,
        samples: Sequence[Sample],
        folder: Path,
        evaluate: Evaluate,
        *,
        taught: Mapping[str, Lesson] | None = None,
        teacher: str = "",
        progress: Progress = lambda row: None,
    ) -> None:
        self.rank, self.world = processes.joined()
        if recipe.batch % (self.world * recipe.accumulate):
            raise InputError(
                f"of {recipe.batch} pictures cannot be shared out among {self.world} processes in {recipe.accumulate}"
                " parts each",
                "batch",
            )
        self.recipe = recipe
        self.pictures = Pictures(samples)
        self._masked = any(sample.mask is not None for sample in samples)
        self.folder = folder
        self.evaluate = evaluate
        self.taught = taught or {}
        self.teacher = teacher
        self.progress = progress
        torch.manual_seed(recipe.seed)
        self.network = Network(recipe.network).to(memory_format=torch.channels_last)
        self.network.checkpointing = recipe.checkpointing
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(_groups(self.network, recipe.decay), lr=recipe.rate)
        self.step, self.best, self.since_best, self.seen_loss = 0, -math.inf, 0, 0.0
        self.norms: list[float] = []
        self.best_weights: dict[str, Tensor] = {}
        self.history: list[dict[str, float]] = []
        self._shuffled: tuple[int, Array] | None = None

    def run(self) -> Network:
        """Train to the last step, or until nothing gets better; the best averaged network, in evaluation mode. Raises
        `KeyboardInterrupt`, with all that was learned saved, where somebody asks it to end."""
        self.resume()
        network = self.network if self.world == 1 else nn.parallel.DistributedDataParallel(self.network)
        recipe, saved_at, saved = self.recipe, time.monotonic(), self.step
        with ended_between_steps(self.world) as asked:
            while self.step < recipe.steps and self.since_best < recipe.patience and not asked():
                self.advance(network)
                if self.rank == 0 and time.monotonic() - saved_at > recipe.save_every_s:
                    self.save()
                    saved_at, saved = time.monotonic(), self.step
            if saved != self.step:
                processes.by_the_first(self.save)
            if asked():
                log.warning("saved at step %d: the same command goes on from there", self.step)
                raise KeyboardInterrupt
        best: Network = copy.deepcopy(self.average)
        best.load_state_dict(self.best_weights or self.average.state_dict())
        best.eval()
        return best

    def advance(self, network: nn.Module) -> None:
        """One step, and a look at the held-out pictures where it is time for one."""
        recipe = self.recipe
        self.network.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate(self.step)
        loss = processes.mean(self.backward(network, self.step))
        self.clip()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self.follow()
        self.seen_loss += (loss - self.seen_loss) / min(self.step, _LOSSES)
        if self.step % recipe.evaluate_every == 0 or self.step == recipe.steps:
            self.look()

    def backward(self, network: nn.Module, step: int) -> float:
        """Gradients of one step's batch, of this process' share of it; the loss."""
        recipe, total = self.recipe, 0.0
        share = recipe.batch // (self.world * recipe.accumulate)
        for part in range(recipe.accumulate):
            first = (part * self.world + self.rank) * share
            examples = [self.example(step, first + index) for index in range(share)]
            pictures = stacked(examples)
            targets = Targets(examples, recipe.network)
            if recipe.augment.adversarial and share > 1:
                self.attack(pictures[: share // 2], Targets(examples[: share // 2], recipe.network))
            more = self.world > 1 and part + 1 < recipe.accumulate  # gradients are exchanged once a step
            with network.no_sync() if more else contextlib.nullcontext():
                loss = self.loss(network, pictures, targets) / recipe.accumulate
                loss.backward()
            total += float(loss.detach())
        return total

    def loss(self, network: nn.Module, pictures: Tensor, targets: Targets) -> Tensor:
        recipe = self.recipe
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16):
            answer = network(pictures)
        return loss_of(answer, targets, recipe.network)

    def attack(self, pictures: Tensor, targets: Targets) -> None:
        """Fast gradient sign method (Goodfellow et al. 2015, arXiv 1412.6572), in place."""
        moved = pictures.clone().requires_grad_()
        with norms_kept(self.network), torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.bf16):
            answer = self.network(moved)
        (slope,) = torch.autograd.grad(loss_of(answer, targets, self.recipe.network), moved)
        pictures += slope.sign() * (self.recipe.augment.adversarial / 255)
        pictures.clamp_(0, 1)

    def example(self, step: int, index: int) -> Example:
        """The `index`-th example of a step: always the same."""
        rng = np.random.default_rng([self.recipe.seed, step, index])
        epoch, position = divmod(step * self.recipe.batch + index, len(self.pictures))
        sample, picture, mask = self.pictures[int(self._order(epoch)[position])]
        lesson = self.taught.get(sample.name) or untaught(sample, self.recipe.network.classes)
        if mask is None and self._masked:
            mask = np.zeros(picture.shape[:2], bool)
        whole = Example(
            picture, lesson.boxes, lesson.classes, lesson.sure,
            mask=mask, sure_of_mask=lesson.sure_of_mask, shares=lesson.shares,
        )  # fmt: skip
        has_reference = sample.reference is not None
        return augmented(whole, self.recipe.augment, self.recipe.view, rng, has_reference=has_reference)

    def _order(self, epoch: int) -> Array:
        """In which the pictures come in that epoch, int64 `[n]`: the same whenever it is asked for."""
        if self._shuffled is None or self._shuffled[0] != epoch:
            rng = np.random.default_rng([self.recipe.seed, epoch])
            self._shuffled = epoch, rng.permutation(len(self.pictures))
        return self._shuffled[1]

    def rate(self, step: int) -> float:
        """Up in a line, down in a half cosine."""
        recipe = self.recipe
        rising = max(1, int(recipe.warmup * recipe.steps))
        if step < rising:
            return recipe.rate * (step + 1) / rising
        along = (step - rising) / max(recipe.steps - rising, 1)
        return recipe.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * along)))

    def clip(self) -> None:
        """Dynamic gradient clipping by a percentile of the norms so far (Seetharaman et al. 2020, AutoClip,
        arXiv 2007.14469)."""
        parameters = [p for p in self.network.parameters() if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm([p.grad for p in parameters]))
        if not math.isfinite(norm):
            raise InputError(
                f"step {self.step}: the gradient is not finite; lower `rate`, or set `bf16: false`", "train"
            )
        self.norms = [*self.norms[-_NORMS + 1 :], norm]
        torch.nn.utils.clip_grads_with_norm_(
            parameters, float(np.percentile(self.norms, self.recipe.clip)), torch.tensor(norm)
        )

    def follow(self) -> None:
        """The average goes after the weights, quickly at first."""
        decay = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mine, theirs in zip(
                self.average.state_dict().values(), self.network.state_dict().values(), strict=True
            ):
                if mine.dtype.is_floating_point:
                    mine.lerp_(theirs, 1 - decay)
                else:
                    mine.copy_(theirs)

    def look(self) -> None:
        """At the held-out pictures; the first process does, the others wait for its word."""
        figures = processes.by_the_first(lambda: self.evaluate(self.average.eval()))
        score = float(next(iter(figures.values()), math.nan))
        if not math.isfinite(score):
            score = -self.seen_loss
        if score > self.best:
            self.best, self.since_best = score, 0
            self.best_weights = {k: v.clone() for k, v in self.average.state_dict().items()}
        else:
            self.since_best += 1
        said = {name: float(figure) for name, figure in figures.items()}  # plain numbers, or no checkpoint holds them
        self.history.append({"step": self.step, "loss": self.seen_loss, "rate": self.rate(self.step), **said})
        self.progress(self.history[-1])

    # What outlives a kill.

    @property
    def fingerprint(self) -> str:
        """Stands for the recipe, the pictures, their labels and who taught. (Not for what the teacher said: the same
        model says a hair's breadth else on another day, and a training has to go on then.)"""
        return json.dumps([self.recipe.model_dump(mode="json"), self.pictures.digest, self.teacher, len(self.taught)])

    def save(self) -> None:
        """Whole or not at all: an older checkpoint stays until the new one is complete. Raises `InputError`."""
        state = {
            "fingerprint": self.fingerprint, "step": self.step, "best": self.best, "since_best": self.since_best,
            "seen_loss": self.seen_loss, "norms": self.norms, "history": self.history,
            "network": self.network.state_dict(), "average": self.average.state_dict(),
            "best_weights": self.best_weights, "optimiser": self.optimiser.state_dict(),
        }  # fmt: skip
        part = self.folder / f".{CHECKPOINT}.part"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.folder / CHECKPOINT)
        except (OSError, RuntimeError) as error:  # torch's writer says RuntimeError where the disk is full
            with contextlib.suppress(OSError):
                part.unlink()
            reason = getattr(error, "strerror", None) or "could not be written whole, as on a full disk"
            kept = "The last whole checkpoint is kept; make" if (self.folder / CHECKPOINT).is_file() else "Make"
            raise InputError(
                f"{reason}. {kept} room and give the same command to go on", str(self.folder / CHECKPOINT)
            ) from None

    def resume(self) -> bool:
        """Go on from the checkpoint, if it is this training's. Raises `InputError` for another's, or a damaged one."""
        state = processes.by_the_first(self._checkpoint)
        if state is None:
            return False
        try:
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.best_weights, self.history, self.norms = state["best_weights"], state["history"], state["norms"]
            self.step, self.best, self.since_best = state["step"], state["best"], state["since_best"]
            self.seen_loss = state["seen_loss"]
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise self._damaged(error) from None
        log.info("%s: goes on from step %d", self.folder / CHECKPOINT, self.step)
        return True

    def _checkpoint(self) -> dict[str, Any] | None:
        file = self.folder / CHECKPOINT
        if not file.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
            whose = state["fingerprint"]
        except Exception as error:  # noqa: BLE001  # a damaged archive raises nearly anything
            raise self._damaged(error) from None
        if whose != self.fingerprint:
            raise InputError(
                "is of another recipe or other data; remove it to begin anew, or choose another name", str(file)
            )
        return state

    def _damaged(self, error: Exception) -> InputError:
        return InputError(
            f"is damaged ({type(error).__name__}); remove it to begin anew", str(self.folder / CHECKPOINT)
        )


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
                log.warning("%s: %s: left out", sample.picture, error)
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


def _groups(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Norms and biases do not decay."""
    heavy = [p for p in network.parameters() if p.ndim > 1]
    light = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": heavy, "weight_decay": decay}, {"params": light, "weight_decay": 0.0}]
