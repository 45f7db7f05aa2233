"""The training loop, to be read from top to bottom.

A batch is a function of the seed and the step's number, so that a run which was killed goes on where it was as if
nothing had happened, and several processes share a batch without talking about it.
"""

from __future__ import annotations

import contextlib
import copy
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

from detectors.datasets.base import Sample
from detectors.networks.pyramid import norms_kept
from detectors.training import processes
from detectors.training.matter import Batch, Pick, matter_of
from detectors.training.recipe import Schedule
from detectors.training.workplace import ended_between_steps
from pipeline.core.errors import InputError
from pipeline.core.records import Array

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
_NORMS = 500  # gradient norms that are remembered
_LOSSES = 50  # steps that the loss which is told is about the mean of

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
        recipe: Schedule,
        samples: Sequence[Sample],
        folder: Path,
        evaluate: Evaluate,
        *,
        taught: Mapping[str, Any] | None = None,
        teacher: str = "",
        progress: Progress = lambda row: None,
    ) -> None:
        self.rank, self.world = processes.joined()
        if recipe.batch % (self.world * recipe.accumulate):
            raise InputError(
                f"of {recipe.batch} samples cannot be shared out among {self.world} processes in {recipe.accumulate}"
                " parts each",
                "batch",
            )
        self.recipe = recipe
        self.matter = matter_of(recipe, samples, taught or {})
        self.folder = folder
        self.evaluate = evaluate
        self.teacher = teacher
        self.progress = progress
        torch.manual_seed(recipe.seed)
        self.network = self.matter.network()
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(_groups(self.network, recipe.decay), lr=recipe.rate)
        self.step, self.best, self.since_best, self.seen_loss = 0, -math.inf, 0, 0.0
        self.norms: list[float] = []
        self.best_weights: dict[str, Tensor] = {}
        self.history: list[dict[str, float]] = []
        self._shuffled: tuple[int, Array] | None = None

    def run(self) -> nn.Module:
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
        best: nn.Module = copy.deepcopy(self.average)
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
            torch.manual_seed(self.recipe.seed + step * self.world * recipe.accumulate + first)  # for what drops out
            batch = self.batch(step, first, share)
            if batch.adversarial and share > 1:
                self.attack(self.batch(step, first, share // 2), batch)
            more = self.world > 1 and part + 1 < recipe.accumulate  # gradients are exchanged once a step
            with network.no_sync() if more else contextlib.nullcontext():
                loss = self.loss(network, batch) / recipe.accumulate
                loss.backward()
            total += float(loss.detach())
        return total

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.bf16):
            answer = network(batch.inputs)
        return batch.loss(answer)

    def attack(self, half: Batch, batch: Batch) -> None:
        """Fast gradient sign method (Goodfellow et al. 2015, arXiv 1412.6572), in place: `half` is the first of
        `batch` once more."""
        moved = half.inputs.requires_grad_()
        with norms_kept(self.network), torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.bf16):
            answer = self.network(moved)
        (slope,) = torch.autograd.grad(half.loss(answer), moved)
        touched = batch.inputs[: len(slope)]
        touched += slope.sign() * batch.adversarial
        touched.clamp_(0, 1)

    def batch(self, step: int, first: int, count: int) -> Batch:
        """So many examples of a step, from the `first` on: always the same."""
        picks = []
        for index in range(first, first + count):
            epoch, position = divmod(step * self.recipe.batch + index, len(self.matter))
            rng = np.random.default_rng([self.recipe.seed, step, index])
            picks.append(Pick(int(self._order(epoch)[position]), rng))
        return self.matter.batch(picks)

    def _order(self, epoch: int) -> Array:
        """In which the pictures come in that epoch, int64 `[n]`: the same whenever it is asked for."""
        if self._shuffled is None or self._shuffled[0] != epoch:
            rng = np.random.default_rng([self.recipe.seed, epoch])
            self._shuffled = epoch, rng.permutation(len(self.matter))
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
        """At the held-out samples; the first process does, the others wait for its word."""
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
        return json.dumps(
            [self.recipe.model_dump(mode="json"), self.matter.digest, self.teacher, len(self.matter.taught)]
        )

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


def _groups(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Norms and biases do not decay, nor do tables, of which a step sees a few rows."""
    tables = {id(p) for m in network.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    heavy = [p for p in network.parameters() if p.ndim > 1 and id(p) not in tables]
    light = [p for p in network.parameters() if p.ndim <= 1 or id(p) in tables]
    return [{"params": heavy, "weight_decay": decay}, {"params": light, "weight_decay": 0.0}]
