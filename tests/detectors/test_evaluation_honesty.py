"""The check that tells a look at parts from a look at file formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from board_models import boards

from detectors.datasets import read_dataset
from detectors.evaluation.honesty import grey_share, honesty, pair_of
from pipeline.core.contracts import Stage
from pipeline.core.payloads import View, ViewSpec
from pipeline.core.records import Findings


class Blind(Stage):
    """Says the same of every picture, unless it cheats."""

    name, labels, spec, max_batch, workers = "blind", ("suspicious",), ViewSpec(64, 64), 4, 1

    def __init__(self, cheats: bool) -> None:
        self._cheats, self._second = cheats, False

    def score(self, views: Sequence[View]) -> list[Findings]:
        return [Findings(self.labels, np.array([self._of(view)], np.float32), np.zeros(1, np.int64)) for view in views]

    def _of(self, view: View) -> float:
        """Who cheats knows that repaired boards come second, each after its template."""
        if not self._cheats:
            return 0.5
        self._second = not self._second
        return 0.1 if self._second else 0.9


def test_honest_and_cheating_stages_and_the_trap(tmp_path: Path) -> None:
    data = read_dataset(boards(tmp_path / "data"))
    stages = {"honest": (Blind(False), ("suspicious",)), "cheat": (Blind(True), ("suspicious",))}
    figures, unreadable = honesty(data.samples, stages)
    assert unreadable == []
    assert (figures["honest"], figures["cheat"], figures["boards"]) == (0.5, 1.0, 12)
    assert figures["histogram_auc_raw"] == 1.0
    assert figures["histogram_auc"] == pytest.approx(0.5, abs=0.2)


def test_a_repaired_board_is_a_template_but_for_its_file(tmp_path: Path) -> None:
    sample = read_dataset(boards(tmp_path / "data", 1)).samples[0]
    pair = pair_of(sample)
    assert np.abs(pair.template.astype(int) - pair.repaired.astype(int))[..., 1:].max() == 0
    assert np.abs(pair.template[..., 0].astype(int) - pair.repaired[..., 0].astype(int)).max() < 90  # noise alone
    assert grey_share(pair.raw_template) == 0 and grey_share(pair.raw_repaired) > 0.5


def test_a_sample_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    data = read_dataset(boards(tmp_path / "data", 3))
    data.samples[1].file.write_bytes(b"no picture")
    figures, unreadable = honesty(data.samples, {})
    assert figures["boards"] == 2
    assert unreadable == ["b01: is not a JPEG, PNG, BMP, WebP or TIFF picture"]
