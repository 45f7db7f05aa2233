"""Real ONNX files small enough to make in a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from detectors.manifest import MANIFEST, Input, Manifest, Model, Output, ViewSettings, Weights, digest, write_manifest


def mean_colour(path: Path, *, batch: int | str = "N", side: int = 8, metadata: dict[str, str] | None = None) -> Path:
    """ONNX: float32 `[batch, 3, side, side]` → `scores`: the softmax over the mean of each channel, three classes."""
    weights, bias = np.eye(3, dtype=np.float32) * 4, np.array([0.0, 0.5, -0.5], np.float32)
    return _of_means(path, weights, bias, [batch, 3, side, side], metadata)


def brightness(folder: Path, side: int, threshold: float) -> Path:
    """A model folder: a picture whose mean is above `threshold` (of 1) is `bad`, else `good`."""
    folder.mkdir(parents=True)
    slope = 600.0
    matrix, bias = np.array([[0, slope / 3]] * 3, np.float32), np.array([0, -slope * threshold], np.float32)
    weights = _of_means(folder / "model.onnx", matrix, bias, ["N", 3, side, side])
    write_manifest(described(weights, side, name="brightness", labels=("good", "bad")).manifest, folder / MANIFEST)
    return folder


def _of_means(
    path: Path,
    weights: np.ndarray[Any, Any],
    bias: np.ndarray[Any, Any],
    picture: list[int | str],
    metadata: dict[str, str] | None = None,
) -> Path:
    """The softmax over a linear function of the means of the channels."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["picture"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node("Add", ["logits", "bias"], ["shifted"]),
        helper.make_node("Softmax", ["shifted"], ["scores"], axis=1),
    ]
    outputs: dict[str, list[int | str]] = {"scores": [picture[0], len(bias)]}
    return save(path, nodes, {"picture": picture}, outputs, {"weights": weights, "bias": bias}, metadata)


def exclaims(folder: Path, length: int = 128) -> Path:
    """A model folder: a message with a `!` in it is `bad`, else `good`."""
    folder.mkdir(parents=True)
    nodes = [
        helper.make_node("Equal", ["codes", "sign"], ["same"]),
        helper.make_node("Cast", ["same"], ["ones"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["ones"], ["any"], axes=[1], keepdims=1),
        helper.make_node("MatMul", ["any", "weights"], ["logits"]),
        helper.make_node("Add", ["logits", "bias"], ["shifted"]),
        helper.make_node("Softmax", ["shifted"], ["scores"], axis=1),
    ]
    constants = {
        "sign": np.array([ord("!")], np.uint8),
        "weights": np.array([[-8.0, 8.0]], np.float32),
        "bias": np.array([4.0, -4.0], np.float32),
    }
    path = folder / "model.onnx"
    weights = save(path, nodes, {"codes": ["N", length]}, {"scores": ["N", 2]}, constants, element="UINT8")
    write_manifest(
        described(
            weights, name="exclaims", labels=("good", "bad"), view={"length": length}, input=Input(dtype="uint8")
        ).manifest,
        folder / MANIFEST,
    )
    return folder


def save(
    path: Path,
    nodes: list[Any],
    inputs: dict[str, list[int | str]],
    outputs: dict[str, list[int | str]],
    constants: dict[str, np.ndarray[Any, Any]],
    metadata: dict[str, str] | None = None,
    element: str = "FLOAT",
) -> Path:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(name, TensorProto.DataType.Value(element), shape)
            for name, shape in inputs.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, metadata or {})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def described(weights: Path, side: int = 8, **fields: Any) -> Model:
    """`mean_colour` with its manifest, changed by `fields`."""
    usual: dict[str, Any] = {
        "name": "colours",
        "task": "classification",
        "weights": Weights(file=weights.name, sha256=digest(weights), format="onnx"),
        "view": ViewSettings(width=side, height=side),
        "input": Input(std=(255.0, 255.0, 255.0)),
        "output": Output(kind="classification"),
        "labels": ("red", "green", "blue"),
        "licence": "none",
    }
    return Model(Manifest.model_validate(usual | fields), weights)
