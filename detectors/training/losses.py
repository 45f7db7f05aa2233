"""What a network is told to answer, and how wrong it was."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from detectors.networks.pyramid import Architecture
from detectors.training.augment import Example
from pipeline.core.records import Array

_SHARE = 0.54  # of a box's half side that is near enough its middle to answer for it (TTFNet)
_BOX_WEIGHT = 5.0
_LIKE_CELLS = 64.0  # a mask of fewer cells weighs more, cell by cell
_CELLS = 256.0  # that the cross entropy of a picture counts as


class Targets:
    """Of a batch: `peaks` float32 `[N, C, h, w]`, how sure it is that something's middle is there; `heat`, the same
    with its surroundings; `weight` `[N, 1, h, w]`, 0 where nothing is to be learned; for boxes, `reach` `[N, 4, h, w]`
    in pixels and how much each cell answers for its box, `share` `[N, h, w]`; for whole pictures `shares` `[N, C]`."""

    def __init__(self, examples: Sequence[Example], architecture: Architecture) -> None:
        if architecture.head == "classification":
            self.shares = torch.from_numpy(np.stack([_shares(e, architecture.classes) for e in examples]))
            return
        stride, classes = architecture.stride, architecture.classes
        height, width = (side // stride for side in examples[0].picture.shape[:2])
        heat = np.zeros((len(examples), classes, height, width), np.float32)
        peaks = np.zeros_like(heat)
        weight = np.ones((len(examples), 1, height, width), np.float32)
        reach = np.zeros((len(examples), 4, height, width), np.float32)
        share = np.zeros((len(examples), height, width), np.float32)
        self.masked = any(example.mask is not None for example in examples)
        for index, example in enumerate(examples):
            if example.mask is not None:
                cells = example.mask[: height * stride, : width * stride].reshape(height, stride, width, stride)
                heat[index, 0] = peaks[index, 0] = cells.any((1, 3)) * np.float32(example.sure_of_mask)
            _place(example, stride, (heat[index], peaks[index], reach[index], share[index]))
            _overlook(example.ignored, stride, weight[index, 0], peaks[index])
        self.peaks = torch.from_numpy(peaks)
        self.heat, self.weight = torch.from_numpy(heat), torch.from_numpy(weight)
        self.reach, self.share = torch.from_numpy(reach), torch.from_numpy(share)


def _overlook(ignored: Array, stride: int, weight: Array, peaks: Array) -> None:
    """No cell that an ignored box touches is learned from, unless the middle of something else lies there."""
    starts, ends = np.floor(ignored[:, :2] / stride).astype(int), np.ceil(ignored[:, 2:] / stride).astype(int)
    for (x1, y1), (x2, y2) in zip(starts, ends, strict=True):
        weight[y1:y2, x1:x2] = 0
    weight[peaks.max(0) > 0] = 1


def _shares(example: Example, classes: int) -> Array:
    """`[C]`: the labels of a whole picture; the first class is what is good, and what nobody labelled is that."""
    if example.shares is not None:
        return example.shares.astype(np.float32)
    kind = int(example.classes[0]) if len(example.classes) else 0
    shares = np.zeros(classes, np.float32)
    shares[kind] = 1
    return shares


def _place(example: Example, stride: int, maps: tuple[Array, Array, Array, Array]) -> None:
    """One peak a thing, wide as the box is wide and high as it is high; where boxes overlap, the smaller one has the
    cell (Liu et al. 2020, TTFNet, arXiv 1909.00700)."""
    heat, peaks, reach, share = maps
    classes, height, width = heat.shape
    sizes = (example.boxes[:, 2] - example.boxes[:, 0]) * (example.boxes[:, 3] - example.boxes[:, 1])
    for index in np.argsort(-sizes):
        box = example.boxes[index]
        middle = (box[:2] + box[2:]) / 2 / stride
        column, row = (int(min(max(m, 0), side - 1)) for m, side in zip(middle, (width, height), strict=True))
        across, down = (max(int(_SHARE * (box[k + 2] - box[k]) / 2 / stride), 1) for k in (0, 1))
        xs = np.arange(max(column - across, 0), min(column + across + 1, width))
        ys = np.arange(max(row - down, 0), min(row + down + 1, height))
        bell = np.exp(
            -((xs[None] - column) ** 2) / (2 * ((2 * across + 1) / 6) ** 2)
            - (ys[:, None] - row) ** 2 / (2 * ((2 * down + 1) / 6) ** 2)
        ).astype(np.float32)
        kind = int(example.classes[index]) if classes > 1 else 0
        area = np.ix_(ys, xs)
        heat[kind][area] = np.maximum(heat[kind][area], bell * example.sure[index])
        peaks[kind, row, column] = max(peaks[kind, row, column], example.sure[index])
        share[area] = bell / bell.sum() * example.sure[index]
        middles_x, middles_y = (xs + 0.5) * stride, (ys + 0.5) * stride
        reach[0][area], reach[2][area] = middles_x[None] - box[0], box[2] - middles_x[None]
        reach[1][area], reach[3][area] = middles_y[:, None] - box[1], box[3] - middles_y[:, None]


def loss_of(answer: Tensor, targets: Targets, architecture: Architecture) -> Tensor:
    """The mean over what there is to find in the batch, a scalar."""
    if architecture.head == "classification":
        return F.cross_entropy(answer.float(), targets.shares, label_smoothing=0.05)
    classes = architecture.classes
    heat = (masks if targets.masked else focal)(answer[:, :classes].float(), targets)
    if architecture.head == "heatmap":
        return heat
    return heat + _BOX_WEIGHT * _box_loss(answer[:, classes:].float(), targets)


def focal(logits: Tensor, targets: Targets) -> Tensor:
    """Penalty-reduced focal loss (Law & Deng 2018, CornerNet, arXiv 1808.01244; α = 2, β = 4). A middle that is not
    sure is learned as just as sure as it is (quality focal loss: Li et al. 2020, arXiv 2006.04388), which is the same
    where it is."""
    p = torch.sigmoid(logits)
    middles = (targets.peaks - p) ** 2 * F.binary_cross_entropy_with_logits(logits, targets.peaks, reduction="none")
    elsewhere = p**2 * (1 - targets.heat) ** 4 * -F.logsigmoid(-logits)
    loss = torch.where(targets.peaks > 0, middles, elsewhere)
    return (loss * targets.weight).sum() / targets.peaks.sum().clamp(min=1)


def masks(logits: Tensor, targets: Targets) -> Tensor:
    """Where a mask says which cells show something: cross entropy of every cell, in which a small mask weighs nearly as
    much as a large one, and soft Dice of the pictures that show anything (Milletari et al. 2016, V-Net,
    arXiv 1606.04797)."""
    count = len(logits)
    logits, wanted = logits.reshape(count, -1), targets.peaks.reshape(count, -1)
    inside = (wanted > 0).float()
    cells = inside.sum(1, keepdim=True)
    weight = torch.where(wanted > 0, 1 + (_LIKE_CELLS / cells.clamp(min=1)).clamp(min=1) ** 0.75, 1.0)
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    p = torch.sigmoid(logits)
    common, all_of_it = (p * wanted * weight).sum(1), ((p**2 + wanted**2) * weight).sum(1)
    apart = 1 - (2 * common + 1) / (all_of_it + 1)
    shown = cells[:, 0] > 0
    return (entropy * weight).sum() / (count * _CELLS) + apart[shown].sum() / shown.sum().clamp(min=1)


def _box_loss(reach: Tensor, targets: Targets) -> Tensor:
    """Generalised IoU (Rezatofighi et al. 2019, arXiv 1902.09630) of boxes that share their cell."""
    share = targets.share
    cells = share > 0
    if not cells.any():
        return reach.sum() * 0
    mine = reach.permute(0, 2, 3, 1)[cells]
    true = targets.reach.permute(0, 2, 3, 1)[cells]
    inner = torch.minimum(mine, true)
    outer = torch.maximum(mine, true)
    common = (inner[:, 0] + inner[:, 2]).clamp(min=0) * (inner[:, 1] + inner[:, 3]).clamp(min=0)
    areas = [(r[:, 0] + r[:, 2]).clamp(min=0) * (r[:, 1] + r[:, 3]).clamp(min=0) for r in (mine, true)]
    hull = ((outer[:, 0] + outer[:, 2]) * (outer[:, 1] + outer[:, 3])).clamp(min=1e-6)
    union = (areas[0] + areas[1] - common).clamp(min=1e-6)
    giou = common / union - (hull - union) / hull
    return ((1 - giou) * share[cells]).sum() / share[cells].sum().clamp(min=1e-6)
