"""Models of unknown origin: weights that lie elsewhere, and such as would take all memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from detectors import foreign
from detectors.choice import ModelChoice, find_model
from detectors.foreign import external_files, tried
from detectors.manifest import Weights, digest, read_model
from pipeline.core.errors import InputError


def saved(path: Path, location: str | None, *, hidden: bool = False) -> Path:
    """A convolution whose weights lie at `location`, in the graph or hidden in a branch of it."""
    weights = helper.make_tensor("w", TensorProto.FLOAT, [2, 3, 1, 1], np.zeros(6, np.float32).tobytes(), raw=True)
    if location is not None:
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        entry = weights.external_data.add()
        entry.key, entry.value = "location", location
    seen = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    said = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 8, 8])
    if hidden:
        nodes, initial = [helper.make_node("Constant", [], ["w"], value=weights)], []
    else:
        nodes, initial = [], [weights]
    graph = helper.make_graph([*nodes, helper.make_node("Conv", ["x", "w"], ["y"])], "g", [seen], [said], initial)
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString())
    return path


@pytest.mark.parametrize("location", ["w.bin", "../w.bin", "/etc/passwd", "a/../../w.bin"])
@pytest.mark.parametrize("hidden", [False, True])
def test_weights_that_lie_elsewhere_are_refused(tmp_path: Path, location: str, hidden: bool) -> None:
    file = saved(tmp_path / "m.onnx", location, hidden=hidden)
    (tmp_path / "w.bin").write_bytes(bytes(24))
    assert external_files(file) == {location}
    with pytest.raises(InputError, match="no digest is known"):
        find_model(ModelChoice(model=str(file), output="classification", input="unit", labels=("a", "b")))
    (tmp_path / "manifest.yaml").write_text(
        f"name: m\ntask: classification\nweights: {{file: m.onnx, sha256: {digest(file)}, format: onnx}}\n"
        "view: {width: 8, height: 8}\noutput: {kind: classification}\nlabels: [a, b]\nlicence: none\n"
    )
    with pytest.raises(InputError, match="no digest is known"):
        read_model(tmp_path)


def test_weights_that_the_manifest_vouches_for_are_read(tmp_path: Path) -> None:
    file = saved(tmp_path / "m.onnx", "w.bin")
    (tmp_path / "w.bin").write_bytes(bytes(24))
    vouched = f"companions: {{w.bin: {digest(tmp_path / 'w.bin')}}}"
    (tmp_path / "manifest.yaml").write_text(
        f"name: m\ntask: classification\nweights: {{file: m.onnx, sha256: {digest(file)}, format: onnx, {vouched}}}\n"
        "view: {width: 8, height: 8}\noutput: {kind: classification}\nlabels: [a, b]\nlicence: none\n"
    )
    assert read_model(tmp_path).weights == file
    (tmp_path / "w.bin").write_bytes(bytes(23) + b"x")
    with pytest.raises(InputError, match="SHA-256"):
        read_model(tmp_path)


def test_a_whole_model_names_no_file(tmp_path: Path, project: Path) -> None:
    assert external_files(saved(tmp_path / "m.onnx", None)) == set()
    for shipped in (project / "detectors" / "zoo").glob("*/*.onnx"):
        assert external_files(shipped) == set()


@pytest.mark.parametrize("data", [b"", b"\x3a\xff\xff\xff\xff\x7f", b"\x3a\x04\x08\x80\x80\x80", b"\x07", b"\x80" * 20])
def test_what_is_no_model_is_said_to_be_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(InputError, match="no onnx model"):
        external_files(tmp_path / "m.onnx")


def test_an_ir_is_vouched_for_whole() -> None:
    with pytest.raises(ValueError, match=r"\.bin"):
        Weights(file="m.xml", sha256="0" * 64, format="ir")


@pytest.mark.slow
def test_a_model_that_would_take_all_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 bytes that become 64 GiB when they are run, in a process of their own."""
    monkeypatch.setenv("THRESHER_CACHE", str(tmp_path / "cache"))
    size = helper.make_tensor("n", TensorProto.INT64, [2], [1 << 17, 1 << 17])
    seen = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1])
    said = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1 << 17, 1 << 17])
    graph = helper.make_graph([helper.make_node("Expand", ["x", "n"], ["y"])], "g", [seen], [said], [size])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    (tmp_path / "bomb.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="memory"):
        tried(tmp_path / "bomb.onnx", "onnx", "0" * 64)
    with pytest.raises(InputError, match="memory"):
        find_model(ModelChoice(model=str(tmp_path / "bomb.onnx"), output="classification", input="unit"))


@pytest.mark.slow
def test_what_stood_the_trial_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THRESHER_CACHE", str(tmp_path / "cache"))
    file = saved(tmp_path / "m.onnx", None)
    onnx.checker.check_model(str(file))
    tried(file, "onnx", digest(file))
    monkeypatch.setattr(foreign, "MOST_MEMORY", 0)
    tried(file, "onnx", digest(file))
    with pytest.raises(InputError):
        tried(file, "onnx", "f" * 64)
