"""OpenVINO on the processor: ONNX, OpenVINO IR and TensorFlow frozen graphs.

Measured on two cores with AVX-512 and bf16 (SSDLite MobileNetV2 at 300×300, thin ResNet-50 and MobileNetV2 at 224×224):

- Batch sizes are dynamic. A size costs 30 to 60 ms at its first use and no memory worth naming; a graph of its own for
  each size costs 150 to 180 ms and 15 to 30 MiB, and infers no faster.
- One stream over all cores, or one a core: that moves the throughput by -35 to +90 %, by model. It is measured.
- The compiled-model cache brings opening from 460 to 120 ms (SSDLite), 280 to 100 ms (MobileNetV2); 80 and 60 ms where
  the graph needs no change and so need not be read. Importing an exported blob by ourselves would be no faster.
- `import openvino` takes 170 to 200 ms, 60 of them for the model converter, which also reports the import to its
  vendor's telemetry: neither is wanted in a program that only runs models.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import logging
import os
import queue
import sys
import threading
from importlib import metadata, util
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from detectors.manifest import Input, Manifest, Model, WeightsFormat
from detectors.runtimes.base import Options, Precision, Runtime, Session, Tensors, batch_sizes, cache_folder
from pipeline.core.errors import InputError, MissingPart, StageError
from pipeline.core.media import Spec
from pipeline.core.records import Array
from pipeline.core.secrets import redact

_FRONTENDS: dict[WeightsFormat, str] = {"onnx": "onnx", "tensorflow": "tf"}
_HINTS: dict[Precision, str] = {"f32": "f32", "bf16": "bf16", "f16": "f16"}
_CAPABILITIES: dict[Precision, str] = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}
_HEAVY_LAYERS = frozenset({"Convolution", "FullyConnected", "MatMul", "Deconvolution"})
_INTEGERS = frozenset({"i8", "u8"})
_CONVERTER = "openvino.tools.ovc"
_importing = threading.Lock()
_core: Any = None
_log = logging.getLogger(__name__)


def openvino() -> Any:
    """The module, imported without its model converter (see above). Raises `MissingPart`."""
    with _importing:
        blocked = _CONVERTER not in sys.modules
        if blocked:
            sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # None is how an import is barred
        try:
            return importlib.import_module("openvino")
        except ImportError as error:
            raise MissingPart(f"OpenVINO cannot be loaded ({redact(error)}): pip install openvino") from None
        finally:
            if blocked:
                del sys.modules[_CONVERTER]


def core() -> Any:
    """The one `openvino.Core` of this process."""
    global _core  # noqa: PLW0603  # plugins are loaded once
    if _core is None:
        _core = openvino().Core()
    return _core


def read_graph(weights: Path, weights_format: WeightsFormat) -> Any:
    """The graph as it lies in the file: an `openvino.Model`. Raises `InputError` if it is no whole model."""
    ov = openvino()
    try:
        if weights_format == "ir":
            graph = core().read_model(str(weights))
        else:  # by its own front end: left to itself, OpenVINO tries them all, and some write to standard error
            frontend = ov.frontend.FrontEndManager().load_by_framework(_FRONTENDS[weights_format])
            graph = frontend.convert(frontend.load(str(weights)))
    except KeyError:
        raise InputError(f"OpenVINO does not read {weights_format} weights", str(weights)) from None
    except Exception as error:  # noqa: BLE001  # the front ends raise bare RuntimeErrors and their own kinds
        raise InputError(f"is damaged, or no {weights_format} model: {_reason(error)}", str(weights)) from None
    if not graph.inputs or not graph.outputs:  # an empty file is a valid, if pointless, ONNX model
        raise InputError(f"is damaged, or no {weights_format} model: there is nothing in it", str(weights))
    return graph


def write_graph(graph: Any, path: Path, *, half: bool) -> None:
    """A graph as `path` (.xml) and its .bin, weights in half precision where `half`. Raises `OSError`, also where the
    library only says that a stream broke."""
    try:
        openvino().save_model(graph, path, compress_to_fp16=half)
    except RuntimeError:
        raise OSError(errno.EIO, "the model could not be written whole: is the disk full?", str(path)) from None


class OpenVino(Runtime):
    name: ClassVar[str] = "openvino"

    def missing(self) -> str | None:
        return None if util.find_spec("openvino") else "pip install openvino"

    def version(self) -> str:
        return metadata.version("openvino")

    def precisions(self, model: Model) -> tuple[Precision, ...]:
        if model.manifest.weights.format not in {"onnx", "ir", "tensorflow"}:
            return ()
        able = set(core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
        return tuple(precision for precision, capability in _CAPABILITIES.items() if capability in able)

    def open(self, model: Model, options: Options) -> Session:
        properties = {"INFERENCE_PRECISION_HINT": _HINTS[options.precision], "NUM_STREAMS": str(options.workers)}
        if options.threads is not None:
            properties["INFERENCE_NUM_THREADS"] = str(options.threads)
        properties |= _compiled_cache(model)
        compiled, fixed = _as_it_lies(model, properties), None
        if compiled is None:
            graph, fixed = _prepared(model)
            try:
                compiled = core().compile_model(graph, "CPU", properties)
            except RuntimeError as error:
                raise InputError(f"OpenVINO cannot compile it: {_reason(error)}", str(model.weights)) from None
        return OpenVinoSession(compiled, options, fixed, model.name)


class OpenVinoSession(Session):
    runtime = OpenVino.name

    def __init__(self, compiled: Any, options: Options, fixed: int | None, name: str) -> None:
        self.workers = options.workers
        self.batches = (fixed,) if fixed else batch_sizes(options.max_batch)
        self.precision = _running_precision(compiled)
        self.outputs = {name: _shape(port) for port in compiled.outputs for name in _names(port)}
        self._ports = [_names(port) for port in compiled.outputs]
        self._name = name
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(options.workers):
            self._requests.put(compiled.create_infer_request())
        self._tensor = openvino().Tensor

    def infer(self, batch: Array) -> Tensors:
        request = self._requests.get()
        try:
            given = np.require(batch, requirements=["C", "W"])  # may be a copy; the request does not keep it alive
            request.set_input_tensor(self._tensor(given, shared_memory=True))
            request.infer()
            answers: Tensors = {}
            for index, names in enumerate(self._ports):
                answer = np.array(request.get_output_tensor(index).data)  # its memory is the request's: copied
                answers.update(dict.fromkeys(names, answer))
            return answers
        except RuntimeError as error:
            raise StageError(f"{self._name}: OpenVINO failed on {tuple(batch.shape)}: {_reason(error)}") from None
        finally:
            self._requests.put(request)

    def close(self) -> None:
        while not self._requests.empty():
            self._requests.get()


def _as_it_lies(model: Model, properties: dict[str, str]) -> Any | None:
    """The model compiled from its file, where its graph begins as ours do (see `_prepared`) and needs no change: with
    a warm cache the graph is then never read, which halves the time. None where that will not do."""
    manifest, spec = model.manifest, model.manifest.view.spec()
    is_picture = spec.medium == "picture"
    as_ours = (manifest.input.dtype, manifest.input.layout) == ("uint8", "nhwc")
    if (is_picture and not as_ours) or manifest.weights.format == "tensorflow":
        return None
    ov = openvino()
    try:
        compiled = core().compile_model(str(model.weights), "CPU", properties)
    except RuntimeError:
        return None  # whoever prepares it finds the words for what is wrong
    begins = [(port.get_partial_shape(), port.get_element_type()) for port in compiled.inputs]
    ends = {port.get_element_type() for port in compiled.outputs if port.get_element_type().is_real()}
    ours = [(ov.PartialShape([-1, *_sides(spec)]), _type(spec))]
    return compiled if begins == ours and ends <= {ov.Type.f32} else None


def _sides(spec: Spec) -> list[int]:
    """Of one view; -1 where it may be shorter."""
    return [-1] if spec.medium == "text" else list(spec.shape)


def _type(spec: Spec) -> Any:
    return {"uint8": openvino().Type.u8, "float32": openvino().Type.f32}[spec.dtype]


def _prepared_signal(graph: Any, model: Model, spec: Spec) -> tuple[Any, int | None]:
    """A graph of sound or text, which has to begin as its views are."""
    ov = openvino()
    port = _input_port(graph, model.manifest.input, model.weights)
    wanted = ov.PartialShape([-1, *_sides(spec)])
    if port.get_element_type() != _type(spec) or not port.get_partial_shape().compatible(wanted):
        raise InputError(
            f"takes {port.get_element_type().get_type_name()} {port.get_partial_shape()}, but {spec.medium} comes as"
            f" {spec.dtype} {['N', *spec.shape]}: correct `view`, or export it so",
            str(model.weights),
        )
    graph.reshape({port: wanted})
    pre = ov.preprocess.PrePostProcessor(graph)
    for index, output in enumerate(graph.outputs):
        if output.get_element_type().is_real():
            pre.output(index).tensor().set_element_type(ov.Type.f32)
    return pre.build(), None


def _prepared(model: Model) -> tuple[Any, int | None]:
    """The graph with its views as its input (uint8 `[N, height, width, 3]` where they are pictures) and float32
    outputs, and its batch size where that cannot be changed."""
    ov = openvino()
    manifest = model.manifest
    graph = read_graph(model.weights, manifest.weights.format)
    spec = manifest.view.spec()
    if spec.medium != "picture":
        return _prepared_signal(graph, model, spec)
    port = _input_port(graph, manifest.input, model.weights)
    fixed = _fit_input(graph, port, manifest, model.weights)
    pre = ov.preprocess.PrePostProcessor(graph)
    name = port.get_any_name()
    given = pre.input(name)
    given.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    given.model().set_layout(ov.Layout(manifest.input.layout.upper()))
    if manifest.input.dtype != "uint8":
        steps = given.preprocess()
        steps.convert_element_type(ov.Type.f32)
        if any(manifest.input.mean):
            steps.mean(list(manifest.input.mean))
        if manifest.input.std != (1.0, 1.0, 1.0):
            steps.scale(list(manifest.input.std))
        steps.convert_element_type(port.get_element_type())
    for index, output in enumerate(graph.outputs):
        if output.get_element_type().is_real():
            pre.output(index).tensor().set_element_type(ov.Type.f32)
    return pre.build(), fixed


def _input_port(graph: Any, wanted: Input, weights: Path) -> Any:
    names = [sorted(port.get_names()) for port in graph.inputs]
    if wanted.name is None:
        if len(graph.inputs) != 1:
            raise InputError(f"has {len(names)} inputs ({names}): name the right one in `input.name`", str(weights))
        return graph.input(0)
    for port in graph.inputs:
        if wanted.name in port.get_names():
            return port
    raise InputError(f'has no input "{wanted.name}"; its inputs are {names}', str(weights))


def _fit_input(graph: Any, port: Any, manifest: Manifest, weights: Path) -> int | None:
    """Give `graph` the view's size and a batch that varies; the batch size it insists on, if it does."""
    ov = openvino()
    shape = port.get_partial_shape()
    layout, view = manifest.input.layout, manifest.picture
    sides = [3, view.height, view.width] if layout == "nchw" else [view.height, view.width, 3]
    rank_fits = shape.rank.is_dynamic or len(shape) == 4
    if not rank_fits or not shape.compatible(ov.PartialShape([-1, *sides])):
        raise InputError(
            f"takes {shape}, but the manifest says {layout} {['N', *sides]}: correct `view` or `input.layout`",
            str(weights),
        )
    is_bytes = port.get_element_type() == ov.Type.u8
    if port.get_element_type().is_integral() and not is_bytes:
        raise InputError(f"takes {port.get_element_type().get_type_name()}, not a picture", str(weights))
    if is_bytes != (manifest.input.dtype == "uint8"):
        kind = port.get_element_type().get_type_name()
        raise InputError(f"takes {kind}, but the manifest says {manifest.input.dtype}: correct `input`", str(weights))
    own = shape[0].get_length() if shape.rank.is_static and shape[0].is_static else None
    try:
        graph.reshape({port: ov.PartialShape([-1, *sides])})
        if own is None or all(out.get_partial_shape()[0].is_dynamic for out in graph.outputs):
            return None
        graph.reshape({port: ov.PartialShape([own, *sides])})
    except RuntimeError as error:
        if own is None:
            raise InputError(f"cannot take pictures of {sides}: {_reason(error)}", str(weights)) from None
        graph.reshape({port: ov.PartialShape([own, *sides])})
    return cast("int | None", own)


def _compiled_cache(model: Model) -> dict[str, str]:
    """Where its compiled graphs are kept, named by what is in its files. A folder of this user's own, since they are
    loaded without being questioned; and none, with a warning, where nothing can be written."""
    weights = model.manifest.weights
    content = hashlib.sha256("".join([weights.sha256, *weights.companions.values()]).encode()).hexdigest()
    folder = cache_folder() / "openvino" / f"{model.name}-{content[:16]}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        _log.warning(
            "%s: %s; models are compiled anew at every start (THRESHER_CACHE moves it)", folder, error.strerror
        )
        return {}
    return {"CACHE_DIR": str(folder)}


def _running_precision(compiled: Any) -> str:
    """What the layers that cost time run in, as the compiled graph itself says. Mixed graphs are called by the most
    frequent kind; `int8` as soon as a third is."""
    counts: dict[str, int] = {}
    for op in compiled.get_runtime_model().get_ops():
        info = op.get_rt_info()
        if str(info["layerType"].astype(str)) in _HEAVY_LAYERS:
            # the name of the kernel ends in what it computes in; `runtimePrecision` may be that of stored weights
            kind = str(info["primitiveType"].astype(str)).rpartition("_")[2].lower()
            kind = "int8" if kind in _INTEGERS else kind
            counts[kind] = counts.get(kind, 0) + 1
    if not counts:
        return "f32"
    if 3 * counts.get("int8", 0) >= sum(counts.values()):
        return "int8"
    return max(counts, key=lambda kind: counts[kind])


def _shape(port: Any) -> tuple[int | None, ...]:
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return ()
    return tuple(side.get_length() if side.is_static else None for side in shape)


def _names(port: Any) -> tuple[str, ...]:
    return tuple(sorted(port.get_names())) or (f"output_{port.get_index()}",)


def _reason(error: Exception) -> str:
    """The telling line of OpenVINO's several."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check '", "FrontEnd API"))]
    return redact((telling or lines or ["no reason given"])[-1])[:240]
