from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from detectors.choice import ModelChoice, build_stage, find_model, readers
from detectors.manifest import Model, Parity
from detectors.runtimes.base import Runtime
from detectors.runtimes.choose import Candidate, Measurement, measured
from detectors.runtimes.parity import moved, sample_views
from pipeline.core.errors import InputError
from pipeline.core.payloads import ViewSpec
from pipeline.core.records import Findings
from tests.detectors.tiny_models import described, mean_colour


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return described(mean_colour(tmp_path / "colours.onnx", side=64), side=64)


@pytest.fixture
def runtimes(model: Model) -> list[Runtime]:
    return readers(model)


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THRESHER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_measures_every_runtime_in_every_precision(model: Model, runtimes: list[Runtime]) -> None:
    found = measured(model, runtimes)
    assert [(c.runtime, c.precision) for c in found.candidates] == [
        (runtime.name, precision) for runtime in runtimes for precision in runtime.precisions(model)
    ]
    assert {c.runtime for c in found.candidates} == {"openvino", "onnxruntime"}
    assert found.candidates[0].moved == 0
    assert all(c.latency_ms > 0 and c.per_s > 0 and c.batch in {1, 2, 4, 8} and c.ran for c in found.candidates)
    assert found.chosen in found.candidates


def test_what_was_measured_is_kept(
    model: Model, runtimes: list[Runtime], fresh_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = measured(model, runtimes)
    assert "colours: measuring" in caplog.text
    caplog.clear()
    assert measured(model, runtimes) == first
    assert not caplog.records
    (file,) = (fresh_cache / "measured").iterdir()
    file.write_text("{ no json")
    assert measured(model, runtimes).candidates
    assert "measuring again" in caplog.text


def test_another_model_is_measured_anew(
    model: Model, runtimes: list[Runtime], tmp_path: Path, fresh_cache: Path
) -> None:
    measured(model, runtimes)
    measured(described(mean_colour(tmp_path / "other.onnx", side=64, batch=1), side=64), runtimes)
    assert len(list((fresh_cache / "measured").iterdir())) == 2


def test_notes_in_a_manifest_do_not_matter(model: Model, runtimes: list[Runtime], fresh_cache: Path) -> None:
    measured(model, runtimes)
    noted = model.manifest.model_copy(update={"measured": {"accuracy": 1}, "data": "none"})
    measured(Model(noted, model.weights), runtimes)
    assert len(list((fresh_cache / "measured").iterdir())) == 1


@pytest.mark.slow
def test_a_form_that_moves_scores_is_refused() -> None:
    """Real weights, real pictures: bf16 differs from f32 by something, and something is more than nothing."""
    shipped = find_model(ModelChoice(model="nsfw-mobilenet"))
    strict = Model(shipped.manifest.model_copy(update={"parity": Parity(tolerance=0.0)}), shipped.weights)
    found = measured(strict, readers(strict))
    reference, *others = found.candidates
    assert not reference.refused
    assert others and all("moves a score by" in c.refused and "more than 0" in c.refused for c in others)
    assert found.chosen == reference


def test_an_unwritable_cache_means_measuring_again(
    model: Model, runtimes: list[Runtime], fresh_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fresh_cache.write_text("not a folder")
    assert measured(model, runtimes).chosen
    assert "measured again next time" in caplog.text


def candidate(precision: str, per_s: float, refused: str = "") -> Candidate:
    return Candidate.model_validate(
        {"runtime": "openvino", "precision": precision, "per_s": per_s, "refused": refused, "ran": precision}
    )


@pytest.mark.parametrize(
    ("f32", "bf16", "refused", "chosen"),
    [(100, 105, "", "f32"), (100, 150, "", "bf16"), (100, 900, "moves a score", "f32"), (200, 100, "", "f32")],
)
def test_the_fastest_wins_if_that_is_worth_it(f32: float, bf16: float, refused: str, chosen: str) -> None:
    candidates = (candidate("f32", f32), candidate("bf16", bf16, refused))
    found = Measurement(model="m", version="1", tolerance=0.03, candidates=candidates)
    assert found.chosen.precision == chosen


def test_nothing_that_runs_is_an_error() -> None:
    found = Measurement(model="m", version="1", tolerance=0.03, candidates=(candidate("f32", 1, "broken"),))
    with pytest.raises(InputError, match=r"m: no runtime .*openvino f32: broken"):
        _ = found.chosen


def test_the_stage_runs_what_was_chosen(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"model": str(model.weights), "output": "classification", "input": "unit"}
    stage = build_stage(ModelChoice.model_validate(said))
    best = measured(find_model(ModelChoice.model_validate(said)), readers(model)).chosen
    assert (stage.describe()["runtime"], stage.describe()["precision"]) == (best.runtime, best.ran)
    assert stage.max_batch == best.batch
    assert build_stage(ModelChoice.model_validate(said | {"max_batch": 3})).max_batch == 3


def test_samples_are_real_pictures_and_few() -> None:
    views = sample_views(ViewSpec(96, 96))
    assert len(views) == 8
    assert all(view.pixels.std() > 20 for view in views)
    assert sum(file.stat().st_size for file in Path(__file__).parents[2].glob("detectors/zoo/samples/*")) < 2e5


def found(*things: tuple[float, tuple[float, float, float, float]]) -> Findings:
    return Findings(
        ("a",),
        np.array([score for score, _ in things], np.float32),
        np.zeros(len(things), np.int64),
        np.array([box for _, box in things], np.float32).reshape(-1, 4),
    )


HERE, NEAR, THERE = (0.0, 0.0, 10.0, 10.0), (1.0, 0.0, 11.0, 10.0), (50.0, 50.0, 60.0, 60.0)


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        ([], [], 0.0),
        ([(0.9, HERE)], [(0.9, HERE)], 0.0),
        ([(0.9, HERE)], [(0.8, NEAR)], 0.1),
        ([(0.9, HERE), (0.3, THERE)], [(0.9, HERE)], 0.2),
        ([(0.9, HERE)], [], 0.8),
        ([(0.9, HERE)], [(0.9, THERE)], 0.8),
        ([(0.09, HERE)], [], 0.0),
    ],
)
def test_how_far_boxes_moved(one: list[object], other: list[object], distance: float) -> None:
    assert moved([found(*one)], [found(*other)]) == pytest.approx(distance, abs=1e-6)  # type: ignore[arg-type]
    assert moved([found(*other)], [found(*one)]) == pytest.approx(distance, abs=1e-6)  # type: ignore[arg-type]
