"""Both runtimes that read ONNX, on real files: what fits runs the same in both, what does not fit says why."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from detectors.choice import ZOO
from detectors.manifest import Input, Model, ViewSettings, read_model
from detectors.runtimes.base import Options, Runtime, batch_sizes
from detectors.runtimes.onnxruntime import OnnxRuntime
from detectors.runtimes.openvino import OpenVino
from detectors.stage import ModelStage
from pipeline.core.errors import InputError, StageError
from pipeline.core.payloads import FrameImage, ViewSpec
from tests.detectors.tiny_models import described, mean_colour, save

RUNTIMES = [OpenVino(), OnnxRuntime()]
both = pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda runtime: runtime.name)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return mean_colour(tmp_path / "colours.onnx")


def expected(batch: np.ndarray) -> np.ndarray:
    logits = batch.reshape(len(batch), -1, 3).mean(axis=1) / 255 * 4 + [0.0, 0.5, -0.5]
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def pictures(count: int, side: int = 8) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (count, side, side, 3), np.uint8)


@both
def test_infers_every_batch_size(runtime: Runtime, weights: Path) -> None:
    session = runtime.open(described(weights), Options(max_batch=6))
    assert session.batches == (1, 2, 4, 6)
    assert session.outputs == {"scores": (None, 3)}
    for size in session.batches:
        batch = pictures(size)
        assert session.infer(batch)["scores"] == pytest.approx(expected(batch), abs=1e-5)
    assert session.precision == "f32"
    session.close()
    session.close()


@both
def test_read_only_and_strided_pictures_are_fine(runtime: Runtime, weights: Path) -> None:
    session = runtime.open(described(weights), Options())
    batch = pictures(1, 16)[:, ::2, ::2]
    batch.flags.writeable = False
    assert session.infer(batch)["scores"] == pytest.approx(expected(batch), abs=1e-5)


@both
def test_answers_are_the_callers_own(runtime: Runtime, weights: Path) -> None:
    session = runtime.open(described(weights), Options())
    first = session.infer(pictures(1))["scores"]
    kept = first.copy()
    session.infer(255 - pictures(1))
    assert (first == kept).all()


@both
def test_mean_and_scale_per_channel(runtime: Runtime, weights: Path) -> None:
    model = described(weights, input=Input(mean=(10.0, 20.0, 30.0), std=(50.0, 100.0, 200.0)))
    session = runtime.open(model, Options())
    batch = pictures(1)
    logits = (batch.reshape(-1, 3).mean(axis=0) - [10, 20, 30]) / [50, 100, 200] * 4 + [0.0, 0.5, -0.5]
    assert session.infer(batch)["scores"][0] == pytest.approx(np.exp(logits) / np.exp(logits).sum(), abs=1e-5)


@both
def test_a_model_of_fixed_batch_is_run_one_by_one(runtime: Runtime, tmp_path: Path) -> None:
    model = described(mean_colour(tmp_path / "one.onnx", batch=1))
    fixed = runtime.open(model, Options(max_batch=8))
    if runtime.name == "onnxruntime":
        assert fixed.batches == (1,)
    stage = ModelStage("colours", model, fixed)
    batch = pictures(stage.max_batch)
    views = [FrameImage.from_array(picture).view(ViewSpec(8, 8)) for picture in batch]
    found = np.stack([findings.scores for findings in stage.score(views)])
    assert found == pytest.approx(expected(np.stack([view.pixels for view in views])), abs=1e-5)


@both
def test_a_batch_that_is_baked_in_is_padded(runtime: Runtime, tmp_path: Path) -> None:
    """A reshape to [3, …] cannot be lifted, so three at a time it is, whatever the number of views."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["picture"], ["pooled"]),
        helper.make_node("Reshape", ["pooled", "shape"], ["flat"]),
        helper.make_node("Softmax", ["flat"], ["scores"], axis=1),
    ]
    constants = {"shape": np.array([3, 3], np.int64)}
    file = save(tmp_path / "three.onnx", nodes, {"picture": [3, 3, 8, 8]}, {"scores": [3, 3]}, constants)
    model = described(file)
    stage = ModelStage("colours", model, runtime.open(model, Options(max_batch=8)))
    assert stage.session.batches == (3,)
    views = [FrameImage.from_array(picture).view(ViewSpec(8, 8)) for picture in pictures(4)]
    stage.max_batch = 4
    found = np.stack([findings.scores for findings in stage.score(views)])
    levels = np.stack([view.pixels for view in views]).reshape(4, -1, 3).mean(axis=1) / 255
    assert found == pytest.approx(np.exp(levels) / np.exp(levels).sum(axis=1, keepdims=True), abs=1e-5)


@both
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"view": ViewSettings(width=9, height=8)}, "correct `view`"),
        ({"input": Input(layout="nhwc")}, "correct `view` or `input"),
        ({"input": Input(dtype="uint8")}, "manifest says uint8"),
        ({"input": Input(name="pixels")}, "picture"),
    ],
)
def test_a_manifest_that_does_not_fit_the_graph(
    runtime: Runtime, weights: Path, fields: dict[str, object], said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        runtime.open(described(weights, **fields), Options())
    assert caught.value.place == str(weights)


@both
def test_labels_that_do_not_fit_the_graph(runtime: Runtime, weights: Path) -> None:
    model = described(weights, labels=("red", "green"))
    with pytest.raises(InputError, match="does not fit 2 labels"):
        ModelStage("colours", model, runtime.open(model, Options()))


@both
@pytest.mark.parametrize("rubbish", [b"", b"not a model at all", bytes(range(256)) * 40])
def test_a_damaged_file_is_one_clear_line(
    runtime: Runtime, weights: Path, rubbish: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    weights.write_bytes(rubbish)
    with pytest.raises(InputError, match="damaged, or no") as caught:
        runtime.open(described(weights), Options())
    assert caught.value.place == str(weights)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@both
def test_a_truncated_file_is_one_clear_line(runtime: Runtime, weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(InputError) as caught:
        runtime.open(described(weights), Options())
    assert caught.value.place == str(weights)
    assert "\n" not in str(caught.value)


@both
def test_what_it_cannot_run_is_a_stage_error(runtime: Runtime, weights: Path) -> None:
    session = runtime.open(described(weights), Options())
    with pytest.raises(StageError, match="colours"):
        session.infer(np.zeros((1, 8, 8, 4), np.uint8))


def test_several_inputs_have_to_be_told_apart(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("GlobalAveragePool", ["picture"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Add", ["flat", "offset"], ["scores"]),
    ]
    inputs: dict[str, list[int | str]] = {"picture": ["N", 3, 8, 8], "offset": [1, 3]}
    file = save(tmp_path / "two.onnx", nodes, inputs, {"scores": ["N", 3]}, {})
    with pytest.raises(InputError, match=r"has 2 inputs .* name the right one"):
        OpenVino().open(described(file), Options())


def test_precision_is_what_really_runs() -> None:
    model = read_model(ZOO / "open-nsfw")
    assert OpenVino().precisions(model)[0] == "f32"
    for precision in OpenVino().precisions(model):
        session = OpenVino().open(model, Options(precision=precision))
        assert session.precision == precision
        session.close()


def test_onnx_runtime_leaves_to_others_what_it_cannot_read() -> None:
    assert OnnxRuntime().precisions(read_model(ZOO / "people-ssdlite")) == ()


def test_an_unwritable_cache_costs_time_and_nothing_else(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("THRESHER_CACHE", str(blocked))
    session = OpenVino().open(described(weights), Options())
    assert session.infer(pictures(1))["scores"].shape == (1, 3)
    assert "compiled anew" in caplog.text


def test_compiled_models_are_kept_for_this_user_alone(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THRESHER_CACHE", str(tmp_path / "cache"))
    OpenVino().open(described(weights), Options())
    (folder,) = (tmp_path / "cache" / "openvino").iterdir()
    assert list(folder.iterdir())
    assert folder.stat().st_mode & 0o077 == 0


def test_other_weights_in_the_same_place_are_not_mistaken_for_the_old_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled graphs are found again by the content of their file, not by its name and time."""
    monkeypatch.setenv("THRESHER_CACHE", str(tmp_path / "cache"))
    place, batch = tmp_path / "model.onnx", pictures(1)
    for shift in (0.5, -0.5):
        bias = np.array([0.0, shift, 0.0], np.float32)
        nodes = [
            helper.make_node("Cast", ["picture"], ["float"], to=onnx.TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2], keepdims=0),
            helper.make_node("Add", ["mean", "bias"], ["scores"]),
        ]
        save(place, nodes, {"picture": ["N", 8, 8, 3]}, {"scores": ["N", 3]}, {"bias": bias}, element="UINT8")
        os.utime(place, (1, 1))
        model = described(place, input=Input(layout="nhwc", dtype="uint8"))
        found = OpenVino().open(model, Options()).infer(batch)["scores"]
        assert found == pytest.approx(batch.reshape(1, -1, 3).mean(axis=1) + bias, abs=1e-3)


@pytest.mark.parametrize(("most", "sizes"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))])
def test_batch_sizes(most: int, sizes: tuple[int, ...]) -> None:
    assert batch_sizes(most) == sizes


def test_half_precision_files_open_too(tmp_path: Path) -> None:
    """Weights stored in half precision are widened when they are read."""
    from detectors.zoo.convert import classifier_graph

    source = mean_colour(tmp_path / "plain.onnx", side=16)
    (tmp_path / "out").mkdir()
    (made,) = classifier_graph(source, tmp_path / "out", planar=True, mean=(0, 0, 0), std=(255, 255, 255))
    assert onnx.load(made).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    model: Model = described(made, side=16, input=Input(layout="nhwc", dtype="uint8"))
    batch = pictures(2, 16)
    for runtime in RUNTIMES:
        assert runtime.open(model, Options()).infer(batch)["scores"] == pytest.approx(expected(batch), abs=1e-3)
