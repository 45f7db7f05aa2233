"""A network under training, on held-out pictures: the figure that decides which of its states is kept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from detectors.datasets.base import GOOD, DataSet
from detectors.datasets.parts import parts_of
from detectors.evaluation.boxes import Boxes, ranked
from detectors.evaluation.ranks import auroc, named, suspicion
from detectors.image.decode import decoder
from detectors.manifest import Manifest
from detectors.networks.pyramid import Network, Reading
from pipeline.core.payloads import Image, View
from pipeline.core.pictures import BadPicture
from pipeline.core.records import Findings

_GROWN = 8.0  # source pixels around a true box in which a suspicion still means it


class Judge:
    """Gives the figures of a model of `manifest`'s kind, the telling one first: `map` for boxes, `auroc` of parts for
    everything else. At most `most` pictures are looked at, evenly spread. A call takes a network under training,
    `figures` whatever judges a view."""

    def __init__(self, data: DataSet, manifest: Manifest, most: int = 100, bf16: bool = True) -> None:
        self._data = data
        self._spec = manifest.view.spec()
        self._labels = manifest.labels
        self._decoder = decoder(manifest)
        self._boxes = manifest.task == "detection" and len(manifest.labels) > 1
        parts = [] if self._boxes else parts_of(data)
        count = len(data.samples) if self._boxes else len(parts)
        chosen = range(0, count, max(1, -(-count // most)))
        self._samples = [data.samples[index] for index in chosen] if self._boxes else []
        self._parts = [parts[index] for index in chosen] if parts else []
        self._bf16 = bf16

    def __call__(self, network: nn.Module) -> dict[str, float]:
        return self.figures(lambda view: self._read(network, view))

    def look(self, network: nn.Module, image: Image) -> Findings:
        """What it says of one picture."""
        return self._read(network, image.view(self._spec))

    def figures(self, score: Callable[[View], Findings]) -> dict[str, float]:
        return self._found(score) if self._boxes else self._told_apart(score)

    def _found(self, score: Callable[[View], Findings]) -> dict[str, float]:
        found, true = [], []
        for sample in self._samples:
            findings = score(sample.image().view(self._spec))
            assert findings.boxes is not None
            found.append(Boxes(findings.boxes, findings.classes, findings.scores))
            true.append(Boxes(sample.boxes, sample.classes, np.ones(len(sample.boxes))))
        order = ranked(found, true, len(self._labels))
        threshold = order.best_threshold()
        return {
            "map": float(np.nanmean(order.average_precision())),
            "f": order.at(threshold)[2],
            "threshold": threshold,
        }

    def _told_apart(self, score: Callable[[View], Findings]) -> dict[str, float]:
        """Good parts against bad ones; where the places of defects are known, against each defect's own score."""
        good: list[float] = []
        bad: list[float] = []
        for part in self._parts:
            try:
                findings = score(part.image().view(self._spec))
            except BadPicture:
                continue
            if not part.bad:
                good.append(suspicion(findings, tuple(GOOD)))
            elif len(part.boxes) and findings.boxes is not None:
                grown = part.boxes + np.array([-_GROWN, -_GROWN, _GROWN, _GROWN], np.float32)
                bad += named(findings, grown).tolist()
            else:
                bad.append(suspicion(findings, tuple(GOOD)))
        lowest = float(np.quantile(bad, 0.01)) if bad else 0.0
        return {"auroc": auroc(np.array(bad), np.array(good)), "false_at_99": float(np.mean(np.array(good) >= lowest))}

    def _read(self, network: nn.Module, view: View) -> Findings:
        assert isinstance(network, Network)
        reading = Reading(network).eval()
        pictures = torch.from_numpy(np.array(view.pixels)).permute(2, 0, 1)[None].float() / 255
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            answer = reading(pictures).float().numpy()
        return self._decoder.read({"output": answer}, [view])[0]
