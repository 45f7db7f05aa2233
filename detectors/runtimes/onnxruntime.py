"""ONNX Runtime on the processor: the second opinion on ONNX files, and the way to run them where OpenVINO is not."""

from __future__ import annotations

import os
from importlib import metadata, util
from typing import Any, ClassVar

import numpy as np

from detectors.manifest import Model
from detectors.runtimes.base import Options, Precision, Runtime, Session, Tensors, batch_sizes
from pipeline.core.errors import InputError, MissingPart, StageError
from pipeline.core.records import Array
from pipeline.core.secrets import redact

_ELEMENTS = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(float16)": np.float16}
_LOGS_ERRORS_ONLY = 4


class OnnxRuntime(Runtime):
    name: ClassVar[str] = "onnxruntime"

    def missing(self) -> str | None:
        return None if util.find_spec("onnxruntime") else "pip install 'thresher[onnxruntime]'"

    def version(self) -> str:
        return metadata.version("onnxruntime")

    def precisions(self, model: Model) -> tuple[Precision, ...]:
        manifest = model.manifest
        able = manifest.weights.format == "onnx" and manifest.view.spec().medium == "picture"
        return ("f32",) if able else ()

    def open(self, model: Model, options: Options) -> Session:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingPart(f"ONNX Runtime cannot be loaded ({redact(error)}): {self.missing()}") from None
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads or max(1, (os.cpu_count() or 1) // options.workers)
        settings.inter_op_num_threads = 1
        settings.log_severity_level = _LOGS_ERRORS_ONLY
        # waiting threads that spin would take the processor from the decoders
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(str(model.weights), settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001  # it raises kinds of its own that share no base
            raise InputError(f"is damaged, or no ONNX model: {_reason(error)}", str(model.weights)) from None
        return OnnxRuntimeSession(session, model, options)


class OnnxRuntimeSession(Session):
    runtime = OnnxRuntime.name
    precision = "f32"

    def __init__(self, session: Any, model: Model, options: Options) -> None:
        manifest = model.manifest
        self.workers = options.workers
        self._session = session
        self._model = manifest.name
        self._input = self._picture(model)
        self._element = _ELEMENTS[self._input.type]
        own = self._input.shape[0]
        self.batches = (own,) if isinstance(own, int) else batch_sizes(options.max_batch)
        self.outputs = {out.name: _shape(out.shape) for out in session.get_outputs()}
        self._planar = manifest.input.layout == "nchw"
        self._mean = np.array(manifest.input.mean, np.float32) if any(manifest.input.mean) else None
        self._scale = None if manifest.input.std == (1.0, 1.0, 1.0) else 1 / np.array(manifest.input.std, np.float32)

    def _picture(self, model: Model) -> Any:
        """The graph's input for pictures. Raises `InputError` if it is not what the manifest says."""
        given, view, wanted = self._session.get_inputs(), model.manifest.picture, model.manifest.input
        found = [i for i in given if wanted.name in {None, i.name}]
        if len(found) != 1:
            names = ", ".join(i.name for i in given)
            raise InputError(f"name the picture's input in `input.name`: one of {names}", str(model.weights))
        sides = [3, view.height, view.width] if wanted.layout == "nchw" else [view.height, view.width, 3]
        shape = found[0].shape
        fits = len(shape) == 4 and all(
            own == side or not isinstance(own, int) for own, side in zip(shape[1:], sides, strict=True)
        )
        is_bytes = found[0].type == "tensor(uint8)"
        if not fits or found[0].type not in _ELEMENTS or is_bytes != (wanted.dtype == "uint8"):
            raise InputError(
                f"takes {found[0].type} {shape}, but the manifest says {wanted.dtype} {wanted.layout} {['N', *sides]}: "
                "correct `view` or `input`",
                str(model.weights),
            )
        return found[0]

    def infer(self, batch: Array) -> Tensors:
        try:
            answers = self._session.run(list(self.outputs), {self._input.name: self._prepared(batch)})
        except Exception as error:  # noqa: BLE001  # as above
            raise StageError(f"{self._model}: ONNX Runtime failed on {tuple(batch.shape)}: {_reason(error)}") from None
        return {
            name: np.asarray(answer, np.float32) if np.asarray(answer).dtype.kind == "f" else np.asarray(answer)
            for name, answer in zip(self.outputs, answers, strict=True)
        }

    def _prepared(self, batch: Array) -> Array:
        if self._element is np.uint8 and not self._planar:
            return np.ascontiguousarray(batch)
        values = batch.astype(np.float32)
        if self._mean is not None:
            values -= self._mean
        if self._scale is not None:
            values *= self._scale
        if self._planar:
            values = values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(values, dtype=self._element)

    def close(self) -> None:
        """Its memory goes with the last reference."""


def _shape(shape: list[Any]) -> tuple[int | None, ...]:
    return tuple(side if isinstance(side, int) else None for side in shape)


def _reason(error: Exception) -> str:
    return redact(" ".join(str(error).split()))[:240]
