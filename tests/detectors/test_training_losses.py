"""How wrong an answer is said to be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import generalized_box_iou_loss

from detectors.networks.pyramid import Architecture
from detectors.training.augment import Example
from detectors.training.losses import Targets, focal, loss_of

SIDE, STRIDE = 64, 4


def example(boxes: list[list[float]], classes: list[int] | None = None, sure: list[float] | None = None) -> Example:
    kinds = np.array(classes or [0] * len(boxes), np.int64)
    return Example(
        np.zeros((SIDE, SIDE, 3), np.uint8),
        np.array(boxes, np.float32).reshape(-1, 4),
        kinds,
        np.array(sure or [1.0] * len(boxes), np.float32),
    )


def architecture(head: str = "boxes", classes: int = 2) -> Architecture:
    return Architecture.model_validate({"head": head, "stride": STRIDE, "classes": classes})


def perfect(targets: Targets, classes: int) -> torch.Tensor:
    """The answer of who knows: sure of every middle, and of everything else that it is none, with the true reach."""
    logits = torch.where(targets.peaks > 0.5, 12.0, -12.0)
    return torch.cat([logits, targets.reach], 1) if classes else logits


def test_who_knows_has_next_to_no_loss() -> None:
    examples = [example([[8, 8, 24, 20], [40, 30, 60, 62]], [0, 1]), example([])]
    targets = Targets(examples, architecture())
    assert targets.peaks.sum() == 2
    best = float(loss_of(perfect(targets, 2), targets, architecture()))
    assert best < 0.01
    for wrong in (torch.full_like(perfect(targets, 2), 0.1), -perfect(targets, 2)):
        assert loss_of(wrong, targets, architecture()) > 0.3


def test_whole_pictures() -> None:
    one = example([])
    one.classes = np.array([1])
    unlabelled = example([])
    shared = example([])
    shared.shares = np.array([0.25, 0.75])
    targets = Targets([one, unlabelled, shared], architecture("classification"))
    assert targets.shares.tolist() == [[0, 1], [1, 0], [0.25, 0.75]]
    right, wrong = torch.tensor([[-4.0, 4], [4, -4], [0, 1]]), torch.tensor([[4.0, -4], [-4, 4], [1, 0]])
    said = architecture("classification")
    assert loss_of(right, targets, said) < 0.5 < loss_of(wrong, targets, said)


@settings(max_examples=60, deadline=None)
@given(sure=st.floats(0.05, 1.0), far=st.floats(0.1, 6), nearer=st.floats(0.05, 0.95))
def test_the_loss_falls_on_the_way_to_what_is_true(sure: float, far: float, nearer: float) -> None:
    """A middle that is `sure`: least at just that probability, and from there it rises both ways."""
    targets = Targets([example([[8, 8, 24, 20]], [0], [sure])], architecture("heatmap", 1))
    row, column = (int(at) for at in torch.nonzero(targets.peaks[0, 0])[0])
    true = torch.logit(torch.tensor(min(sure, 0.999)))

    def loss(off: float) -> float:
        logits = torch.full((1, 1, SIDE // STRIDE, SIDE // STRIDE), -12.0)
        logits[0, 0, row, column] = true + off
        return float(focal(logits, targets))

    slack = 1e-6
    for side in (-1, 1) if sure < 0.999 else (-1,):
        assert loss(side * far) >= loss(side * far * nearer) - slack >= loss(0) - 2 * slack


def test_a_doubtful_middle_pulls_less_than_a_sure_one() -> None:
    losses = []
    for sure in (1.0, 0.5, 0.1):
        targets = Targets([example([[8, 8, 24, 20]], [0], [sure])], architecture("heatmap", 1))
        assert float(targets.heat.max()) == pytest.approx(sure)
        losses.append(float(focal(torch.full((1, 1, 16, 16), -4.0), targets)))
    assert losses == sorted(losses, reverse=True)


def test_a_mask_is_heat_wherever_it_is_and_as_sure_as_it_is() -> None:
    one = example([])
    one.mask = np.zeros((SIDE, SIDE), bool)
    one.mask[9, 9] = one.mask[32:40, 32:36] = True
    one.sure_of_mask = 0.75
    targets = Targets([one], architecture("heatmap", 1))
    assert {tuple(at.tolist()) for at in torch.nonzero(targets.peaks[0, 0])} == {(2, 2), (8, 8), (9, 8)}
    assert float(targets.peaks.max()) == 0.75


def test_the_smaller_of_two_boxes_has_the_cell() -> None:
    targets = Targets([example([[28, 28, 36, 36], [0, 0, 64, 64]])], architecture("boxes", 1))
    assert targets.reach[0, :, 8, 8].tolist() == [6, 6, 2, 2]
    assert targets.reach[0, :, 8, 4].tolist() == [18, 34, 46, 30]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_boxes_are_measured_as_torchvision_measures_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(4, 30, 2), rng.uniform(6, 28, 2)
    targets = Targets([example([[*corner, *(corner + size)]])], architecture("boxes", 1))
    reach = torch.from_numpy(rng.uniform(0.5, 30, (1, 4, 16, 16)).astype(np.float32))
    logits = torch.where(targets.peaks > 0.5, 30.0, -30.0)
    mine = float(loss_of(torch.cat([logits, reach], 1), targets, architecture("boxes", 1)))

    ys, xs = torch.nonzero(targets.share[0] > 0, as_tuple=True)
    middles = torch.stack([(xs + 0.5) * STRIDE, (ys + 0.5) * STRIDE], 1)

    def boxes(distances: Any) -> torch.Tensor:
        at = distances[0, :, ys, xs].T
        return torch.cat([middles - at[:, :2], middles + at[:, 2:]], 1)

    each = generalized_box_iou_loss(boxes(reach), boxes(targets.reach))
    weights = targets.share[0, ys, xs]
    assert mine == pytest.approx(5.0 * float((each * weights).sum() / weights.sum()), rel=1e-3, abs=1e-4)
