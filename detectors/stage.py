"""A model as a stage of a cascade."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from detectors.decode import decoder
from detectors.manifest import Model
from detectors.runtimes.base import Session
from pipeline.core.contracts import Stage
from pipeline.core.media import View
from pipeline.core.payloads import tile_of
from pipeline.core.records import Array, Findings
from pipeline.core.text import TextSpec


class ModelStage(Stage):
    """Judges views with one model. Any number of views up to `max_batch` is split into the sizes that the
    session was warmed for, so that no live window pays for a new one (40 to 60 ms).

    A model whose view has a `tile` sees whole pictures in `session` and squares of that size in `tiles`.
    """

    def __init__(self, name: str, model: Model, session: Session, tiles: Session | None = None) -> None:
        """Raises `InputError` if the session's outputs cannot be what the manifest says."""
        self.name = name
        self.model = model
        self.session = session
        self.spec = model.manifest.view.spec()
        self.labels = model.manifest.labels
        live = session if tiles is None else tiles
        self.workers = live.workers
        self.max_batch = max(live.batches)
        self._tiles = tiles
        self._decoder = decoder(model.manifest)
        if session.outputs:
            self._decoder.check(session.outputs)

    def score(self, views: Sequence[View]) -> list[Findings]:
        if self._tiles is None:
            return self._score(self.session, views)
        tile = tile_of(self.spec)
        whole = [index for index, view in enumerate(views) if view.data.shape[:2] != (tile, tile)]
        tiles = [index for index, view in enumerate(views) if view.data.shape[:2] == (tile, tile)]
        found: dict[int, Findings] = {}
        for session, indices in ((self.session, whole), (self._tiles, tiles)):
            found.update(zip(indices, self._score(session, [views[index] for index in indices]), strict=True))
        return [found[index] for index in range(len(views))]

    def _score(self, session: Session, views: Sequence[View]) -> list[Findings]:
        findings: list[Findings] = []
        while len(findings) < len(views):
            left = len(views) - len(findings)
            size = max((s for s in session.batches if s <= left), default=session.batches[0])
            part = views[len(findings) : len(findings) + size]
            findings += self._decoder.read(session.infer(self._stacked(part, size)), part)
        return findings

    def _stacked(self, views: Sequence[Any], size: int) -> Array:
        """`[size, …]`, the last view again and again where there are fewer; of text no longer than it has to be."""
        given = [view.data for view in views]
        if isinstance(self.spec, TextSpec):
            length = self.spec.long_enough(views)
            given = [codes[:length] for codes in given]
        return np.stack(given + [given[-1]] * (size - len(given)))

    def warm(self) -> None:
        spec = self.spec
        for shape in [(length,) for length in spec.lengths] if isinstance(spec, TextSpec) else [spec.shape]:
            _warm(self.session, shape, spec.dtype)
        if self._tiles is not None and (tile := tile_of(self.spec)) is not None:
            _warm(self._tiles, (tile, tile, 3), self.spec.dtype)

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
            "batches": list((self._tiles or self.session).batches),
            "view": self.spec.words() + ("" if self._tiles is None else f", regions of {tile_of(self.spec)}"),
            "labels": len(self.labels),
            "licence": manifest.licence,
        }

    def close(self) -> None:
        """Let go of the model. Safe twice."""
        self.session.close()
        if self._tiles is not None:
            self._tiles.close()


def _warm(session: Session, shape: tuple[int, ...], dtype: str) -> None:
    with ThreadPoolExecutor(session.workers) as pool:  # every worker's stream has a first time of its own
        for size in session.batches:
            empty = np.zeros((size, *shape), dtype)
            list(pool.map(session.infer, [empty] * session.workers))
