"""What every stage must do. A stage's test subclasses `StageSuite` and says how to build it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from detectors.runtimes.parity import moved
from pipeline.core.contracts import Stage
from pipeline.core.payloads import FrameImage, View
from pipeline.core.records import Findings

ROOT = Path(__file__).parents[2]
CLIPS = [ROOT / "pipeline" / "app" / "demo" / "people.mp4", ROOT / "tests" / "data" / "bikes.mp4"]


def frames(clip: Path, step: int, most: int) -> list[FrameImage]:
    with av.open(str(clip)) as container:
        return [FrameImage(frame) for frame in islice(container.decode(video=0), 0, step * most, step)]


class StageSuite(ABC):
    """`tolerance`: how far a score may move between batch sizes, whose sums are taken in another order. Some of the
    pictures differ by more, so that an answer in the wrong place shows."""

    tolerance = 0.002

    @classmethod
    @abstractmethod
    def build(cls) -> Stage: ...

    @pytest.fixture(scope="class")
    @classmethod
    def stage(cls) -> Stage:
        stage = cls.build()
        stage.warm()
        return stage

    @pytest.fixture(scope="class")
    @classmethod
    def images(cls) -> list[FrameImage]:
        return [image for clip in CLIPS for image in frames(clip, 24, 4)]

    @pytest.fixture(scope="class")
    @classmethod
    def views(cls, stage: Stage, images: list[FrameImage]) -> list[View]:
        return [image.view(stage.spec) for image in images]

    @pytest.fixture(scope="class")
    @classmethod
    def singles(cls, stage: Stage, views: list[View]) -> list[Findings]:
        return [stage.score([view])[0] for view in views]

    def test_every_batch_says_what_singles_say_in_their_order(
        self, stage: Stage, views: list[View], singles: list[Findings]
    ) -> None:
        assert any(moved([one], [other]) > 2 * self.tolerance for one, other in pairwise(singles))
        for size in range(1, stage.max_batch + 1):
            turned = (views * 2)[3 : 3 + size] if size <= len(views) else (views * size)[:size]
            expected = (singles * 2)[3 : 3 + size] if size <= len(views) else (singles * size)[:size]
            found = stage.score(turned)
            assert len(found) == size
            assert moved(expected, found) <= self.tolerance

    def test_no_views_are_no_findings(self, stage: Stage) -> None:
        assert list(stage.score([])) == []

    def test_findings_are_well_formed(self, stage: Stage, images: list[FrameImage], singles: list[Findings]) -> None:
        for image, findings in zip(images, singles, strict=True):
            assert findings.labels == stage.labels
            assert len(findings.scores) == len(findings.classes)
            assert findings.scores.dtype == np.float32
            assert ((findings.scores >= 0) & (findings.scores <= 1)).all()
            assert ((findings.classes >= 0) & (findings.classes < len(stage.labels))).all()
            if findings.boxes is None:
                assert findings.classes.tolist() == list(range(len(stage.labels)))
                continue
            assert findings.boxes.shape == (len(findings.scores), 4)
            assert findings.boxes.dtype == np.float32
            assert (findings.boxes >= 0).all()
            assert (findings.boxes[:, 2:] <= [image.width, image.height]).all()
            assert (findings.boxes[:, :2] < findings.boxes[:, 2:]).all()

    def test_a_region_is_answered_inside_its_bounds(self, stage: Stage, images: list[FrameImage]) -> None:
        view = images[0].view(stage.spec, (100.0, 60.0, 420.0, 460.0))
        findings = stage.score([view])[0]
        if findings.boxes is not None:
            x1, y1, x2, y2 = view.bounds
            assert (findings.boxes >= [x1, y1, x1, y1]).all()
            assert (findings.boxes <= [x2, y2, x2, y2]).all()

    def test_threads_do_not_mix_their_views(self, stage: Stage, views: list[View], singles: list[Findings]) -> None:
        threads = max(4, 2 * stage.workers)  # more than can run at once: the rest has to wait, not to fail
        with ThreadPoolExecutor(threads) as pool:
            answers = list(pool.map(lambda view: stage.score([view])[0], views * 3))
        assert moved(singles * 3, answers) <= self.tolerance

    def test_says_what_it_is(self, stage: Stage) -> None:
        said = stage.describe()
        assert {"model", "version", "sha256", "runtime", "precision", "workers", "batches"} <= said.keys()
        assert said["precision"] in {"f32", "bf16", "f16", "int8"}
        assert max(said["batches"]) == stage.max_batch  # type: ignore[call-overload]
        assert stage.name and stage.labels and stage.workers >= 1
