"""A manifest for a model file that came without one: what the graph and its metadata say, what the config adds, and
the customs of the output's kind for the rest."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any, Literal

from detectors.choice import ModelChoice, PixelScale
from detectors.foreign import tried
from detectors.manifest import (
    LARGEST,
    Input,
    Model,
    Output,
    OutputKind,
    ViewSettings,
    check_whole,
    digest,
    format_of,
    validated,
)
from detectors.runtimes.openvino import read_graph
from pipeline.core.errors import InputError

_SCALES: dict[PixelScale, Input] = {
    "raw": Input(),
    "unit": Input(std=(255.0, 255.0, 255.0)),
    "imagenet": Input(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
}
_USUAL_SIDE: dict[OutputKind, int] = {
    "classification": 224,
    "ssd": 300,
    "yolo": 640,
    "torchvision": 640,
    "heatmap": 640,
}


def bare_model(file: Path, choice: ModelChoice) -> Model:
    """Raises `InputError` naming `file` where neither it nor `choice` says what has to be known."""
    weights_format = format_of(file)
    if choice.output is None:
        raise InputError("say how to read its answers: `output: yolo`, `ssd`, `heatmap` or `classification`", str(file))
    output = choice.output if isinstance(choice.output, Output) else Output(kind=choice.output)
    if file.stat().st_size > LARGEST:
        raise InputError(f"is larger than {LARGEST >> 20} MiB, which no model may be", str(file))
    if weights_format == "onnx":
        check_whole(file, {})
    tried(file, weights_format, digest(file))
    graph = read_graph(file, weights_format)
    metadata = _metadata(graph)
    layout, height, width = _picture(graph, file)
    takes_bytes = graph.input(0).get_element_type().get_type_name() == "u8"
    manifest = validated(
        {
            "name": re.sub(r"[^A-Za-z0-9_.-]+", "-", file.stem).strip("-._")[:64] or "model",
            "version": "unversioned",
            "task": "classification" if output.kind == "classification" else "detection",
            "weights": {
                "file": f"model{file.suffix.lower()}",
                "sha256": digest(file),
                "format": weights_format,
                "companions": _companions(file, weights_format),
            },
            "view": choice.view or _view(output.kind, height, width, metadata),
            "input": _input(choice.input, output.kind, file, takes_bytes).model_copy(update={"layout": layout}),
            "output": output,
            "labels": choice.labels or _labels(metadata) or _numbered(graph, output),
            "licence": metadata.get("license", "not stated"),
            "origin": str(file),
            "data": "not stated",
        },
        str(file),
    )
    return Model(manifest, file)


def _companions(file: Path, weights_format: str) -> dict[str, str]:
    """The digest of what belongs to it. Raises `InputError` where that is not there."""
    if weights_format != "ir":
        return {}
    values = file.with_suffix(".bin")
    if not values.is_file():
        raise InputError(f"its values are not there: put {values.name} beside it", str(file))
    return {"model.bin": digest(values)}


def _metadata(graph: Any) -> dict[str, str]:
    """What an ONNX file says of itself beside the graph."""
    if not graph.has_rt_info("framework"):
        return {}
    return {key: str(value.astype(str)) for key, value in graph.get_rt_info(["framework"]).astype(dict).items()}


def _picture(graph: Any, file: Path) -> tuple[Literal["nchw", "nhwc"], int | None, int | None]:
    """Layout, height and width of the graph's only input, as far as it says them."""
    shape = graph.inputs[0].get_partial_shape() if len(graph.inputs) == 1 else None
    if shape is None or shape.rank.is_dynamic or len(shape) != 4:
        raise InputError("has no single input of four axes, so it needs a folder with a manifest of its own", str(file))
    sides = [side.get_length() if side.is_static else None for side in shape]
    if sides[1] == 3:
        return "nchw", sides[2], sides[3]
    if sides[3] == 3:
        return "nhwc", sides[1], sides[2]
    raise InputError(f"takes {shape}, which is no colour picture", str(file))


def _view(kind: OutputKind, height: int | None, width: int | None, metadata: dict[str, str]) -> ViewSettings:
    usual = _literal(metadata.get("imgsz", ""))
    if isinstance(usual, int):
        usual = [usual, usual]
    if not (isinstance(usual, list) and len(usual) == 2 and all(isinstance(side, int) and side > 0 for side in usual)):
        usual = [_USUAL_SIDE[kind]] * 2
    return ViewSettings(
        height=height or usual[0], width=width or usual[1], fit="letterbox" if kind == "yolo" else "stretch"
    )


def _input(pixels: PixelScale | Input | None, kind: OutputKind, file: Path, takes_bytes: bool) -> Input:
    if isinstance(pixels, Input):
        return pixels
    if takes_bytes:
        return Input(dtype="uint8")
    if pixels is None and kind != "yolo":  # YOLO's is a custom; a wrong guess elsewhere would only show as bad scores
        raise InputError(
            "say how it wants its pixels: `input: unit` (0 to 1), `imagenet` (normalised) or `raw` (0 to 255)",
            str(file),
        )
    return _SCALES[pixels or "unit"]


def _labels(metadata: dict[str, str]) -> tuple[str, ...] | None:
    """The `names` that exporters of YOLO leave: a list, or a mapping from class number to name."""
    names = _literal(metadata.get("names", ""))
    if isinstance(names, dict) and names and all(isinstance(key, int) for key in names):
        return tuple(str(names[key]) for key in sorted(names))
    return tuple(map(str, names)) if isinstance(names, list) and names else None


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _numbered(graph: Any, output: Output) -> tuple[str, ...]:
    """`class_0`, `class_1` …, as many as the first output has room for."""
    shape = graph.outputs[0].get_partial_shape()
    sides = [side.get_length() for side in list(shape)[1:] if side.is_static] if shape.rank.is_static else []
    spare = 4 if output.kind == "yolo" else 0
    count = min((side for side in sides if side > spare), default=spare) - spare
    if count < 1 or output.kind in {"ssd", "torchvision", "heatmap"}:
        raise InputError("neither the file nor the config names its labels: add `labels: [...]`")
    return tuple(f"class_{number}" for number in range(count))
