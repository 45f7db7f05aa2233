"""The collector does not look at what stays for as long as the program runs: that would stop every stream meanwhile."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from calling import Thresher

from pipeline.engine.pipeline import Pipeline


def test_models_and_libraries_are_passed_over_while_it_runs(
    thresher_here: Thresher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed_over: list[int] = []
    started = Pipeline.start

    def start(pipeline: Pipeline) -> None:
        passed_over.append(gc.get_freeze_count())
        started(pipeline)

    monkeypatch.setattr(Pipeline, "start", start)
    (tmp_path / "chat.txt").write_text("good morning\n")
    assert thresher_here("run", "chat.txt", "--detect", "chat").returncode == 0
    assert passed_over[0] > 10_000
    assert gc.get_freeze_count() == 0  # what was started in this process is nobody's when it has ended
