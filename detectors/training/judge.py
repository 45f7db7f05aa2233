"""A network under training, on held-out pictures: the figure that decides which of its states is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from detectors.datasets.base import DataSet, Sample, says_good
from detectors.datasets.parts import Part, parts_of
from detectors.decode import decoder
from detectors.evaluation.boxes import Boxes, ranked
from detectors.evaluation.classes import auroc
from detectors.evaluation.judged import suspicion
from detectors.evaluation.ranks import named
from detectors.manifest import Manifest
from detectors.networks.pyramid import Network, Reading
from pipeline.core.errors import InputError
from pipeline.core.payloads import Image, View
from pipeline.core.pictures import BadPicture
from pipeline.core.records import Array, Findings

T = TypeVar("T")
_GROWN = 8.0  # source pixels around a true box in which a suspicion still means it


class Eye:
    """A network under training as a stage: what it says of a picture, read as the manifest of its kind has it."""

    def __init__(self, manifest: Manifest, bf16: bool = True) -> None:
        self.spec = manifest.picture.spec()
        self._decoder = decoder(manifest)
        self._bf16 = bf16

    def look(self, network: nn.Module, image: Image) -> Findings:
        return self.read(network, image.view(self.spec))

    def read(self, network: nn.Module, view: View) -> Findings:
        assert isinstance(network, Network)
        reading = Reading(network).eval()
        pictures = torch.from_numpy(np.array(view.pixels)).permute(2, 0, 1)[None].float() / 255
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            answer = reading(pictures).float().numpy()
        (found,) = self._decoder.read({"output": answer}, [view])
        return found


class Judge:
    """Gives the figures of a model of `manifest`'s kind, the telling one first: `map` for boxes, `auroc` of parts for
    everything else. At most `most` pictures are looked at, evenly spread; those that cannot be read are left out. A
    call takes a network under training, `figures` whatever judges a view. Raises `InputError` where the pictures
    cannot tell a good network from a bad one."""

    def __init__(self, data: DataSet, manifest: Manifest, most: int = 100, bf16: bool = True) -> None:
        self._eye = Eye(manifest, bf16)
        self._labels = manifest.labels
        self._boxes = manifest.task == "detection" and len(manifest.labels) > 1
        self._samples: list[Sample] = []
        self._parts: list[Part] = []
        if self._boxes:
            self._samples = _spread(data.samples, most)
            if not any(len(sample.boxes) for sample in self._samples):
                raise InputError("no held-out picture has a labelled box: hold out others", "data.hold_out")
            return
        self._parts = _spread(parts_of(data), most)
        bad = [part for part in self._parts if part.bad]
        placed = manifest.task == "detection" and any(len(part.boxes) for part in bad)
        if not bad or (len(bad) == len(self._parts) and not placed):
            raise InputError(
                f"no held-out picture shows a {'good' if bad else 'bad'} part: hold out others", "data.hold_out"
            )

    def __call__(self, network: nn.Module) -> dict[str, float]:
        return self.figures(lambda view: self._eye.read(network, view))

    def figures(self, score: Callable[[View], Findings]) -> dict[str, float]:
        return self._found(score) if self._boxes else self._told_apart(score)

    def _found(self, score: Callable[[View], Findings]) -> dict[str, float]:
        found, true = [], []
        for sample in self._samples:
            try:
                findings = score(sample.image().view(self._eye.spec))
            except BadPicture:
                continue
            assert findings.boxes is not None
            found.append(Boxes(findings.boxes, findings.classes, findings.scores))
            true.append(Boxes(sample.boxes, sample.classes, np.ones(len(sample.boxes))))
        if not any(len(one.classes) for one in true):
            raise _unreadable()
        order = ranked(found, true, len(self._labels))
        threshold = order.best_threshold()
        return {
            "map": float(np.nanmean(order.average_precision())),
            "f": float(order.at(threshold)[2]),
            "threshold": threshold,
        }

    def _told_apart(self, score: Callable[[View], Findings]) -> dict[str, float]:
        """Good parts against bad ones; where the places of defects are known, against each defect's own score. Where
        no part is good, what is suspected beside the defects stands for one."""
        good: list[float] = []
        bad: list[float] = []
        beside: list[float] = []
        watched = [label for label in self._labels if not says_good(label)]
        for part in self._parts:
            try:
                findings = score(part.image().view(self._eye.spec))
            except BadPicture:
                continue
            if not part.bad:
                good.append(suspicion(findings, watched))
            elif len(part.boxes) and findings.boxes is not None:
                grown = part.boxes + np.array([-_GROWN, -_GROWN, _GROWN, _GROWN], np.float32)
                bad += named(findings, grown).tolist()
                beside.append(_beside(findings, grown))
            else:
                bad.append(suspicion(findings, watched))
        good = good or beside
        if not good or not bad:
            raise _unreadable()
        lowest = float(np.quantile(bad, 0.01))
        told = auroc(np.array(bad + good), np.arange(len(bad) + len(good)) < len(bad))
        assert told is not None
        return {"auroc": told, "false_at_99": float(np.mean(np.array(good) >= lowest))}


def _spread(things: Sequence[T], most: int) -> list[T]:
    return list(things[:: max(1, -(-len(things) // most))])


def _beside(findings: Findings, boxes: Array) -> float:
    """The highest score among findings whose middle lies in none of `boxes`."""
    assert findings.boxes is not None
    x = (findings.boxes[:, 0] + findings.boxes[:, 2]) / 2
    y = (findings.boxes[:, 1] + findings.boxes[:, 3]) / 2
    inside = (x >= boxes[:, :1]) & (x <= boxes[:, 2:3]) & (y >= boxes[:, 1:2]) & (y <= boxes[:, 3:])
    return float(findings.scores[~inside.any(0)].max(initial=0.0))


def _unreadable() -> InputError:
    return InputError("too few of the held-out pictures can be read to tell good from bad", "data.hold_out")
