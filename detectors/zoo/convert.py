"""How the shipped weights were made of their published originals:

    python -m detectors.zoo.convert people-ssdlite ssdlite-mobilenet-v2-pedestrian.pb OUT
    python -m detectors.zoo.convert nsfw-mobilenet nsfw-mobilenet-v2.onnx OUT
    python -m detectors.zoo.convert open-nsfw open-nsfw.onnx OUT

writes the weights into the folder OUT and prints the digests that belong into the manifest. Every graph then begins at
uint8 `[N, height, width, 3]` and holds its weights in half precision (widened when it is loaded), so that shipped and
original differ by rounding alone; what that does to scores is in each manifest under `measured`.

Needs `thresher[compress]` for ONNX.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from detectors.manifest import digest
from detectors.runtimes.openvino import openvino, read_graph
from pipeline.core.errors import InputError

_SMALL = 64  # biases and the like stay as they are: nothing to save
_HALF_MOST = float(np.finfo(np.float16).max)


def detection_graph(source: Path, out: Path) -> list[Path]:
    """A frozen graph of TensorFlow's SSD API at 300×300 → IR with the raw boxes (y1 x1 y2 x2 of 1) and scores.

    The original resizes inside a loop over pictures and suppresses inside another; a loop runs one picture at a time.
    Without them it is 3 to 5 times as fast, and suppression is the decoder's work.
    """
    ov = openvino()
    from openvino._offline_transformations import apply_moc_transformations

    graph = read_graph(source, "tensorflow")
    node = {op.get_friendly_name(): op for op in graph.get_ops()}
    pixels = ov.opset13.parameter(ov.PartialShape([-1, 300, 300, 3]), ov.Type.f32, name="pixels")
    node["Preprocessor/map/TensorArrayStack/TensorArrayGatherV3"].output(0).replace(pixels.output(0))
    results = []
    for name, inner in {"boxes": "Postprocessor/Reshape_2", "scores": "Postprocessor/Slice"}.items():
        port = node[inner].output(0)
        port.set_names({name})
        results.append(ov.opset13.result(port))
    cut = ov.Model(results, [pixels], "ssdlite")
    cut.input(0).set_names({"pixels"})
    pre = ov.preprocess.PrePostProcessor(cut)
    pre.input(0).tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    cut = pre.build()
    apply_moc_transformations(cut, True)
    ov.save_model(cut, str(out / "model.xml"), compress_to_fp16=True)
    return [out / "model.xml", out / "model.bin"]


def classifier_graph(
    source: Path, out: Path, *, planar: bool, mean: Sequence[float], std: Sequence[float]
) -> list[Path]:
    """An ONNX classifier over float pictures, `[N, 3, H, W]` where `planar` → the same from uint8 on, halved."""
    import onnx

    model = onnx.load(source)
    graph = model.graph
    given, answer = graph.input[0], graph.output[0]
    sides = [side.dim_value for side in given.type.tensor_type.shape.dim]
    height, width = sides[2:] if planar else sides[1:3]
    before = _from_bytes(onnx, given.name, planar=planar, mean=mean, std=std)
    classes = next(i for i in graph.initializer if i.name == _last_bias(graph)).dims[-1]
    widened = [node for tensor in graph.initializer for node in _halved(onnx, tensor)]
    for node in graph.node:
        node.output[:] = ["scores" if name == answer.name else name for name in node.output]
    nodes = [*widened, *before, *graph.node]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    value = onnx.helper.make_tensor_value_info
    graph.input.append(value("pixels", onnx.TensorProto.UINT8, ["N", height, width, 3]))
    graph.output.append(value("scores", onnx.TensorProto.FLOAT, ["N", classes]))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, out / "model.onnx")
    return [out / "model.onnx"]


def _last_bias(graph: Any) -> str:
    """The name of what the last addition before the scores adds: as long as there are classes."""
    last = next(node for node in reversed(graph.node) if node.op_type == "Add")
    constants = {tensor.name for tensor in graph.initializer}
    return str(next(name for name in last.input if name in constants))


def _from_bytes(onnx: Any, target: str, *, planar: bool, mean: Sequence[float], std: Sequence[float]) -> list[Any]:
    """Nodes that bring `pixels` (uint8, NHWC) to what the graph calls `target`."""
    node, helper = onnx.helper.make_node, onnx.helper
    steps: list[Callable[[str, str], list[Any]]] = [
        lambda i, o: [node("Cast", [i], [o], to=onnx.TensorProto.FLOAT)],
    ]

    def arithmetic(kind: str, values: Sequence[float]) -> Callable[[str, str], list[Any]]:
        tensor = helper.make_tensor(f"pixels_{kind}", onnx.TensorProto.FLOAT, [3], list(values))
        return lambda i, o: [node("Constant", [], [tensor.name], value=tensor), node(kind, [i, tensor.name], [o])]

    if any(mean):
        steps.append(arithmetic("Sub", mean))
    if any(side != 1 for side in std):
        steps.append(arithmetic("Div", std))
    if planar:
        steps.append(lambda i, o: [node("Transpose", [i], [o], perm=[0, 3, 1, 2])])
    names = ["pixels", *(f"pixels_{index}" for index in range(1, len(steps))), target]
    return [made for step, i, o in zip(steps, names[:-1], names[1:], strict=True) for made in step(i, o)]


def _halved(onnx: Any, tensor: Any) -> list[Any]:
    """Turn `tensor` to half precision in place; the node that widens it again, if that was worth it."""
    values = onnx.numpy_helper.to_array(tensor)
    if values.dtype != np.float32 or values.size < _SMALL or np.abs(values).max() > _HALF_MOST:
        return []
    name = tensor.name
    tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}_f16"))
    return [onnx.helper.make_node("Cast", [f"{name}_f16"], [name], to=onnx.TensorProto.FLOAT)]


_RECIPES: dict[str, Callable[[Path, Path], list[Path]]] = {
    "people-ssdlite": detection_graph,
    "nsfw-mobilenet": partial(classifier_graph, planar=True, mean=(0, 0, 0), std=(255, 255, 255)),
    "open-nsfw": partial(classifier_graph, planar=False, mean=(104, 117, 123), std=(1, 1, 1)),
}


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 3 or arguments[0] not in _RECIPES:
        print(__doc__, file=sys.stderr)
        return 2
    name, source, out = arguments[0], Path(arguments[1]), Path(arguments[2])
    out.mkdir(parents=True, exist_ok=True)
    try:
        print(f"{digest(source)}  {source.name} (original)")
        for file in _RECIPES[name](source, out):
            print(f"{digest(file)}  {file.name} ({file.stat().st_size / 1e6:.1f} MB)")
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
