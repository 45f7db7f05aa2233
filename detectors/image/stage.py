"""A model as a stage of a cascade."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from detectors.image.decode import decoder
from detectors.manifest import Model
from detectors.runtimes.base import Session
from pipeline.core.contracts import Stage
from pipeline.core.payloads import View
from pipeline.core.records import Array, Findings


class ImageStage(Stage):
    """Judges views of pictures with one model. Any number of views up to `max_batch` is split into the sizes that the
    session was warmed for, so that no live window pays for a new one (40 to 60 ms)."""

    def __init__(self, name: str, model: Model, session: Session) -> None:
        """Raises `InputError` if the session's outputs cannot be what the manifest says."""
        self.name = name
        self.model = model
        self.session = session
        self.spec = model.manifest.view.spec()
        self.labels = model.manifest.labels
        self.workers = session.workers
        self.max_batch = max(session.batches)
        self._decoder = decoder(model.manifest)
        if session.outputs:
            self._decoder.check(session.outputs)

    def score(self, views: Sequence[View]) -> list[Findings]:
        findings: list[Findings] = []
        while len(findings) < len(views):
            left = len(views) - len(findings)
            size = max((s for s in self.session.batches if s <= left), default=self.session.batches[0])
            part = views[len(findings) : len(findings) + size]
            findings += self._decoder.read(self.session.infer(_stacked(part, size)), part)
        return findings

    def warm(self) -> None:
        shape = (self.spec.height, self.spec.width, 3)
        with ThreadPoolExecutor(self.workers) as pool:  # every worker's stream has a first time of its own
            for size in self.session.batches:
                empty = np.zeros((size, *shape), np.uint8)
                list(pool.map(self.session.infer, [empty] * self.workers))

    def describe(self) -> dict[str, object]:
        manifest = self.model.manifest
        return {
            "model": manifest.name,
            "version": manifest.version,
            "sha256": manifest.weights.sha256,
            "fingerprint": manifest.fingerprint,
            "runtime": self.session.runtime,
            "precision": self.session.precision,
            "workers": self.workers,
            "batches": list(self.session.batches),
            "view": f"{self.spec.width}×{self.spec.height} {self.spec.fit}",
            "labels": len(self.labels),
            "licence": manifest.licence,
        }

    def close(self) -> None:
        """Let go of the model. Safe twice."""
        self.session.close()


def _stacked(views: Sequence[View], size: int) -> Array:
    """uint8 `[size, height, width, 3]`, the last view again and again where there are fewer."""
    pixels = [view.pixels for view in views]
    return np.stack(pixels + [pixels[-1]] * (size - len(pixels)))
